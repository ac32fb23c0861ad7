"""A JSON array too long to be held, cut into its elements as it goes by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_MARK = re.compile(rb'["\[\]{},]')
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SPACE = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Element:
    """What stands between two commas of an array, or behind its end.

    Attributes:
        offset, size: its place in the text, without the space around it.
        data: its bytes; of one that is too long, its beginning.
        whole: whether that is all of it.
        inside: whether it stands in the array.
    """

    offset: int
    size: int
    data: bytes
    whole: bool
    inside: bool = True


class ArrayElements:
    """Goes through the elements of an array; use it as an iterator, once.

    It counts brackets outside strings and judges nothing: what an element is, a decoder must tell.

    Args:
        pieces: the text, beginning with the array's bracket.
        limit: bytes of an element that are held.

    Attributes:
        closed: whether the array's end was reached.
    """

    def __init__(self, pieces: Iterable[bytes], limit: int) -> None:
        self._pieces = pieces
        self._limit = limit
        self._held = bytearray()
        self._start = self._size = 0
        self.closed = False

    def __iter__(self) -> Iterator[Element]:
        """Yields the elements that are there; between two commas without anything there is none."""
        depth, in_string, carried, offset = 0, False, b"", 0
        for piece in self._pieces:
            text = carried + piece
            at = taken = 0
            carried = b""
            while at < len(text):
                if in_string:
                    end = _IN_STRING.match(text, at)
                    at = end.end() if end is not None else at
                    if text[at : at + 1] == b'"':
                        in_string = False
                        at += 1
                    elif at < len(text):  # a backslash: what it stands before comes with the next piece
                        carried = text[at:]
                        break
                    continue
                found = _MARK.search(text, at) if not self.closed else None
                if found is None:
                    at = len(text)
                    break
                at, mark = found.end(), found.group()
                if mark == b'"':
                    in_string = True
                elif mark in b"[{":
                    depth += 1
                    if depth == 1:
                        taken = at
                        self._begin(offset + at)
                elif mark in b"]}":
                    depth -= 1
                    self.closed = depth == 0
                if depth < 2 and (self.closed or (mark == b"," and depth == 1)):
                    self._hold(text[taken : at - 1])
                    yield from self._element()
                    taken = at
                    self._begin(offset + at)
            at = len(text) - len(carried)
            self._hold(text[taken:at])
            offset += at
        self._hold(carried)
        yield from self._element(inside=not self.closed)

    def _begin(self, start: int) -> None:
        self._held.clear()
        self._start, self._size = start, 0

    def _hold(self, part: bytes) -> None:
        if not self._size:
            stripped = part.lstrip(_SPACE)
            self._start += len(part) - len(stripped)
            part = stripped
        self._size += len(part)
        self._held += part[: max(0, self._limit + 1 - len(self._held))]

    def _element(self, *, inside: bool = True) -> Iterator[Element]:
        whole = self._size <= self._limit
        data = bytes(self._held).rstrip(_SPACE) if whole else bytes(self._held[: self._limit])
        if data:
            yield Element(self._start, len(data) if whole else self._size, data, whole, inside)
