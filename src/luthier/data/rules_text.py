"""The rules about the text of one row's messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from luthier.data import catalogue_text as rules
from luthier.data.chat import Message, content_text, is_trained
from luthier.data.findings import Problem

_CHAT_TOKEN = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|begin_of_text|start_header_id|end_header_id|end|user|assistant|system)\|>"
    r"|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
)
_SEPARATOR = re.compile(r"(?:</s>|<s>|###|-{3,}>|->)\s*$")
_CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`", re.DOTALL)
_PLACEHOLDER = re.compile(
    r"\{\{\s*[A-Za-z_][\w .-]{0,40}\}\}"
    r"|\[(?:your|insert|enter your|company|customer|recipient|user)(?:['’]s)?[ _-]?(?:\w+[ _-]?){0,4}\]",
    re.IGNORECASE,
)
# UTF-8's lead bytes C2, C3 and E2 read as Windows-1252, each followed by what a continuation byte (80 to BF) reads as
_DECODED_TWICE = re.compile(r"(?:[ÂÃ]|â[€‚‰™œ„”])[\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]")
_LOST = "\ufffd"


def text_problems(messages: Sequence[Message]) -> Iterator[Problem]:
    """Yields what is wrong with the texts of one conversation, in OpenAI's words."""
    for message in messages:
        text = content_text(message)
        if not text:
            continue
        yield from _leftovers(str(message["role"]), text)
        yield from _mojibake(text)
        if is_trained(message):
            yield from _outer_whitespace(text)
            yield from _placeholders(text)


def _outer_whitespace(text: str) -> Iterator[Problem]:
    stripped = text.strip()
    if not stripped or stripped == text:
        return
    begins, ends = text[0].isspace(), text[-1].isspace()
    sides = "begins and ends" if begins and ends else "begins" if begins else "ends"
    whitespace = text[0] if begins else text[-1]
    name = {" ": "a space", "\n": "a line break", "\t": "a tab"}.get(whitespace, "whitespace")
    place = 0 if begins else len(text) - 1
    yield rules.OUTER_WHITESPACE.problem(f"it {sides} with {name}", text=text, column=place)


def _leftovers(role: str, text: str) -> Iterator[Problem]:
    found = _CHAT_TOKEN.search(text) or (_SEPARATOR.search(text) if role in ("user", "assistant") else None)
    if found is not None:
        detail = f"{found.group().strip()} in a message of role {role}"
        yield rules.STOP_TOKEN_LEFTOVER.problem(detail, text=text, column=found.start())


def _placeholders(text: str) -> Iterator[Problem]:
    # code is full of braces that are meant; blanked out, not cut out, so that the column stays true
    prose = _CODE.sub(lambda code: " " * len(code.group()), text)
    for found in _PLACEHOLDER.finditer(prose):
        yield rules.UNFILLED_PLACEHOLDER.problem(found.group(), text=text, column=found.start())


def _mojibake(text: str) -> Iterator[Problem]:
    if text.isascii():
        return
    if _LOST in text:
        detail = "the replacement character � stands where a character was lost"
        yield rules.MOJIBAKE.problem(detail, text=text, column=text.index(_LOST))
    if (found := _DECODED_TWICE.search(text)) is not None:
        detail = f"UTF-8 read as Windows-1252, as in {found.group()!r}"
        yield rules.MOJIBAKE.problem(detail, text=text, column=found.start())
