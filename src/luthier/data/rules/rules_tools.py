"""The rules about tools: how they are declared, how they are called, and that each result answers a call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from luthier.data.chat import Message
from luthier.data.findings import Problem, quoted
from luthier.data.rules import catalogue_message as rules
from luthier.data.rules.schemas import schema_of
from luthier.data.shapes.roles import known_role
from luthier.data.shapes.wording import kind, short, shown, with_article

Functions = dict[str, Any]
"""The "parameters" of each declared function, by its name."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Source: OpenAI's API specification, `FunctionObject.name`."""


def declared_functions(tools: Any) -> Functions | None:
    """Returns the functions that a row declares, or None where it has no "tools"."""
    if not isinstance(tools, list):
        return None
    functions: Functions = {}
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            functions.setdefault(function["name"], function.get("parameters"))
    return functions


def tools_problems(row: dict[str, Any]) -> Iterator[Problem]:
    """Yields what is wrong with a row's declaration of tools."""
    tools = row.get("tools")
    if not isinstance(row.get("parallel_tool_calls", True), bool):
        yield rules.BAD_TOOLS.problem('"parallel_tool_calls" is not true or false', text=shown(row))
    if tools is None:
        return
    if not isinstance(tools, list):
        yield rules.BAD_TOOLS.problem(f'"tools" is {kind(tools)}, not a list', text=shown(tools))
        return
    names: set[str] = set()
    for tool in tools:
        fault = _declaration_fault(tool, names)
        if fault is not None:
            yield rules.BAD_TOOLS.problem(fault, text=shown(tool))
        elif not _NAME.fullmatch(tool["function"]["name"]):
            yield rules.TOOL_NAME.problem(short(tool["function"]["name"]), text=shown(tool))


def _declaration_fault(tool: Any, names: set[str]) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type") != "function":
        return 'a tool is not {"type": "function", "function": {…}}'
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not name:
        return "a function has no name"
    if name in names:
        return f"two functions are named {short(name)}"
    names.add(name)
    if not isinstance(parameters, dict | None):
        return f'"parameters" of {short(name)} is not an object (a JSON schema)'
    if parameters is not None and parameters.get("type", "object") != "object":
        return f'"parameters" of {short(name)} has the type {short(parameters["type"])}; arguments are always an object'
    if not isinstance(function.get("description"), str | None) or not isinstance(function.get("strict"), bool | None):
        return f'"description" of {short(name)} is not a string, or "strict" not true or false'
    fault = schema_of(parameters).fault
    return f'"parameters" of {short(name)} is not a JSON schema: {fault}' if fault is not None else None


def call_problems(message: Message, functions: Functions | None) -> Iterator[Problem]:
    """Yields what is wrong with the calls that a message makes.

    Args:
        message: the message.
        functions: those that the row declares.
    """
    calls = message.get("tool_calls")
    if calls is None:
        return
    if not isinstance(calls, list) or not calls:
        yield rules.BAD_TOOL_CALL.problem(f'"tool_calls" is {kind(calls)}', text=shown(message))
        return
    role = known_role(message.get("role"))
    if role != "assistant":
        detail = f"{with_article(role)} message calls a tool; only the assistant may"
        yield rules.BAD_TOOL_CALL.problem(detail, text=shown(message))
    ids: set[str] = set()
    for call in calls:
        fault = _call_fault(call, ids)
        if fault is None and functions is None:
            yield rules.UNDECLARED_TOOLS.problem(short(call["function"]["name"]), text=shown(call))
        if fault is None:
            arguments, fault = _arguments(call["function"])
        if fault is None and functions is not None:
            name, size = call["function"]["name"], len(call["function"]["arguments"])
            if name not in functions:
                fault = f'the function {short(name)} is not in the row\'s "tools"'
            elif (against := schema_of(functions[name]).fault_of(arguments, size)) is not None:
                yield rules.ARGUMENTS_AGAINST_SCHEMA.problem(f"{short(name)}: {against}", text=shown(call))
        if fault is not None:
            yield rules.BAD_TOOL_CALL.problem(fault, text=shown(call))


def _call_fault(call: Any, ids: set[str]) -> str | None:
    if not isinstance(call, dict):
        return f"a call is {kind(call)}"
    function = call.get("function")
    if call.get("type") != "function" or not isinstance(function, dict):
        return 'a call is not {"id": …, "type": "function", "function": {…}}'
    if not isinstance(call.get("id"), str) or not call["id"]:
        return 'a call has no "id"'
    if call["id"] in ids:
        return f"two calls of one message have the id {short(call['id'])}"
    ids.add(call["id"])
    if not isinstance(function.get("name"), str) or not function["name"]:
        return "a call names no function"
    if not isinstance(function.get("arguments"), str):
        said = kind(function.get("arguments"))
        return f'"arguments" of {short(function["name"])} is {said}; it must be a string that holds JSON'
    return None


def _arguments(function: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Returns a call's arguments, or what is wrong with them as JSON."""
    name = short(function["name"])
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError) as error:
        return {}, f'"arguments" of {name} is not JSON: {quoted(str(error))}'
    if not isinstance(arguments, dict):
        return {}, f'"arguments" of {name} holds {kind(arguments)}, not an object'
    return arguments, None


def result_problems(messages: list[Message], roles: list[str]) -> Iterator[Problem]:
    """Yields tool results that answer no call, and calls without a result where the conversation goes on.

    The results stand directly behind the message that calls, in any order, one for each call.

    Source: OpenAI's API refuses other orders.
    """
    asked: set[str] = set()
    waiting: dict[str, Message] = {}
    """The calls of the last message that made some, and are not answered yet."""
    for message, role in zip(messages, roles, strict=True):
        if role == "tool":
            yield from _result_problem(message, asked, waiting)
            continue
        if role in ("user", "assistant"):
            if waiting:
                detail = f"the next message is {with_article(role)} message"
                yield rules.UNANSWERED_CALL.problem(detail, text=shown(next(iter(waiting.values()))))
            waiting = {}
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            if isinstance(call, dict) and isinstance(call.get("id"), str):
                asked.add(call["id"])
                waiting[call["id"]] = message


def _result_problem(message: Message, asked: set[str], waiting: dict[str, Message]) -> Iterator[Problem]:
    answered = message.get("tool_call_id")
    if answered is None:
        yield rules.TOOL_RESULT_WITHOUT_CALL.problem('no "tool_call_id"', text=shown(message))
    elif not isinstance(answered, str) or answered not in asked:
        detail = f"no earlier call has the id {short(answered)}"
        yield rules.TOOL_RESULT_WITHOUT_CALL.problem(detail, text=shown(message))
    elif waiting.pop(answered, None) is None:
        detail = f"the call {short(answered)} has its result already, or another turn came between"
        yield rules.TOOL_RESULT_WITHOUT_CALL.problem(detail, text=shown(message))
