"""A stream of bytes as lines: numbered, decoded, and refused where they cannot be text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from luthier.data.findings import Problem
from luthier.data.rules import catalogue_file as rules

MAX_ROW_BYTES = 10 * 2**20
"""A longer line is refused unread. At 4 bytes a token it would hold 2.6 million tokens."""
BOM = b"\xef\xbb\xbf"
_PIECE_BYTES = 2**20
SHOWN_BYTES = 1000
"""Of a line that is refused unread."""


@dataclass(frozen=True, slots=True)
class Line:
    """One physical line.

    Attributes:
        number: 1-based.
        offset: of its first byte in the file; `size`: its bytes with the line end.
        text: without the line end; of a line that is refused, what can be shown of it.
        problem: why it is refused, or None.
    """

    number: int
    offset: int
    size: int
    text: str
    problem: Problem | None = None


class Lines:
    """Reads lines one after another; those put back come again.

    Args:
        file: positioned at the first of them.
        number: how many lines of the file lie before it.
        offset: how many bytes lie before it.
    """

    def __init__(self, file: BinaryIO, *, number: int = 0, offset: int = 0) -> None:
        self._file = file
        self._again: list[Line] = []
        self.number = number
        self.offset = offset
        self.hit_end = False
        """Whether anybody asked for a line after the last."""

    def raw(self) -> bytes | None:
        """Returns the next line's bytes if nothing was put back, without counting them: see `passed` and `decoded`."""
        return None if self._again else self._file.readline(MAX_ROW_BYTES + 1)

    def passed(self, raw: bytes) -> None:
        """Counts bytes from `raw` as a line that is done with."""
        self.number += 1
        self.offset += len(raw)

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        """Yields a line of which `raw` was read, piece by piece, and counts it."""
        self.number += 1
        while raw:
            self.offset += len(raw)
            yield raw
            raw = b"" if raw.endswith(b"\n") else self._file.readline(_PIECE_BYTES)

    def next(self) -> Line | None:
        """Returns the next line, or None at the end."""
        return self._again.pop() if self._again else self.decoded(self._file.readline(MAX_ROW_BYTES + 1))

    def put_back(self, lines: Iterable[Line]) -> None:
        """Puts lines back, in their order."""
        self._again += reversed(list(lines))

    def decoded(self, raw: bytes) -> Line | None:
        """Returns the line that these bytes are, or None for no bytes: the end of the file."""
        if not raw:
            self.hit_end = True
            return None
        if len(raw) > MAX_ROW_BYTES and not raw.endswith(b"\n"):
            return self._too_long(raw)
        offset, size = self.offset, len(raw)
        self.passed(raw)
        if offset == 0 and raw.startswith(BOM):
            raw, offset, size = raw[len(BOM) :], len(BOM), size - len(BOM)
        raw = raw.rstrip(b"\r\n") if raw.endswith(b"\n") else raw
        problem = None
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            text = raw.decode(errors="backslashreplace")
            detail = f"byte 0x{raw[error.start]:02x} is not UTF-8"
            problem = rules.ENCODING.problem(detail, text=text, column=len(raw[: error.start].decode()))
        else:
            if "\0" in text:
                problem = rules.ENCODING.problem("a NUL byte", text=text, column=text.index("\0"))
        return Line(self.number, offset, size, text, problem)

    def _too_long(self, raw: bytes) -> Line:
        """Reads past a line that is too long, keeping only its beginning."""
        offset, size = self.offset, len(raw)
        while chunk := self._file.readline(MAX_ROW_BYTES):
            size += len(chunk)
            if chunk.endswith(b"\n"):
                break
        self.number += 1
        self.offset += size
        problem = rules.OVER_LIMIT.problem(f"a line of {size:,} bytes; the limit is {MAX_ROW_BYTES:,}")
        text = raw[:SHOWN_BYTES].decode(errors="backslashreplace") + "…"
        return Line(self.number, offset, size, text, problem)
