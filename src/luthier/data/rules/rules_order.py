"""The rules about who speaks when. Several faults are legal in OpenAI's format, but templates refuse or drop such turns."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.chat import Message, is_trained
from luthier.data.findings import Problem
from luthier.data.rules import catalogue_message as rules
from luthier.data.shapes.turn_repairs import SPEAKING, SYSTEM, late_system, later_systems, repeated_turns
from luthier.data.shapes.wording import shown, with_article


def order_problems(messages: list[Message], roles: list[str], *, is_prompt: bool) -> Iterator[Problem]:
    """Yields what is wrong with the order of a conversation's turns.

    Args:
        messages: the conversation.
        roles: the role of each, as OpenAI writes it.
        is_prompt: whether the answer stands elsewhere, or is not there to be learned.
    """
    yield from _system(messages, roles)
    if "user" not in roles:
        yield rules.NO_USER.problem(text=shown(messages))
    if not is_prompt:
        if "assistant" not in roles:
            said = " and ".join(dict.fromkeys(roles))
            yield rules.NO_ASSISTANT.problem(f"only {said} messages", text=shown(messages))
            return
        if not any(is_trained({**message, "role": role}) for message, role in zip(messages, roles, strict=True)):
            yield rules.NOTHING_TRAINED.problem(text=shown(messages))
        if roles[-1] != "assistant":
            detail = f"the last is {with_article(roles[-1])} message"
            yield rules.LAST_NOT_ASSISTANT.problem(detail, text=shown(messages[-1]))
    first = next((place for place, role in enumerate(roles) if role in SPEAKING), None)
    if first is not None and roles[first] == "assistant":
        yield rules.ASSISTANT_FIRST.problem(text=shown(messages[first]))
    said_once: set[str] = set()
    for place, can_be_joined in repeated_turns(messages, roles):
        rule = rules.SAME_ROLE_TWICE if can_be_joined else rules.SAME_ROLE_APART
        detail = f"two {roles[place]} messages in a row"
        if rule.says + detail not in said_once:
            said_once.add(rule.says + detail)
            yield rule.problem(detail, text=shown(messages[place]))


def _system(messages: list[Message], roles: list[str]) -> Iterator[Problem]:
    later = later_systems(messages, roles)
    if later:
        detail = f"{sum(role in SYSTEM for role in roles)} of them"
        for rule, wanted in ((rules.SEVERAL_SYSTEM, True), (rules.LATER_SYSTEM, False)):
            place = next((place for place, can_be_joined in later if can_be_joined is wanted), None)
            if place is not None:
                yield rule.problem(detail, text=shown(messages[place]))
    late = late_system(roles)
    if late is not None:
        place, can_be_moved = late
        rule = rules.SYSTEM_NOT_FIRST if can_be_moved else rules.SYSTEM_AFTER_ANSWER
        yield rule.problem(text=shown(messages[place]))
