"""The repairs of what the rules about text and leaks find.

A repair changes the text of messages and nothing else, and only where the rule finds something. It leaves alone a message
of which nothing would be left: that one only a person can mend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from luthier.data.chat import Message, is_trained
from luthier.data.rules.leaks import find_leaks
from luthier.data.rules.leftovers import Span, role_prefixes, stop_tokens
from luthier.data.rules.mojibake import decoded_twice
from luthier.data.rules.rules_leak import makes_passwords_up
from luthier.data.rules.rules_text import said

FIXED_CODES = ("secret", "pii", "mojibake", "stop-token-leftover", "role-prefix-leftover", "outer-whitespace")
"""The findings that `fix_texts` repairs, in the order in which it does."""

_Edit = tuple[Span, str]
_MAX_ROUNDS = 100
"""A repair can uncover what another repairs, as a deleted token does that stood before a role's name. Real text needs two
rounds."""
_MAX_NESTED = 3


def fix_texts(messages: list[Message], codes: frozenset[str]) -> list[tuple[str, str]]:
    """Repairs the texts of one conversation in place and returns what was done: the code and a sentence each.

    Afterwards `text_problems` and `leak_problems` find nothing of these codes that a repair exists for; doing it again
    changes nothing.

    Args:
        messages: in OpenAI's words; their contents are texts or lists of text parts.
        codes: what to repair; those without a repair of their text are passed over.
    """
    wanted = [code for code in FIXED_CODES if code in codes]
    done: dict[tuple[str, str], None] = {}
    for _ in range(_MAX_ROUNDS):
        changes = [(code, what) for code in wanted for what in _REPAIRS[code](messages)]
        if not changes:
            break
        done.update(dict.fromkeys(changes))
    return list(done)


def _delete_stop_tokens(messages: list[Message]) -> Iterator[str]:
    for place, message, text in _texts(messages):
        deleted: list[str] = []
        while spans := stop_tokens(str(message.get("role")), text):
            # what is left of tokens nested in each other joins into new ones, unless a space stands between
            filling = "" if len(deleted) < _MAX_NESTED else " "
            edits = [_deletion(text, span, filling) for span in spans]
            if not _apply(message, text, edits):
                break
            deleted.append(text[slice(*spans[0])].strip()[:40])
            text = said(message)
        if deleted:
            yield f"deleted “{deleted[0]}” from {_name(place, message)}"


def _deletion(text: str, span: Span, filling: str) -> _Edit:
    """Returns what deletes a span, with the whitespace beside it where it stands at an end of the text."""
    start, end = span
    if not text[end:].strip():
        return (len(text[:start].rstrip()), len(text)), ""
    if not text[:start].strip():
        return (0, len(text) - len(text[end:].lstrip())), ""
    return span, filling


def _delete_role_prefixes(messages: list[Message]) -> Iterator[str]:
    texts = [said(message) for message in messages]
    prefixes = role_prefixes(messages, texts)
    for (place, message, text), prefix in zip(_texts(messages, all_of_them=True), prefixes, strict=True):
        if prefix is not None and _apply(message, text, [(prefix, "")]):
            yield f"deleted “{text[slice(*prefix)].strip()[:40]}” from the beginning of {_name(place, message)}"


def _strip(messages: list[Message]) -> Iterator[str]:
    for place, message, text in _texts(messages):
        if is_trained(message) and text != text.strip():
            start, end = len(text) - len(text.lstrip()), len(text.rstrip())
            if _apply(message, text, [((0, start), ""), ((end, len(text)), "")]):
                yield f"stripped whitespace around {_name(place, message)}"


def _repair_mojibake(messages: list[Message]) -> Iterator[str]:
    for place, message, text in _texts(messages):
        edits = [] if text.isascii() else decoded_twice(text)
        if edits and _apply(message, text, edits):
            (start, end), meant = edits[0]
            yield f"repaired “{text[start:end][:20]}” to “{meant[:20]}” in {_name(place, message)}"


def _leak_repair(code: str, verb: str) -> Callable[[list[Message]], Iterator[str]]:
    def repair(messages: list[Message]) -> Iterator[str]:
        made_up: bool | None = None
        for place, message, text in _texts(messages):
            made_up = makes_passwords_up(messages) if made_up is None else made_up
            leaks = [leak for leak in find_leaks(text, made_up=made_up) if leak.code == code]
            if leaks and _apply(message, text, [((leak.start, leak.end), leak.instead) for leak in leaks]):
                kinds = " and ".join(dict.fromkeys(leak.kind for leak in leaks))
                yield f"{verb} {kinds} in {_name(place, message)}"

    return repair


_REPAIRS: dict[str, Callable[[list[Message]], Iterator[str]]] = {
    "secret": _leak_repair("secret", "masked"),
    "pii": _leak_repair("pii", "replaced"),
    "mojibake": _repair_mojibake,
    "stop-token-leftover": _delete_stop_tokens,
    "role-prefix-leftover": _delete_role_prefixes,
    "outer-whitespace": _strip,
}


def _texts(messages: list[Message], *, all_of_them: bool = False) -> Iterator[tuple[int, Message, str]]:
    """Yields the messages whose content can be changed, with their places and texts."""
    for place, message in enumerate(messages):
        content = message.get("content")
        text = said(message) if isinstance(content, str | list) else ""
        if text or all_of_them:
            yield place, message, text


def _name(place: int, message: Message) -> str:
    return f"message {place + 1} ({message.get('role')})"


def _apply(message: Message, text: str, edits: Sequence[_Edit]) -> bool:
    """Carries out ordered edits of a message's text, each in the part where it begins; False where they change nothing.

    Edits that would leave nothing but whitespace are not carried out.
    """
    changed = _edited(text, 0, edits)
    if changed == text or not changed.strip():
        return False
    content = message["content"]
    if isinstance(content, str):
        message["content"] = changed
        return True
    start = 0
    for part in content:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            old = part["text"]
            part["text"] = _edited(old, start, edits)
            start += len(old)
    return True


def _edited(text: str, offset: int, edits: Sequence[_Edit]) -> str:
    """Returns a piece of a longer text, which begins at `offset`, after the edits of the longer one."""
    pieces: list[str] = []
    at = offset
    for (start, end), instead in edits:
        if end <= at or start >= offset + len(text):
            continue
        pieces.append(text[at - offset : max(start, at) - offset])
        if start >= offset:
            pieces.append(instead)
        at = min(end, offset + len(text))
    pieces.append(text[at - offset :])
    return "".join(pieces)
