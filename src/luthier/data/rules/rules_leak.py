"""The rules about what must not be in the data, looked at one conversation at a time: secrets and personal data.

What is found is never shown whole, neither in a detail nor in an excerpt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from luthier.data.chat import Message
from luthier.data.findings import Problem
from luthier.data.rules import catalogue_leak as rules
from luthier.data.rules.leaks import find_leaks, masked, may_leak
from luthier.data.rules.rules_text import said

_ROLE_AND_CONTENT = 2
_MADE_UP = re.compile(r"generat|random|create_?(?:strong_?|secure_?)?password", re.IGNORECASE)


def leak_problems(messages: Sequence[Message]) -> Iterator[Problem]:
    """Yields the secrets and the personal data in one conversation, in OpenAI's words."""
    texts = [said(message) for message in messages]
    elsewhere = _texts_elsewhere(messages) if any(len(message) > _ROLE_AND_CONTENT for message in messages) else ()
    if not may_leak("\n".join((*texts, *elsewhere))):
        return
    made_up = makes_passwords_up(messages)
    for text, is_content in (*((text, True) for text in texts), *((text, False) for text in elsewhere)):
        leaks = find_leaks(text, made_up=made_up)
        if not leaks:
            continue
        hidden = masked(text, leaks)
        for leak in leaks:
            begins = text[leak.start : leak.start + leak.kept] if leak.code == "secret" else ""
            detail = f"{leak.kind} ({begins}…)" if begins else leak.kind
            yield _RULES[leak.code, is_content].problem(detail, text=hidden, column=leak.start)


_RULES = {
    ("secret", True): rules.SECRET,
    ("secret", False): rules.SECRET_ELSEWHERE,
    ("pii", True): rules.PII,
    ("pii", False): rules.PII_ELSEWHERE,
}


def _texts_elsewhere(messages: Sequence[Message]) -> list[str]:
    """Returns refusals and the arguments of calls: they are learned like any text."""
    found = [message.get("refusal") for message in messages if "refusal" in message]
    found += [function.get("arguments") for function in _called(messages)]
    return [text for text in found if isinstance(text, str)]


def _called(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    for message in messages:
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                yield function


def makes_passwords_up(messages: Sequence[Message]) -> bool:
    """Whether a function that generates something is called: the password it returns is nobody's."""
    names = (function.get("name") for function in _called(messages))
    return any(isinstance(name, str) and _MADE_UP.search(name) is not None for name in names)
