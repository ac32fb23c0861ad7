"""A chat example: one row of OpenAI's chat format, with where it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

Message = dict[str, Any]
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation to learn from.

    Attributes:
        row: the JSON object as read, verbatim; what is written out again.
        file, line: where it stands (physical, 1-based).
        conversation: its messages where the row is not in the chat format: of a preference row, with the preferred answer.
    """

    row: dict[str, Any]
    file: str
    line: int
    conversation: list[Message] | None = None

    @property
    def messages(self) -> list[Message]:
        """The conversation, as in the file."""
        messages: list[Message] = self.row["messages"] if self.conversation is None else self.conversation
        return messages

    @property
    def tools(self) -> list[dict[str, Any]] | None:
        """The functions the assistant may call, or None."""
        tools: list[dict[str, Any]] | None = self.row.get("tools")
        return tools

    @property
    def text(self) -> str:
        """The row as one line of JSON."""
        return orjson.dumps(self.row).decode()

    @property
    def content_hash(self) -> str:
        """128 bits of the row's canonical JSON: equal for equal rows, wherever they stand."""
        return hashlib.blake2b(orjson.dumps(self.row, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def content_text(message: Message) -> str:
    """Returns a message's text: its content, text parts joined, or its refusal; an empty string where there is none."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    refusal = message.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def is_trained(message: Message) -> bool:
    """Whether the loss covers this message: every assistant message unless its `weight` is 0.

    Source: OpenAI's fine-tuning format, `FineTuneChatRequestInput` (weight 0 or 1, assistant messages only).
    """
    return message.get("role") == "assistant" and message.get("weight", 1) != 0
