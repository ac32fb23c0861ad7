"""What a decoder loses without a word: keys that stand twice, numbers that do not fit, nesting too deep to write."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from luthier.data import catalogue_file as rules
from luthier.data.findings import Problem
from luthier.data.json_scan import MAX_DEPTH

_KEY = re.compile(r'"\s*:')
_LONG_INTEGER = re.compile(r"\d{19}")
_INTEGER_RANGE = range(-(2**63), 2**64)


def value_problem(text: str, value: Any) -> Problem | None:
    """Returns what decoding this JSON text to `value` lost, or None.

    Counting is cheap and finds nothing in almost every row; only where the counts differ is the text decoded again.
    """
    depth, num_keys, finite = _measure(value)
    if depth > MAX_DEPTH:
        return rules.OVER_LIMIT.problem(f"nested {depth} levels deep; the limit is {MAX_DEPTH}")
    if not finite:
        return rules.OVER_LIMIT.problem("a number too large for 64 bits")
    # inside strings `":` can also occur, so this count is never too low: equal counts prove that no key stands twice
    if len(_KEY.findall(text)) != num_keys and (key := _duplicate_key(text)) is not None:
        return rules.DUPLICATE_KEY.problem(f'"{key}"', text=text, column=_second_place(text, key))
    if _LONG_INTEGER.search(text) and (number := _long_integer(text)) is not None:
        return rules.OVER_LIMIT.problem(f"the number {number[:40]} does not fit in 64 bits")
    return None


def _measure(value: Any) -> tuple[int, int, bool]:
    """Returns the nesting depth, the number of keys, and whether all numbers are finite, without recursion."""
    depth, num_keys, finite = 0, 0, True
    layer: list[Any] = [value]
    while layer:
        depth += 1
        below: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                num_keys += len(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, float) and not math.isfinite(item):
                finite = False
        layer = below
    return depth - 1, num_keys, finite


def _duplicate_key(text: str) -> str | None:
    class Found(Exception):  # noqa: N818 - leaves the decoder early
        pass

    def watch(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            keys = [key for key, _ in pairs]
            raise Found(next(key for key in keys if keys.count(key) > 1))
        return members

    try:
        json.loads(text, object_pairs_hook=watch)
    except Found as found:
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
