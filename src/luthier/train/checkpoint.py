"""Checkpoints: adapter, optimizer and position, written whole or not at all, in safetensors and JSON only.

```
checkpoints/step-000040/adapter.safetensors
                        optimizer.safetensors
                        state.json             position, best so far, sha256 of the other two
checkpoints/best/adapter.safetensors           the adapter with the lowest validation loss
```

There is no random state to keep: each step seeds its own from the recipe's seed and its number.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from luthier.errors import TrainError
from luthier.model.lora import Adapter
from luthier.runs import Event, Listener, folder_atomically, sha256_file

ADAPTER = "adapter.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
BEST = "best"


@dataclass(slots=True)
class Progress:
    """Where a training stands.

    Attributes:
        step: steps taken.
        epochs_done: whole passes over the data.
        trained_tokens: tokens the loss covered so far.
        seconds: time spent so far, earlier parts of a resumed run included.
        base_valid_loss: the validation loss before the first step.
        best_valid_loss, best_step: of the adapter kept as the best.
        epochs_without_gain: since the best.
        finished: whether training is over.
        stopped_early: whether it ended because the validation loss had stopped falling.
    """

    step: int = 0
    epochs_done: int = 0
    trained_tokens: int = 0
    seconds: float = 0.0
    base_valid_loss: float | None = None
    best_valid_loss: float | None = None
    best_step: int = 0
    epochs_without_gain: int = 0
    finished: bool = False
    stopped_early: bool = False


def save_checkpoint(folder: Path, adapter: Adapter, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Writes `folder/step-N` and removes older ones once it stands.

    Raises:
        TrainError: it cannot be written; the last checkpoint stands.
    """
    name = f"step-{progress.step:06d}"
    try:
        with folder_atomically(folder / name) as new:
            (new / ADAPTER).write_bytes(_bytes(adapter.state()))
            (new / OPTIMIZER).write_bytes(_bytes(_optimizer_state(optimizer)))
            hashes = {part: sha256_file(new / part) for part in (ADAPTER, OPTIMIZER)}
            (new / STATE).write_bytes(orjson.dumps({"progress": asdict(progress), "sha256": hashes}))
    except OSError as error:
        raise _unwritable(folder, error) from error
    for old in _step_folders(folder):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def save_best(folder: Path, adapter: Adapter) -> None:
    """Writes `folder/best`.

    Raises:
        TrainError: it cannot be written; the last checkpoint stands.
    """
    try:
        with folder_atomically(folder / BEST) as new:
            (new / ADAPTER).write_bytes(_bytes(adapter.state()))
    except OSError as error:
        raise _unwritable(folder, error) from error


def load_best(folder: Path, adapter: Adapter) -> None:
    """Sets the adapter to the best one saved."""
    adapter.load_state(load_file(folder / BEST / ADAPTER))


def load_checkpoint(
    folder: Path, adapter: Adapter, optimizer: torch.optim.Optimizer, listener: Listener
) -> Progress | None:
    """Sets adapter and optimizer to the newest whole checkpoint and returns where training stood; None without one.

    A checkpoint whose bytes are not those that were written is passed over with a warning.
    """
    for candidate in reversed(_step_folders(folder)):
        problem = _problem(candidate)
        if problem:
            listener(Event("warning", f"The checkpoint {candidate} is damaged ({problem}); looking for an older one."))
            continue
        adapter.load_state(load_file(candidate / ADAPTER))
        _load_optimizer_state(optimizer, load_file(candidate / OPTIMIZER))
        return Progress(**orjson.loads((candidate / STATE).read_bytes())["progress"])
    return None


def _problem(folder: Path) -> str | None:
    try:
        hashes = orjson.loads((folder / STATE).read_bytes())["sha256"]
        wrong = [part for part, expected in hashes.items() if sha256_file(folder / part) != expected]
    except (OSError, ValueError, KeyError) as error:
        return str(error)
    return f"{', '.join(wrong)} changed" if wrong else None


def _step_folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.exists() else []


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    data: bytes = save(dict(sorted(tensors.items())), metadata={"format": "pt"})
    return data


def _optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def _load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _unwritable(folder: Path, error: OSError) -> TrainError:
    return TrainError(
        f"A checkpoint cannot be written to {folder}: {error.strerror or error}.",
        code="checkpoint_not_written",
        param="output.dir",
        hint="The last checkpoint stands. Make room or give the folder back its rights, then resume.",
    )
