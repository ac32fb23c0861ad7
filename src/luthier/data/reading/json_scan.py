"""A strict scanner for one JSON object that may run over several lines.

Decoders want the whole text and say only that it is wrong. This scanner is fed line by line, stops at the first
character that cannot continue the object, and says where. So a row cut off in the middle does not swallow the good rows
after it, and a pretty-printed row is found without guessing at its length.
"""

from __future__ import annotations

import re

MAX_DEPTH = 64
"""Rows nested deeper than this are refused. Chat rows have a depth of 3 to 8; tool schemas seldom pass 15."""

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<string>"[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*")
  | (?P<mark>[{}\[\]:,])
  | (?P<scalar>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)
  | (?P<comment>//.*)
    """,
    re.VERBOSE,
)
_CLOSES = {"}": "{", "]": "["}


class BrokenJSON(Exception):  # noqa: N818 - it never leaves this package
    """The object cannot go on from here.

    Attributes:
        column: 0-based place in the line that was fed.
        reason: what was expected.
    """

    def __init__(self, column: int, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


class ObjectScanner:
    """Follows JSON's grammar through one object.

    Attributes:
        text: what was fed of the object so far, without comments.
        num_comments: how many `//` comments were left out of `text`.
    """

    def __init__(self) -> None:
        self._open: list[str] = []
        self._expects = "value"
        self._parts: list[str] = []
        self.num_comments = 0

    @property
    def text(self) -> str:
        """The object so far."""
        return "".join(self._parts)

    def feed(self, line: str, start: int = 0) -> int | None:
        """Takes the next line, from a 0-based column.

        Returns:
            The column after the object's end, or None while it is still open.

        Raises:
            BrokenJSON: where the line cannot continue the object.
        """
        at = start
        while at < len(line):
            token = _TOKEN.match(line, at)
            if token is None:
                raise BrokenJSON(at, self._wrong(line, at))
            kind, text = str(token.lastgroup), token.group()
            if kind == "comment":
                self.num_comments += 1
                break
            self._parts.append(text)
            if kind != "space":
                self._take(kind, text, at)
            at = token.end()
            if not self._open and kind != "space":
                return at
        self._parts.append("\n")
        return None

    def _take(self, kind: str, text: str, at: int) -> None:
        expects = self._expects
        if text in _CLOSES and kind == "mark":
            if expects not in {"next", "value or ]" if text == "]" else "key or }"} or self._open[-1] != _CLOSES[text]:
                raise BrokenJSON(at, f"found '{text}', {self._wanted()}")
            self._open.pop()
            self._expects = "next"
        elif text in "{[" and kind == "mark" and expects.startswith("value"):
            self._open.append(text)
            if len(self._open) > MAX_DEPTH:
                raise BrokenJSON(at, f"nested deeper than {MAX_DEPTH} levels")
            self._expects = "key or }" if text == "{" else "value or ]"
        elif kind == "string" and expects.startswith("key"):
            self._expects = "colon"
        elif text == ":" and expects == "colon":
            self._expects = "value"
        elif text == "," and expects == "next":
            self._expects = "key" if self._open[-1] == "{" else "value"
        elif kind in {"string", "scalar"} and expects.startswith("value"):
            self._expects = "next"
        else:
            raise BrokenJSON(at, f"found '{text[:20]}', {self._wanted()}")

    def _wanted(self) -> str:
        end = "'}'" if self._open and self._open[-1] == "{" else "']'"
        wanted = {"colon": "':'", "next": f"',' or {end}", "key": "a key in double quotes"}
        return "expected " + wanted.get(self._expects, "a key or '}'" if self._expects == "key or }" else "a value")

    def _wrong(self, line: str, at: int) -> str:
        if line[at] == '"':
            return "a string is not closed on its line; a line break inside a string is written \\n"
        return f"found {line[at]!r}, {self._wanted()}"
