"""A prompt on its way to an answer, and what computes many of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from luthier.model.generation.prompt import Prompt


@dataclass(eq=False, slots=True)
class Row:
    """A text that grows.

    Attributes:
        index: of the prompt.
        prompt: where it began.
        ids: its tokens so far.
        most_tokens: that it may have.
        state: what an engine keeps with it.
    """

    index: int
    prompt: Prompt
    ids: list[int]
    most_tokens: int
    state: Any = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What may come next in a row.

    Attributes:
        likeliest: the likeliest token; of several, the one with the lowest number.
        logits_V: float32, where the engine was opened with `logits`; it lasts until the next step.
    """

    row: Row
    likeliest: int
    logits_V: Tensor | None


class Engine(Protocol):
    """Computes rows. A row enters, is predicted, gets a token and is predicted again, until it leaves.

    Attributes:
        name: which one it is.
        reason: why, in a few words.
    """

    name: Literal["native", "generic"]
    reason: str

    def ordered(self, rows: Sequence[Row]) -> list[Row]:
        """Returns the rows in the order in which they should enter."""

    def takes(self, row: Row) -> bool:
        """Whether the row may enter now; always true where no other is there."""

    def enter(self, row: Row) -> None:
        """Lets a row in."""

    def step(self) -> Iterable[Prediction]:
        """Goes on, and returns a prediction for each row whose tokens were all computed.

        Each row predicted must be given a token or leave before the next step.
        """

    def give(self, row: Row, token: int) -> None:
        """Appends a token to a row."""

    def leave(self, row: Row) -> None:
        """Forgets a row."""
