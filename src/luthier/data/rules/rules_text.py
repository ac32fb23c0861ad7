"""The rules about the text of one row's messages.

Each stands behind a test that costs next to nothing on clean text: a million rows pass through here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from luthier.data.chat import Message, is_trained
from luthier.data.findings import Problem, quoted
from luthier.data.rules import catalogue_file
from luthier.data.rules import catalogue_text as rules
from luthier.data.rules.answer_faults import refusal, repetition, unfinished
from luthier.data.rules.leftovers import Span, nothing_else, role_prefixes, stop_tokens
from luthier.data.rules.mojibake import decoded_twice

_CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`", re.DOTALL)
_PLACEHOLDER = re.compile(
    r"\{(?<!\{\{)\{\s*[A-Za-z_][\w .-]{0,40}\}\}(?!\})"
    # not an index or a link in markup
    r"|\[(?<![\w\])]\[)(?:your|insert|enter your|company|customer|recipient|user)(?:['’]s)?[\w _-]{0,40}\](?![(\[:])",
    re.IGNORECASE,
)
_LOST = "\ufffd"


def said(message: Message) -> str:
    """Returns the text of a message's content, text parts joined: what the rules look at and the repairs can change.

    Takes messages of any make: what is not text is passed over here, and reported by the rules about messages.
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(text for part in content if isinstance(part, dict) and isinstance(text := part.get("text"), str))
    return ""


def text_problems(messages: Sequence[Message]) -> Iterator[Problem]:
    """Yields what is wrong with the texts of one conversation, in OpenAI's words."""
    texts = [said(message) for message in messages]
    for message, text, prefix in zip(messages, texts, role_prefixes(messages, texts), strict=True):
        if not text:
            continue
        role = message.get("role")
        yield from _leftovers(str(role), text)
        if prefix is not None:
            yield _role_prefix(text, prefix)
        if not text.isascii():
            yield from mojibake(text)
        if is_trained(message):
            yield from _outer_whitespace(text)
            if "{{" in text or "[" in text:
                yield from _placeholders(text)
            yield from _answer(text)


def _outer_whitespace(text: str) -> Iterator[Problem]:
    begins, ends = text[0].isspace(), text[-1].isspace()
    if not (begins or ends) or text.isspace():
        return
    sides = "begins and ends" if begins and ends else "begins" if begins else "ends"
    whitespace = text[0] if begins else text[-1]
    name = {" ": "a space", "\n": "a line break", "\t": "a tab"}.get(whitespace, "whitespace")
    place = 0 if begins else len(text) - 1
    yield rules.OUTER_WHITESPACE.problem(f"it {sides} with {name}", text=text, column=place)


def _leftovers(role: str, text: str) -> Iterator[Problem]:
    spans = stop_tokens(role, text)
    if spans:
        start, end = spans[0]
        detail = f"{text[start:end].strip()[:40]} in a message of role {role}"
        rule = rules.STOP_TOKEN_ONLY if nothing_else(text, spans) else rules.STOP_TOKEN_LEFTOVER
        yield rule.problem(detail, text=text, column=start)


def _role_prefix(text: str, span: Span) -> Problem:
    rule = rules.ROLE_PREFIX_ONLY if nothing_else(text, [span]) else rules.ROLE_PREFIX_LEFTOVER
    return rule.problem(text[slice(*span)].strip()[:40], text=text, column=span[0])


def _placeholders(text: str) -> Iterator[Problem]:
    if _PLACEHOLDER.search(text) is None:
        return
    # code is full of braces that are meant; blanked out, not cut out, so that the column stays true
    prose = _CODE.sub(lambda code: " " * len(code.group()), text)
    for found in _PLACEHOLDER.finditer(prose):
        yield rules.UNFILLED_PLACEHOLDER.problem(found.group(), text=text, column=found.start())


def _answer(text: str) -> Iterator[Problem]:
    if (words := refusal(text)) is not None:
        yield rules.REFUSAL_ANSWER.problem(quoted(words), text=text, column=len(text) - len(text.lstrip()))
    if (sign := unfinished(text)) is not None:
        yield rules.TRUNCATED_ANSWER.problem(sign, text=text, column=len(text.rstrip()) - 1)
    if (loop := repetition(text)) is not None:
        yield rules.REPETITION.problem(loop[0], text=text, column=loop[1])


def mojibake(text: str) -> Iterator[Problem]:
    """Yields what the wrong code page did to a text."""
    if _LOST in text:
        detail = "the replacement character � stands where a character was lost"
        yield catalogue_file.MOJIBAKE_LOST.problem(detail, text=text, column=text.index(_LOST))
    twice = decoded_twice(text)
    if twice:
        (start, end), _ = twice[0]
        page = "Windows-1251" if text[start] in "РС" else "Windows-1252"
        detail = f"UTF-8 read as {page}, as in {text[start:end][:8]!r}"
        yield catalogue_file.MOJIBAKE.problem(detail, text=text, column=start)
