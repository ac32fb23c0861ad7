"""JSON values: read strictly, taken apart into leaves, and compared leaf by leaf."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from luthier.evaluate.graders.protocol import shortened

Path = tuple[str | int, ...]
Leaf = tuple[str, Any]


def parse_json(text: str) -> Any:
    """Returns the value of a JSON text, with every number as a `Decimal`: 1, 1.0 and 1e0 are equal, and 0.1 is 0.1.

    Stricter than Python's parser: no NaN or Infinity, which are not JSON (RFC 8259, section 6), and no key twice, which
    programs read differently (section 4).

    Raises:
        ValueError: the text is not JSON; its message says why, in a few words.
    """
    try:
        return json.loads(
            text, parse_int=Decimal, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_unique_keys
        )
    except json.JSONDecodeError as error:
        raise ValueError(_why_not_json(text, error)) from None
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None
    except ArithmeticError:
        raise ValueError("a number is out of every range") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f'the key "{shortened(key)}" stands twice')
    return members


def _why_not_json(text: str, error: json.JSONDecodeError) -> str:
    if not text.strip():
        return "it is empty"
    if re.search(r'```\w*\s*[{\["]', text):
        return "it stands in a ``` fence, on which an application's parser would fail"
    if error.msg == "Extra data":
        return "more text follows the JSON value"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return "it breaks off before its end"
    if error.pos == 0 and re.search(r"[{\[]", text):
        return "text stands before the JSON value"
    return f"{error.msg[:1].lower()}{error.msg[1:]} at character {error.pos + 1}"


def leaves_of(value: Any) -> dict[Path, Leaf]:
    """Returns each leaf by its path, without recursion; two values are equal exactly if their leaves are.

    A leaf carries its kind, because Python holds True for 1. Empty objects and lists are leaves.
    """
    found: dict[Path, Leaf] = {}
    waiting: list[tuple[Path, Any]] = [((), value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, dict) and item:
            waiting.extend(((*path, key), member) for key, member in item.items())
        elif isinstance(item, list) and item:
            waiting.extend(((*path, index), member) for index, member in enumerate(item))
        else:
            found[path] = (type(item).__name__, item)
    return found


def first_difference(expected: Mapping[Path, Leaf], given: Mapping[Path, Leaf]) -> str:
    """Returns how two values differ first, in a few words, and in how many more places."""
    missing = [path for path in expected if path not in given]
    added = [path for path in given if path not in expected]
    changed = [path for path in expected if path in given and expected[path] != given[path]]
    num_more = len(missing) + len(added) + len(changed) - 1
    more = f" (and {num_more} more)" if num_more else ""
    if changed:
        path = min(changed, key=_order)
        return f"{written(path)} is {_shown(given[path])}, expected {_shown(expected[path])}{more}"
    path, word = (min(missing, key=_order), "missing") if missing else (min(added, key=_order), "not expected")
    return f"{written(path)} is {word}{more}"


def written(path: Path) -> str:
    """Returns a path as people write it: `days[0].from`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return shortened(text) if text else "the value"


def _order(path: Path) -> tuple[tuple[bool, int, str], ...]:
    return tuple((isinstance(part, str), part, "") if isinstance(part, int) else (True, 0, part) for part in path)


def _shown(leaf: Leaf) -> str:
    kind, value = leaf
    return shortened(str(value) if kind == Decimal.__name__ else json.dumps(value, ensure_ascii=False))
