"""Python that stands where JSON should: programs saved as data, and rows written with `str(row)`. Nothing is ever run."""

from __future__ import annotations

import ast
import warnings
from typing import Any

import orjson

from luthier.data.reading.json_value import value_problem

MAX_SOURCE_BYTES = 2**20
"""Longer texts are not looked at as Python: its syntax tree is a hundred times the text."""


def is_program(source: bytes) -> bool:
    """Whether a text is a Python program that does more than state values."""
    tree = _quietly(ast.parse, source)
    return tree is not None and any(not isinstance(node, ast.Expr) for node in tree.body)


def literal_row(text: str, column: int) -> dict[str, Any] | None:
    """Returns the row that a line holds as a Python literal, or None.

    Args:
        text: the line.
        column: where it stopped being JSON.
    """
    if text[column : column + 1] not in {"'", "T", "F", "N"} or not text.rstrip().endswith("}"):
        return None
    if len(text) > MAX_SOURCE_BYTES:
        return None
    value = _quietly(ast.literal_eval, text.strip())
    try:
        written = orjson.dumps(value)
    except (TypeError, ValueError):
        return None
    if not isinstance(value, dict) or value_problem(written.decode(), value) is not None:
        return None
    row: dict[str, Any] = orjson.loads(written)
    return row


def _quietly(parse: Any, source: str | bytes) -> Any:
    """Returns what `parse` makes of a text, or None; a stranger's source must neither warn nor raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return parse(source)
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            return None
