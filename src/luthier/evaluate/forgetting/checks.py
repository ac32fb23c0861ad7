"""Checks of an answer's form: small functions of its text, named in data.

`{"check": "words", "at_most": 5}` is the check `words` with its setting. Outer whitespace of an answer never counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex  # type: ignore[import-untyped]

from luthier.evaluate.forgetting.items import Check

PATTERN_SECONDS = 2.0
"""A pattern that takes longer on one answer is not met."""
REFUSED_WITHIN = 200
"""Characters from the beginning in which a refusal is looked for: later ones are mostly a caution in a helpful answer."""

_REFUSAL = re.compile(
    r"\bsorry\b|\bas an ai\b|\bagainst (?:my|the law)|\b(?:not (?:able|willing|comfortable)|unable) to\b"
    r"|\bi (?:can(?:no|['’])?t|can not|won['’]t|will not|must (?:decline|refuse)|refuse|decline)\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
_JSON_TYPES: dict[str, type] = {"any": object, "object": dict, "array": list}
_BULLET = re.compile(r"^\s*[-*•]\s+\S", re.MULTILINE)
_NUMBERED = re.compile(r"^\s*(\d+)[.)]\s+\S", re.MULTILINE)


def refuses(text: str) -> bool:
    """Whether an answer declines to do what was asked, by the phrases in which models do so."""
    return bool(_REFUSAL.search(text.strip()[:REFUSED_WITHIN]))


def passes(checks: Sequence[Check], text: str) -> bool:
    """Whether an answer passes all checks."""
    text = text.strip()
    settings = ((CHECKS[check["check"]], {k: v for k, v in check.items() if k != "check"}) for check in checks)
    return all(rule.holds(text, **given) for rule, given in settings)


def problem_of(check: Any) -> str | None:
    """Returns what is wrong with a check, as a clause, or None."""
    if not isinstance(check, Mapping) or not isinstance(check.get("check"), str):
        return 'a check is not an object with a "check"'
    name = check["check"]
    if name not in CHECKS:
        return f'there is no check "{name}" (there are {", ".join(sorted(CHECKS))})'
    rule = CHECKS[name]
    for key, value in check.items():
        if key != "check" and key not in rule.settings:
            return f'the check "{name}" knows no "{key}"'
        if key != "check" and not _is(value, rule.settings[key]):
            return f'"{key}" of the check "{name}" is not {_NAMES[rule.settings[key]]}'
    missing = [key for key in rule.required if key not in check]
    if missing:
        return f'the check "{name}" has no "{missing[0]}"'
    if "pattern" in check:
        try:
            regex.compile(check["pattern"])
        except regex.error as error:
            return f'the pattern of the check "{name}" is none: {error}'
    if name == "json" and check.get("type", "any") not in _JSON_TYPES:
        return '"type" of the check "json" is not "object", "array" or "any"'
    return None


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of check.

    Attributes:
        holds: of an answer, under settings.
        settings: their names and types.
        required: those that have no default.
    """

    holds: Callable[..., bool]
    settings: Mapping[str, str]
    required: tuple[str, ...] = ()


_NAMES = {"count": "a whole number from 0 on", "text": "a text", "texts": "a list of texts"}


def _is(value: Any, kind: str) -> bool:
    if kind == "count":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if kind == "text":
        return isinstance(value, str) and bool(value)
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) and part for part in value)


def _within(count: int, at_least: int, at_most: int | None) -> bool:
    return count >= at_least and (at_most is None or count <= at_most)


def _is_json(text: str, type: str = "any", keys: Sequence[str] = (), length: int | None = None) -> bool:  # noqa: A002
    fenced = _FENCE.fullmatch(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, _JSON_TYPES[type]) or (keys and (not isinstance(value, dict) or set(value) != set(keys))):
        return False
    return length is None or (isinstance(value, dict | list) and len(value) == length)


def _words(text: str, at_least: int = 0, at_most: int | None = None) -> bool:
    return _within(len(text.split()), at_least, at_most)


