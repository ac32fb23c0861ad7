"""The rules about one row: its shape, its messages and their order, and what a chat template needs of them.

`message_problems` runs the rules of the row's format and stops where the rest could not be judged.

Source: OpenAI's fine-tuning formats, `FineTuneChatRequestInput` and its siblings for completion, preference and
reinforcement.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthier.data.chat import Message, content_text
from luthier.data.findings import Problem
from luthier.data.rules import catalogue_file
from luthier.data.rules import catalogue_message as rules
from luthier.data.rules.rules_content import content_problems, is_plain_message, presence_problems
from luthier.data.rules.rules_order import order_problems
from luthier.data.rules.rules_preference import preference_problems, preference_shape
from luthier.data.rules.rules_tools import call_problems, declared_functions, result_problems, tools_problems
from luthier.data.shapes.columns import ColumnMap
from luthier.data.shapes.formats import CHAT_KEYS, Format, preference_keys
from luthier.data.shapes.near_rows import system_message
from luthier.data.shapes.old_functions import old_functions, with_tools
from luthier.data.shapes.roles import known_role
from luthier.data.shapes.turn_repairs import needless
from luthier.data.shapes.wording import did_you_mean, kind, shown, singled_out, with_article

_KNOWN_KEYS = ("messages", "tools", "parallel_tool_calls")


def message_problems(row: dict[str, Any], found: Format) -> Iterator[Problem]:
    """Yields what is wrong with a row's shape, keys, messages and their order.

    Args:
        row: the JSON object.
        found: its shape, from `recognise`.
    """
    if found.name == "preference":
        yield from _preference(row, found)
    elif found.name == "completion":
        yield from _completion(row)
    elif not found.is_trainable:
        yield from _unknown(row, found)
    elif (fault := _fault_of_messages(row["messages"])) is not None:
        yield rules.MISSING_MESSAGES.problem(fault, text=shown(row))
    else:
        messages: list[Message] = row["messages"]
        if found.name == "reinforcement":
            last = known_role(messages[-1].get("role"))
            if last != "user":
                detail = f"the messages end with {with_article(last)} message, not with the user's"
                yield rules.REINFORCEMENT_SHAPE.problem(detail, text=shown(messages[-1]))
        else:
            yield from _keys_of_chat(row)
        yield from _conversation(row, messages, is_prompt=found.name == "reinforcement")


def _fault_of_messages(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages:
        return f'"messages" is {kind(messages)}'
    return next((f"a message is {kind(m)}" for m in messages if not isinstance(m, dict)), None)


def _conversation(row: dict[str, Any], messages: list[Message], *, is_prompt: bool) -> Iterator[Problem]:
    """Yields what is wrong with messages and the tools that are declared for them."""
    old = old_functions(row, messages)
    if old:
        renewed = with_tools(row, messages)
        rule = rules.LOST_KEY if renewed is None else rules.OLD_FUNCTIONS
        yield from (rule.problem(detail, text=shown(row)) for detail in old)
        if renewed is not None:
            row, messages = renewed
    yield from tools_problems(row)
    roles = [known_role(message.get("role")) for message in messages]
    known = [role for role in roles if role is not None]
    are_known = len(known) == len(roles)
    if remarkable := [place for place, message in enumerate(messages) if not is_plain_message(message)]:
        deletable = needless(messages, known, is_prompt=is_prompt) if are_known else set()
        functions = declared_functions(row.get("tools"))
        for place in remarkable:
            yield from content_problems(messages[place], needless=place in deletable)
            yield from call_problems(messages[place], functions)
    if are_known:
        yield from order_problems(messages, known, is_prompt=is_prompt)
        if remarkable:
            yield from result_problems(messages, known)


def _keys_of_chat(row: dict[str, Any]) -> Iterator[Problem]:
    """Yields the keys that do not belong beside the messages, of a chat row or of a preference row's input."""
    strangers = [key for key in row if key not in CHAT_KEYS]
    for key in ("function_call", "system"):
        if key in row and (key == "function_call" or holds_system_prompt(row, key)):
            strangers = [stranger for stranger in strangers if stranger != key]
            yield rules.LOST_KEY.problem(f'"{key}" beside "messages"', text=shown({key: row[key]}))
    yield from _strangers(row, strangers, 'beside "messages"')


def _strangers(row: dict[str, Any], keys: list[str], where: str) -> Iterator[Problem]:
    named, more = singled_out(keys)
    for key in named:
        meant = did_you_mean(key, _KNOWN_KEYS)
        yield rules.UNKNOWN_KEY.problem(f'"{key}"{meant} {where}', text=shown({key: row[key]}))
    if more:
        yield rules.UNKNOWN_KEY.problem(f"{more} {where}")


def holds_system_prompt(row: dict[str, Any], key: str) -> bool:
    """Whether a key beside the messages holds a system prompt that none of them has, as Anthropic's rows have it."""
    message = system_message(row.get(key)) if key == "system" else None
    if message is None or not message["content"].strip():
        return False
    return not any(message["content"] in content_text(m) for m in row["messages"])


def _preference(row: dict[str, Any], found: Format) -> Iterator[Problem]:
    keys = preference_keys(row) or ()
    yield from _strangers(row, [key for key in row if key not in (*keys, "input")], 'beside "input"')
    shape = preference_shape(row)
    if isinstance(shape, str):
        yield rules.PREFERENCE_SHAPE.problem(shape, text=shown(row))
        return
    asked, messages, answers = shape
    yield from _keys_of_chat(asked)
    yield from preference_problems(row, messages, found)
    yield from _conversation(asked, messages, is_prompt=True)
    functions = declared_functions(asked.get("tools"))
    for answer in answers:
        yield from (rules.LOST_KEY.problem(detail, text=shown(answer)) for detail in old_functions({}, answer))
        for message in answer:
            yield from content_problems(message, needless=False)
            yield from call_problems(message, functions)
        roles = [known_role(message.get("role")) for message in answer]
        if None not in roles:
            yield from result_problems(answer, [str(role) for role in roles])


def _completion(row: dict[str, Any]) -> Iterator[Problem]:
    strangers = [key for key in row if key not in ("prompt", "completion")]
    yield from _strangers(row, strangers, 'beside "prompt" and "completion"')
    for key in ("prompt", "completion"):
        text = row[key]
        if not isinstance(text, str):
            yield rules.MISSING_CONTENT.problem(f'"{key}" is {kind(text)}', text=shown(row))
        elif not text.strip():
            rule = rules.EMPTY_TURN if key == "prompt" else rules.EMPTY_ANSWER
            yield rule.problem(f'"{key}"', text=shown(row))


def _unknown(row: dict[str, Any], found: Format) -> Iterator[Problem]:
    hint = "; `luthier clean --convert` does it" if found.is_convertible else ""
    if found.name in ("columns", "unknown") and not hint and (suggested := ColumnMap.suggestion(row)) is not None:
        hint = f"; tell its columns with `--map '{suggested}'`"
    rule = catalogue_file.CONVERTIBLE_FORMAT if found.is_convertible else catalogue_file.UNKNOWN_FORMAT
    yield rule.problem(found.said + hint, text=shown(row))
    for message in found.messages or ():
        yield from presence_problems(message, message["role"], needless=False)
