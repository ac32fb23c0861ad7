"""The shapes of training rows that are not OpenAI's, in the order in which a row is compared with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from luthier.data.shapes import near_preference, near_rows
from luthier.data.shapes.near_rows import Converted, Row
from luthier.data.shapes.wording import keys_of


class NearMiss(NamedTuple):
    """A shape that is not OpenAI's.

    Attributes:
        name: short and stable.
        description: for a person, of a row of it, with the keys that gave it away.
        advice: how its parts become messages.
        is_shaped: whether a row has this shape.
        convert: the row in OpenAI's format, or None where that cannot be told from it.
    """

    name: str
    description: str | Callable[[Row], str]
    advice: str
    is_shaped: Callable[[Row], bool]
    convert: Callable[[Row], Converted | None]


def _never(_row: Row) -> None:
    """Of such rows it cannot be told what is asked and what is answered."""


NEAR_MISSES = (
    NearMiss(
        "chosen-rejected",
        lambda row: f"preference rows as TRL has them ({keys_of(row)})",
        '"chosen" becomes "preferred_output", "rejected" "non_preferred_output", and the prompt "input"',
        near_preference.is_chosen_rejected,
        near_preference.read_chosen_rejected,
    ),
    NearMiss(
        "judged-completion",
        "prompt/completion rows labelled good or bad, as TRL has them for KTO",
        "the good ones become chat rows; the bad ones must not be learned",
        near_rows.is_judged_completion,
        near_rows.read_judged_completion,
    ),
    NearMiss(
        "messages-completion",
        'rows with lists of messages in "prompt" and "completion", as TRL has them',
        'put both into one list, "messages"',
        near_rows.is_messages_completion,
        near_rows.read_messages_completion,
    ),
    NearMiss(
        "sharegpt",
        'ShareGPT rows ("conversations" with "from" and "value")',
        '"conversations" becomes "messages", "from" becomes "role" (human: user, gpt: assistant), "value" "content"',
        near_rows.is_sharegpt,
        near_rows.read_sharegpt,
    ),
    NearMiss(
        "alpaca",
        "Alpaca rows (instruction, input, output)",
        '"instruction" and "input" become the user message, "output" the assistant message',
        near_rows.is_alpaca,
        near_rows.read_alpaca,
    ),
    NearMiss(
        "gemini",
        'Gemini rows ("contents" with "parts")',
        '"contents" becomes "messages", the role model becomes assistant, and the text of "parts" the "content"',
        near_rows.is_gemini,
        near_rows.read_gemini,
    ),
    NearMiss(
        "message",
        'single messages without the "messages" list around them',
        "put all messages of one conversation into one row's list",
        near_rows.is_message,
        _never,
    ),
    NearMiss(
        "columns",
        lambda row: f"flat rows, a column for each turn ({keys_of(row)})",
        "each column becomes a message: the question the user's, the answer the assistant's",
        near_rows.is_columns,
        near_rows.read_columns,
    ),
)
