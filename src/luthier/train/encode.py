"""From checked examples to token ids, with nothing cut and nothing left out without a word."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import orjson
import transformers

from luthier.data.chat import Example
from luthier.data.findings import RejectedRow
from luthier.data.rows_on_disk import chosen
from luthier.data.shapes.formats import recognise
from luthier.errors import DataError
from luthier.model.chat_template import ChatTokenizer, EncodedExample

_Row = TypeVar("_Row")
Method = Literal["supervised", "dpo"]


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
    def num_trained(self) -> int:
        """Tokens of both answers."""
        return self.preferred.num_trained + self.other.num_trained

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
class TooLong:
    """A row longer than allowed.

    Attributes:
        number: which of the examples it is, from 0.
        place: `file:line` of the row.
        num_tokens: its length.
    """

    number: int
    place: str
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Encoded(Generic[_Row]):
    """Encoded examples, and what was left out by choice.

    Attributes:
        examples: those kept, as read.
        encoded: the same, as the model sees them.
        rejected: rows longer than allowed, where dropping them was asked for.
    """

    examples: Sequence[Example]
    encoded: Sequence[_Row]
    rejected: list[RejectedRow]

    @classmethod
    def of(
        cls, examples: Sequence[Example], encoded: Sequence[_Row], too_long: Sequence[TooLong], *, max_length: int
    ) -> Encoded[_Row]:
        """Returns the rows of these examples that were encoded, and the others as rejected rows."""
        rejected = []
        for row in too_long:
            file, _, line = row.place.rpartition(":")
            reason = _reason(row, max_length)
            rejected.append(RejectedRow(file, int(line), ("too-long",), reason, examples[row.number].text))
        if not too_long:
            return cls(examples, encoded, rejected)
        kept = np.delete(np.arange(len(examples)), [row.number for row in too_long])
        return cls(chosen(examples, kept), encoded, rejected)


class RowStream:
    """Examples as token ids with their masks, encoded one after another; the stream can be gone through again.

    Chat rows become conversations. Preference rows become conversations with the preferred answer; for `dpo`, pairs of
    them, of which the two answers are trained and nothing before them.

    Attributes:
        too_long: rows longer than allowed, of those that the stream has come to.
    """

    def __init__(
        self,
        chat: ChatTokenizer,
        examples: Sequence[Example],
        *,
        method: Method,
        max_length: int,
        drop_too_long: bool,
    ) -> None:
        self.too_long: list[TooLong] = []
        self._chat = chat
        self._examples = examples
        self._encode = _pair if method == "dpo" else _conversation
        self._max_length = max_length
        self._drop_too_long = drop_too_long

    def __iter__(self) -> Iterator[Any]:
        """Yields the rows that are not too long.

        Raises:
            DataError: `too_long`, at the end, with the places and lengths of such rows, unless they are to be dropped;
                `same_answers` where the chat template writes both answers of a pair alike; or what it refuses.
        """
        self.too_long.clear()
        for number, example in enumerate(self._examples):
            place = f"{example.file}:{example.line}"
            try:
                row = self._encode(self._chat, example, place)
            except DataError as error:
                if place in error.message:
                    raise
                raise DataError(
                    f"{place}: {error.message}", code=error.code, param=error.param, hint=error.hint
                ) from error
            if len(row) <= self._max_length:
                yield row
            else:
                self.too_long.append(TooLong(number, place, len(row)))
        if self.too_long and not self._drop_too_long:
            raise self._refusal()

    def _refusal(self) -> DataError:
        rows = self.too_long
        listed = "; ".join(f"{row.place} has {_reason(row, self._max_length)}" for row in rows[:5])
        more = f"; and {len(rows) - 5} more" if len(rows) > 5 else ""
        return DataError(
            f"{len(rows)} row{'s are' if len(rows) > 1 else ' is'} too long: {listed}{more}.",
            code="too_long",
            param="model.max_length",
            hint="Shorten them, raise model.max_length up to the model's context, or leave them out, counted and "
            "listed, with data.on_too_long=drop. A row is never cut.",
        )


def encode_rows(
    chat: ChatTokenizer, examples: Sequence[Example], *, method: Method, max_length: int, drop_too_long: bool
) -> Encoded[Any]:
    """Returns the examples as `RowStream` encodes them, all in memory.

    Raises:
        DataError: as `RowStream`.
    """
    rows = RowStream(chat, examples, method=method, max_length=max_length, drop_too_long=drop_too_long)
    return Encoded.of(examples, list(rows), rows.too_long, max_length=max_length)


def tokenizer_digest(chat: ChatTokenizer) -> str:
    """Returns a digest of all that decides how a conversation becomes token ids: tokenizer, template, who renders it."""
    tokenizer = chat.tokenizer
    parts = [
        tokenizer.backend_tokenizer.to_str(),
        sorted(tokenizer.all_special_ids),
        chat.chat_template,
        transformers.__version__,
    ]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def _conversation(chat: ChatTokenizer, example: Example, place: str) -> EncodedExample:
    return chat.encode_example(example.messages, example.tools, place=place)


def _pair(chat: ChatTokenizer, example: Example, place: str) -> EncodedPair:
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


def _reason(row: TooLong, max_length: int) -> str:
    return f"{row.num_tokens:,} tokens, model.max_length is {max_length:,}"
