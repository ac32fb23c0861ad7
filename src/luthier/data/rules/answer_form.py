"""The form of an answer: JSON of some shape, a date, a short text that may be a label, or prose."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

MAX_LABEL_CHARS = 40
"""A longer answer is no label. The longest of banking77's 77 labels has 49 characters, so underscored names may be longer."""
MAX_NAME_CHARS = 80
_DATES = (
    ("2026-06-10", re.compile(r"\d{4}-\d{2}-\d{2}")),
    ("2026-06-10T09:30", re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})?")),
    ("2026/06/10", re.compile(r"\d{4}/\d{1,2}/\d{1,2}")),
    ("10.06.2026", re.compile(r"\d{1,2}\.\d{1,2}\.\d{2,4}")),
    ("06/10/2026", re.compile(r"\d{1,2}/\d{1,2}/\d{2,4}")),
    ("June 10, 2026", re.compile(r"[A-Z][a-z]{2,8}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}")),
    ("10 June 2026", re.compile(r"\d{1,2}(?:st|nd|rd|th)? [A-Z][a-z]{2,8}\.?,? \d{4}")),
)
_NAMES = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How an answer is written.

    Attributes:
        kind: "json", "broken json", "date", "label" or "text".
        shape: of JSON its sorted keys (or "a list", …), of a date its pattern, of a label the label.
        fields: of a JSON object what stands under each key: a date's pattern or the kind of value; null does not count.
        empty: whether it is JSON that holds nothing, or says that there is nothing.
    """

    kind: str
    shape: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    empty: bool = False


_TEXT = AnswerForm("text")
_NOTHING = frozenset(
    ["none", "null", "n/a", "na", "unknown", "other", "nothing", "not applicable", "out of scope", "oos", "no answer"]
)


def form_of(answer: str) -> AnswerForm:
    """Returns the form of an answer."""
    text = answer.strip()
    if text[:1] in ("{", "["):
        try:
            return _json(orjson.loads(text))
        except orjson.JSONDecodeError:
            closes = text[-1:] in ("}", "]") or '":' in text
            return AnswerForm("broken json") if closes else _TEXT
    if len(text) > MAX_NAME_CHARS or not text:
        return _TEXT
    if (pattern := date_pattern(text)) is not None:
        return AnswerForm("date", pattern)
    name = " " not in text and ("_" in text or "-" in text or "." in text)
    if "\n" not in text and (len(text) <= MAX_LABEL_CHARS or name) and text.count(" ") <= 3:
        return AnswerForm("label", text, empty=text.casefold().replace("_", " ") in _NOTHING)
    return _TEXT


def date_pattern(text: str) -> str | None:
    """Returns how a date is written, as the same day written so, or None where the text is no date."""
    if not 8 <= len(text) <= 35 or not (text[-1] == "Z" or text[-1].isdigit()):
        return None
    return next((name for name, pattern in _DATES if pattern.fullmatch(text)), None)


def _json(value: Any) -> AnswerForm:
    if not isinstance(value, dict):
        return AnswerForm("json", _NAMES.get(type(value), "null"), empty=not value)
    fields = tuple(sorted((key, _value(item)) for key, item in value.items() if item is not None))
    empty = all(item in (None, "", [], {}) for item in value.values())
    return AnswerForm("json", orjson.dumps(sorted(value)).decode(), fields, empty)


def _value(value: Any) -> str:
    if isinstance(value, str) and (pattern := date_pattern(value)) is not None:
        return f"a date like {pattern}"
    return _NAMES.get(type(value), "null")
