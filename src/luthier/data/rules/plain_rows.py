"""Chat rows of the plainest kinds: known to be without fault after a quick look, as nearly all rows of most files are."""

from __future__ import annotations

import functools
from typing import Any

import orjson

from luthier.data.chat import Message
from luthier.data.rules.rules_tools import declared_functions, tools_problems
from luthier.data.rules.schemas import Schema, schema_of

_NEXT = {"user": "assistant", "assistant": "user"}
_MAX_CACHED = 1024
_CALL_KEYS = ({"role", "content", "tool_calls"}, {"role", "tool_calls"})
_RESULT_KEYS = ({"role", "content", "tool_call_id"}, {"role", "content", "tool_call_id", "name"})


def is_plain_chat(row: dict[str, Any]) -> bool:
    """Whether a row is a chat row of the plainest kind, about which `message_problems` says nothing.

    It has no key but "messages"; the messages have a role and a text, and nothing else; a system message may stand first,
    then user and assistant take turns, and the assistant speaks last.
    """
    if len(row) != 1:
        return False
    messages = row.get("messages")
    if type(messages) is not list or len(messages) < 2:
        return False
    expected, is_first, role = "user", True, None
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return False
        role, content = message.get("role"), message.get("content")
        if type(content) is not str or not content or content.isspace():
            return False
        if role == expected:
            expected = _NEXT[expected]
        elif not is_first or (role != "system" and role != "developer"):
            return False
        is_first = False
    return role == "assistant"


def is_plain_tool_chat(row: dict[str, Any]) -> bool:
    """Whether a row is a chat row with tools about which `message_problems` says nothing, as far as a quick look tells.

    Its messages are those of a plain chat row; but the assistant may call declared functions with fitting arguments, and
    then the results of these calls stand right behind it.
    """
    messages, tools = row.get("messages"), row.get("tools")
    if len(row) != 2 or type(messages) is not list or type(tools) is not list or len(messages) < 2:
        return False
    functions = _sound_functions(orjson.dumps(tools))
    if functions is None:
        return False
    expected, is_first, role = "user", True, None
    waiting: set[Any] = set()
    for message in messages:
        if type(message) is not dict:
            return False
        role, content = message.get("role"), message.get("content")
        if role == "tool":
            if not _is_result(message, content, waiting):
                return False
            waiting.remove(message["tool_call_id"])
        elif waiting:
            return False
        elif len(message) == 2 and type(content) is str and content and not content.isspace():
            if role == expected:
                expected = _NEXT[expected]
            elif not is_first or (role != "system" and role != "developer"):
                return False
        elif role == expected == "assistant":
            if not _are_calls(message, content, functions, waiting):
                return False
        else:
            return False
        is_first = False
    return role == "assistant"


@functools.lru_cache(maxsize=_MAX_CACHED)
def _sound_functions(tools: bytes) -> dict[str, Schema] | None:
    """Returns the functions that tools declare, with their schemas; None where anything is wrong with them."""
    row = {"tools": orjson.loads(tools)}
    if next(tools_problems(row), None) is not None:
        return None
    return {name: schema_of(parameters) for name, parameters in (declared_functions(row["tools"]) or {}).items()}


def _is_result(message: Message, content: Any, waiting: set[Any]) -> bool:
    answered = message.get("tool_call_id")
    return (
        type(content) is str
        and type(answered) is str
        and answered in waiting
        and message.keys() in _RESULT_KEYS
        and type(message.get("name", "")) is str
    )


def _are_calls(message: Message, content: Any, functions: dict[str, Schema], waiting: set[Any]) -> bool:
    """Whether a message calls functions as they are declared; their ids are noted."""
    calls = message.get("tool_calls")
    if message.keys() not in _CALL_KEYS or not (content is None or type(content) is str) or type(calls) is not list:
        return False
    for call in calls:
        if type(call) is not dict or call.get("type") != "function" or type(call.get("function")) is not dict:
            return False
        name, written, number = call["function"].get("name"), call["function"].get("arguments"), call.get("id")
        if type(number) is not str or not number or number in waiting or type(written) is not str:
            return False
        schema = functions.get(name) if type(name) is str else None
        if schema is None:
            return False
        try:
            arguments = orjson.loads(written)
        except orjson.JSONDecodeError:
            return False
        if type(arguments) is not dict or schema.fault_of(arguments, len(written)) is not None:
            return False
        waiting.add(number)
    return bool(calls)
