"""A file of examples, opened so that it can be read from any place: plain, compressed, or on standard input.

Plain files are opened as they are. gzip and zstd streams, pipes and standard input go to a temporary file first, chunk by
chunk, so that every reader behind this can seek, read twice, and hand a path to another process. What a stream is, its
first bytes say; its name says nothing.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from luthier.data.reading.unpacking import MAX_UNPACKED_BYTES, Compression, Unpacking, compression_of, too_large
from luthier.errors import DataError

STANDARD_INPUT = "-"
STANDARD_INPUT_NAME = "<stdin>"
_CHUNK_BYTES = 2**20
_PACKED_SUFFIXES = {".gz", ".gzip", ".zst", ".zstd"}


@dataclass(slots=True)
class Source:
    """An open file of examples.

    Attributes:
        name: the file as it was given; "<stdin>" for standard input.
        file: its bytes, unpacked; seekable, at position 0.
        path: where these bytes stand: the file itself, or a temporary file that is removed on closing.
        compression: what was taken off.
        damage: why the stream could not be unpacked to its end, in words; None where it could. `file` has what came
            out before.
    """

    name: str
    file: BinaryIO
    path: Path
    compression: Compression | None = None
    damage: str | None = None


@contextmanager
def opened(path: str | Path, *, param: str) -> Iterator[Source]:
    """Opens a file of examples, or standard input for "-", and closes it again.

    Args:
        path: a file, plain or compressed with gzip or zstd (one member or several), a pipe, or "-".
        param: the recipe path or option that named the file, for errors.

    Yields:
        The open file.

    Raises:
        DataError: code "file_not_found", "not_a_file", "file_not_readable", "file_not_written" (no room for the
            temporary file) or "too_large" (more comes out than `MAX_UNPACKED_BYTES`, or a decompression bomb).
    """
    name = STANDARD_INPUT_NAME if str(path) == STANDARD_INPUT else str(path)
    with ExitStack() as stack:
        try:
            source = _Opening(name, param, stack).source(path)
        except OSError as error:
            raise unreadable(name, error, param=param) from error
        yield source


def unreadable(name: str, error: OSError, *, param: str) -> DataError:
    """Returns the error a person can act on for one of the operating system's."""
    if isinstance(error, FileNotFoundError):
        return DataError(
            f"There is no file {name}.",
            code="file_not_found",
            param=param,
            hint=f"Check the spelling; relative paths start at {Path.cwd()}.",
        )
    if isinstance(error, IsADirectoryError):
        return DataError(
            f"{name} is a folder, not a file.",
            code="not_a_file",
            param=param,
            hint="Give the JSONL file inside it.",
        )
    refused = isinstance(error, PermissionError)
    return DataError(
        f"{name} cannot be read: {error.strerror or error}.",
        code="file_not_readable",
        param=param,
        hint="Check the file's permissions." if refused else "Copy it to a folder on this machine and give the copy.",
    )


class _Opening:
    """Opens one file; what it opens and makes is closed and removed with the stack."""

    def __init__(self, name: str, param: str, stack: ExitStack) -> None:
        self._name = name
        self._param = param
        self._stack = stack

    def source(self, path: str | Path) -> Source:
        """Returns the open file, unpacked."""
        source = self._as_it_is(path)
        source.compression = compression_of(source.file)
        if source.compression is not None:
            packed = source.path if source.path != Path(path) else None
            unpacking = Unpacking(source.file, source.compression, name=self._name, param=self._param)
            source.path, source.file = self._spooled(unpacking.chunks())
            source.damage = unpacking.damage
            if packed is not None:
                packed.unlink()
        return source

    def _as_it_is(self, path: str | Path) -> Source:
        """Opens the file itself, or a copy of what cannot be read twice."""
        if str(path) == STANDARD_INPUT:
            if sys.stdin is None:
                raise OSError("there is no standard input")
            copy, file = self._spooled(_chunks(sys.stdin.buffer))
            return Source(self._name, file, copy)
        if "\0" in str(path):
            raise FileNotFoundError(path)  # Python's own words for it would be a ValueError
        file = self._stack.enter_context(Path(path).open("rb"))  # noqa: SIM115 - the stack closes it
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return Source(self._name, file, Path(path))
        copy, copied = self._spooled(_chunks(file))  # a named pipe, a shell's `<(…)`, a device
        return Source(self._name, copied, copy)

    def _spooled(self, chunks: Iterator[bytes]) -> tuple[Path, BinaryIO]:
        """Writes chunks to a temporary file and opens it."""
        try:
            handle, made = tempfile.mkstemp(prefix="luthier-", suffix=inner_suffix(self._name))
        except OSError as error:
            raise self._not_written(error) from error
        path = Path(made)
        self._stack.callback(path.unlink, missing_ok=True)
        written = 0
        # unbuffered, so that a full disk is told where it happens and not again on closing
        with os.fdopen(handle, "wb", buffering=0) as file:
            for chunk in chunks:
                written += len(chunk)
                if written > MAX_UNPACKED_BYTES:
                    why = f"more than {MAX_UNPACKED_BYTES:,} bytes come out of it"
                    raise too_large(self._name, why, param=self._param)
                try:
                    _write_all(file, chunk)
                except OSError as error:
                    raise self._not_written(error) from error
        return path, self._stack.enter_context(path.open("rb"))

    def _not_written(self, error: OSError) -> DataError:
        folder = tempfile.tempdir or "the temporary folder"
        return DataError(
            f"{self._name} cannot be unpacked into {folder}: {error.strerror or error}.",
            code="file_not_written",
            param=self._param,
            hint="Free some room there, or set TMPDIR to a folder on a disk with more of it.",
        )


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while True:
        chunk: bytes | None = file.read(_CHUNK_BYTES)
        if chunk is None:  # non-blocking, and nothing there yet: that is not its end
            raise BlockingIOError(errno.EAGAIN, "it is opened without waiting for its writer")
        if not chunk:
            return
        yield chunk


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def inner_suffix(name: str | Path) -> str:
    """Returns the ending that says what is inside: ".csv" of "rows.csv.gz"; an empty string where none does."""
    path = Path(name)
    suffix = Path(path.stem).suffix if path.suffix.lower() in _PACKED_SUFFIXES else path.suffix
    return suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,10}", suffix) else ""
