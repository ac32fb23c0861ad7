"""Queries on a SQLite file that cannot change it, nor take for ever.

The file is opened for reading only, and SQLite's authorizer allows nothing but reading: no attached files, no pragmas, no
extensions. A query that takes too many instructions of SQLite's machine is given up at the same instruction on every
computer; the wall clock is only the last resort.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luthier.errors import EvaluateError

Row = tuple[Any, ...]

_STEPS_BETWEEN_LOOKS = 10_000
_MAX_VALUE_BYTES = 100_000
"""The longest text or blob. SQLite cannot be stopped within one instruction, and some functions take time that grows with
the product of two texts: up to 15 seconds at this length, as measured with `replace`, 1,500 at ten times as much."""
_MAX_PATTERN_BYTES = 200
_MAX_RESULT_BYTES = 50_000_000
_LONG_WIDTH = re.compile(r"\*|\d{5}")
"""A width of a number's own, or of five digits, in a format: SQLite writes it out before it looks at any limit."""
_DIGITS = 12
"""Significant digits in which floating-point results are compared: sums depend on their order in the last few."""
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
_FORBIDDEN_FUNCTIONS = ("load_extension", "fts3_tokenizer")
_SPACED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_INNERMOST = re.compile(r"\([^()]*\)")
_ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Result:
    """What a query gave.

    Attributes:
        rows: as it gave them; None where it failed.
        problem: `failed` in the query itself, `rows` or `steps` over a limit, `time` over the clock's.
        reason: why, in a few words.
    """

    rows: list[Row] | None
    problem: Literal["failed", "rows", "steps", "time"] | None = None
    reason: str | None = None


class Database:
    """A SQLite file, for reading only.

    Args:
        path: the file.
        max_rows: the most rows a query may give.
        max_steps: the most instructions it may take.
        timeout_s: seconds after which it is given up.

    Raises:
        EvaluateError: code "no_database" where the file is none.
    """

    def __init__(self, path: str | Path, *, max_rows: int, max_steps: int, timeout_s: float) -> None:
        self.path = Path(path)
        self._max_rows = max_rows
        self._max_steps = max_steps
        self._timeout_s = timeout_s
        try:
            with contextlib.closing(self._open(guarded=False)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except (sqlite3.Error, OSError, ValueError) as error:
            raise EvaluateError(
                f"{path} cannot be read as a SQLite database: {error}.",
                code="no_database",
                param="evaluate.database",
                hint="Give the path of a SQLite file.",
            ) from None

    def run(self, query: str) -> Result:
        """Returns what a query gives, or why it gives nothing."""
        deadline = time.monotonic() + self._timeout_s
        looks, stopped_by = 0, ""
        rows: list[Row] = []
        num_bytes = 0

        def stop() -> int:
            nonlocal looks, stopped_by
            looks += 1
            if looks * _STEPS_BETWEEN_LOOKS > self._max_steps:
                stopped_by = "steps"
            elif time.monotonic() > deadline:
                stopped_by = "time"
            return int(bool(stopped_by))

        try:
            with contextlib.closing(self._open(guarded=True)) as connection:
                connection.set_progress_handler(stop, _STEPS_BETWEEN_LOOKS)
                cursor = connection.execute(query)
                statement = cursor.description is not None
                for row in cursor:
                    rows.append(row)
                    num_bytes += sum(len(value) for value in row if isinstance(value, str | bytes))
                    if len(rows) > self._max_rows:
                        return Result(None, "rows", f"the query gives more than {self._max_rows:,} rows")
                    if num_bytes > _MAX_RESULT_BYTES:
                        return Result(None, "rows", f"the query gives more than {_MAX_RESULT_BYTES:,} bytes")
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
            if stopped_by == "steps":
                return Result(None, "steps", f"the query takes more than {self._max_steps:,} steps")
            if stopped_by == "time":
                return Result(None, "time", f"the query took longer than {self._timeout_s:g} s")
            return Result(None, "failed", f"the query fails: {' '.join(str(error).split())[:120]}")
        if not statement:
            return Result(None, "failed", "there is no query" if not query.strip() else "the statement gives no rows")
        return Result(rows)

    def _open(self, *, guarded: bool) -> sqlite3.Connection:
        if not self.path.is_file():
            raise OSError("there is no such file")
        # `immutable` keeps SQLite from writing a journal or a lock beside the file
        uri = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        if guarded:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _MAX_PATTERN_BYTES)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            for name in ("printf", "format"):
                connection.create_function(name, -1, _format, deterministic=True)
            connection.set_authorizer(_authorize)
        return connection


def same_rows(expected: Sequence[Row], given: Sequence[Row], *, ordered: bool) -> bool:
    """Whether two results are the same: column by column, names aside, numbers by value to 12 digits.

    Args:
        expected, given: the rows.
        ordered: whether their order counts.
    """
    one, other = [tuple(map(_comparable, row)) for row in expected], [tuple(map(_comparable, row)) for row in given]
    return one == other if ordered else Counter(one) == Counter(other)


def is_ordered(query: str) -> bool:
    """Whether a query asks for an order of its rows: an ORDER BY outside of texts, comments and parentheses."""
    bare = _SPACED.sub(" ", query)
    while (inner := _INNERMOST.sub(" ", bare)) != bare:
        bare = inner
    return bool(_ORDERED.search(bare))


def _comparable(value: Any) -> Hashable:
    if isinstance(value, float):
        value = float(f"{value:.{_DIGITS}g}")
    # a number and the text of a number are different values
    return (type(value).__name__ if isinstance(value, str | bytes) else "number", value)


def _format(*arguments: Any) -> Any:
    """SQLite's own `printf`, where its format asks for no long width."""
    if not arguments or (isinstance(arguments[0], str) and _LONG_WIDTH.search(arguments[0])):
        raise ValueError("a format of such a width is not allowed")
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        places = ", ".join("?" * len(arguments))
        return connection.execute(f"SELECT printf({places})", arguments).fetchone()[0]


def _authorize(action: int, _first: str | None, second: str | None, _database: str | None, _inner: str | None) -> int:
    forbidden = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS
    return sqlite3.SQLITE_OK if action in _ALLOWED and not forbidden else sqlite3.SQLITE_DENY
