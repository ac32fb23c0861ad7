"""The rules about one message by itself: its keys, its role, its content, its weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthier.data.chat import ROLES, Message, content_text, is_trained
from luthier.data.findings import Problem
from luthier.data.rules import catalogue_message as rules
from luthier.data.shapes.parts import is_text_part, parts_text
from luthier.data.shapes.roles import known_role
from luthier.data.shapes.wording import did_you_mean, kind, short, shown, singled_out, with_article

MESSAGE_KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal")
OLD_FUNCTION_ROLE = "function"
_PLAIN_ROLES = ("system", "developer", "user", "assistant")


def is_plain_message(message: Message) -> bool:
    """Whether a message has a role and a text, and nothing else: nothing is wrong with it by itself.

    A tool's result is none, as it needs the id of its call.
    """
    if len(message) != 2 or message.get("role") not in _PLAIN_ROLES:
        return False
    content = message.get("content")
    return type(content) is str and bool(content) and not content.isspace()


def content_problems(message: Message, *, needless: bool = True) -> Iterator[Problem]:
    """Yields what is wrong with a message by itself.

    Args:
        message: the message.
        needless: whether the conversation is whole without it, so that it may be deleted if it is empty.
    """
    role = known_role(message.get("role"))
    yield from _keys(message, role)
    yield from _role(message, role)
    yield from presence_problems(message, role, needless=needless)
    yield from _weight(message, role)


def _keys(message: Message, role: str | None) -> Iterator[Problem]:
    is_heard = _says_something(message, role)
    rule = rules.UNKNOWN_KEY if is_heard else rules.LOST_KEY
    strangers, more = singled_out([key for key in message if key not in MESSAGE_KEYS and key != "function_call"])
    for key in strangers:
        detail = f'"{key}"{did_you_mean(key, MESSAGE_KEYS)} in a message'
        yield rule.problem(detail, text=shown(message if not is_heard else {key: message[key]}))
    if more:
        yield rule.problem(f"{more} in a message")
    for key in MESSAGE_KEYS:
        if (fault := misplaced(key, message.get(key), role)) is not None:
            yield (rules.MISPLACED_KEY if is_heard else rules.LOST_KEY).problem(fault, text=shown({key: message[key]}))


def misplaced(key: str, value: Any, role: str | None) -> str | None:
    """Returns what is wrong with one of the format's own keys on a message of this role, or None."""
    if value is None or role is None:
        return None
    if key == "name" and not isinstance(value, str):
        return f'"name" is {kind(value)}, not a string'
    if key == "refusal":
        if role != "assistant":
            return f'"refusal" on {with_article(role)} message'
        return None if isinstance(value, str) else f'"refusal" is {kind(value)}, not a string'
    if key == "tool_call_id" and role != "tool":
        return f'"tool_call_id" on {with_article(role)} message'
    return None


def can_be_deleted(message: Message, key: str) -> bool:
    """Whether a key without meaning can be deleted from a message, because the message says something without it."""
    role = known_role(message.get("role"))
    if key == "function_call" or not _says_something(message, role):
        return False
    return key not in MESSAGE_KEYS or misplaced(key, message[key], role) is not None


def _says_something(message: Message, role: str | None) -> bool:
    content = message.get("content")
    if role == "assistant":
        refusal = message.get("refusal")
        calls = message.get("tool_calls") or message.get("function_call")
        spoken = content.strip() if isinstance(content, str) else content
        return bool(calls) or (isinstance(refusal, str) and bool(refusal)) or bool(spoken)
    return content is not None


def _role(message: Message, role: str | None) -> Iterator[Problem]:
    name = message.get("role")
    if name in ROLES or name == OLD_FUNCTION_ROLE:
        return
    if "role" not in message:
        yield rules.UNKNOWN_ROLE.problem('no "role" key', text=shown(message))
    elif role is None:
        yield rules.UNKNOWN_ROLE.problem(short(name), text=shown(message))
    else:
        yield rules.FOREIGN_ROLE.problem(f'{short(name)} (write "{role}")', text=shown(message))


def presence_problems(message: Message, role: str | None, *, needless: bool) -> Iterator[Problem]:
    """Yields what is wrong with a message's content: it is missing, empty, or not text; see `content_problems`."""
    content = message.get("content")
    says_otherwise = role in ("assistant", None) and _says_something({**message, "content": None}, "assistant")
    if content is None:
        if not says_otherwise:
            missing = "is null" if "content" in message else "is missing"
            detail = f'"content" {missing} in {with_article(role)} message'
            yield rules.MISSING_CONTENT.problem(detail, text=shown(message))
        return
    if isinstance(content, list):
        problems = list(_parts(content, role))
        yield from problems
        if problems:
            return
    elif not isinstance(content, str):
        detail = f'"content" is {kind(content)} in {with_article(role)} message'
        yield rules.MISSING_CONTENT.problem(detail, text=shown(message))
        return
    if content_text(message).strip() or says_otherwise or role == "tool":  # a tool may well return nothing
        return
    if role == "assistant" and is_trained({**message, "role": role}):
        yield rules.EMPTY_ANSWER.problem(text=shown(message))
    else:
        rule = rules.EMPTY_CONTENT if needless else rules.EMPTY_TURN
        yield rule.problem(f"{with_article(role)} message", text=shown(message))


def _parts(content: list[Any], role: str | None) -> Iterator[Problem]:
    rule = rules.CONTENT_PARTS if parts_text(content) is None else rules.FOREIGN_PARTS
    for part in content:
        if not is_text_part(part):
            excerpt = shown(part)
            yield from (rule.problem(fault, text=excerpt) for fault in _part_faults(part, role))


def _part_faults(part: Any, role: str | None) -> Iterator[str]:
    if not isinstance(part, dict):
        yield f"a part is {kind(part)}"
    elif "type" not in part:
        yield 'a part without a "type"'
    elif part["type"] != "text":
        in_answer = " in an assistant message, which no service accepts" if role == "assistant" else ""
        yield f"a part of type {short(part['type'])}{in_answer}"
    else:
        strangers, more = singled_out([key for key in part if key not in ("type", "text")])
        yield from (f'the key "{key}" in a text part' for key in strangers)
        if more:
            yield f"{more} in a text part"
        if not isinstance(part.get("text"), str):
            yield 'a text part without a "text"'


def _weight(message: Message, role: str | None) -> Iterator[Problem]:
    weight = message.get("weight")
    if weight is None:
        return
    if type(weight) is not int or weight not in (0, 1):
        yield rules.BAD_WEIGHT.problem(short(weight), text=shown(message))
    elif role != "assistant":
        yield rules.BAD_WEIGHT.problem(f"on {with_article(role)} message", text=shown(message))
