"""A checkpoint under every fault: a reader finds the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from luthier.errors import TrainError
from luthier.model.loader import load_model
from luthier.model.lora import LoraConfig, attach
from luthier.runs import Disk, disk, folder_atomically, no_listener, write_atomically
from luthier.train import checkpoint
from luthier.train.checkpoint import (
    ADAPTER,
    OPTIMIZER,
    STATE,
    Progress,
    load_best,
    load_checkpoint,
    save_best,
    save_checkpoint,
)

pytestmark = pytest.mark.unit
CALLS = ("make_folder", "write", "sync", "rename", "exchange", "remove")
OLD, NEW = 3, 4


class Crash(BaseException):
    """The process is gone; nothing that it would have done afterwards is done."""


class Faults:
    """Counts the calls that change the disk, and lets one of them go wrong.

    Args:
        at: which call, from 1; 0 for none.
        error: what it raises.
        torn: whether a write leaves half of its bytes, and a removal half of the files.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int = 0, error: BaseException | None = None, torn=False):
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self._at, self._error, self._torn, self._dead = at, error, torn, False
        self._real = Disk()
        for name in CALLS:
            monkeypatch.setattr(disk, name, self._wrapped(name))

    def _wrapped(self, name: str) -> Callable[..., None]:
        def call(*args):
            if self._dead:
                raise Crash
            self.calls.append((name, args))
            if len(self.calls) != self._at:
                return getattr(self._real, name)(*args)
            if self._torn:
                tear(name, *args)
            if isinstance(self._error, Crash):
                self._dead = True
                raise self._error
            if name != "remove":  # which never raises: it leaves what it cannot remove
                raise self._error
            return None

        return call


