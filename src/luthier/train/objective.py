"""What a step makes smaller: the loss of some rows, and its gradient.

The loss of a step is a sum over its rows divided by what it is a mean of: trained tokens for answers, pairs for
preferences. It does not depend on how the rows are parted. Tensor legend: N trained positions of a flat row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import torch

from luthier.model.chat_template import EncodedExample
from luthier.train.batch import flatten
from luthier.train.engine import Engine

Row = TypeVar("Row", contravariant=True)


class Objective(Protocol[Row]):
    """The loss of rows of one kind."""

    def num_tokens(self, row: Row) -> int:
        """Returns the tokens of a row, for parts that fit into memory."""

    def count(self, row: Row) -> int:
        """Returns how much the row counts in the mean: its trained tokens, or 1."""

    def place(self, row: Row) -> str:
        """Returns `file:line`."""

    def examples(self, row: Row) -> Sequence[EncodedExample]:
        """Returns the conversations that are computed for a row."""

    def accumulate(self, engine: Engine, rows: Sequence[Row], total: int) -> Mapping[str, float]:
        """Adds the gradient of (sum of losses / total), and returns sums over the rows: `loss`, and what else is measured."""

    def measure(self, engine: Engine, rows: Sequence[Row]) -> Mapping[str, float]:
        """Returns the same sums without a gradient."""


class Answers:
    """Cross-entropy of the trained tokens."""

    def num_tokens(self, row: EncodedExample) -> int:
        """Returns the tokens of a row."""
        return len(row)

    def count(self, row: EncodedExample) -> int:
        """Returns its trained tokens."""
        return row.num_trained

    def place(self, row: EncodedExample) -> str:
        """Returns `file:line`."""
        return row.place

    def examples(self, row: EncodedExample) -> tuple[EncodedExample]:
        """Returns the row."""
        return (row,)

    def accumulate(self, engine: Engine, rows: Sequence[EncodedExample], total: int) -> Mapping[str, float]:
        """Adds the gradient of (sum of losses / total), and returns the sum of the losses."""
        batch = flatten(rows)
        logps_N = engine.accumulate(batch, torch.full((batch.num_trained,), -1 / total))
        return {"loss": -float(logps_N.double().sum())}

    def measure(self, engine: Engine, rows: Sequence[EncodedExample]) -> Mapping[str, float]:
        """Returns the sum of the losses."""
        return {"loss": -float(engine.logps(flatten(rows)).double().sum())}


ANSWERS = Answers()
_LISTED_ROWS = 10


def listed(objective: Objective[Row], rows: Sequence[Row]) -> str:
    """Returns the places of rows for a sentence, of many the first ones and how many more there are."""
    more = len(rows) - _LISTED_ROWS
    return ", ".join(map(objective.place, rows[:_LISTED_ROWS])) + (f" and {more} more" if more > 0 else "")
