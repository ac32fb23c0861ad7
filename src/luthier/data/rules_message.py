"""The rules about one row's messages: OpenAI's chat format, and what a chat template needs.

Each function looks at one thing and yields what is wrong with it. `message_problems` runs them in order and stops where
the rest could not be judged.

Source: OpenAI's fine-tuning format, `FineTuneChatRequestInput`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from luthier.data import catalogue_message as rules
from luthier.data.chat import ROLES, Message, content_text, is_trained
from luthier.data.findings import Problem, quoted
from luthier.data.formats import Format, known_role

_ROW_KEYS = ("messages", "tools", "parallel_tool_calls")
_MESSAGE_KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal")
_DEPRECATED_KEYS = {"functions": "tools", "function_call": "tool_calls"}
_SPEAKING = ("user", "assistant")


def message_problems(row: dict[str, Any], found: Format) -> Iterator[Problem]:
    """Yields what is wrong with a row's shape, keys, messages and their order.

    Args:
        row: the JSON object.
        found: its shape, from `recognise`.
    """
    if found.name != "chat":
        yield rules.UNKNOWN_FORMAT.problem(found.said, text=_shown(row))
        for message in found.messages or ():
            yield from _content(message)
        return
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        yield rules.MISSING_MESSAGES.problem(f'"messages" is {_kind(messages)}', text=_shown(row))
        return
    if strangers := [message for message in messages if not isinstance(message, dict)]:
        yield rules.MISSING_MESSAGES.problem(f"a message is {_kind(strangers[0])}", text=_shown(strangers[0]))
        return
    yield from _row_keys(row)
    yield from _tools(row)
    for message in messages:
        yield from _message_keys(message)
        yield from _role(message)
        yield from _content(message)
        yield from _weight(message)
        yield from _tool_calls(message, row.get("tools"))
    roles = [known_role(message.get("role")) for message in messages]
    if None not in roles:
        yield from _order([str(role) for role in roles], messages)
        yield from _tool_results(messages)


def _row_keys(row: dict[str, Any]) -> Iterator[Problem]:
    for key in row:
        if key in _DEPRECATED_KEYS:
            yield rules.LOST_KEY.problem(f'"{key}" (now "{_DEPRECATED_KEYS[key]}")', text=_shown(row))
        elif key not in _ROW_KEYS:
            yield rules.UNKNOWN_KEY.problem(f'"{key}"{_meant(key, _ROW_KEYS)} beside "messages"', text=_shown(row))
    if not isinstance(row.get("parallel_tool_calls", True), bool):
        yield rules.BAD_TOOLS.problem('"parallel_tool_calls" is not true or false', text=_shown(row))


def _message_keys(message: Message) -> Iterator[Problem]:
    lost = not _says_something(message)
    for key in message:
        if key in _DEPRECATED_KEYS:
            detail = f'"{key}" (now "{_DEPRECATED_KEYS[key]}")'
            yield rules.LOST_KEY.problem(detail, text=_shown(message))
        elif key not in _MESSAGE_KEYS:
            rule = rules.LOST_KEY if lost else rules.UNKNOWN_KEY
            yield rule.problem(f'"{key}"{_meant(key, _MESSAGE_KEYS)} in a message', text=_shown(message))


def _says_something(message: Message) -> bool:
    return message.get("content") is not None or bool(message.get("tool_calls")) or bool(message.get("refusal"))


def _role(message: Message) -> Iterator[Problem]:
    role = message.get("role")
    if role in ROLES:
        return
    if "role" not in message:
        yield rules.UNKNOWN_ROLE.problem('no "role" key', text=_shown(message))
        return
    meant = known_role(role)
    remedy = f' (write "{meant}")' if meant else ""
    yield rules.UNKNOWN_ROLE.problem(f"{json.dumps(role, ensure_ascii=False)[:40]}{remedy}", text=_shown(message))


def _content(message: Message) -> Iterator[Problem]:
    content, role = message.get("content"), known_role(message.get("role"))
    if content is None:
        if message.get("tool_calls") or message.get("refusal") or "function_call" in message:
            return
        missing = "is null" if "content" in message else "is missing"
        yield rules.MISSING_CONTENT.problem(f'"content" {missing} in {_a(role)} message', text=_shown(message))
        return
    if isinstance(content, list):
        problems = list(_parts(content))
        yield from problems
        if problems:
            return
    elif not isinstance(content, str):
        detail = f'"content" is {_kind(content)} in {_a(role)} message'
        yield rules.MISSING_CONTENT.problem(detail, text=_shown(message))
        return
    if content_text(message).strip() or message.get("tool_calls") or message.get("refusal"):
        return
    if role == "assistant" and is_trained({**message, "role": role}):
        yield rules.EMPTY_ANSWER.problem(text=_shown(message))
    elif role != "tool":  # a tool may well return nothing
        yield rules.EMPTY_CONTENT.problem(f"{_a(role)} message", text=_shown(message))


def _parts(content: list[Any]) -> Iterator[Problem]:
    for part in content:
        if not isinstance(part, dict):
            yield rules.CONTENT_PARTS.problem(f"a part is {_kind(part)}", text=_shown(part))
        elif "type" not in part:
            yield rules.CONTENT_PARTS.problem('a part without a "type"', text=_shown(part))
        elif part["type"] != "text":
            detail = f"a part of type {json.dumps(part['type'])[:40]}"
            yield rules.CONTENT_PARTS.problem(detail, text=_shown(part))
        else:
            for key in part:
                if key in ("type", "text"):
                    continue
                yield rules.CONTENT_PARTS.problem(f'the key "{key}" in a text part', text=_shown(part))
            if not isinstance(part.get("text"), str):
                yield rules.CONTENT_PARTS.problem('a text part without a "text"', text=_shown(part))


def _weight(message: Message) -> Iterator[Problem]:
    if message.get("weight") is None:
        return
    weight, role = message["weight"], known_role(message.get("role"))
    if type(weight) is not int or weight not in (0, 1):
        yield rules.BAD_WEIGHT.problem(f"{json.dumps(weight)[:40]}", text=_shown(message))
    elif role != "assistant":
        yield rules.BAD_WEIGHT.problem(f"on {_a(role)} message", text=_shown(message))


def _tools(row: dict[str, Any]) -> Iterator[Problem]:
    if row.get("tools") is None:
        return
    if not isinstance(row["tools"], list):
        yield rules.BAD_TOOLS.problem(f'"tools" is {_kind(row["tools"])}, not a list', text=_shown(row["tools"]))
        return
    names: set[str] = set()
    for tool in row["tools"]:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            detail = 'a tool is not {"type": "function", "function": {…}}'
        elif not isinstance(function.get("name"), str) or not function["name"]:
            detail = "a function has no name"
        elif not isinstance(function.get("parameters", {}), dict):
            detail = f'"parameters" of {function["name"]} is not an object (a JSON schema)'
        elif function["name"] in names:
            detail = f"two functions are named {function['name']}"
        else:
            names.add(function["name"])
            continue
        yield rules.BAD_TOOLS.problem(detail, text=_shown(tool))


def _tool_calls(message: Message, tools: Any) -> Iterator[Problem]:
    calls = message.get("tool_calls")
    if calls is None:
        return
    if not isinstance(calls, list) or not calls:
        yield rules.BAD_TOOL_CALL.problem(f'"tool_calls" is {_kind(calls)}', text=_shown(message))
        return
    if known_role(message.get("role")) != "assistant":
        detail = f"{_a(known_role(message.get('role')))} message calls a tool; only the assistant may"
        yield rules.BAD_TOOL_CALL.problem(detail, text=_shown(message))
    names = set(_function_names(tools)) if isinstance(tools, list) else None
    for call in calls:
        fault = _call_fault(call)
        if fault is not None:
            yield rules.BAD_TOOL_CALL.problem(fault, text=_shown(call))
        elif names is None:
            yield rules.UNDECLARED_TOOLS.problem(f'"{call["function"]["name"]}"', text=_shown(call))
        elif call["function"]["name"] not in names:
            detail = f'the function "{call["function"]["name"]}" is not in the row\'s "tools"'
            yield rules.BAD_TOOL_CALL.problem(detail, text=_shown(call))


def _function_names(tools: list[Any]) -> Iterator[str]:
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            yield function["name"]


def _call_fault(call: Any) -> str | None:
    if not isinstance(call, dict):
        return f"a call is {_kind(call)}"
    function = call.get("function")
    if call.get("type") != "function" or not isinstance(function, dict):
        return 'a call is not {"id": …, "type": "function", "function": {…}}'
    if not isinstance(call.get("id"), str) or not call["id"]:
        return 'a call has no "id"'
    if not isinstance(function.get("name"), str) or not function["name"]:
        return "a call names no function"
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return f'"arguments" of {function["name"]} is {_kind(arguments)}; it must be a string that holds JSON'
    try:
        decoded = json.loads(arguments)
    except (ValueError, RecursionError) as error:
        return f'"arguments" of {function["name"]} is not JSON: {quoted(str(error))}'
    if not isinstance(decoded, dict):
        return f'"arguments" of {function["name"]} holds {_kind(decoded)}, not an object'
    return None


def _tool_results(messages: list[Message]) -> Iterator[Problem]:
    asked: set[str] = set()
    for message in messages:
        calls = message.get("tool_calls")
        asked.update(
            call["id"]
            for call in (calls if isinstance(calls, list) else [])
            if isinstance(call, dict) and isinstance(call.get("id"), str)
        )
        if known_role(message["role"]) != "tool":
            continue
        answered = message.get("tool_call_id")
        if answered is None:
            yield rules.TOOL_RESULT_WITHOUT_CALL.problem('no "tool_call_id"', text=_shown(message))
        elif not isinstance(answered, str) or answered not in asked:
            detail = f"no earlier call has the id {json.dumps(answered, ensure_ascii=False)[:40]}"
            yield rules.TOOL_RESULT_WITHOUT_CALL.problem(detail, text=_shown(message))


def _order(roles: list[str], messages: list[Message]) -> Iterator[Problem]:
    """Who speaks when. Several of these are legal in OpenAI's format, but templates refuse or drop such turns."""
    system = [place for place, role in enumerate(roles) if role in ("system", "developer")]
    if len(system) > 1:
        yield rules.SEVERAL_SYSTEM.problem(f"{len(system)} of them", text=_shown(messages[system[1]]))
    if system and system[0] > 0:
        yield rules.SYSTEM_NOT_FIRST.problem(text=_shown(messages[system[0]]))
    if "user" not in roles:
        yield rules.NO_USER.problem(text=_shown(messages))
    if "assistant" not in roles:
        yield rules.NO_ASSISTANT.problem(f"only {_listed(roles)}", text=_shown(messages))
        return
    if not any(is_trained({**message, "role": role}) for message, role in zip(messages, roles, strict=True)):
        yield rules.NOTHING_TRAINED.problem(text=_shown(messages))
    if roles[-1] != "assistant":
        yield rules.LAST_NOT_ASSISTANT.problem(f"the last is {_a(roles[-1])} message", text=_shown(messages[-1]))
    speaking = [(role, message) for role, message in zip(roles, messages, strict=True) if role in _SPEAKING]
    if speaking[0][0] == "assistant":
        yield rules.ASSISTANT_FIRST.problem(text=_shown(speaking[0][1]))
    for place in range(1, len(roles)):
        if roles[place] == roles[place - 1] and roles[place] in _SPEAKING:
            yield rules.SAME_ROLE_TWICE.problem(f"two {roles[place]} messages in a row", text=_shown(messages[place]))
            return


def _meant(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.75)
    return f' (did you mean "{close[0]}"?)' if close else ""


def _listed(roles: list[str]) -> str:
    return " and ".join(dict.fromkeys(roles)) + " messages"


def _a(role: str | None) -> str:
    return f"{'an' if role == 'assistant' else 'a'} {role}" if role else "a"


def _kind(value: Any) -> str:
    if value in ("", [], {}):
        return "empty"
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
