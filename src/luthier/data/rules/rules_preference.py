"""The rules about preference rows as such: two answers to one prompt, and not the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthier.data.chat import Message, content_text
from luthier.data.findings import Problem
from luthier.data.rules import catalogue_message as rules
from luthier.data.shapes.formats import Format, preference_keys
from luthier.data.shapes.roles import known_role
from luthier.data.shapes.wording import kind, shown, with_article

_ANSWERING = ("assistant", "tool")
"""Source: Azure OpenAI's preference format; OpenAI's own has the assistant's message only."""


def preference_shape(row: dict[str, Any]) -> tuple[dict[str, Any], list[Message], list[list[Message]]] | str:
    """Returns the input, its messages and the two answers of a preference row, or what is wrong with their shape."""
    asked = row.get("input")
    if not isinstance(asked, dict):
        return '"input" is missing' if "input" not in row else f'"input" is {kind(asked)}, not an object'
    messages = asked.get("messages")
    if (fault := _list_fault(messages, '"messages" of "input"')) is not None:
        return fault
    answers: list[list[Message]] = []
    for key in preference_keys(row) or ():
        if key not in row:
            return f'"{key}" is missing'
        if (fault := _list_fault(row[key], f'"{key}"')) is not None:
            return fault
        answers.append(row[key])
    return asked, messages or [], answers


def preference_problems(row: dict[str, Any], messages: list[Message], found: Format) -> Iterator[Problem]:
    """Yields what is wrong with the answers of a row whose shape is as the format has it.

    Args:
        row: the JSON object.
        messages: those of its input.
        found: its shape.
    """
    if known_role(messages[-1].get("role")) == "assistant":
        yield rules.PREFERENCE_SHAPE.problem('the "input" ends with an assistant message', text=shown(messages[-1]))
    for key in preference_keys(row) or ():
        roles = [known_role(message.get("role")) for message in row[key]]
        strangers = [role for role in roles if role is not None and role not in _ANSWERING]
        if strangers:
            detail = f'"{key}" holds {with_article(strangers[0])} message'
            yield rules.PREFERENCE_SHAPE.problem(detail, text=shown(row[key]))
        elif roles[0] == "tool" or roles[-1] == "tool":
            yield rules.PREFERENCE_SHAPE.problem(f'"{key}" begins or ends with a tool message', text=shown(row[key]))
    prompt_size = len(messages)
    if found.messages is not None and found.non_preferred is not None:
        preferred = found.messages[prompt_size:]
        if [_said(message) for message in preferred] == [_said(message) for message in found.non_preferred]:
            yield rules.PREFERENCE_SAME.problem(text=shown(row[(preference_keys(row) or ("", ""))[0]]))


def _list_fault(value: Any, name: str) -> str | None:
    if not isinstance(value, list) or not value:
        return f"{name} is {kind(value)}, not a list of messages"
    strangers = [item for item in value if not isinstance(item, dict)]
    return f"{name} holds {kind(strangers[0])}, not messages only" if strangers else None


def _said(message: Message) -> tuple[Any, ...]:
    """Returns what a message says; the ids of its calls are names and say nothing."""
    calls = message.get("tool_calls")
    functions = (
        [call.get("function") if isinstance(call, dict) else call for call in calls]
        if isinstance(calls, list)
        else calls
    )
    return message["role"], content_text(message).strip(), functions or None
