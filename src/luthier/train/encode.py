"""From checked examples to token ids, with nothing cut and nothing left out without a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.data.chat import Example
from luthier.data.findings import RejectedRow
from luthier.errors import DataError
from luthier.model.chat_template import ChatTokenizer, EncodedExample


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded examples, and what was left out by choice.

    Attributes:
        examples: those kept, as read.
        encoded: the same, as the model sees them.
        rejected: rows longer than allowed, where dropping them was asked for.
    """

    examples: list[Example]
    encoded: list[EncodedExample]
    rejected: list[RejectedRow]

    @property
    def num_tokens(self) -> int:
        """Tokens of all kept examples."""
        return sum(len(row) for row in self.encoded)


def encode_examples(
    chat: ChatTokenizer, examples: Sequence[Example], *, max_length: int, drop_too_long: bool
) -> Encoded:
    """Returns the examples as token ids with their masks.

    Raises:
        DataError: `too_long` with the place and length of each such row unless they are to be dropped; or what the
            chat template refuses.
    """
    kept: list[Example] = []
    encoded: list[EncodedExample] = []
    rejected: list[RejectedRow] = []
    for example in examples:
        place = f"{example.file}:{example.line}"
        try:
            row = chat.encode_example(example.messages, example.tools, place=place)
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
