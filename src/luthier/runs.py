"""The run folder, and how anything is written to disk here: whole or not at all.

```
DIR/recipe.yaml        the resolved recipe
DIR/manifest.json      hashes of inputs and recipe, versions, threads, finished stages
DIR/data/              train.jsonl validation.jsonl test.jsonl rejected.jsonl
DIR/metrics.jsonl      a line a step
DIR/checkpoints/       what a resumed run starts from
DIR/adapter/           adapter_config.json adapter_model.safetensors (PEFT's format)
DIR/answers/           a file for each model that answered, what it was asked of in its first line
DIR/judge.jsonl        what a judge said
DIR/curve/             runs on parts of the data
DIR/report.json  DIR/report.html
```
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from luthier.errors import RecipeError

EventKind = Literal["stage", "message", "warning", "progress", "step", "epoch"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something a watcher may want to know while work goes on.

    Attributes:
        kind: `stage` begins a part of the run; `step` and `progress` come often and carry numbers in `data`.
        message: one line for a person.
        data: the same for a program.
    """

    kind: EventKind
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


def no_listener(event: Event) -> None:
    """Listens to nothing."""


def utc_now() -> str:
    """Returns the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def sha256_file(path: str | Path) -> str:
    """Returns the sha256 of a file's bytes, in hex."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Disk:
    """The calls that change the disk, a method each: a test puts one that fails, tears or stops in their place."""

    def make_folder(self, path: Path) -> None:
        """Makes a folder in one that exists."""
        path.mkdir()

    def write(self, path: Path, data: bytes | Iterable[bytes]) -> None:
        """Makes a file of these bytes; they may still lie in the system's cache."""
        with path.open("wb") as stream:
            stream.writelines([data] if isinstance(data, bytes) else data)

    def sync(self, path: Path) -> None:
        """Returns once a file's bytes, or the names in a folder, would survive a power loss."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Gives a file or folder its name; a file of that name is replaced in the same instant."""
        source.replace(target)

    def exchange(self, one: Path, other: Path) -> None:
        """Swaps two folders, in one instant where the system can.

        Linux can (renameat2). Elsewhere two renames do it, and a crash between them leaves `one` without a name.
        """
        swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
        here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE. Source: rename(2)
        if swap:
            if swap(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
                return
            number = ctypes.get_errno()
            if number not in (errno.EINVAL, errno.ENOSYS):  # what a file system says that cannot
                raise OSError(number, os.strerror(number), str(one))
        aside = one.with_name(f"{one.name}.old.tmp")
        other.rename(aside)
        try:
            one.rename(other)
        except OSError:
            aside.rename(other)
            raise
        aside.rename(one)

    def remove(self, path: Path) -> None:
        """Removes a file or a folder with what is in it; that it cannot is no error."""
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


disk = Disk()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_atomically(path: str | Path, data: bytes | Iterable[bytes]) -> None:
    """Writes a file so that a reader, or a crash at any instant, finds the old bytes or the new ones, never half.

    Args:
        path: the file.
        data: what to write, at once or piece by piece.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file stands.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        disk.write(temporary, data)
        disk.sync(temporary)
        disk.rename(temporary, path)
    except BaseException:
        disk.remove(temporary)
        raise
    disk.sync(path.parent)


@contextlib.contextmanager
def folder_atomically(path: str | Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes `path` when the block ends without an error, and vanishes otherwise.

    Each file in it is synced to disk before it gets its name, so the folder exists whole or not at all. An older folder
    of that name is replaced in the same instant.

    Raises:
        OSError: the disk is full or the folder cannot be written; what stood there stands.
    """
    path = Path(path)
    temporary = _temporary(path)
    disk.remove(temporary)
    _make_folders(path.parent)
    disk.make_folder(temporary)
    try:
        yield temporary
        for part in sorted(temporary.rglob("*"), reverse=True):
            disk.sync(part)
        disk.sync(temporary)
        if path.exists():
            disk.exchange(temporary, path)
        else:
            disk.rename(temporary, path)
    except BaseException:
        disk.remove(temporary)
        raise
    disk.sync(path.parent)
    disk.remove(temporary)


def _make_folders(folder: Path) -> None:
    """Makes a folder and those above it, and their names survive a power loss: a synced folder in a lost one is lost."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        disk.make_folder(folder)
        disk.sync(folder.parent)


def remove_leftovers(folder: str | Path) -> None:
    """Removes what killed writers left half written anywhere in a folder that no other process writes to now."""
    for left in list(Path(folder).rglob(".*.[0-9]*.tmp")):
        disk.remove(left)


def append_line(path: str | Path, record: Mapping[str, Any]) -> None:
    """Appends one JSON line."""
    with Path(path).open("ab") as stream:
        stream.write(orjson.dumps(record) + b"\n")


def cut_torn_line(path: str | Path) -> None:
    """Cuts off what a crash left of a last line, so that the next one does not begin in the middle of it."""
    path = Path(path)
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """Returns the whole lines of an append-only JSONL file; a last line torn by a crash is left out."""
    path = Path(path)
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            records.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            break
    return records


class RunFolder:
    """The folder of one run: its paths, its manifest, its lock."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.manifest = self.path / "manifest.json"
        self.data = self.path / "data"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.adapter = self.path / "adapter"
        self.answers = self.path / "answers"
        self.report_json = self.path / "report.json"
        self.report_html = self.path / "report.html"

    @classmethod
    def create(cls, path: str | Path | None, *, name: str = "run") -> RunFolder:
        """Makes a new folder; without a path, `runs/NAME-N` with the next free number.

        Raises:
            RecipeError: the folder holds something already, or cannot be made.
        """
        try:
            if path is None:
                number = 1
                while (folder := Path("runs") / f"{name}-{number}").exists():
                    number += 1
                path = folder
            path = Path(path)
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                is_run = (path / "manifest.json").exists()
                raise RecipeError(
                    f"The folder {path} holds {'a run' if is_run else 'files'} already; nothing was overwritten.",
                    code="out_not_empty",
                    param="output.dir",
                    hint=f"Go on with `luthier run --resume {path}`, or choose another --out."
                    if is_run
                    else "Choose another --out.",
                )
            run = cls(path)
            run.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecipeError(
                f"The run folder {path} cannot be made: {error.strerror or error}.",
                code="out_not_writable",
                param="output.dir",
                hint="Choose another --out.",
            ) from None
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Returns an existing run.

        Raises:
            RecipeError: there is no run in that folder.
        """
        run = cls(path)
        if not run.manifest.exists():
            what = "is not a run folder (it has no manifest.json)" if run.path.exists() else "does not exist"
            raise RecipeError(f"{path} {what}.", code="not_a_run", param="run", hint="Name the folder that --out made.")
        return run

    def read_manifest(self) -> dict[str, Any]:
        """Returns the manifest."""
        manifest: dict[str, Any] = orjson.loads(self.manifest.read_bytes())
        return manifest

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replaces the manifest, whole."""
        write_atomically(self.manifest, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))

    def finish_stage(self, name: str, seconds: float, **facts: Any) -> None:
        """Notes in the manifest that a stage is done; a resumed run adds its seconds to earlier ones."""
        manifest = self.read_manifest()
        manifest.setdefault("stages", {})[name] = {"finished_at": utc_now(), "seconds": round(seconds, 3), **facts}
        self.write_manifest(manifest)

    def stage(self, name: str) -> dict[str, Any] | None:
        """Returns what was noted of a finished stage, or None."""
        facts: dict[str, Any] | None = self.read_manifest().get("stages", {}).get(name)
        return facts

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for this process; the lock goes with the process, however it ends.

        What an earlier process left half written is removed.

        Raises:
            RecipeError: another process works in this folder.
        """
        with (self.path / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RecipeError(
                    f"Another process works in {self.path}.",
                    code="run_in_use",
                    param="run",
                    hint="Wait for it, or stop it.",
                ) from None
            remove_leftovers(self.path)
            yield


@contextlib.contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Yields a function that tells the seconds since the block began."""
    start = time.perf_counter()
    yield lambda: time.perf_counter() - start
