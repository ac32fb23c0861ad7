"""Which shape a row has, and its conversation where the shape is a known one.

Only OpenAI's chat rows become examples. The others are recognised so that the check can name them, say how to convert
them, and look at their text all the same: a duplicate is a duplicate in any shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.data.chat import ROLES, Message

FOREIGN_ROLES = {
    "human": "user",
    "person": "user",
    "customer": "user",
    "prompter": "user",
    "model": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "chatbot": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "agent": "assistant",
    "function": "tool",
    "observation": "tool",
    "instruction": "system",
}
"""Role names of other vendors and exports, with OpenAI's."""


def known_role(role: Any) -> str | None:
    """Returns the role of OpenAI's format that is meant, or None."""
    if role in ROLES:
        return str(role)
    name = role.strip().lower() if isinstance(role, str) else ""
    return name if name in ROLES else FOREIGN_ROLES.get(name)


@dataclass(frozen=True, slots=True)
class Format:
    """A shape of rows.

    Attributes:
        name: as in `luthier check --format`.
        description: for a person, with the keys that gave it away.
        advice: how its parts become messages.
        messages: the row's conversation in OpenAI's words, or None where it cannot be told without being told more.
    """

    name: str
    description: str
    advice: str = ""
    messages: list[Message] | None = None

    @property
    def said(self) -> str:
        """The description with the advice."""
        return f"{self.description}; {self.advice}" if self.advice else self.description


def recognise(row: dict[str, Any]) -> Format:
    """Returns the shape of a row."""
    if "messages" in row:
        return Format("chat", "OpenAI chat rows", messages=_chat(row["messages"]))
    for recogniser in _RECOGNISERS:
        if (found := recogniser(row)) is not None:
            return found
    keys = f"its keys are {_keys(row)}" if row else "it is an empty object"
    return Format("unknown", f'no "messages", and no other known shape of training rows: {keys}')


def _chat(messages: Any) -> list[Message] | None:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return None
    if any(known_role(message.get("role")) is None for message in messages):
        return None
    return [{**message, "role": known_role(message["role"])} for message in messages]


def _preference(row: dict[str, Any]) -> Format | None:
    if not {"preferred_output", "preferred_completion", "chosen"} & row.keys():
        return None
    advice = "they train another method (DPO); to fine-tune, take the input's messages and the preferred answer"
    return Format("preference", f"preference rows ({_keys(row)})", advice)


def _completion(row: dict[str, Any]) -> Format | None:
    if not {"prompt", "completion"} <= row.keys():
        return None
    turns = [("user", row["prompt"]), ("assistant", row["completion"])]
    advice = '"prompt" becomes a user message and "completion" an assistant message'
    return Format("completion", "prompt/completion rows (OpenAI's old format)", advice, _texts(turns))


def _sharegpt(row: dict[str, Any]) -> Format | None:
    turns = row.get("conversations", row.get("conversation"))
    if not isinstance(turns, list):
        return None
    objects = [turn for turn in turns if isinstance(turn, dict)]
    texts = [(turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))) for turn in objects]
    advice = (
        '"conversations" becomes "messages", "from" becomes "role" (human: user, gpt: assistant), "value" "content"'
    )
    whole = _texts(texts) if len(objects) == len(turns) else None
    return Format("sharegpt", 'ShareGPT rows ("conversations" with "from" and "value")', advice, whole)


def _alpaca(row: dict[str, Any]) -> Format | None:
    if not {"instruction", "output"} <= row.keys():
        return None
    parts = [part for part in (row["instruction"], row.get("input")) if part]
    question = "\n\n".join(parts) if all(isinstance(part, str) for part in parts) else None
    advice = '"instruction" and "input" become the user message, "output" the assistant message'
    turns = [("user", question), ("assistant", row["output"])]
    return Format("alpaca", "Alpaca rows (instruction, input, output)", advice, _texts(turns))


def _gemini(row: dict[str, Any]) -> Format | None:
    if not isinstance(row.get("contents"), list):
        return None
    advice = '"contents" becomes "messages", the role model becomes assistant, and the text of "parts" the "content"'
    return Format("gemini", 'Gemini rows ("contents" with "parts")', advice)


def _message(row: dict[str, Any]) -> Format | None:
    if not {"role", "content"} <= row.keys():
        return None
    advice = "put all messages of one conversation into one row's list"
    return Format("message", 'single messages without the "messages" list around them', advice)


def _columns(row: dict[str, Any]) -> Format | None:
    """One object with a column for each turn, named after the roles or after question and answer."""
    turns = [(role, value) for key, value in row.items() if (role := known_role(key)) is not None]
    if {"user", "assistant"} <= {role for role, _ in turns}:
        turns.sort(key=lambda turn: ROLES.index(turn[0]))
    else:
        question = next((key for key in row if key.lower() in _QUESTIONS), None)
        answer = next((key for key in row if key.lower() in _ANSWERS and key != question), None)
        if question is None or answer is None:
            return None
        turns = [("user", row[question]), ("assistant", row[answer])]
    advice = "each column becomes a message: the question the user's, the answer the assistant's"
    return Format("columns", f"flat rows, a column for each turn ({_keys(row)})", advice, _texts(turns))


_QUESTIONS = ("question", "prompt", "input", "query", "text", "utterance", "instruction", "source")
_ANSWERS = ("sql", "answer", "response", "output", "completion", "label", "intent", "target", "summary")
_RECOGNISERS: tuple[Callable[[dict[str, Any]], Format | None], ...] = (
    _preference,
    _completion,
    _sharegpt,
    _alpaca,
    _gemini,
    _message,
    _columns,
)


def _keys(row: dict[str, Any]) -> str:
    return ", ".join(list(row)[:8]) + (", …" if len(row) > 8 else "")


def _texts(turns: Sequence[tuple[Any, Any]]) -> list[Message] | None:
    """Returns turns as messages, or None where a role is unknown or a text is not one."""
    messages = [{"role": known_role(role), "content": text} for role, text in turns]
    whole = all(message["role"] is not None and isinstance(message["content"], str) for message in messages)
    return messages if whole and messages else None
