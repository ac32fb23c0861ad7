"""Function calls that stand in an answer's text, in the ways in which chat templates write them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from luthier.evaluate.graders.json_value import Leaf, Path, leaves_of, parse_json

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_BLOCK = re.compile(rf"{_OPEN}(.*?)(?:{_CLOSE}|(?={_OPEN})|\Z)", re.DOTALL)
_MARKS = ("[TOOL_CALLS]", "<|python_tag|>")
_EXACT = 10**300
_CONTAINERS = ("tool_calls", "function_call", "function")


@dataclass(frozen=True, slots=True)
class Call:
    """One function call.

    Attributes:
        name: the function's.
        arguments: the leaves of its arguments, by path.
        written: the arguments as JSON text.
    """

    name: str
    arguments: dict[Path, Leaf]
    written: str

    def is_like(self, other: Call) -> bool:
        """Whether another call is of the same function with equal arguments."""
        return self.name == other.name and self.arguments == other.arguments


@dataclass(frozen=True, slots=True)
class Calls:
    """The function calls in a text.

    Attributes:
        calls: in their order.
        fault: why what looks like a call cannot be read, or None.
    """

    calls: list[Call]
    fault: str | None = None


def read_calls(text: str) -> Calls:
    """Returns the function calls that stand in a text.

    Read are JSON objects of a name and arguments: between `<tool_call>` tags, after Mistral's or Llama's mark, or as the
    whole text, one or a list; OpenAI's `tool_calls` form as well.
    """
    if _OPEN in text:
        found = Calls([])
        for block in _BLOCK.finditer(text):
            one = _read(block[1])
            found = Calls([*found.calls, *one.calls], found.fault or one.fault)
        return found
    for mark in _MARKS:
        if mark in text:
            return _read(text.split(mark, 1)[1])
    bare = text.strip()
    if bare[:1] not in ("{", "["):
        return Calls([])
    found = _read(bare)
    # JSON that is no call is an answer in JSON, not a broken call
    return found if not found.fault else Calls([])


def _read(text: str) -> Calls:
    try:
        value = parse_json(text)
    except ValueError as error:
        return Calls([], f"a call cannot be read as JSON: {error}")
    try:
        return Calls([_call(member) for member in (value if isinstance(value, list) else _members(value))])
    except ValueError as error:
        return Calls([], str(error))


def _members(value: Any) -> list[Any]:
    inside = value.get("tool_calls") if isinstance(value, dict) else None
    return inside if isinstance(inside, list) else [value]


def _call(value: Any) -> Call:
    while isinstance(value, dict) and "name" not in value and any(isinstance(value.get(k), dict) for k in _CONTAINERS):
        value = next(value[key] for key in _CONTAINERS if isinstance(value.get(key), dict))
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("a call has no name")
    key = next((key for key in ("arguments", "parameters") if key in value), None)
    if key is None:
        raise ValueError("a call has no arguments")
    arguments = value[key]
    if isinstance(arguments, str):
        try:
            arguments = parse_json(arguments) if arguments.strip() else {}
        except ValueError as error:
            raise ValueError(f"a call's arguments cannot be read as JSON: {error}") from None
    if arguments is not None and not isinstance(arguments, dict):
        raise ValueError("a call's arguments are no object")
    return Call(value["name"], leaves_of(arguments or {}), _as_json(arguments or {}))


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_number)


def _number(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() and abs(number) < _EXACT else float(number)
