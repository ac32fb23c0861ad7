"""Which shape a row has, and its conversation where the shape is a known one.

OpenAI-shaped services train on four formats: chat, preference, reinforcement and completion. Other shapes are recognised
so that the check can name them, say how to convert them, and look at their text all the same: a duplicate is a duplicate
in any shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from luthier.data.chat import ROLES, Message
from luthier.data.shapes import near_rows
from luthier.data.shapes.near_misses import NEAR_MISSES, NearMiss
from luthier.data.shapes.near_rows import texts
from luthier.data.shapes.parts import is_text_part, parts_text
from luthier.data.shapes.roles import known_role
from luthier.data.shapes.wording import keys_of

CHAT_KEYS = ("messages", "tools", "parallel_tool_calls", "functions", "function_call")
"""Keys of a chat row, the last two deprecated; with other keys beside a prompt it is a reinforcement row.

Source: OpenAI's reinforcement format; every other key is the grader's, as `{{item.key}}`.
"""
_PROMPT_ENDS = ("user", "system", "developer")
_PREFERENCE_KEYS = (
    ("preferred_output", "non_preferred_output"),
    ("preferred_completion", "non_preferred_completion"),
)
"""OpenAI's names of the two answers, and its older ones."""


class _Read(NamedTuple):
    """What is read of a row; see `Format`."""

    messages: list[Message] | None = None
    non_preferred: list[Message] | None = None
    is_convertible: bool = False


class _Shape(NamedTuple):
    name: str
    is_trainable: bool
    description: str | Callable[[dict[str, Any]], str]
    advice: str
    read: Callable[[dict[str, Any]], _Read]


class Format:
    """The shape of one row. What takes time to tell is told when it is asked for.

    Attributes:
        name: chat, preference, reinforcement or completion, or the name of a near miss, or unknown.
        is_trainable: whether OpenAI-shaped services train on such rows.
        description: for a person, with the keys that gave it away.
        advice: what such rows are for, or how their parts become messages.
        messages: the row's whole conversation in OpenAI's words, or None where it cannot be told without being told more.
            Of a preference row it ends with the preferred answer. May be the row's own list: not to be changed.
        non_preferred: the other answer of a preference row, else None.
        is_convertible: whether `to_chat` makes a row of OpenAI's format of this one, which is of another.
    """

    __slots__ = ("_known", "_row", "_shape")

    def __init__(self, shape: _Shape, row: dict[str, Any]) -> None:
        self._shape = shape
        self._row = row
        self._known: _Read | None = None

    def __repr__(self) -> str:
        return f"Format({self.name!r})"

    @property
    def name(self) -> str:
        """See `Format`."""
        return self._shape.name

    @property
    def is_trainable(self) -> bool:
        """See `Format`."""
        return self._shape.is_trainable

    @property
    def description(self) -> str:
        """See `Format`."""
        said = self._shape.description
        return said if isinstance(said, str) else said(self._row)

    @property
    def advice(self) -> str:
        """See `Format`."""
        return self._shape.advice

    @property
    def said(self) -> str:
        """The description with the advice."""
        return f"{self.description}; {self.advice}" if self.advice else self.description

    @property
    def messages(self) -> list[Message] | None:
        """See `Format`."""
        return self._read.messages

    @property
    def non_preferred(self) -> list[Message] | None:
        """See `Format`."""
        return self._read.non_preferred

    @property
    def is_convertible(self) -> bool:
        """See `Format`."""
        return self._read.is_convertible

    @property
    def _read(self) -> _Read:
        if self._known is None:
            self._known = self._shape.read(self._row)
        return self._known


def recognise(row: dict[str, Any]) -> Format:
    """Returns the shape of a row."""
    if "messages" in row:
        return Format(_CHAT if len(row) == 1 else _with_messages(row), row)
    if preference_keys(row) is not None:
        return Format(_PREFERENCE, row)
    for is_shaped, shape in _SHAPES:
        if is_shaped(row):
            return Format(shape, row)
    return Format(_UNKNOWN, row)


def preference_keys(row: dict[str, Any]) -> tuple[str, str] | None:
    """Returns the names of the preferred and the non-preferred answer in a preference row, None in another."""
    return next((keys for keys in _PREFERENCE_KEYS if keys[0] in row or keys[1] in row), None)


