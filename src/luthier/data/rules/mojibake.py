"""Text that was decoded with the wrong code page: where, and what it was."""

from __future__ import annotations

import re

Span = tuple[int, int]

_CP1252 = {chr(byte): byte for byte in range(0x80, 0x100)} | {
    bytes((byte,)).decode("cp1252"): byte for byte in range(0x80, 0x100) if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
"""The byte that a character stands for in Windows-1252, or in Latin-1 where Windows-1252 has none."""
_CONTROLS = {byte: char for char, byte in _CP1252.items() if byte < 0xA0 and char > "\xff"}
"""Latin-1's control characters mean what Windows-1252 has in their place."""
_CP1251 = {bytes((byte,)).decode("cp1251"): byte for byte in range(0x80, 0x100) if byte != 0x98}
_LATER = "".join(re.escape(char) for char, byte in _CP1252.items() if byte < 0xC0)
_DECODED_TWICE = re.compile(f"[\u00c2-\u00df][{_LATER}]|[\u00e0-\u00ef][{_LATER}]{{2}}|[\u00f0-\u00f4][{_LATER}]{{3}}")
_AMBIGUOUS = frozenset("“”‘’„‚–—…•«»ªº°·´¨¸")
"""What may well follow a capital Ã or Â in good text: an end quote, a dash, an ordinal's sign."""
_LATER_CYRILLIC = "".join(re.escape(char) for char, byte in _CP1251.items() if byte < 0xC0)
_CYRILLIC_TWICE = re.compile(f"(?:[РС][{_LATER_CYRILLIC}]){{3,}}")


def decoded_twice(text: str) -> list[tuple[Span, str]]:
    """Returns where UTF-8 was read in a Windows code page, once or several times over, with what stood there before.

    A place counts only if its bytes are valid UTF-8. Two characters of which the second may well follow the first in
    good text (`Ã”`) count only beside a clear place, or if all characters beyond ASCII belong to such places.
    """
    clear, covered = False, 0
    for match in _DECODED_TWICE.finditer(text):
        if _decoded(match.group(), _CP1252) is not None:
            covered += len(match.group())
            clear = clear or len(match.group()) > 2 or match.group()[1] not in _AMBIGUOUS
    found = _collapsed(text) if clear or (covered and covered == sum(char > "\x7f" for char in text)) else []
    if "Р" in text or "С" in text:
        cyrillic = ((match.span(), _decoded(match.group(), _CP1251)) for match in _CYRILLIC_TWICE.finditer(text))
        found = sorted(found + [(span, meant) for span, meant in cyrillic if meant is not None])
    return found


def _collapsed(text: str) -> list[tuple[Span, str]]:
    """Returns all places that decode, those that decode again included, in one pass."""
    done: list[tuple[str, int, int]] = []
    for place, char in enumerate(text):
        done.append((char, place, place + 1))
        while (size := _sequence_size(done)) and (
            meant := _decoded("".join(d[0] for d in done[-size:]), _CP1252)
        ) is not None:
            done[-size:] = [(meant, done[-size][1], done[-1][2])]
    return [((start, end), char) for char, start, end in done if end - start > 1]


def _sequence_size(done: list[tuple[str, int, int]]) -> int:
    """Returns how many of the last characters read as the bytes of one UTF-8 sequence, or 0."""
    for size in range(1, min(4, len(done)) + 1):
        byte = _CP1252.get(done[-size][0], 0)
        if byte < 0x80:
            return 0
        if byte >= 0xC0:
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return size if size == wanted else 0
    return 0


def _decoded(text: str, page: dict[str, int]) -> str | None:
    try:
        meant = bytes(page[char] for char in text).decode()
    except UnicodeDecodeError:
        return None
    return meant.translate(_CONTROLS)
