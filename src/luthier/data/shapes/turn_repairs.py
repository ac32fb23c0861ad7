"""Which faults in the order of turns can be mended without changing what is learned, and the messages mended.

The rules ask here whether a fault can be mended, and `clean` mends it here: so the check promises no repair that is not
made. Every function takes messages whose roles are all known, and changes none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from luthier.data.chat import Message, content_text
from luthier.data.shapes.parts import is_text_part

SYSTEM = ("system", "developer")
SPEAKING = ("user", "assistant")
_MORE_THAN_TEXT = ("tool_calls", "function_call", "refusal")


def has_text(message: Message) -> bool:
    """Whether the content is text, in a string or in text parts."""
    content = message.get("content")
    return isinstance(content, str) or (isinstance(content, list) and all(is_text_part(part) for part in content))


def can_join(one: Message, other: Message) -> bool:
    """Whether two messages of one role say the same in one: both are nothing but text, and all else about them is equal."""
    if any(message.get(key) is not None for message in (one, other) for key in _MORE_THAN_TEXT):
        return False
    return has_text(one) and has_text(other) and _all_else(one) == _all_else(other)


def joined(messages: Sequence[Message]) -> Message:
    """Returns the texts of messages that can be joined in one message, with blank lines between them."""
    texts = [text for text in map(content_text, messages) if text.strip()]
    return {**messages[0], "content": "\n\n".join(texts)}


def repeated_turns(messages: Sequence[Message], roles: Sequence[str]) -> list[tuple[int, bool]]:
    """Returns the places where the one who spoke last speaks again, and whether both messages can be joined."""
    return [
        (place, can_join(messages[place - 1], messages[place]))
        for place in range(1, len(roles))
        if roles[place] == roles[place - 1] and roles[place] in SPEAKING
    ]


def later_systems(messages: Sequence[Message], roles: Sequence[str]) -> list[tuple[int, bool]]:
    """Returns the places of all system messages but the first, and whether each can be joined to the first.

    Behind an answer it cannot: that answer would be learned with instructions that it was not given.
    """
    places = [place for place, role in enumerate(roles) if role in SYSTEM]
    answer = _first_answer(roles)
    return [
        (place, place < answer and roles[place] == roles[places[0]] and can_join(messages[places[0]], messages[place]))
        for place in places[1:]
    ]


def late_system(roles: Sequence[str]) -> tuple[int, bool] | None:
    """Returns the place of the first system message and whether it can be moved to the start; None where it is there."""
    place = next((place for place, role in enumerate(roles) if role in SYSTEM), 0)
    return (place, place < _first_answer(roles)) if place else None


def needless(messages: Sequence[Message], roles: Sequence[str], *, is_prompt: bool) -> set[int]:
    """Returns the places of empty messages without which the conversation is whole.

    Any empty system message is needless. An empty user message is where another one says something, and where its
    deletion leaves no two turns of one speaker side by side. What ends a prompt, or has no answer, is left as it is.
    """
    if not is_prompt and "assistant" not in roles:
        return set()
    empty = [has_text(message) and not content_text(message).strip() for message in messages]
    last = len(roles) - 1
    gone = {place for place, role in enumerate(roles) if empty[place] and role in SYSTEM}
    if any(role == "user" and not is_empty for role, is_empty in zip(roles, empty, strict=True)):
        for before, silent, after in _silences(roles, empty):
            gone.update(silent[:-1] if before == after == "assistant" else silent)
    return gone - {last} if is_prompt else gone


def _silences(roles: Sequence[str], empty: Sequence[bool]) -> Iterator[tuple[str, list[int], str]]:
    """Yields each stretch of empty user messages, with the roles of those who speak before and after it."""
    before, silent = "", list[int]()
    for place, role in enumerate(roles):
        if role in SYSTEM:
            continue
        if role == "user" and empty[place]:
            silent.append(place)
            continue
        if silent:
            yield before, silent, role
        before, silent = role, []
    if silent:
        yield before, silent, ""


def _all_else(message: Message) -> dict[str, object]:
    """Returns what a message holds beside role and content; a weight of 1 is the same as none."""
    return {
        key: value
        for key, value in message.items()
        if key not in ("role", "content") and value is not None and not (key == "weight" and value == 1)
    }


def _first_answer(roles: Sequence[str]) -> int:
    return next((place for place, role in enumerate(roles) if role == "assistant"), len(roles))
