"""What an answer says otherwise than was expected, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from rapidfuzz.distance import Indel

MOST_WORDS = 5_000
"""Longer texts are not compared: the table behind it grows with the product of both lengths."""
LEAST_ALIKE = 0.5
"""Texts that share a smaller part of their words are different answers, and marking all of them would show nothing."""

_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+|\s+|[^\w\s]"
)
"""A word, a character of a script without spaces, a space, or a sign."""
_WORD = re.compile(r"\w")


class Piece(NamedTuple):
    """A stretch of an answer."""

    text: str
    kind: Literal["same", "extra", "missing"]
    """`extra` is said though not expected; `missing` was expected and is not said."""


def compared(answer: str, expected: str) -> list[Piece] | None:
    """Returns the answer in pieces, those that are missing among them; None where marking would show nothing.

    That is where both are the same, too different, or too long.
    """
    if answer == expected:
        return None
    given, wanted = _TOKEN.findall(answer), _TOKEN.findall(expected)
    if not given or not wanted or max(len(given), len(wanted)) > MOST_WORDS:
        return None
    changes = _changes(wanted, given)
    same = _num_words(text for kind, _, said in changes if kind == "same" for text in said)
    if same < LEAST_ALIKE * max(_num_words(given), _num_words(wanted)):
        return None
    pieces = []
    for kind, missing, extra in changes:
        if kind == "same":
            pieces.append(Piece("".join(extra), "same"))
            continue
        pieces += [Piece("".join(missing), "missing")] if missing else []
        pieces += [Piece("".join(extra), "extra")] if extra else []
    return pieces


def _changes(
    wanted: Sequence[str], given: Sequence[str]
) -> list[tuple[Literal["same", "changed"], Sequence[str], Sequence[str]]]:
    """Returns stretches that are the same or changed, in turns; signs between two changes belong to them."""
    found: list[tuple[Literal["same", "changed"], Sequence[str], Sequence[str]]] = []
    operations = list(Indel.opcodes(wanted, given))
    for index, operation in enumerate(operations):
        one = wanted[operation.src_start : operation.src_end]
        other = given[operation.dest_start : operation.dest_end]
        inside = 0 < index < len(operations) - 1
        kind: Literal["same", "changed"] = "same"
        if operation.tag != "equal" or (inside and not any(map(_WORD.search, one))):
            kind = "changed"
        if found and found[-1][0] == kind:
            found[-1] = (kind, [*found[-1][1], *one], [*found[-1][2], *other])
        else:
            found.append((kind, one, other))
    return found


def _num_words(tokens: Iterable[str]) -> int:
    return sum(1 for token in tokens if _WORD.search(token))
