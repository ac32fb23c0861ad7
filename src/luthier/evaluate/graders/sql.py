"""The grader of SQL: both queries are run, and their rows compared."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from luthier.errors import EvaluateError
from luthier.evaluate.graders.protocol import NO_ITEM, Item
from luthier.evaluate.graders.sqlite import Database, Result, is_ordered, same_rows
from luthier.evaluate.samples import Grade
from luthier.recipe_graders import SqlDefinition

_QUERY = re.compile(r"\s*(?:select|with|values)\b", re.IGNORECASE)


class SqlGrader:
    """1 where the answer's query gives the rows that the expected query gives on the same database.

    Their order counts where the expected query asks for one.

    Args:
        definition: the limits.
        database: the SQLite file, where the definition names none.

    Raises:
        EvaluateError: code "no_database" where there is none, or it cannot be read.
    """

    name = "sql"

    def __init__(self, definition: SqlDefinition | None = None, database: str | None = None) -> None:
        given = definition or SqlDefinition(type="sql")
        path = given.database or database
        if path is None:
            raise EvaluateError(
                "The grader sql needs a database to run queries on.",
                code="no_database",
                param="evaluate.database",
                hint="Set evaluate.database=FILE, a SQLite file.",
            )
        self.database = Database(path, max_rows=given.max_rows, max_steps=given.max_steps, timeout_s=given.timeout_s)
        # two models are judged on the same rows, one after the other
        self._expected = functools.lru_cache(maxsize=4096)(self.database.run)

    def grade(self, target: str, answer: str, _item: Item = NO_ITEM, /) -> Grade:
        """Returns 1 or 0, with `executes`; None where the expected query gives no rows to compare with, or the clock ran
        out."""
        expected = self._expected(target)
        if expected.rows is None:
            return Grade(None, f"of the expected answer, {expected.reason}")
        given = self.database.run(answer)
        if given.problem == "time":
            return Grade(None, given.reason)
        if given.rows is None:
            return Grade(0.0, _why(answer, given), {"executes": float(given.problem != "failed")})
        if same_rows(expected.rows, given.rows, ordered=is_ordered(target)):
            return Grade(1.0, None, {"executes": 1.0})
        return Grade(0.0, _difference(expected, given), {"executes": 1.0})

    def summarise(self, targets: Sequence[str], answers: Sequence[str], grades: Sequence[Grade], /) -> dict[str, float]:
        """Returns the share of answers that are a query that runs, and of those equal to the expected text."""
        equal = sum(target.strip() == answer.strip() for target, answer in zip(targets, answers, strict=True))
        return {
            "executes": sum(grade.details["executes"] for grade in grades) / len(grades),
            "same_text": equal / len(grades),
        }


def is_query(text: str) -> bool:
    """Whether a text begins as a query does."""
    return bool(_QUERY.match(text))


def _why(answer: str, given: Result) -> str:
    if "```" in answer:
        return "it stands in a ``` fence, on which a database fails"
    return "the answer is empty" if not answer.strip() else given.reason or ""


def _difference(expected: Result, given: Result) -> str:
    wanted, found = expected.rows or [], given.rows or []
    if len(wanted) != len(found):
        return f"{len(found):,} rows, expected {len(wanted):,}"
    if wanted and len(wanted[0]) != len(found[0]):
        return f"{len(found[0])} columns, expected {len(wanted[0])}"
    if same_rows(wanted, found, ordered=False):
        return "the right rows in another order"
    return "other rows than expected"
