"""What a transcript or an older format leaves in texts: special tokens, separators, and the names of roles."""

from __future__ import annotations

import re
from collections.abc import Sequence

from luthier.data.chat import Message

Span = tuple[int, int]

_SPEAKING = ("user", "assistant")

_CHAT_TOKEN = re.compile(
    # ChatML and Qwen, GPT, Llama 3 and 4, Phi, Command-R, Granite, Zephyr: all between <| and |>, some with a role's name
    r"<\|im_start\|>(?:(?:system|user|assistant|tool)\b\n?)?"
    r"|<\|(?:start_header_id|header_start)\|>(?:[a-z]{1,20}<\|(?:end_header_id|header_end)\|>)?"
    r"|<\|[A-Za-z]\w{0,40}\|>"
    r"|<｜[^｜<>\n]{1,40}｜>"  # DeepSeek: full-width bars
    r"|<start_of_turn>(?:(?:user|model)\b\n?)?|<end_of_turn>"  # Gemma
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>"  # Llama 2, Mistral
)
"""Tokenizers read these as control tokens wherever they stand in a text, even in a quotation or in code.

Source: the chat templates and special tokens that the families publish with their tokenizers.
"""
_HEADS = ("<s>", "<bos>", "<BOS_TOKEN>")
_TAILS = ("</s>", "<eos>", "<EOS_TOKEN>", "###", "->", "END")
_MAX_SEPARATOR_CHARS = 8
"""A longer row of signs is a drawn line."""
_TAIL_ENDS = tuple(">#D")
_UPPER_CODE = re.compile(
    r"\b(?:BEGIN|CASE|IF|ELSE|THEN|DO|LOOP|FOR|WHILE|PROGRAM|SUB|SUBROUTINE|FUNCTION|PROCEDURE|MODULE|PRINT|START|ON|THE)\b"
)
"""In such company END belongs to the text: it closes a block of SQL, BASIC or Fortran, or a story."""

_ROLE_NAMES = {
    "user": "User|USER|Human|HUMAN|Usuario|Usuário|Utilisateur|Benutzer|Nutzer|用户|用戶|ユーザー|사용자|Пользователь",
    "assistant": "Assistant|ASSISTANT|assistant|AI|Ai|Bot|BOT|Chatbot|ChatGPT|GPT|Asistente|Assistente|Assistent"
    "|助手|アシスタント|어시스턴트|Ассистент",
    "system": "System|SYSTEM",
}
_NAME = r"(?:#{1,4} *|\*\*|\[|<)?(?:%s)(?:\]|>)?(?: ?: ?\*\*| ?\*\* ?:|\s?[:：])(?![:/])\s*"
_PREFIX = rf"\s*(?:{_NAME})+"
_ROLE_PREFIX = {role: re.compile(_PREFIX % names) for role, names in _ROLE_NAMES.items()}
_ANY_ROLE_LINE = re.compile(r"\n[ \t]*" + _NAME % "|".join(_ROLE_NAMES.values()))
_ANSWERED = re.compile(_PREFIX % "(Answer|ANSWER|A)")
_ASKED = {
    name: re.compile(_PREFIX % asked) for name, asked in (("Answer", "Question"), ("ANSWER", "QUESTION"), ("A", "Q"))
}
_OPTION_A = re.compile(r"(?:^|\s)\(?A[.):]")
_MAX_PREFIX = 40


def stop_tokens(role: str, text: str) -> list[Span]:
    """Returns where separators and special tokens are written out, in order and without overlaps."""
    spans = [found.span() for found in _CHAT_TOKEN.finditer(text)] if "<" in text or "[" in text else []
    if role not in _SPEAKING:
        return spans
    start, end = _trimmed(text, 0, len(text))
    ends: list[Span] = []
    while text.startswith(_HEADS, start, end):
        after = text.index(">", start) + 1
        ends.append((start, after))
        start, _ = _trimmed(text, after, end)
    while end > start and text[end - 1] in _TAIL_ENDS and (tail := _tail(role, text, start, end)) < end:
        ends.append((tail, end))
        _, end = _trimmed(text, start, tail)
    return _merged(spans + ends) if ends else spans


def _trimmed(text: str, start: int, end: int) -> Span:
    """Returns the span without whitespace at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _tail(role: str, text: str, start: int, end: int) -> int:
    """Returns where the separator begins that `text[start:end]` ends with, or `end`."""
    token = next((token for token in _TAILS if text.endswith(token, start, end)), None)
    if token is None:
        return end
    place = end - len(token)
    if token == "END":
        alone = place == start or text[place - 1].isspace()
        return place if alone and role == "assistant" and _UPPER_CODE.search(text, start, place) is None else end
    if token == "</s>" and "<s>" in text[start:place]:
        return end  # markup: struck-out text
    if token == "->" and "<!--" in text:
        return end  # markup: a comment
    more = {"###": "#", "->": "-"}.get(token)
    while place > start and text[place - 1] == more:
        place -= 1
    return place if end - place <= _MAX_SEPARATOR_CHARS else end


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def nothing_else(text: str, spans: Sequence[Span]) -> bool:
    """Whether the text holds only whitespace outside these ordered spans."""
    at = 0
    for start, end in spans:
        if text[at:start].strip():
            return False
        at = end
    return not text[at:].strip()


def role_prefixes(messages: Sequence[Message], texts: Sequence[str]) -> list[Span | None]:
    """Returns for each message where the name of its own role stands before what it says, or None.

    A dialogue that a message quotes keeps its names. "Question:" and "Answer:" count where the prompt has the one and
    its answer the other: either alone may be the format that is wanted.
    """
    found: list[Span | None] = []
    for place, (message, text) in enumerate(zip(messages, texts, strict=True)):
        role = message.get("role")
        pattern = _ROLE_PREFIX.get(role) if isinstance(role, str) else None
        prefix = pattern.match(text) if pattern is not None and ":" in text[:_MAX_PREFIX].replace("：", ":") else None
        if prefix is not None:
            quotes = _ANY_ROLE_LINE.search(text, prefix.end()) is not None
            found.append(None if quotes else prefix.span())
            continue
        found.append(None)
        if role == "assistant" and place and messages[place - 1].get("role") == "user" and text[:1] in "A*#[< \n":
            answered = _ANSWERED.match(text)
            asked = _ASKED[answered.group(1)].match(texts[place - 1]) if answered is not None else None
            # an answer to multiple choice may name its letter
            if answered is not None and asked is not None and _OPTION_A.search(texts[place - 1]) is None:
                found[place], found[place - 1] = answered.span(), asked.span()
    return found
