"""Rows under keys, found together by equal keys; many of them lie in files, and a part is in memory at a time."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Self

import numpy as np
import numpy.typing as npt

_ENTRY = np.dtype([("key", "u8"), ("row", "i4"), ("word", "i4")])
_PART_BITS = 6
"""Of a key, which choose its file: a million short rows with 20 keys each are 5 MB in each of 64 files."""
_MOST_HELD = 1 << 18
"""Entries in memory, 4 MB; sets of some ten thousand rows have no more, and need no file."""


class Entries:
    """Rows under keys, each with a word's number; use it in a `with` statement."""

    def __init__(self) -> None:
        self._keys, self._rows, self._words = array("Q"), array("i"), array("i")
        self._files: list[IO[bytes]] = []
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def add(self, key: int, row: int, word: int) -> None:
        """Takes a row under a key of 64 bits, with the number of a word or -1."""
        self._keys.append(key)
        self._rows.append(row)
        self._words.append(word)
        if len(self._keys) >= _MOST_HELD:
            self._write()

    def runs(self) -> Iterator[tuple[list[int], list[int]]]:
        """Yields for each key that has several entries their rows and words, in the order in which they came."""
        if self._files:
            self._write()
        for part in map(_read, self._files) if self._files else (self._held(),):
            order = np.argsort(part["key"], kind="stable")
            keys = part["key"][order]
            starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
            ends = np.append(starts[1:], len(keys))
            several = ends - starts > 1
            for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
                some = part[order[start:end]]
                yield some["row"].tolist(), some["word"].tolist()

    def _held(self) -> npt.NDArray[np.void]:
        held = np.empty(len(self._keys), _ENTRY)
        held["key"], held["row"], held["word"] = self._keys, self._rows, self._words
        self._keys, self._rows, self._words = array("Q"), array("i"), array("i")
        return held

    def _temporary(self) -> IO[bytes]:
        return self._closing.enter_context(tempfile.TemporaryFile(prefix="luthier-twins-"))

    def _write(self) -> None:
        """Writes what is held into the files, by the highest bits of the keys."""
        if not self._files:
            self._files = [self._temporary() for _ in range(1 << _PART_BITS)]
        held = self._held()
        part = (held["key"] >> np.uint64(64 - _PART_BITS)).astype(np.int64)
        held = held[np.argsort(part, kind="stable")]  # entries of one key stay in their order
        ends = np.cumsum(np.bincount(part, minlength=len(self._files)))
        for file, some in zip(self._files, np.split(held, ends[:-1]), strict=True):
            file.write(some.tobytes())


def _read(file: IO[bytes]) -> npt.NDArray[np.void]:
    file.seek(0)
    return np.frombuffer(file.read(), _ENTRY)
