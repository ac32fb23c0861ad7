"""Several processes over torch.distributed: torchrun's, or those that Ray starts.

What is exchanged travels by gloo over the CPU in each case; vectors by the library of their device.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from luthier import errors
from luthier.errors import LuthierError, TrainError
from luthier.train.processes import ALONE, Abandoned, Processes, num_beside, out_of_step, started

_Made = TypeVar("_Made")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for another that should be doing the same. One that ended is noticed at once, because its
connections close: this is for one that lives and does nothing. Source: torch's default for gloo."""
LONG_PATIENCE = timedelta(days=7)
"""How long the others wait for what the first one does alone: reading the data, judging the result."""
_GROUPS = itertools.count()
_PASSING, _VALUE, _ERROR = range(3)
_MESSAGE_BYTES = 512
_HEAD_BYTES = 9


class ProcessGroup(Processes):
    """Processes over torch's default group, which must stand; see `joined`."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._message = torch.zeros(_MESSAGE_BYTES, dtype=torch.uint8)
        self._messages = torch.zeros(self.size * _MESSAGE_BYTES, dtype=torch.uint8)
        self._over = False
        self._told = False

    def exchange(self, value: Any) -> list[Any]:
        """Returns the values of all processes, by rank."""
        return self._exchange(value, PATIENCE)

    def from_first(self, make: Callable[[], Any]) -> Any:
        """Returns what the first one makes."""
        return self._exchange(make() if self.is_first else None, LONG_PATIENCE)[0]

    def in_turn(self, make: Callable[[], _Made]) -> _Made:
        """Returns what each makes, the first one before the others."""
        if self.is_first:
            made = make()
            self._exchange(None, LONG_PATIENCE)
            return made
        self._exchange(None, LONG_PATIENCE)
        return make()

    def sum(self, vector: Tensor) -> None:
        """Replaces a vector by its sum over all processes."""
        self.exchange(None)  # whoever failed says so here, and is not waited for
        self._wait(lambda: dist.all_reduce(vector, async_op=True), PATIENCE)

    def copy(self, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Returns the tensors of the first one."""
        given = {name: tensor.contiguous() for name, tensor in (tensors or {}).items()}
        shapes = self.from_first(
            lambda: {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in given.items()}
        )
        for name, (dtype, *shape) in shapes.items():
            tensor = given.setdefault(name, torch.empty(shape, dtype=getattr(torch, dtype)))
            flat = tensor.view(-1)
            self._wait(lambda flat=flat: dist.broadcast(flat, 0, async_op=True), PATIENCE)  # type: ignore[misc]
        return given

    def gather(self, part: Tensor, whole: Tensor, number: int) -> None:
        """Fills `whole` with the equal parts of all processes."""
        asked = str(number).encode()
        found = self._meet(_PASSING, asked, PATIENCE)
        if any(kind == _VALUE for kind, _ in found):
            self.meetings += 1
            raise Abandoned(_values(found))
        if any(other != asked for _, other in found):
            raise out_of_step()
        self._wait(lambda: dist.all_gather_single(whole, part, async_op=True), PATIENCE)

    def fail(self, error: Exception) -> bool:
        """Tells the others that this one has failed."""
        if self._over:
            return self._told
        self._over = True
        if isinstance(error, LuthierError):
            told = error.to_json()["error"]
        else:
            told = {
                "type": "TrainError",
                "message": f"Process {self.rank} failed: {type(error).__name__}: {error}",
                "code": "process_failed",
                "param": None,
                "hint": "Its own output says where. The last checkpoint stands.",
            }
        with contextlib.suppress(LuthierError):
            self._meet(_ERROR, json.dumps(told).encode(), PATIENCE)
            self._told = not self.is_first and isinstance(error, LuthierError)
        return self._told

    def _exchange(self, value: Any, patience: timedelta) -> list[Any]:
        self.meetings += 1
        return _values(self._meet(_VALUE, json.dumps(value).encode(), patience))

    def _meet(self, kind: int, payload: bytes, patience: timedelta) -> list[tuple[int, bytes]]:
        """Returns what each process came with: its kind, and its message."""
        room = _MESSAGE_BYTES - _HEAD_BYTES
        head = bytes([kind]) + len(payload).to_bytes(_HEAD_BYTES - 1, "little")
        short = (head + payload[:room]).ljust(_MESSAGE_BYTES, b"\0")
        self._message.copy_(torch.frombuffer(bytearray(short), dtype=torch.uint8))
        found = self._all(self._message, self._messages, patience)
        kinds = [message[0] for message in found]
        lengths = [int.from_bytes(message[1:_HEAD_BYTES], "little") for message in found]
        payloads = [message[_HEAD_BYTES:] for message in found]
        if max(lengths) > room:
            rest = torch.frombuffer(bytearray(payload.ljust(max(lengths), b"\0")), dtype=torch.uint8)
            payloads = self._all(rest, torch.empty(self.size * max(lengths), dtype=torch.uint8), patience)
        messages = [(kind, payload[:length]) for kind, payload, length in zip(kinds, payloads, lengths, strict=True)]
        if kind != _ERROR and _ERROR in kinds:
            self._over, self._told = True, not self.is_first
            raise error_of(json.loads(messages[kinds.index(_ERROR)][1]))
        return messages

    def _all(self, part: Tensor, whole: Tensor, patience: timedelta) -> list[bytes]:
        self._wait(lambda: dist.all_gather_single(whole, part, async_op=True), patience)
        data = whole.numpy().tobytes()
        return [data[start : start + len(part)] for start in range(0, len(data), len(part))]

    def _wait(self, start: Callable[[], Any], patience: timedelta) -> None:
        work = start()
        try:
            work.wait(patience)
        except RuntimeError as error:
            self._over = True
            reason = str(error).strip().splitlines()[0].partition(" This is typically")[0].rpartition("] ")[2]
            raise TrainError(
                f"Process {self.rank} of {self.size} has lost another one: {reason}",
                code="process_lost",
                hint="The output of the one that ended says why. The last checkpoint stands: resume the run.",
            ) from error


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """Yields the processes that were started together (torchrun's environment variables say so), this one alone otherwise.

    An error that leaves the block is told to the others, who raise it, too; nobody waits for one that has failed. On all
    but the first process, `LuthierError.told` then says that it need not be printed again.
    """
    if started()[1] == 1:
        yield ALONE
        return
    made_here = not dist.is_initialized()
    if made_here:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))  # type: ignore[attr-defined]
        # torchrun's store outlives a group, and the processes that it starts anew, and keeps the addresses of those before.
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"start {restart}, group {next(_GROUPS)}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=LONG_PATIENCE)
    processes = ProcessGroup()
    try:
        yield processes
    except Exception as error:
        told = processes.fail(error)
        if isinstance(error, LuthierError):
            error.told = told
        raise
    finally:
        if made_here:
            dist.destroy_process_group()


def threads_a_process() -> int:
    """Returns how many threads each process on this machine may have: its share of the cores.

    `OMP_NUM_THREADS` decides where it is not 1, which torchrun and Ray set for whoever does not.
    """
    if os.environ.get("OMP_NUM_THREADS", "1") != "1":
        return torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // num_beside())


def _values(messages: list[tuple[int, bytes]]) -> list[Any]:
    return [json.loads(payload) if kind == _VALUE else None for kind, payload in messages]


def error_of(told: Mapping[str, Any]) -> LuthierError:
    """Returns the error that another process told of, in the words of `LuthierError.to_json`."""
    kind = getattr(errors, told["type"], TrainError)
    error: LuthierError = kind(told["message"], code=told["code"], param=told["param"], hint=told["hint"])
    return error
