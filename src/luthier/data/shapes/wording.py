"""Words that findings about a row have in common: what kind of value stands there, which key was meant."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Sequence
from typing import Any

_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
_MAX_VALUE_CHARS = 40
MAX_KEYS = 20
"""Of one object, this many strange keys are named; the others are counted."""


def kind(value: Any) -> str:
    """Returns what sort of JSON value this is, for a sentence."""
    if value in ("", [], {}):
        return "empty"
    return _KINDS.get(type(value), "a number")


def with_article(role: str | None) -> str:
    """Returns `a user`, `an assistant`; just `a` where the role is not known."""
    return f"{'an' if role == 'assistant' else 'a'} {role}" if role else "a"


def shown(value: Any) -> str:
    """Returns the value as JSON, for an excerpt."""
    return json.dumps(value, ensure_ascii=False)


def short(value: Any) -> str:
    """Returns the beginning of a value's JSON, for the middle of a sentence."""
    return shown(value)[:_MAX_VALUE_CHARS]


@functools.lru_cache(maxsize=1024)
def did_you_mean(key: str, known: tuple[str, ...]) -> str:
    """Returns ` (did you mean "…"?)` where one of the known keys is nearly the same, else an empty string."""
    close = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.75)
    return f' (did you mean "{close[0]}"?)' if close else ""


def singled_out(keys: Sequence[str]) -> tuple[Sequence[str], str]:
    """Returns the keys that are worth a sentence each, and how many more there are, in words: `980 more keys`, or nothing."""
    more = len(keys) - MAX_KEYS
    return keys[:MAX_KEYS], f"{more:,} more keys" if more > 0 else ""


def keys_of(row: dict[str, Any]) -> str:
    """Returns the first keys of a row, for a sentence."""
    return ", ".join(list(row)[:8]) + (", …" if len(row) > 8 else "")
