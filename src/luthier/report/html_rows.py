"""The rows of the report as its page shows them: what comes first of a long text, and what differs in an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from luthier.report.schema import ComparedRow
from luthier.report.visible import shortened
from luthier.report.word_diff import Piece, compared

Outcome = Literal["win", "loss", "tie", "unscored"]
OUTCOMES: tuple[Outcome, ...] = ("loss", "win", "unscored", "tie")
"""The order of the table: what one wants to look at first."""
LONGEST_TEXT = 420
MOST_LINES = 9
FEWEST_HIDDEN = 80
"""Hiding fewer characters than this is not worth a fold."""
SHORTEST_SHARED = 24
"""Prompts that begin alike for at least this many characters have that shown once."""


class Text(NamedTuple):
    """A text from the data, with the part to show first where it is long."""

    full: str
    first: str | None
    hidden: int
    end: bool
    """Whether the part shown first is the end of the text."""
    pieces: list[Piece] | None
    """The text in pieces, where some of it differs from what was expected."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table, ready to draw."""

    source: ComparedRow
    prompt: Text
    expected: Text
    base: Text
    fine_tuned: Text


def drawn_rows(rows: Sequence[ComparedRow], shared: int) -> list[Row]:
    """Returns the rows in the order of the page.

    Args:
        rows: of the report.
        shared: characters that all prompts begin with, shown once elsewhere.
    """
    return [_row(row, shared) for row in sorted(rows, key=lambda row: OUTCOMES.index(row.outcome))]


def _row(row: ComparedRow, shared: int) -> Row:
    base, tuned = (_text(answer, expected=row.expected) for answer in (row.base_answer, row.fine_tuned_answer))
    return Row(row, _text(row.prompt[shared:], "end"), _text(row.expected), base, tuned)


def _text(text: str, keep: Literal["start", "end"] = "start", expected: str | None = None) -> Text:
    first = shortened(text, LONGEST_TEXT, MOST_LINES, keep)
    if first and len(text) - len(first) < FEWEST_HIDDEN:
        first = None
    pieces = None if expected is None else compared(text, expected)
    return Text(text, first, len(text) - len(first or text), keep == "end", pieces)


def shared_beginning(prompts: Sequence[str]) -> str:
    """Returns the lines that all prompts begin with, such as a system prompt; empty where it is not worth a mention."""
    if len(prompts) < 2:
        return ""
    first, last = min(prompts), max(prompts)  # what these two share, all between them share
    same = next((index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    shared = first[: first.rfind("\n", 0, same) + 1]
    return shared if len(shared) >= SHORTEST_SHARED and all(prompt != shared for prompt in prompts) else ""
