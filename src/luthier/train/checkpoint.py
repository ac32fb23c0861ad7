"""Checkpoints: adapter, optimizer and position, written whole or not at all, in safetensors and JSON only.

```
checkpoints/step-000040/adapter.safetensors
                        optimizer.safetensors
                        state.json             position, best so far, sha256 of all of this; written last
checkpoints/best-000020/adapter.safetensors    the adapter with the lowest validation loss
                        state.json
```

There is no random state to keep: each step seeds its own from the recipe's seed and its number. The schedule and the
position in the data follow from the number of steps taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from luthier.errors import TrainError
from luthier.model.lora import Adapter
from luthier.runs import Event, Listener, disk, folder_atomically, remove_leftovers, sha256_file

ADAPTER = "adapter.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"


@dataclass(slots=True)
class Progress:
    """Where a training stands.

    Attributes:
        step: steps taken.
        trained_tokens: tokens the loss covered so far.
        replayed_rows: rows of `train.replay` taken so far.
        seconds: time spent so far, earlier parts of a resumed run included.
        first_loss: of the first step.
        base_valid_loss: the validation loss before the first step.
        best_valid_loss, best_step: of the adapter kept as the best.
        epochs_without_gain: since the best.
        steps_exploded: steps in a row, up to now, whose loss was far worse than guessing.
        max_batch_tokens: what `train.max_batch_tokens` was halved to where memory ran out.
        finished: whether training is over.
        stopped_early: whether it ended because the validation loss had stopped falling.
    """

    step: int = 0
    trained_tokens: int = 0
    replayed_rows: int = 0
    seconds: float = 0.0
    first_loss: float | None = None
    base_valid_loss: float | None = None
    best_valid_loss: float | None = None
    best_step: int = 0
    epochs_without_gain: int = 0
    steps_exploded: int = 0
    max_batch_tokens: int | None = None
    finished: bool = False
    stopped_early: bool = False


def save_checkpoint(folder: Path, adapter: Adapter, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Writes `folder/step-N`, and once it stands removes the older ones, and every best adapter but the one it names.

    Raises:
        TrainError: it cannot be written; the last checkpoint stands.
    """
    new = _step_folder(folder, progress.step)
    parts = {ADAPTER: lambda: _bytes(adapter.state()), OPTIMIZER: lambda: _bytes(optimizer_state(optimizer))}
    _write(new, parts, asdict(progress))
    keep = {new, _best_folder(folder, progress.best_step)}
    for old in set(folder.glob("step-*")) | set(folder.glob("best-*")):
        if old not in keep:
            disk.remove(old)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a whole checkpoint to go on from."""
    return any(not (_problem(step) or _of_another_version(step)) for step in folder.glob("step-*"))


def save_best(folder: Path, adapter: Adapter, step: int) -> None:
    """Writes `folder/best-N`.

    Raises:
        TrainError: it cannot be written; the last checkpoint and the best adapter it names stand.
    """
    _write(_best_folder(folder, step), {ADAPTER: lambda: _bytes(adapter.state())}, {"step": step})


def load_best(folder: Path, adapter: Adapter, step: int) -> None:
    """Sets the adapter to the best one, that of step N.

    Raises:
        TrainError: it is gone or damaged.
    """
    best = _best_folder(folder, step)
    problem = _problem(best)
    if problem:
        raise TrainError(
            f"The best adapter, {best}, is damaged ({problem}).",
            code="checkpoint_damaged",
            param="output.dir",
            hint=f"Remove {folder} and resume: the run trains again from the start.",
        )
    adapter.load_state(load_file(best / ADAPTER))


def load_checkpoint(
    folder: Path, adapter: Adapter, optimizer: torch.optim.Optimizer, listener: Listener
) -> Progress | None:
    """Sets adapter and optimizer to the newest whole checkpoint and returns where training stood; None without one.

    A checkpoint whose bytes are not those that were written is passed over with a warning. What a killed process left
    half written is removed.
    """
    remove_leftovers(folder)
    candidates = sorted(folder.glob("step-*"), reverse=True)
    for candidate in candidates:
        problem = _problem(candidate) or _of_another_version(candidate)
        if not problem:
            adapter.load_state(load_file(candidate / ADAPTER))
            load_optimizer_state(optimizer, load_file(candidate / OPTIMIZER))
            return Progress(**_state(candidate))
        listener(Event("warning", f"The checkpoint {candidate} is damaged ({problem}) and is passed over."))
    if candidates:
        listener(Event("warning", "No checkpoint is whole, so training begins again at the first step."))
    return None


def _step_folder(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06d}"


def _best_folder(folder: Path, step: int) -> Path:
    return folder / f"best-{step:06d}"


def _write(folder: Path, parts: Mapping[str, Callable[[], bytes]], state: Mapping[str, Any]) -> None:
    """Writes parts, each made when its turn comes so that one of them is in memory at a time, and then the state."""
    hashes = {"state": _digest(state)}
    try:
        if not folder.parents[1].is_dir():  # a run folder that was taken away is not made again
            raise FileNotFoundError(f"{folder.parents[1]} is gone")
        with folder_atomically(folder) as new:
            for name, make in parts.items():
                data = make()
                disk.write(new / name, data)
                hashes[name] = hashlib.sha256(data).hexdigest()
                del data
            disk.write(new / STATE, orjson.dumps({"state": state, "sha256": hashes}))
    except OSError as error:
        raise TrainError(
            f"A checkpoint cannot be written to {folder}: {error.strerror or error}.",
            code="checkpoint_not_written",
            param="output.dir",
            hint="The last checkpoint stands. Make room or give the folder back its rights, then resume.",
        ) from error


def _problem(folder: Path) -> str | None:
    """Returns what is wrong with a checkpoint, None where its bytes are those that were written."""
    try:
        record = orjson.loads((folder / STATE).read_bytes())
        hashes: dict[str, str] = dict(record["sha256"])
        found = {name: sha256_file(folder / name) for name in hashes.keys() - {"state"}}
        found["state"] = _digest(record["state"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return str(error)
    changed = sorted(name for name in found if found[name] != hashes.get(name))
    return f"{', '.join(changed)} changed" if changed else None


def _of_another_version(folder: Path) -> str | None:
    known = {field.name for field in fields(Progress)}
    return None if set(_state(folder)) == known else "another version of Luthier wrote it"


def _state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = orjson.loads((folder / STATE).read_bytes())["state"]
    return state


def _digest(state: object) -> str:
    return hashlib.sha256(orjson.dumps(state, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    data: bytes = save(dict(sorted(tensors.items())), metadata={"format": "pt"})
    return data


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns what an optimizer remembers, by name; nothing before its first step."""
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Sets what an optimizer remembers."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
