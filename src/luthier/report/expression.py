"""Conditions over named values: parsed, checked and worked out, never run as code.

A value may be missing. Whatever is compared with a missing value is neither true nor false, and `and`, `or` and `not` pass
that on where the rest does not decide (Kleene's logic of three values); only `== None` asks for it.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

MAX_CHARACTERS = 2_000
MAX_DEPTH = 100
"""How long a condition may be and how deep it may nest. The limits are ours: Python's parser takes deep nesting badly."""
PARTS = "names, numbers, quoted texts, True, False, None, comparisons, in, and, or, not, + - * / and brackets"

Kind = Literal["number", "text", "truth", "none", "list", "part", "any"]
_WORDS: dict[Kind, str] = {
    "number": "a number",
    "text": "a text",
    "truth": "true or false",
    "none": "None",
    "list": "a list",
    "part": "a part of the report",
    "any": "a value",
}
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], object]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, other: one in other,
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What is known of a value beforehand.

    Attributes:
        kind: what it is, unless it is missing.
        words: the texts it can be, where only some are possible.
        holds: of a list, what is in it.
    """

    kind: Kind
    words: tuple[str, ...] = ()
    holds: Kind = "any"


@dataclass(frozen=True, slots=True)
class Reference:
    """A name with what stands behind it: `table.models['few-shot'].score`.

    Attributes:
        text: as it is written.
        path: the words behind dots and the literals in brackets, the name first.
    """

    text: str
    path: tuple[str | int, ...]


@dataclass(slots=True)
class Outcome:
    """A condition worked out.

    Attributes:
        holds: None where a missing value leaves it open.
        values: of each name in it; and of each operation that has no value, None.
    """

    holds: bool | None = None
    values: dict[str, object] = field(default_factory=dict)


class Condition:
    """A condition, parsed and found to make sense.

    Args:
        text: the condition.
        meaning_of: what a name stands for; raises ValueError where it stands for nothing.

    Raises:
        ValueError: it is no condition, or one that could never hold; the message says why.
    """

    __slots__ = ("_tree", "text")

    def __init__(self, text: str, meaning_of: Callable[[Reference], Meaning]) -> None:
        self.text = text
        self._tree = _parsed(text)
        found = _meaning(self._tree, meaning_of)
        if found.kind not in ("truth", "any"):
            raise ValueError(f"it is {_WORDS[found.kind]}, which neither holds nor not; compare it, as in n >= 100")

    def work_out(self, value_of: Callable[[Reference], object]) -> Outcome:
        """Returns whether the condition holds, and what its names stand for.

        Args:
            value_of: the value of a name; None where it is missing.
        """
        outcome = Outcome()
        found = _Values(value_of, outcome.values).value(self._tree)
        outcome.holds = found if isinstance(found, bool) else None
        return outcome


def _parsed(text: str) -> ast.expr:
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has more than {MAX_CHARACTERS:,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's own remarks about odd escapes
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        said = error.msg if isinstance(error, SyntaxError) else "it nests too deep or holds what no text may hold"
        raise ValueError(f"it cannot be read: {said}") from None
    waiting: list[tuple[ast.AST, int]] = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"it nests deeper than {MAX_DEPTH}")
        waiting.extend((child, depth + 1) for child in ast.iter_child_nodes(node))
    return tree


def _meaning(node: ast.expr, meaning_of: Callable[[Reference], Meaning]) -> Meaning:
    """Returns what a part of the condition is, or says what is wrong with it."""

    def of(inner: ast.expr, *wanted: Kind) -> Meaning:
        found = _meaning(inner, meaning_of)
        if wanted and found.kind not in (*wanted, "any"):
            expected = " or ".join(_WORDS[kind] for kind in wanted)
            raise ValueError(f"{_shown(inner)} is {_WORDS[found.kind]}, where {expected} is needed")
        return found

    match node:
        case ast.Constant(value=literal):
            return _constant(literal)
        case ast.Name() | ast.Attribute() | ast.Subscript():
            return meaning_of(_reference(node))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            of(operand, "truth")
            return Meaning("truth")
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return of(operand, "number")
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            of(left, "number")
            of(right, "number")
            return Meaning("number")
        case ast.BoolOp(values=values):
            for value in values:
                of(value, "truth")
            return Meaning("truth")
        case ast.Compare(left=left, ops=ops, comparators=others):
            for op, right in zip(ops, others, strict=True):
                _check_comparison(left, op, right, of)
                left = right
            return Meaning("truth")
    raise ValueError(f"{_shown(node)} has no place in it; there may be {PARTS}")


def _check_comparison(left: ast.expr, op: ast.cmpop, right: ast.expr, meaning: Callable[..., Meaning]) -> None:
    if isinstance(op, ast.Is | ast.IsNot):
        if not _is_none(right):
            raise ValueError("`is` asks for None alone; write == for anything else")
        meaning(left)
    elif isinstance(op, ast.In | ast.NotIn):
        one = meaning(left)
        if isinstance(right, ast.Tuple | ast.List | ast.Set):
            for element in right.elts:
                if not isinstance(element, ast.Constant):
                    raise ValueError(f"{_shown(element)} stands in a list, which may hold numbers and texts alone")
                _alike(left, one, element, _constant(element.value))
            return
        other = meaning(right, "list", "text")
        if other.kind == "text" or other.holds != "any":
            _alike(left, one, right, Meaning("text" if other.kind == "text" else other.holds))
    elif not isinstance(op, ast.Eq | ast.NotEq):
        _alike(left, meaning(left, "number", "text"), right, meaning(right, "number", "text"))
    else:
        _alike(left, meaning(left), right, meaning(right))


def _alike(left: ast.expr, one: Meaning, right: ast.expr, other: Meaning) -> None:
    """Refuses a comparison that could never hold."""
    if "any" in (one.kind, other.kind) or "none" in (one.kind, other.kind):
        return
    if one.kind != other.kind:
        raise ValueError(
            f"{_shown(left)} is {_WORDS[one.kind]} and {_shown(right)} is {_WORDS[other.kind]}: they are never the same"
        )
    for words, node in ((one.words, right), (other.words, left)):
        if words and isinstance(node, ast.Constant) and node.value not in words:
            raise ValueError(f"{_shown(node)} is none of {', '.join(words)}")


def _constant(value: object) -> Meaning:
    if value is None:
        return Meaning("none")
    if isinstance(value, bool):
        return Meaning("truth")
    if isinstance(value, int | float):
        return Meaning("number")
    if isinstance(value, str):
        return Meaning("text")
    raise ValueError(f"{str(value)[:40]!r} is neither a number nor a text")


def _reference(node: ast.expr) -> Reference:
    path: list[str | int] = []
    inner = node
    while not isinstance(inner, ast.Name):
        match inner:
            case ast.Attribute(value=before, attr=word):
                path.append(word)
            case ast.Subscript(value=before, slice=index):
                path.append(_index(index))
            case _:
                raise ValueError(f"{_shown(inner)} has no parts; there may be {PARTS}")
        inner = before
    return Reference(ast.unparse(node), (inner.id, *reversed(path)))


def _index(node: ast.expr) -> str | int:
    try:
        index = ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        index = None
    if isinstance(index, str) or type(index) is int:
        return index
    raise ValueError(f"brackets hold {_shown(node)}, and may hold one number or one quoted text")


@dataclass(frozen=True, slots=True)
class _Values:
    value_of: Callable[[Reference], object]
    seen: dict[str, object]

    def value(self, node: ast.expr) -> object:
        """Returns what a part of the condition comes to; None where that is open."""
        match node:
            case ast.Constant(value=literal):
                return literal
            case ast.Name() | ast.Attribute() | ast.Subscript():
                reference = _reference(node)
                value = self.value_of(reference)
                self.seen[reference.text] = value
                return value
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _negated(self.value(operand))
            case ast.UnaryOp(op=op, operand=operand):
                return self._number(node, operator.neg if isinstance(op, ast.USub) else operator.pos, operand)
            case ast.BinOp(left=left, op=arithmetic, right=right):
                return self._number(node, _ARITHMETIC[type(arithmetic)], left, right)
            case ast.BoolOp(op=junction, values=values):
                return _joined([self.value(value) for value in values], decides=isinstance(junction, ast.Or))
            case ast.Compare(left=left, ops=ops, comparators=others):
                found = [
                    self._compared(node, one, op, other)
                    for one, op, other in zip([left, *others[:-1]], ops, others, strict=True)
                ]
                return _joined(found, decides=False)
        raise AssertionError(node)  # looked at when parsed

    def _number(self, node: ast.expr, operation: Callable[..., float], *operands: ast.expr) -> float | None:
        values = [self.value(operand) for operand in operands]
        if any(value is None for value in values):
            return None
        try:
            found = operation(*values)
        except (ArithmeticError, TypeError):  # a division by zero; a recipe's text where a number was meant
            found = math.nan
        if not math.isfinite(found):
            self.seen[ast.unparse(node)] = None
            return None
        return found

    def _compared(self, node: ast.expr, left: ast.expr, op: ast.cmpop, right: ast.expr) -> object:
        if isinstance(op, ast.NotEq | ast.IsNot | ast.NotIn):
            opposite = {ast.NotEq: ast.Eq, ast.IsNot: ast.Is, ast.NotIn: ast.In}[type(op)]
            return _negated(self._compared(node, left, opposite(), right))
        one = self.value(left)
        if isinstance(op, ast.In) and isinstance(right, ast.Tuple | ast.List | ast.Set):
            constants = [element.value for element in right.elts if isinstance(element, ast.Constant)]
            return _joined([_same(one, value, asked_for_none=value is None) for value in constants], decides=True)
        other = self.value(right)
        if isinstance(op, ast.Eq | ast.Is):
            return _same(one, other, asked_for_none=_is_none(left) or _is_none(right))
        if one is None or other is None:
            return None
        try:
            return _COMPARISONS[type(op)](one, other)
        except TypeError:  # a recipe's text where a number was meant
            self.seen[ast.unparse(node)] = None
            return None


def _same(one: object, other: object, *, asked_for_none: bool) -> bool | None:
    if asked_for_none:
        return one is None and other is None
    return None if one is None or other is None else one == other


def _negated(value: object) -> bool | None:
    return not value if isinstance(value, bool) else None


def _joined(values: list[object], *, decides: bool) -> bool | None:
    """Returns `decides` where one value is that, None where one is open, else its opposite."""
    if any(value is decides for value in values):
        return decides
    return None if any(not isinstance(value, bool) for value in values) else not decides


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _shown(node: ast.AST) -> str:
    try:
        text = ast.unparse(node)
    except (RecursionError, ValueError):
        text = type(node).__name__
    return text if len(text) <= 60 else f"{text[:59]}…"
