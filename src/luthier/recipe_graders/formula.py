"""The formula of a `multi` grader: arithmetic over the scores of other graders, parsed and never evaluated as code.

Source: OpenAI's graders guide, "Multigraders": + - * / ^ and min, max, abs, floor, ceil, exp, sqrt, log.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping

MAX_CHARACTERS = 2_000
MAX_DEPTH = 100
"""How long a formula may be and how deep its operations may nest. The limits are ours: Python's parser and its stack take
deep nesting badly."""

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
FUNCTIONS = tuple(_FUNCTIONS)
_OF_SEVERAL = ("min", "max")


class Formula:
    """An arithmetic formula over named scores.

    `^` is the power, binds tighter than a sign before it, and groups from the right; `log` is the natural logarithm.

    Args:
        text: the formula.
        names: the scores that it may use.

    Raises:
        ValueError: it is no such formula; the message says where and why.
    """

    __slots__ = ("_tree", "text")

    def __init__(self, text: str, names: Collection[str]) -> None:
        self.text = text
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"the formula has more than {MAX_CHARACTERS:,} characters")
        if "**" in text:
            raise ValueError("a power is written with ^")
        try:
            self._tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            said = error.msg if isinstance(error, SyntaxError) else "it cannot be read"
            raise ValueError(f"the formula {_shown(text)} cannot be read: {said}") from None
        waiting: list[tuple[ast.AST, int]] = [(self._tree, 1)]
        while waiting:
            node, depth = waiting.pop()
            fault = _fault(node, names) if depth <= MAX_DEPTH else f"operations nest deeper than {MAX_DEPTH}"
            if fault:
                raise ValueError(f"in the formula {_shown(text)}, {fault}")
            inner = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
            waiting.extend((child, depth + 1) for child in inner)

    def value(self, scores: Mapping[str, float]) -> float:
        """Returns the formula's value.

        Args:
            scores: a score for each name.

        Raises:
            ArithmeticError: it has none for these scores: a division by zero, the root of a negative number, a number out
                of range.
        """
        try:
            found = _value(self._tree, scores)
        except ZeroDivisionError:
            raise ArithmeticError("it divides by zero") from None
        except OverflowError:
            raise ArithmeticError("a number in it is out of range") from None
        except (ValueError, TypeError):  # math's words for the root of -1; complex numbers compared or rounded
            raise ArithmeticError("a function or power in it has no value there") from None
        if isinstance(found, complex) or not math.isfinite(found):
            raise ArithmeticError("it has no finite value there")
        return float(found)


def _fault(node: ast.AST, names: Collection[str]) -> str | None:
    if isinstance(node, ast.Name):
        return None if node.id in names else f"{node.id} is no grader; there are: {', '.join(sorted(names))}"
    if isinstance(node, ast.Constant):
        return None if type(node.value) in (int, float) else f"{node.value!r} is no number"
    if isinstance(node, ast.BinOp):
        return None if type(node.op) in _OPERATORS else "there is an operator besides + - * / ^"
    if isinstance(node, ast.UnaryOp):
        return None if isinstance(node.op, ast.USub | ast.UAdd) else "there is an operator besides + - * / ^"
    if isinstance(node, ast.Call):
        return _call_fault(node)
    if isinstance(node, ast.operator | ast.unaryop | ast.Load):
        return None
    return "something is neither a number, a grader's name, an operation nor a function"


def _call_fault(node: ast.Call) -> str | None:
    if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
        return f"a function is called that is none of {', '.join(FUNCTIONS)}"
    if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
        return f"{node.func.id} takes numbers, one after another"
    wanted = len(node.args) >= 1 if node.func.id in _OF_SEVERAL else len(node.args) == 1
    return None if wanted else f"{node.func.id} is given {len(node.args)} numbers"


def _value(node: ast.expr, scores: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]  # a number: looked at when parsed
    if isinstance(node, ast.Name):
        return scores[node.id]
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, scores)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, scores), _value(node.right, scores))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    arguments = [_value(argument, scores) for argument in node.args]
    if node.func.id in _OF_SEVERAL and len(arguments) == 1:
        return arguments[0]
    return float(_FUNCTIONS[node.func.id](*arguments))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")
