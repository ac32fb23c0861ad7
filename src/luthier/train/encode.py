"""From checked examples to token ids, with nothing cut and nothing left out without a word."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from luthier.data.chat import Example
from luthier.data.findings import RejectedRow
from luthier.data.shapes.formats import recognise
from luthier.errors import DataError
from luthier.model.chat_template import ChatTokenizer, EncodedExample

_Row = TypeVar("_Row", bound=Sized)


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A preference row as the model sees it: two conversations with one beginning, trained in what follows it.

    Attributes:
        preferred, other: with the preferred answer, and with the non-preferred one.
    """

    preferred: EncodedExample
    other: EncodedExample

    @property
    def place(self) -> str:
        """`file:line` of the row, for messages."""
        return self.preferred.place

    @property
    def last_answer_tokens(self) -> int:
        """Tokens of the preferred answer's last turn, its end token included."""
        return self.preferred.last_answer_tokens

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt and of both answers."""
        return len(self.preferred) + len(self.other) - int(np.argmax(self.preferred.trained))

    def __len__(self) -> int:
        """Returns the tokens of the longer conversation."""
        return max(len(self.preferred), len(self.other))


@dataclass(frozen=True, slots=True)
class Encoded(Generic[_Row]):
    """Encoded examples, and what was left out by choice.

    Attributes:
        examples: those kept, as read.
        encoded: the same, as the model sees them.
        rejected: rows longer than allowed, where dropping them was asked for.
    """

    examples: list[Example]
    encoded: list[_Row]
    rejected: list[RejectedRow]


def encode_examples(
    chat: ChatTokenizer, examples: Sequence[Example], *, max_length: int, drop_too_long: bool
) -> Encoded[EncodedExample]:
    """Returns the examples as token ids with their masks; of preference rows, the preferred answer.

    Raises:
        DataError: `too_long` with the place and length of each such row unless they are to be dropped; or what the
            chat template refuses.
    """

    def encode(example: Example, place: str) -> EncodedExample:
        return chat.encode_example(example.messages, example.tools, place=place)

    return _encoded(examples, encode, max_length, drop_too_long=drop_too_long)


def encode_pairs(
    chat: ChatTokenizer, examples: Sequence[Example], *, max_length: int, drop_too_long: bool
) -> Encoded[EncodedPair]:
    """Returns preference rows as two conversations each, of which the two answers are trained and nothing before them.

    Raises:
        DataError: `too_long` where either conversation is, unless such rows are to be dropped; `same_answers` where the
            chat template writes both answers alike; or what it refuses.
    """

    def encode(example: Example, place: str) -> EncodedPair:
        answer = recognise(example.row).non_preferred or []
        asked = example.row["input"]
        before = example.messages[: len(asked["messages"])]
        prompt = [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in before]
        preferred, other = (
            chat.encode_example([*prompt, *turns], asked.get("tools"), place=place)
            for turns in (example.messages[len(before) :], answer)
        )
        if np.array_equal(preferred.ids, other.ids):
            raise DataError(
                f"{place}: the model's chat template writes both answers alike.",
                code="same_answers",
                hint="Remove the row, or let its answers differ in more than outer whitespace.",
            )
        return EncodedPair(preferred, other)

    return _encoded(examples, encode, max_length, drop_too_long=drop_too_long)


def _encoded(
    examples: Sequence[Example], encode: Callable[[Example, str], _Row], max_length: int, *, drop_too_long: bool
) -> Encoded[_Row]:
    kept: list[Example] = []
    encoded: list[_Row] = []
    rejected: list[RejectedRow] = []
    for example in examples:
        place = f"{example.file}:{example.line}"
        try:
            row = encode(example, place)
        except DataError as error:
            if place in error.message:
                raise
            raise DataError(f"{place}: {error.message}", code=error.code, param=error.param, hint=error.hint) from error
        if len(row) <= max_length:
            kept.append(example)
            encoded.append(row)
            continue
        reason = f"{len(row):,} tokens, model.max_length is {max_length:,}"
        rejected.append(RejectedRow(example.file, example.line, ("too-long",), reason, example.text))
    if rejected and not drop_too_long:
        listed = "; ".join(f"{row.file}:{row.line} has {row.reason}" for row in rejected[:5])
        more = f"; and {len(rejected) - 5} more" if len(rejected) > 5 else ""
        raise DataError(
            f"{len(rejected)} row{'s are' if len(rejected) > 1 else ' is'} too long: {listed}{more}.",
            code="too_long",
            param="model.max_length",
            hint="Shorten them, raise model.max_length up to the model's context, or leave them out, counted and "
            "listed, with data.on_too_long=drop. A row is never cut.",
        )
    return Encoded(kept, encoded, rejected)
