"""Text from data, made safe to show: characters that act instead of being seen become seen."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 controls, escape sequences among them
    "\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"  # invisible, or changes the direction
    "\U000e0000-\U000e007f\ud800-\udfff]"  # tags; halves of surrogate pairs
)


def visible(text: str) -> str:
    """Returns the text with every control, invisible, direction-changing or unpaired character spelled out.

    Newlines and tabs stay, and so do the joiners that emoji and many scripts need; a carriage return before a newline
    goes. ESC becomes `␛`, other C0 controls their Unicode
    pictures, and the rest `⟨U+202E⟩`.
    """
    return _ACTING.sub(_spelled_out, text.replace("\r\n", "\n"))


def one_line(text: str, width: int) -> str:
    """Returns the text visible, on one line, of at most `width` columns; an ellipsis stands for what was cut."""
    line = " ".join(visible(text).split())
    if columns(line) <= width:
        return line
    kept = 0
    for index, character in enumerate(line):
        kept += columns(character)
        if kept > width - 1:
            return line[:index].rstrip() + "…"
    return line


def columns(text: str) -> int:
    """Returns how many terminal columns the text takes."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def shortened(text: str, length: int, lines: int, keep: Literal["start", "end"] = "start") -> str | None:
    """Returns one end of a text, at a word's border where there is one, or None where the text is short enough.

    Args:
        text: any text.
        length: characters to keep at most.
        lines: lines to keep at most.
        keep: which end.
    """
    if len(text) <= length and text.count("\n") < lines:
        return None
    if keep == "end":
        mirrored = shortened(text[::-1], length, lines)
        return None if mirrored is None else mirrored[::-1]
    kept = "\n".join(text[: length + 1].split("\n")[:lines])
    if len(kept) <= length:
        return kept.rstrip()
    border = max(kept.rfind(" ", 0, length), kept.rfind("\n", 0, length))
    return kept[: border if border > length * 0.7 else length].rstrip()


def _spelled_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
