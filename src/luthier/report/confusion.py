"""Labels taken for others: the pairs that matter, and the whole matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.report.schema import ConfusionTable

MOST_PAIRS = 12
"""Pairs that stand in view; the rest is in the folded matrix."""
FEW_LABELS = 12
"""A matrix of at most so many labels is shown unfolded."""
NONE_OF_THEM = "none of the labels"
CELL = 20
LONGEST_LABEL = 32
"""Characters of a label in the picture; the whole label is said when pointed at."""
_CHARACTER = 6.2
"""How wide a character of a label is drawn, about."""


@dataclass(frozen=True, slots=True)
class Confused:
    """A label taken for another.

    Attributes:
        expected, given: the labels.
        rows: how often the first was expected.
        base, fine_tuned: how often each model took it for the second.
    """

    expected: str
    given: str
    rows: int
    base: int
    fine_tuned: int


@dataclass(frozen=True, slots=True)
class LabelRow:
    """How a label was met: the shares of its rows that each model got right."""

    label: str
    rows: int
    base: float
    fine_tuned: float


@dataclass(frozen=True, slots=True)
class Cell:
    """A square of the picture; `shade` from 0 to 1 is the share of its label's rows."""

    x: int
    y: int
    count: int
    shade: float
    right: bool
    label: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """The picture, in its own units."""

    title: str
    width: int
    height: int
    left: int
    top: int
    rows: list[tuple[int, str]]
    columns: list[tuple[int, str]]
    cells: list[Cell]


def most_confused(table: ConfusionTable) -> list[Confused]:
    """Returns every pair of labels that a model confused, those first that the fine-tuned model confuses most."""
    given = [*table.labels, NONE_OF_THEM]
    pairs = [
        Confused(expected, given[column], sum(table.fine_tuned[row]), table.base[row][column], count)
        for row, expected in enumerate(table.labels)
        for column, count in enumerate(table.fine_tuned[row])
        if row != column and (count or table.base[row][column])
    ]
    return sorted(pairs, key=lambda pair: (-pair.fine_tuned, -pair.base, pair.expected, pair.given))


def label_rows(table: ConfusionTable) -> list[LabelRow]:
    """Returns each label with the shares got right, the worst of the fine-tuned model first."""
    rows = []
    for index, label in enumerate(table.labels):
        total = sum(table.fine_tuned[index])
        asked = sum(table.base[index])
        share = table.fine_tuned[index][index] / total if total else 0.0
        rows.append(LabelRow(label, total, table.base[index][index] / asked if asked else 0.0, share))
    return sorted(rows, key=lambda row: (row.fine_tuned, -row.rows, row.label))


def matrix(title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Matrix:
    """Returns the picture of a matrix; empty cells are left blank."""
    given = [*labels, NONE_OF_THEM]
    longest = max(len(label) for label in (_short(label) for label in given))
    left = top = round(longest * _CHARACTER) + 16
    cells = [
        Cell(
            x=left + column * CELL,
            y=top + row * CELL,
            count=count,
            shade=round(count / max(1, sum(counts[row])), 3),
            right=row == column,
            label=f"{labels[row]} → {given[column]}: {count:,}",
        )
        for row in range(len(labels))
        for column, count in enumerate(counts[row])
        if count
    ]
    return Matrix(
        title=title,
        width=left + CELL * len(given) + 8,
        height=top + CELL * len(labels) + 8,
        left=left,
        top=top,
        rows=[(top + row * CELL, _short(label)) for row, label in enumerate(labels)],
        columns=[(left + column * CELL, _short(label)) for column, label in enumerate(given)],
        cells=cells,
    )


def _short(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