def _sentences(text: str, count: int | None = None, at_least: int = 0, at_most: int | None = None) -> bool:
    found = len(sentences(text))
    return _within(found, at_least, at_most) and count in (None, found)


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text: what ends in a full stop, exclamation or question mark before a space or the end."""
    parts = re.split(r"(?<=[.!?])[\"'”’)]*(?:\s+|$)|\n+", text)
    return [part for part in parts if part and re.search(r"\w", part)]


def _paragraphs(text: str, count: int, separator: str = "\n\n") -> bool:
    return len([part for part in text.split(separator) if part.strip()]) == count


def _first_word(text: str, word: str, paragraph: int, count: int) -> bool:
    parts = [part.strip() for part in text.split("\n\n") if part.strip()]
    if len(parts) != count or not 1 <= paragraph <= count:
        return False
    first = parts[paragraph - 1].split()[0].strip("\"'“”‘’.,!?*")
    return first.casefold() == word.casefold()


def _numbered(text: str, count: int) -> bool:
    return [int(number) for number in _NUMBERED.findall(text)] == list(range(1, count + 1))


def _commas(text: str, count: int) -> bool:
    parts = [part.strip() for part in text.rstrip(".").split(",")]
    return "\n" not in text and len(parts) == count and all(parts) and max(len(part.split()) for part in parts) <= 3


def _one_of(text: str, choices: Sequence[str]) -> bool:
    return text.strip(" \t\n\"'“”‘’.!*`").casefold() in {choice.casefold() for choice in choices}


def _frequency(text: str, word: str, at_least: int = 0, at_most: int | None = None) -> bool:
    return _within(text.casefold().count(word.casefold()), at_least, at_most)


def _capital_words(text: str, at_least: int = 0, at_most: int | None = None) -> bool:
    return _within(sum(word.isupper() for word in text.split()), at_least, at_most)


def _matches(text: str, pattern: str) -> bool:
    try:
        return regex.fullmatch(pattern, text, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        return False


def _matches_within(text: str, pattern: str, at_least: int = 1) -> bool:
    try:
        return len(regex.findall(pattern, text, timeout=PATTERN_SECONDS)) >= at_least
    except TimeoutError:
        return False


def _excludes(text: str, words: Sequence[str]) -> bool:
    return not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in words)


_RANGE = {"at_least": "count", "at_most": "count"}

CHECKS: dict[str, Rule] = {
    "json": Rule(_is_json, {"type": "text", "keys": "texts", "length": "count"}),
    "bullets": Rule(lambda text, count: len(_BULLET.findall(text)) == count, {"count": "count"}, ("count",)),
    "numbered": Rule(_numbered, {"count": "count"}, ("count",)),
    "commas": Rule(_commas, {"count": "count"}, ("count",)),
    "words": Rule(_words, _RANGE),
    "sentences": Rule(_sentences, {"count": "count", **_RANGE}),
    "paragraphs": Rule(_paragraphs, {"count": "count", "separator": "text"}, ("count",)),
    "first_word": Rule(
        _first_word, {"word": "text", "paragraph": "count", "count": "count"}, ("word", "paragraph", "count")
    ),
    "one_of": Rule(_one_of, {"choices": "texts"}, ("choices",)),
    "contains": Rule(
        lambda text, words: all(word.casefold() in text.casefold() for word in words), {"words": "texts"}, ("words",)
    ),
    "contains_one": Rule(
        lambda text, words: any(word.casefold() in text.casefold() for word in words), {"words": "texts"}, ("words",)
    ),
    "excludes": Rule(_excludes, {"words": "texts"}, ("words",)),
    "frequency": Rule(_frequency, {"word": "text", **_RANGE}, ("word",)),
    "capital_words": Rule(_capital_words, _RANGE),
    "uppercase": Rule(lambda text: text.isupper(), {}),
    "lowercase": Rule(lambda text: text.islower(), {}),
    "no_comma": Rule(lambda text: bool(text) and "," not in text, {}),
    "quoted": Rule(lambda text: len(text) > 2 and text[0] in '"“' and text[-1] in '"”', {}),
    "starts_with": Rule(
        lambda text, words: text.casefold().startswith(words.casefold()), {"words": "text"}, ("words",)
    ),
    "ends_with": Rule(lambda text, words: text.casefold().endswith(words.casefold()), {"words": "text"}, ("words",)),
    "matches": Rule(_matches, {"pattern": "text"}, ("pattern",)),
    "matches_within": Rule(
        _matches_within,
        {"pattern": "text", "at_least": "count"},
        ("pattern",),
    ),
    "refuses": Rule(refuses, {}),
    "complies": Rule(lambda text: bool(text) and not refuses(text), {}),
}
