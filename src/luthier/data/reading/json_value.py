"""What a decoder loses without a word: keys that stand twice, numbers that do not fit, nesting too deep to write."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import orjson

from luthier.data.findings import Problem
from luthier.data.reading.json_scan import MAX_DEPTH
from luthier.data.rules import catalogue_file as rules

_LONG = 10**18
_LONG_INTEGER = re.compile(r"\d{19}")
_NUMBER_SIGNS = bytes.maketrans(b"123456789E", b"000000000e")
_LONG_NUMBER = b"0" * 19
_INTEGER_RANGE = range(-(2**63), 2**64)


def is_surely_whole(raw: bytes, value: Any) -> bool:
    """Whether decoding an object's JSON text certainly lost nothing; cheap, and where it is not so `value_problem` tells.

    Written again, the object has as many quotation marks as it had, or a key is gone.
    """
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH or b"\\u0022" in raw:
        return False
    numbers = raw.translate(_NUMBER_SIGNS)
    if _LONG_NUMBER in numbers or b"0e" in numbers:
        return False
    return raw.count(b'"') == orjson.dumps(value).count(b'"')


def value_problem(text: str, value: Any) -> Problem | None:
    """Returns what decoding this JSON text to `value` lost, or None.

    Counting is cheap and finds nothing in almost every row; only where the counts differ is the text decoded again.
    """
    found = _measure(value)
    if found.depth > MAX_DEPTH:
        return rules.OVER_LIMIT.problem(f"nested {found.depth} levels deep; the limit is {MAX_DEPTH}")
    if not found.is_finite:
        return rules.OVER_LIMIT.problem("a number too large for 64 bits")
    whole = text.count('"') == 2 * found.num_strings + found.num_marks and not (found.num_marks and "\\u0022" in text)
    if not whole and (key := _duplicate_key(text)) is not None:
        return rules.DUPLICATE_KEY.problem(f'"{key}"', text=text, column=_second_place(text, key))
    if found.has_long_numbers and _LONG_INTEGER.search(text) and (number := _long_integer(text)) is not None:
        return rules.OVER_LIMIT.problem(f"the number {number[:40]} does not fit in 64 bits")
    return None


@dataclass(slots=True)
class _Measures:
    """What a JSON value is made of.

    Attributes:
        depth: of the nesting.
        num_strings, num_marks: keys and texts, and the quotation marks that stand in them.
        has_long_numbers: whether there is a number that the decoder may have rounded.
        is_finite: whether all numbers are.
    """

    depth: int = 0
    num_strings: int = 0
    num_marks: int = 0
    has_long_numbers: bool = False
    is_finite: bool = True


def _measure(value: Any) -> _Measures:
    """Measures a JSON value, without recursion."""
    found = _Measures()
    depth = num_strings = num_marks = 0
    layer: list[Any] = [value]
    while layer:
        depth += 1
        below: list[Any] = []
        for item in layer:
            kind = type(item)
            if kind is str:
                num_strings += 1
                num_marks += item.count('"')
            elif kind is dict:
                num_strings += len(item)
                num_marks += sum(key.count('"') for key in item)
                below.extend(item.values())
            elif kind is list:
                below.extend(item)
            elif kind is float:
                found.has_long_numbers = True  # what does not fit in 64 bits was decoded to one
                found.is_finite = found.is_finite and math.isfinite(item)
            elif kind is int and not -_LONG < item < _LONG:
                found.has_long_numbers = True
        layer = below
    found.depth = depth - 1
    found.num_strings, found.num_marks = num_strings, num_marks
    return found


class _Found(Exception):  # noqa: N818 - leaves the decoder early
    pass


def _duplicate_key(text: str) -> str | None:
    def watch(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            keys = [key for key, _ in pairs]
            raise _Found(next(key for key in keys if keys.count(key) > 1))
        return members

    try:
        json.loads(text, object_pairs_hook=watch)
    except _Found as found:
        return str(found)
    return None


def _long_integer(text: str) -> str | None:
    found: list[str] = []

    def watch(digits: str) -> int:
        # int() of very many digits is refused by Python, and 20 characters already decide it
        if len(digits) > 20 or int(digits) not in _INTEGER_RANGE:
            found.append(digits)
        return 0

    json.loads(text, parse_int=watch)
    return found[0] if found else None


def _second_place(text: str, key: str) -> int:
    written = json.dumps(key, ensure_ascii=False)
    return max(0, text.find(written, text.find(written) + 1))