def in_openai_words(messages: Any) -> list[Message] | None:
    """Returns messages with roles and text parts as OpenAI writes them, or None where a role is unknown."""
    if not isinstance(messages, list):
        return None
    translated: list[Message] | None = None
    for place, message in enumerate(messages):
        if type(message) is not dict:
            return None
        role, content = message.get("role"), message.get("content")
        if type(content) is str and role in ROLES:
            continue
        known = known_role(role)
        if known is None:
            return None
        text = None
        if isinstance(content, list) and not all(is_text_part(part) for part in content):
            text = parts_text(content)
        if known != role or text is not None:
            translated = list(messages) if translated is None else translated
            translated[place] = {**message, "role": known, "content": content if text is None else text}
            if "content" not in message:
                del translated[place]["content"]
    return messages if translated is None else translated


def _with_messages(row: dict[str, Any]) -> _Shape:
    messages = row["messages"]
    last = messages[-1] if isinstance(messages, list) and messages else None
    role = known_role(last.get("role")) if isinstance(last, dict) else None
    if role == "assistant":
        return _CHAT
    if preference_keys(row) is not None:
        return _PREFERENCE
    if role not in _PROMPT_ENDS or all(key in CHAT_KEYS for key in row):
        return _CHAT
    answered = any(isinstance(message, dict) and known_role(message.get("role")) == "assistant" for message in messages)
    return _CHAT if role != "user" and answered else _REINFORCEMENT


def _read_messages(row: dict[str, Any]) -> _Read:
    return _Read(in_openai_words(row["messages"]))


def _read_preference(row: dict[str, Any]) -> _Read:
    asked = row.get("input")
    before = in_openai_words(asked.get("messages")) if isinstance(asked, dict) else None
    preferred, other = (in_openai_words(row.get(key)) for key in preference_keys(row) or ("", ""))
    return _Read(None if before is None or preferred is None else [*before, *preferred], other)


def _read_completion(row: dict[str, Any]) -> _Read:
    return _Read(texts([("user", row["prompt"]), ("assistant", row["completion"])]))


def _read_converted(near: NearMiss) -> Callable[[dict[str, Any]], _Read]:
    def read(row: dict[str, Any]) -> _Read:
        converted = near.convert(row)
        if converted is None:
            return _Read(near_rows.guessed_turns(row) if near.name == "columns" else None)
        new = converted[0]
        read_new = _read_preference(new) if "input" in new else _read_messages(new)
        return read_new._replace(is_convertible=True)

    return read


def _read_nothing(_row: dict[str, Any]) -> _Read:
    return _Read()


def _preference_said(row: dict[str, Any]) -> str:
    return f"preference rows ({', '.join(preference_keys(row) or ())})"


def _unknown_said(row: dict[str, Any]) -> str:
    keys = f"its keys are {keys_of(row)}" if row else "it is an empty object"
    return f'no "messages", and no other known shape of training rows: {keys}'


_CHAT = _Shape("chat", True, "OpenAI chat rows", "the model learns their answers", _read_messages)
_REINFORCEMENT = _Shape(
    "reinforcement",
    True,
    "reinforcement rows (a prompt, and other keys beside it)",
    "the model's own answers to them are graded",
    _read_messages,
)
_PREFERENCE = _Shape(
    "preference", True, _preference_said, "the model learns which answer is the better one (DPO)", _read_preference
)
_COMPLETION = _Shape(
    "completion",
    True,
    "prompt/completion rows (OpenAI's old format)",
    '"prompt" becomes a user message and "completion" an assistant message',
    _read_completion,
)
_UNKNOWN = _Shape("unknown", False, _unknown_said, "", _read_nothing)
_BEFORE_COMPLETION = ("chosen-rejected", "judged-completion", "messages-completion")
"""Near misses that have the keys of a completion row, or may have them."""


def _shapes() -> list[tuple[Callable[[dict[str, Any]], bool], _Shape]]:
    shapes = [
        (near.is_shaped, _Shape(near.name, False, near.description, near.advice, _read_converted(near)))
        for near in NEAR_MISSES
    ]
    place = len(_BEFORE_COMPLETION)
    assert tuple(shape.name for _, shape in shapes[:place]) == _BEFORE_COMPLETION
    return [*shapes[:place], (lambda row: "prompt" in row and "completion" in row, _COMPLETION), *shapes[place:]]


_SHAPES = _shapes()


PLAIN_CHAT = Format(_CHAT, {"messages": []})
"""The shape of every row that `plain_chat` returns; its messages are the row's own."""
