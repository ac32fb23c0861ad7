"""The repairs of a row's messages that `luthier clean` makes, code by code.

A repair changes nothing that is learned but what its sentence says. Where a fault cannot be mended so, the row is left as
it is, and the check's rule promises no repair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from luthier.data.chat import ROLES, Message, content_text
from luthier.data.findings import counted, quoted
from luthier.data.rules.rules_content import OLD_FUNCTION_ROLE, can_be_deleted
from luthier.data.rules.rules_message import holds_system_prompt
from luthier.data.rules.rules_preference import preference_shape
from luthier.data.shapes.formats import CHAT_KEYS, Format, preference_keys, recognise
from luthier.data.shapes.old_functions import old_functions, with_tools
from luthier.data.shapes.parts import is_text_part, parts_text
from luthier.data.shapes.roles import known_role
from luthier.data.shapes.turn_repairs import joined, late_system, later_systems, needless, repeated_turns
from luthier.data.shapes.wording import with_article

Row = dict[str, Any]
Change = tuple[str, str]
"""The code of a finding, and a sentence that says what was changed."""
Mended = tuple[list[Message], list[str]]

MENDED_CODES = frozenset((
    "unknown-role", "empty-content", "content-parts", "unknown-key", "last-not-assistant", "same-role-twice",
    "several-system", "system-not-first",
))  # fmt: skip


def fix_messages(row: Row, codes: frozenset[str], found: Format | None = None) -> tuple[Row, list[Change]]:
    """Returns the row mended, and what was changed; the row itself where nothing was.

    Args:
        row: a row of any shape; those that nothing trains on are not changed. It is not changed itself.
        codes: the findings to mend.
        found: the row's shape if it is known already.
    """
    found = recognise(row) if found is None else found
    if not codes & MENDED_CODES or not found.is_trainable:
        return row, []
    changes: list[Change] = []
    while True:  # a repair can make another one possible; each leaves less to repair
        row, more = _once(row, codes, recognise(row) if changes else found)
        if not more:
            return row, changes
        changes += more


def _once(row: Row, codes: frozenset[str], found: Format) -> tuple[Row, list[Change]]:
    if found.name == "completion":
        return _without(row, [key for key in row if key not in ("prompt", "completion")], codes)
    if found.name == "preference":
        return _preference(row, codes)
    messages = row["messages"]
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        return row, []
    is_prompt = found.name == "reinforcement"
    new, changes = _conversation(row, messages, codes, is_prompt=is_prompt)
    if not is_prompt:
        new, more = _without(new, _strangers(new), codes)
        changes += more
    return new, changes


def _preference(row: Row, codes: frozenset[str]) -> tuple[Row, list[Change]]:
    keys = preference_keys(row) or ()
    new, changes = _without(row, [key for key in row if key not in (*keys, "input")], codes)
    shape = preference_shape(row)
    if isinstance(shape, str):
        return new, changes
    asked, messages, answers = shape
    asked, more = _conversation(asked, messages, codes, is_prompt=True)
    asked, still_more = _without(asked, _strangers(asked), codes)
    changes += [*more, *still_more]
    new = {**new, "input": asked}
    for key, answer in zip(keys, answers, strict=True):
        new[key], more = _each(answer, codes)
        changes += more
    return (new, changes) if changes else (row, [])


def _conversation(
    row: Row, messages: list[Message], codes: frozenset[str], *, is_prompt: bool
) -> tuple[Row, list[Change]]:
    """Returns a row whose messages are mended, and the functions declared for them."""
    changes: list[Change] = []
    if "unknown-key" in codes and (old := old_functions(row, messages)):
        renewed = with_tools(row, messages)
        if renewed is not None:
            row, messages = renewed
            changes += [("unknown-key", f"wrote {said}") for said in old]
    messages, more = _each(messages, codes)
    changes += more
    for code, mend in _ORDER:
        roles = [known_role(message.get("role")) for message in messages]
        if code in codes and None not in roles:
            messages, said = mend(messages, [str(role) for role in roles], is_prompt)
            changes += [(code, sentence) for sentence in said]
    return ({**row, "messages": messages}, changes) if changes else (row, [])


def _without(row: Row, keys: list[str], codes: frozenset[str]) -> tuple[Row, list[Change]]:
    """Returns a row without keys that the format does not have."""
    if not keys or "unknown-key" not in codes:
        return row, []
    changes = [("unknown-key", f'deleted the key "{key}" beside the messages') for key in keys]
    deleted = set(keys)
    return {key: value for key, value in row.items() if key not in deleted}, changes


def _strangers(row: Row) -> list[str]:
    return [key for key in row if key not in CHAT_KEYS and not holds_system_prompt(row, key)]


def _each(messages: list[Message], codes: frozenset[str]) -> tuple[list[Message], list[Change]]:
    """Returns messages mended one by one."""
    new: list[Message] = []
    changes: list[Change] = []
    for message in messages:
        if "unknown-key" in codes:
            strangers = dict.fromkeys(key for key in message if can_be_deleted(message, key))
            if strangers:
                message = {key: value for key, value in message.items() if key not in strangers}
                changes += [("unknown-key", f'deleted the key "{key}" of a message') for key in strangers]
        role, content = message.get("role"), message.get("content")
        meant = known_role(role)
        if "unknown-role" in codes and role not in ROLES and role != OLD_FUNCTION_ROLE and meant is not None:
            message = {**message, "role": meant}
            changes.append(("unknown-role", f'renamed the role "{role}" to "{meant}"'))
        if "content-parts" in codes and isinstance(content, list) and not all(is_text_part(part) for part in content):
            text = parts_text(content)
            if text is not None:
                message = {**message, "content": text}
                said = f"wrote {counted(len(content), 'part')} of {with_article(meant)} message as one text"
                changes.append(("content-parts", said))
        new.append(message)
    return (new, changes) if changes else (messages, [])


def _delete_needless(messages: list[Message], roles: list[str], is_prompt: bool) -> Mended:
    gone = needless(messages, roles, is_prompt=is_prompt)
    said = [f"deleted an empty {roles[place]} message" for place in sorted(gone)]
    return [message for place, message in enumerate(messages) if place not in gone], said


def _join_systems(messages: list[Message], roles: list[str], _is_prompt: bool) -> Mended:
    later = {place for place, can_be_joined in later_systems(messages, roles) if can_be_joined}
    if not later:
        return messages, []
    first = next(place for place, role in enumerate(roles) if role == roles[min(later)])
    whole = joined([messages[first], *(messages[place] for place in sorted(later))])
    kept = [whole if place == first else message for place, message in enumerate(messages) if place not in later]
    return kept, [f"joined {len(later) + 1} {roles[first]} messages into the first"]


def _move_system(messages: list[Message], roles: list[str], _is_prompt: bool) -> Mended:
    late = late_system(roles)
    if late is None or not late[1]:
        return messages, []
    place = late[0]
    moved = [messages[place], *messages[:place], *messages[place + 1 :]]
    return moved, [f"moved the {roles[place]} message to the start"]


def _delete_after_answer(messages: list[Message], roles: list[str], is_prompt: bool) -> Mended:
    if is_prompt or "assistant" not in roles:
        return messages, []
    end = len(roles) - roles[::-1].index("assistant")
    said = [
        f"deleted the {role} message after the last answer: {quoted(content_text(message))}"
        for message, role in zip(messages[end:], roles[end:], strict=True)
    ]
    return messages[:end], said


def _join_turns(messages: list[Message], roles: list[str], is_prompt: bool) -> Mended:
    if not is_prompt and "assistant" not in roles:
        return messages, []
    again = {place for place, can_be_joined in repeated_turns(messages, roles) if can_be_joined}
    turns: list[list[Message]] = []
    said: list[str] = []
    for place, message in enumerate(messages):
        if place in again:
            turns[-1].append(message)
            said.append(f"joined {with_article(roles[place])} message to the one before it")
        else:
            turns.append([message])
    return [turn[0] if len(turn) == 1 else joined(turn) for turn in turns], said


_ORDER: tuple[tuple[str, Callable[[list[Message], list[str], bool], Mended]], ...] = (
    ("empty-content", _delete_needless),
    ("several-system", _join_systems),
    ("system-not-first", _move_system),
    ("last-not-assistant", _delete_after_answer),
    ("same-role-twice", _join_turns),
)
"""In this order, no repair brings about what an earlier one has mended."""
