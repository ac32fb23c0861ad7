"""Runs one `grade(sample, item)` in a process of its own and watches it.

Source of the limits: OpenAI's graders guide, "Technical constraints": 2 minutes, 2 GB of memory, 1 GB of disk, no network.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from luthier.errors import EvaluateError

MAX_OUTPUT_BYTES = 1_000_000
"""What the code may print. The limit is ours."""

_MAX_REPLY_BYTES = 100_000
_KEPT_OUTPUT_BYTES = 2_000
_LOOK_EVERY_S = 0.2
_ENDING_S = 2.0
_CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may use.

    Attributes:
        seconds: of wall clock, and of processor time.
        memory_bytes: of address space.
        disk_bytes: in its folder.
    """

    seconds: float = 120.0
    memory_bytes: int = 2 * 1024**3
    disk_bytes: int = 1024**3


@dataclass(frozen=True, slots=True)
class Isolation:
    """What kept the code in, as the kernel granted it.

    Attributes:
        network: `namespace` and `seccomp` hold against any code; `audit hook` holds in Python alone.
        processes: `seccomp` or `audit hook`.
        files: `landlock`, or nothing: then the code can read what the user can read.
    """

    network: tuple[str, ...]
    processes: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What held, in one sentence."""
        files = f"files outside of its folder by {self.files[0]}" if self.files else "files not at all"
        return (
            f"python graders were kept from the network by {' and '.join(self.network)}, from new processes by "
            f"{' and '.join(self.processes)}, from {files}"
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call gave.

    Attributes:
        value: the number it returned, or None.
        reason: why there is none.
        isolation: what kept it in; None where it ended before it could say.
        by: whether the code failed, or this machine.
    """

    value: float | None
    reason: str | None = None
    isolation: Isolation | None = None
    by: Literal["code", "machine"] = "code"


def run_grade(source: str, sample: Mapping[str, Any], item: Mapping[str, Any], limits: Limits | None = None) -> Outcome:
    """Returns what `grade(sample, item)` of a source returns, run in a process of its own.

    Raises:
        EvaluateError: code "no_sandbox" where the system has no limits for processes (Windows).
    """
    limits = limits or Limits()
    if os.name != "posix":
        raise EvaluateError(
            "A python grader needs Linux or macOS, whose limits keep it in.",
            code="no_sandbox",
            param="evaluate.grader",
            hint="Take another kind of grader on this machine.",
        )
    with _folder() as folder, tempfile.TemporaryFile() as job, _pipe() as reply, _pipe() as said:
        job.write(
            json.dumps(
                {
                    "source": source,
                    "sample": sample,
                    "item": item,
                    "reply": reply.inner.fileno(),
                    "seconds": math.ceil(limits.seconds),
                    "memory_bytes": limits.memory_bytes,
                    "disk_bytes": limits.disk_bytes,
                },
                default=str,
            ).encode()
        )
        job.seek(0)
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-X", "utf8", str(_CHILD)],
                stdin=job,
                stdout=said.inner,
                stderr=said.inner,
                pass_fds=(reply.inner.fileno(),),
                cwd=folder,
                env={},
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(None, f"no process could be started: {error.strerror}", by="machine")
        reply.inner.close()
        said.inner.close()
        try:
            seen = _watch(reply.outer.fileno(), said.outer.fileno(), folder, limits)
            if not seen.is_complete and not seen.stopped:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_ENDING_S)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return _outcome(seen, process.returncode, limits)


@dataclass(slots=True)
class _Seen:
    """What came from the child.

    Attributes:
        lines: of its reply.
        said: the end of what it printed.
        num_said: bytes that it printed.
        stopped: why it has to be stopped, or None where it ended by itself.
    """

    lines: bytes = b""
    said: bytes = b""
    num_said: int = 0
    stopped: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the score is there: then it does not matter whether the process ends."""
        return self.lines.count(b"\n") >= 2 or len(self.lines) > _MAX_REPLY_BYTES


def _watch(reply: int, said: int, folder: Path, limits: Limits) -> _Seen:
    deadline = time.monotonic() + limits.seconds
    seen = _Seen()
    with selectors.DefaultSelector() as selector:
        selector.register(reply, selectors.EVENT_READ)
        selector.register(said, selectors.EVENT_READ)
        next_look = time.monotonic() + _LOOK_EVERY_S
        while True:
            for key, _ in selector.select(_LOOK_EVERY_S):
                data = os.read(key.fd, 65_536)
                if not data:
                    selector.unregister(key.fd)
                if key.fd == reply:
                    seen.lines += data
                    if not data or seen.is_complete:
                        return seen
                else:
                    seen.num_said += len(data)
                    seen.said = (seen.said + data)[-_KEPT_OUTPUT_BYTES:]
            now = time.monotonic()
            if now > next_look:
                next_look = now + _LOOK_EVERY_S
                if _size_of(folder) > limits.disk_bytes:
                    seen.stopped = f"wrote more than {limits.disk_bytes:,} bytes"
            if seen.num_said > MAX_OUTPUT_BYTES:
                seen.stopped = f"printed more than {MAX_OUTPUT_BYTES:,} bytes"
            if now > deadline:
                seen.stopped = f"took longer than {limits.seconds:g} s"
            if seen.stopped:
                return seen


def _outcome(seen: _Seen, status: int, limits: Limits) -> Outcome:
    messages = [_message(line) for line in seen.lines.split(b"\n")[:2] if line]
    isolation = None
    if messages:
        held = messages[0]
        isolation = Isolation(*(tuple(map(str, held.get(kind) or ())) for kind in ("network", "processes", "files")))
    if seen.stopped:
        return Outcome(None, f"grade {seen.stopped}", isolation)
    if isolation is None:
        said = " ".join(seen.said.decode("utf-8", "replace").split())[-200:]
        return Outcome(None, f"the process could not be shut in: {said or f'status {status}'}", by="machine")
    if len(messages) < 2:
        return Outcome(None, f"grade {_ended(status, limits)}", isolation)
    value, reason = messages[1].get("value"), messages[1].get("reason")
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return Outcome(float(value), None, isolation)
    return Outcome(None, f"grade {str(reason)[:400] if reason else 'returned no number'}", isolation)


def _message(line: bytes) -> dict[str, Any]:
    """Returns what a line says; the code could have written it itself."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _ended(status: int, limits: Limits) -> str:
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"was stopped: it may use {limits.seconds:g} s of processor time and {limits.memory_bytes:,} bytes"
    if status < 0:
        return f"was ended by signal {-status}"
    return f"ended its process with status {status} and gave no score"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="luthier-grader-"))
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder)
        except (OSError, RecursionError):  # nested too deep for Python, or without rights
            subprocess.run(["/bin/rm", "-rf", "--", str(folder)], check=False, stderr=subprocess.DEVNULL)


@dataclass(frozen=True, slots=True)
class _Pipe:
    """A pipe: what the child holds, and what this process reads."""

    outer: IO[bytes]
    inner: IO[bytes]


@contextlib.contextmanager
def _pipe() -> Iterator[_Pipe]:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as outer, os.fdopen(write_end, "wb", buffering=0) as inner:
        yield _Pipe(outer, inner)


def _size_of(folder: Path) -> int:
    total, waiting = 0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue  # gone in the meantime
    return total