def tear(name: str, path: Path, *rest: object) -> None:
    """Does half of what a call would do."""
    if name == "write":
        (data,) = rest
        path.write_bytes(data[: len(data) // 2])
    elif name == "remove" and path.is_dir():
        for file in sorted(path.iterdir())[:1]:
            file.unlink()


@pytest.fixture(autouse=True)
def quick_sync(monkeypatch):
    """Thousands of saves would wait minutes for the disk; that it is asked at the right moments is what counts here."""
    monkeypatch.setattr(Disk, "sync", lambda self, path: path.stat() and None)


@pytest.fixture
def held(tiny_model_folder, chat):
    """An adapter with its optimizer."""
    adapter = attach(load_model(tiny_model_folder, "float32", chat).network, LoraConfig(r=1, lora_alpha=1), seed=1)
    return adapter, torch.optim.AdamW([adapter.flat], fused=True)


def write_state(held, step: int) -> Progress:
    """Makes adapter and optimizer those of a step: every number in them tells which."""
    adapter, optimizer = held
    with torch.no_grad():
        adapter.flat.fill_(step)
    key = optimizer.param_groups[0]["params"][0]
    numbers = torch.full_like(adapter.flat, step)
    optimizer.state[key] = {"step": torch.tensor(float(step)), "exp_avg": numbers, "exp_avg_sq": numbers.clone()}
    return Progress(step=step, best_step=step)


def save(held, folder: Path, step: int) -> None:
    progress = write_state(held, step)
    save_best(folder, held[0], step)
    save_checkpoint(folder, *held, progress)


def read_step(held, folder: Path) -> int:
    """What a new process finds: the step of the checkpoint, all of whose parts must be of that step; 0 for none."""
    write_state(held, 77)
    progress = load_checkpoint(folder, *held, no_listener)
    if progress is None:
        return 0
    adapter, optimizer = held
    assert progress == Progress(step=progress.step, best_step=progress.step)
    assert bool((adapter.flat == progress.step).all())
    for value in optimizer.state_dict()["state"][0].values():
        assert bool((value == progress.step).all())
    adapter.flat.data.fill_(77)
    load_best(folder, adapter, progress.best_step)
    assert bool((adapter.flat == progress.step).all())
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    return progress.step


@pytest.fixture(params=["the first", "one after another", "in place of a damaged one"])
def before(request, held, tmp_path):
    """A run folder as it is before the save, and the step a reader may find in it."""
    folder = tmp_path / "before" / "run" / "checkpoints"
    folder.parent.mkdir(parents=True)
    if request.param == "the first":
        return folder, 0
    save(held, folder, OLD)
    if request.param == "in place of a damaged one":
        shutil.copytree(folder / f"step-{OLD:06d}", folder / f"step-{NEW:06d}")
        (folder / f"step-{NEW:06d}" / ADAPTER).write_bytes(b"half")
        shutil.copytree(folder / f"best-{OLD:06d}", folder / f"best-{NEW:06d}")
    return folder, OLD


def copied(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder.parent, to)
    return to / folder.name


FULL, BROKEN, READ_ONLY = (OSError(code, os.strerror(code)) for code in (errno.ENOSPC, errno.EIO, errno.EROFS))
FAULTS = [(FULL, False), (FULL, True), (BROKEN, True), (READ_ONLY, False), (Crash(), False), (Crash(), True)]


def test_a_fault_at_any_call_leaves_the_old_checkpoint_or_the_new_one(before, held, tmp_path, monkeypatch):
    original, old = before
    with monkeypatch.context() as patch:
        counted = Faults(patch)
        save(held, copied(original, tmp_path / "run"), NEW)
    names = [name for name, _ in counted.calls]
    assert {"make_folder", "write", "sync", "remove"} <= set(names)
    assert "rename" in names or "exchange" in names
    points = 0
    for at, (error, torn) in itertools.product(range(1, len(names) + 1), FAULTS):
        folder = copied(original, tmp_path / "run")
        raised = None
        with monkeypatch.context() as patch:
            Faults(patch, at, error, torn)
            try:
                save(held, folder, NEW)
            except (TrainError, Crash) as caught:
                raised = caught
        found = read_step(held, folder)
        assert found in (old, NEW), (names[at - 1], at, error)
        if raised is None:
            assert found == NEW
        elif isinstance(raised, TrainError):
            assert raised.code == "checkpoint_not_written"
            assert str(error.strerror) in raised.message
        if isinstance(error, Crash):  # and the next one is written as if nothing had been
            save(held, folder, NEW)
            assert read_step(held, folder) == NEW
        points += 1
    assert points >= 140  # of some 500 over the three cases


def test_a_power_loss_at_any_call_leaves_the_old_checkpoint_or_the_new_one(before, held, tmp_path, monkeypatch):
    """What was not synced may be on the disk or not, whole or half, in any combination: images of the disk are made by
    doing again what the trace of a save did, with some of it lost."""
    original, old = before
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        trace = Faults(patch)
        save(held, copied(original, run), NEW)
    draw = random.Random(5)
    images = 0
    for length in range(len(trace.calls) + 1):
        done = trace.calls[:length]
        for _ in range(12):
            folder = copied(original, run)
            replay_with_losses(done, draw)
            found = read_step(held, folder)
            assert found in (old, NEW), done[-3:]
            if length == len(trace.calls):
                assert found == NEW  # the save had returned: what it promised must stand
            images += 1
    assert images >= 300


def replay_with_losses(calls: list[tuple[str, tuple[object, ...]]], draw: random.Random) -> None:
    """Does calls again. A name is sure once its folder was synced, bytes once their file was; the rest is left to chance."""
    real = Disk()
    for place, (name, args) in enumerate(calls):
        synced = [other[0] for call, other in calls[place + 1 :] if call == "sync"]
        target = args[-1] if name in ("rename", "exchange") else args[0]
        lost = target.parent not in synced and draw.random() < 0.5
        if name == "sync" or lost:
            continue
        with contextlib.suppress(OSError):  # where what it builds on was lost
            if name == "write":
                path, data = args
                path.write_bytes(data if path in synced else data[: draw.choice([0, len(data) // 2, len(data)])])
            elif name == "remove" and draw.random() < 0.5:
                tear(name, target)
            else:
                getattr(real, name)(*args)


@pytest.mark.parametrize("make", ["read only", "gone", "a file"])
def test_a_folder_that_cannot_be_written_is_a_readable_error(held, tmp_path, make, monkeypatch):
    folder = tmp_path / "run" / "checkpoints"
    folder.parent.mkdir()
    save(held, folder, OLD)
    if make == "gone":
        shutil.rmtree(folder.parent)
    elif make == "a file":
        shutil.rmtree(folder)
        folder.write_text("")
    else:

        def refused(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        monkeypatch.setattr(disk, "make_folder", refused)
    with pytest.raises(TrainError, match="cannot be written") as caught:
        save_checkpoint(folder, *held, write_state(held, NEW))
    assert caught.value.code == "checkpoint_not_written"
    assert folder.parent.exists() == (make != "gone")  # a run that was taken away is not made again
    if make == "read only":
        assert read_step(held, folder) == OLD


def test_a_disk_that_is_really_full_is_a_readable_error(held, tmp_path):
    """The limit on a file's size is the one way to have the system itself refuse a write in the middle."""
    folder = tmp_path / "run" / "checkpoints"
    folder.parent.mkdir()
    save(held, folder, OLD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(TrainError, match="File too large") as caught:
            save_checkpoint(folder, *held, write_state(held, NEW))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.code == "checkpoint_not_written"
    assert read_step(held, folder) == OLD


@pytest.mark.parametrize("file", [ADAPTER, OPTIMIZER, STATE])
def test_any_byte_that_changed_is_found_and_an_older_checkpoint_is_taken(held, tmp_path, file):
    folder = tmp_path / "run" / "checkpoints"
    folder.parent.mkdir()
    save(held, folder, NEW)
    whole = (folder / f"step-{NEW:06d}" / file).read_bytes()
    aside = tmp_path / "aside"
    shutil.copytree(folder, aside)
    draw = random.Random(2)
    for place in [0, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(30))]:
        shutil.rmtree(folder)
        shutil.copytree(aside, folder)
        shutil.copytree(folder / f"step-{NEW:06d}", folder / "step-000005")
        shutil.rmtree(folder / f"step-{NEW:06d}")
        save(held, folder, OLD)
        shutil.copytree(aside / f"step-{NEW:06d}", folder / f"step-{NEW:06d}", dirs_exist_ok=True)
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        (folder / f"step-{NEW:06d}" / file).write_bytes(bytes(damaged))
        heard = []
        progress = load_checkpoint(folder, *held, heard.append)
        assert progress is not None
        assert progress.step == OLD, (place, [event.message for event in heard])
        assert [event.kind for event in heard] == ["warning"]
        assert "damaged" in heard[0].message


def test_without_a_whole_checkpoint_it_is_said_that_training_begins_again(held, tmp_path):
    folder = tmp_path / "checkpoints"
    save(held, folder, NEW)
    (folder / f"step-{NEW:06d}" / STATE).write_text("{")
    heard = []
    assert load_checkpoint(folder, *held, heard.append) is None
    assert "begins again" in heard[-1].message


def test_a_checkpoint_of_another_version_is_passed_over(held, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    save(held, folder, NEW)
    monkeypatch.setattr(checkpoint, "Progress", dataclasses.make_dataclass("Progress", ["step", "moons"]))
    heard = []
    assert load_checkpoint(folder, *held, heard.append) is None
    assert "another version" in heard[0].message


def test_a_best_adapter_that_is_damaged_is_a_readable_error(held, tmp_path):
    folder = tmp_path / "checkpoints"
    save(held, folder, NEW)
    (folder / f"best-{NEW:06d}" / ADAPTER).write_bytes(b"")
    with pytest.raises(TrainError, match=f"best-{NEW:06d}") as caught:
        load_best(folder, held[0], NEW)
    assert caught.value.code == "checkpoint_damaged"


def test_only_safetensors_and_json_are_written(held, tmp_path):
    folder = tmp_path / "checkpoints"
    save(held, folder, OLD)
    save(held, folder, NEW)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    best, step = f"best-{NEW:06d}", f"step-{NEW:06d}"
    assert names == [f"{best}/{ADAPTER}", f"{best}/{STATE}", *(f"{step}/{n}" for n in (ADAPTER, OPTIMIZER, STATE))]


def test_any_folder_and_file_written_atomically_is_the_old_or_the_new_one_at_every_fault(tmp_path, monkeypatch):
    """The adapter's folder and the manifest are replaced under one name: the swap is one call of the system."""

    def write(version: bytes) -> None:
        with folder_atomically(tmp_path / "run" / "adapter") as new:
            for name in ("config", "weights"):
                disk.write(new / name, version * 100)
        write_atomically(tmp_path / "run" / "manifest", version * 100)

    def read() -> set[bytes]:
        files = [tmp_path / "run" / "adapter" / "config", tmp_path / "run" / "adapter" / "weights"]
        assert files[0].read_bytes() == files[1].read_bytes()
        return {files[0].read_bytes(), (tmp_path / "run" / "manifest").read_bytes()}

    write(b"1")
    with monkeypatch.context() as patch:
        counted = Faults(patch)
        write(b"1")
    for at, (error, torn) in itertools.product(range(1, len(counted.calls) + 1), FAULTS):
        write(b"1")
        with monkeypatch.context() as patch, contextlib.suppress(OSError, Crash):
            Faults(patch, at, error, torn)
            write(b"2")
        assert read() <= {b"1" * 100, b"2" * 100}


def test_where_two_folders_cannot_be_swapped_in_one_call_two_renames_do_it(tmp_path, monkeypatch):
    monkeypatch.setattr("luthier.runs.ctypes.CDLL", lambda *_, **__: None)
    for version in (b"1", b"2"):
        with folder_atomically(tmp_path / "adapter") as new:
            disk.write(new / "weights", version)
    assert (tmp_path / "adapter" / "weights").read_bytes() == b"2"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
