"""Examples that lie in files: of each, its place is held, and the row is read when it is asked for."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt
import orjson

from luthier.data.chat import Example
from luthier.data.shapes.columns import ColumnMap
from luthier.data.shapes.formats import recognise
from luthier.errors import DataError

PLACE = np.dtype([("file", "i4"), ("size", "i4"), ("offset", "i8"), ("name", "i4"), ("line", "i8")])
"""The file that holds a row's JSON, and where in it; the file that people know the row by, and the line there. 28 bytes."""
_CHUNK_BYTES = 2**20
_LINE_END = ord("\n")
_GOES_AHEAD = 4096
"""Rows whose places are made Python's numbers at once."""

Numbers = npt.NDArray[np.int64]


class KnownAs(NamedTuple):
    """Where rows stand, as people know it.

    Attributes:
        names: of files.
        name: for each row the number of its file, [N].
        line: for each row its line there, [N].
    """

    names: list[str]
    name: Numbers
    line: Numbers

    def each(self) -> Iterator[tuple[str, int]]:
        """Yields the file and line of each row."""
        for name, line in zip(self.name, self.line, strict=True):
            yield self.names[name], int(line)


class Files:
    """Files read from any place, closed once nobody reads them any more.

    Args:
        paths: of the files; each is opened when it is first read.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = tuple(str(Path(path).absolute()) for path in paths)
        self._open: dict[int, int] = {}
        self._closing = weakref.finalize(self, _close, self._open)

    def __reduce__(self) -> tuple[Any, ...]:
        return Files, (self.paths,)

    def hold(self, files: Iterable[int]) -> None:
        """Opens some of them: a temporary file may then be removed, and is gone once it is closed."""
        for file in files:
            self._descriptor(file)

    def read(self, file: int, offset: int, size: int) -> bytes:
        """Returns the bytes at a place.

        Raises:
            OSError: the file cannot be read.
        """
        return os.pread(self._descriptor(file), size, offset)

    def _descriptor(self, file: int) -> int:
        if file not in self._open:
            self._open[file] = os.open(self.paths[file], os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        return self._open[file]


def _close(descriptors: dict[int, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])


class RowsOnDisk(Sequence[Example]):
    """Examples in files. Some of them, by a slice or by `chosen`, are examples in the same files.

    Args:
        files: what holds the rows.
        names: the files that people know the rows by.
        places: of the rows, [N] of `PLACE`.
        column_map: how their columns become messages, or None.
    """

    def __init__(
        self,
        files: Files,
        names: Sequence[str],
        places: npt.NDArray[np.void],
        column_map: ColumnMap | None = None,
    ) -> None:
        self._files = files
        self._names = tuple(names)
        self._places = places
        self._column_map = column_map

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, number: int) -> Example: ...
    @overload
    def __getitem__(self, number: slice) -> RowsOnDisk: ...
    def __getitem__(self, number: int | slice) -> Example | RowsOnDisk:
        if isinstance(number, slice):
            return RowsOnDisk(self._files, self._names, self._places[number], self._column_map)
        return self._example(*self._places[number].item())

    def __iter__(self) -> Iterator[Example]:
        for place in self._each():
            yield self._example(*place)

    def __eq__(self, other: object) -> bool:
        """Whether another sequence holds equal examples in the same order."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def known_as(self) -> KnownAs:
        """Returns the file and line of each row as people know them, reading nothing."""
        return KnownAs(list(self._names), self._places["name"].astype(np.int64), self._places["line"])

    def chosen(self, numbers: Numbers) -> RowsOnDisk:
        """Returns the rows of these numbers, in their order."""
        return RowsOnDisk(self._files, self._names, self._places[numbers], self._column_map)

    def _each(self) -> Iterator[tuple[int, int, int, int, int]]:
        for start in range(0, len(self._places), _GOES_AHEAD):
            yield from self._places[start : start + _GOES_AHEAD].tolist()

    def _example(self, file: int, size: int, offset: int, name: int, line: int) -> Example:
        try:
            row = orjson.loads(self._files.read(file, offset, size))
        except (OSError, orjson.JSONDecodeError):
            row = None
        if not isinstance(row, dict):
            raise DataError(
                f"{self._names[name]}:{line}: the row is not there any more as it was read before.",
                code="file_changed",
                param=self._names[name],
                hint="Let nothing write to the file while it is read, and start again.",
            )
        if self._column_map is not None:
            row = self._column_map.row(row)
        return Example(row, self._names[name], line, recognise(row).messages or [])


def chosen(examples: Sequence[Example], numbers: Numbers) -> Sequence[Example]:
    """Returns the examples of these numbers, in their order; those of files stay there."""
    if isinstance(examples, RowsOnDisk):
        return examples.chosen(numbers)
    return [examples[number] for number in numbers.tolist()]


def known_as(examples: Sequence[Example]) -> KnownAs:
    """Returns the file and line of each example; of those in files, no row is read."""
    if isinstance(examples, RowsOnDisk):
        return examples.known_as()
    names: dict[str, int] = {}
    name = np.array([names.setdefault(example.file, len(names)) for example in examples], np.int64)
    return KnownAs(list(names), name, np.array([example.line for example in examples], np.int64))


def written_rows(path: Path) -> tuple[RowsOnDisk, str]:
    """Returns the examples of a file in which each line is one, as `split.write_examples` writes it, and its sha256.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    ends = [np.zeros(1, np.int64)]
    offset = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            ends.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == _LINE_END) + offset + 1)
            offset += len(chunk)
    return RowsOnDisk(Files([path]), [str(path)], lines_between(np.concatenate(ends))), digest.hexdigest()


def lines_between(ends: Numbers) -> npt.NDArray[np.void]:
    """Returns the places of rows that stand on the lines of one file; row n has the bytes from ends[n] to ends[n + 1]."""
    places = np.zeros(len(ends) - 1, PLACE)
    places["offset"] = ends[:-1]
    places["size"] = np.diff(ends)
    places["line"] = np.arange(1, len(ends))
    return places
