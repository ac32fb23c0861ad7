"""OpenAI's deprecated way to call functions, and the same row written with tools."""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

from luthier.data.chat import Message
from luthier.data.shapes.roles import known_role

FUNCTIONS, FUNCTION_CALL, FUNCTION_RESULT = (
    '"functions" (now "tools")',
    '"function_call" (now "tool_calls")',
    'the role "function" (now "tool")',
)


def old_functions(row: dict[str, Any], messages: list[Message]) -> list[str]:
    """Returns what a row has of the old way, as sentences say it."""
    found = [FUNCTIONS] if "functions" in row else []
    found += [FUNCTION_CALL] if any("function_call" in message for message in messages) else []
    return found + ([FUNCTION_RESULT] if any(message.get("role") == "function" for message in messages) else [])


def with_tools(row: dict[str, Any], messages: list[Message]) -> tuple[dict[str, Any], list[Message]] | None:
    """Returns a row and its messages, written with tools; None where a call, a result or a function cannot be told.

    A call has no id in the old way. Ids are made up in order (call_1, call_2, …), the same for the same row; a result
    answers the first call of its name that has none yet.
    """
    functions = row.get("functions")
    new = {key: value for key, value in row.items() if key != "functions"}
    if functions is not None:
        if row.get("tools") is not None or not isinstance(functions, list):
            return None
        if not all(isinstance(function, dict) for function in functions):
            return None
        new["tools"] = [{"type": "function", "function": function} for function in functions]
    taken = {call["id"] for message in messages for call in _calls(message)}
    ids = (name for number in itertools.count(1) if (name := f"call_{number}") not in taken)
    waiting: dict[str, deque[str]] = defaultdict(deque)
    renewed: list[Message] = []
    for message in messages:
        after = _with_tool_call(message, ids, waiting)
        if after is None:
            return None
        renewed.append(after)
    return new, renewed


def _with_tool_call(message: Message, ids: Iterator[str], waiting: dict[str, deque[str]]) -> Message | None:
    call, new = message.get("function_call"), {key: message[key] for key in message if key != "function_call"}
    if call is not None:
        if (
            not isinstance(call, dict)
            or not isinstance(call.get("name"), str)
            or not isinstance(call.get("arguments"), str)
        ):
            return None
        if message.get("tool_calls") is not None or known_role(message.get("role")) != "assistant":
            return None
        made_up = next(ids)
        waiting[call["name"]].append(made_up)
        new["tool_calls"] = [{"id": made_up, "type": "function", "function": call}]
    if message.get("role") == "function":
        name = message.get("name")
        if not isinstance(name, str) or not waiting[name] or message.get("tool_call_id") is not None:
            return None
        new["role"] = "tool"
        new["tool_call_id"] = waiting[name].popleft()
    return new


def _calls(message: Message) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    return [
        call
        for call in (calls if isinstance(calls, list) else [])
        if isinstance(call, dict) and isinstance(call.get("id"), str)
    ]
