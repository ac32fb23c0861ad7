"""Content parts: OpenAI's text parts, and the same written in another vendor's way."""

from __future__ import annotations

from typing import Any

_TEXT_TYPES = ("text", "input_text", "output_text")
_TEXT_KEYS = ("text", "value", "content")


def is_text_part(part: Any) -> bool:
    """Whether this is a text part as OpenAI writes it: `{"type": "text", "text": "…"}`."""
    return (
        isinstance(part, dict) and len(part) == 2 and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def parts_text(content: list[Any]) -> str | None:
    """Returns the text of a list of parts, or None where one of them is anything but text.

    Understood are OpenAI's text parts, the text types of its Responses API, parts without a type, parts with the text
    under "value" or "content", and bare strings. A part with any key more has something to say that would be lost.
    """
    texts: list[str] = []
    for part in content:
        text = _part_text(part)
        if text is None:
            return None
        texts.append(text)
    return "".join(texts)


def _part_text(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") not in _TEXT_TYPES:
        return None
    keys = [key for key in part if key != "type"]
    text = part[keys[0]] if len(keys) == 1 and keys[0] in _TEXT_KEYS else None
    return text if isinstance(text, str) else None
