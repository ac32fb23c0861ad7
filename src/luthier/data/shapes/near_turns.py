"""Turns of a conversation as other tools write them, read as OpenAI's messages."""

from __future__ import annotations

import json
from typing import Any

from luthier.data.chat import Message
from luthier.data.shapes.parts import parts_text
from luthier.data.shapes.roles import known_role

_ROLE_KEYS = ("from", "role")
_TEXT_KEYS = ("value", "content")
_KEPT = ("name", "weight", "tool_calls", "tool_call_id", "refusal")
_CALLING = ("function_call", "function-call", "tool_call", "tool_calls")
"""Role names of turns whose text is a call, written as JSON."""


def conversation(turns: list[Any]) -> tuple[list[Message], list[str]] | None:
    """Returns turns as messages, with sentences that say what was done; None where they cannot be told.

    Ids that calls need and the turns do not have are made up in order: call_1, call_2, ….
    """
    messages: list[Message] = []
    waiting: list[str] = []
    called, lost = 0, dict[str, None]()
    for turn in turns:
        role_key = next((key for key in _ROLE_KEYS if isinstance(turn, dict) and key in turn), None)
        text_key = next((key for key in _TEXT_KEYS if isinstance(turn, dict) and key in turn), None)
        if role_key is None or text_key is None:
            return None
        content = turn[text_key]
        lost.update(dict.fromkeys(k for k in turn if k not in (role_key, text_key, *_KEPT) and turn[k] is not None))
        kept = {key: turn[key] for key in _KEPT if turn.get(key) is not None}
        if turn[role_key] in _CALLING:
            calls = _calls(content, called)
            if calls is None:
                return None
            called += len(calls)
            waiting = [call["id"] for call in calls]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls, **kept})
            continue
        role = known_role(turn[role_key])
        text = parts_text(content) if isinstance(content, list) else content
        silent = (
            text is None and content is None and role == "assistant" and ("tool_calls" in kept or "refusal" in kept)
        )
        if role is None or not (isinstance(text, str) or silent):
            return None
        message = {"role": role, "content": text, **kept}
        if role == "tool" and "tool_call_id" not in message and waiting:
            message["tool_call_id"] = waiting.pop(0)
        messages.append(message)
    said = ["the turns that call functions became tool calls, with ids made up"] if called else []
    said += [f"left out of the messages: {', '.join(lost)}"] if lost else []
    return (messages, said) if messages else None


def tools_of(value: Any) -> list[dict[str, Any]] | None:
    """Returns a declaration of functions as OpenAI's "tools", or None where it is none."""
    if isinstance(value, str):
        value = _decoded(value)
    if not isinstance(value, list) or not value:
        return None
    tools: list[dict[str, Any]] = []
    for tool in value:
        if not isinstance(tool, dict):
            return None
        if isinstance(tool.get("function"), dict):
            tools.append(tool)
        elif isinstance(tool.get("name"), str):
            tools.append({"type": "function", "function": tool})
        else:
            return None
    return tools


def _calls(text: Any, before: int) -> list[dict[str, Any]] | None:
    """Returns the calls that a turn's text holds as JSON, numbered on from `before`."""
    value = _decoded(text) if isinstance(text, str) else None
    calls: list[dict[str, Any]] = []
    for call in value if isinstance(value, list) else [value]:
        if not isinstance(call, dict) or call.keys() != {"name", "arguments"} or not isinstance(call["name"], str):
            return None
        arguments = call["arguments"]
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        function = {"name": call["name"], "arguments": arguments}
        calls.append({"id": f"call_{before + len(calls) + 1}", "type": "function", "function": function})
    return calls or None


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
