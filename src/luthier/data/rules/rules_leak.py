"""The rules about what must not be in the data, looked at one conversation at a time: secrets and personal data.

What is found is never shown whole, neither in a detail nor in an excerpt.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from luthier.data.chat import Message
from luthier.data.findings import Problem
from luthier.data.rules import catalogue_leak as rules
from luthier.data.rules.leak_personal import find_personal, may_hold_personal
from luthier.data.rules.leak_secrets import Leak, find_secrets, may_hold_secret
from luthier.data.rules.rules_text import said

_MADE_UP = re.compile(r"generat|random|create_?(?:strong_?|secure_?)?password", re.IGNORECASE)


def leak_problems(messages: Sequence[Message]) -> Iterator[Problem]:
    """Yields the secrets and the personal data in one conversation, in OpenAI's words."""
    texts = [said(message) for message in messages]
    elsewhere = _texts_elsewhere(messages)
    whole = "\n".join((*texts, *elsewhere))
    if not (may_hold_secret(whole) or may_hold_personal(whole)):
        return
    made_up = makes_passwords_up(messages)
    for text, is_content in (*((text, True) for text in texts), *((text, False) for text in elsewhere)):
        leaks = find_leaks(text, made_up=made_up)
        masked = _masked(text, leaks)
        for leak in leaks:
            begins = text[leak.start : leak.start + leak.kept] if leak.code == "secret" else ""
            detail = f"{leak.kind} ({begins}…)" if begins else leak.kind
            yield _RULES[leak.code, is_content].problem(detail, text=masked, column=leak.start)


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


def _masked(text: str, leaks: Sequence[Leak]) -> str:
    """Returns the text with every leak but its first characters blanked out; each place stays where it is."""
    pieces: list[str] = []
    at = 0
    for leak in leaks:
        pieces += (text[at : leak.start + leak.kept], "•" * (leak.end - leak.start - leak.kept))
        at = leak.end
    return "".join(pieces) + text[at:]


def find_leaks(text: str, *, made_up: bool = False) -> list[Leak]:
    """Returns the secrets and the personal data in a text, in order and without overlaps.

    Args:
        text: any text.
        made_up: whether passwords in it were made up for the conversation; see `makes_passwords_up`.
    """
    kept: list[tuple[int, int, Leak]] = []
    # the surer kind first: a secret may hold digits that look like a card's
    for leak in (*find_secrets(text, made_up=made_up), *find_personal(text)):
        place = bisect_left(kept, (leak.start,))
        after_last = place == 0 or kept[place - 1][1] <= leak.start
        if after_last and (place == len(kept) or leak.end <= kept[place][0]):
            kept.insert(place, (leak.start, leak.end, leak))
    return [leak for _, _, leak in kept]
