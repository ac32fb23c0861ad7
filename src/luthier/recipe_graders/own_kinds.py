"""Luthier's own kinds of grader."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from luthier.recipe_graders.base import Definition, TemplateText


class ExactDefinition(Definition):
    """1 where the answer equals the expected one, outer whitespace aside."""

    type: Literal["exact"]
    """The kind of grader."""


class ContainsDefinition(Definition):
    """1 where a text stands somewhere in the answer."""

    type: Literal["contains"]
    """The kind of grader."""
    text: TemplateText | None = None
    """The text, a template; without it, the expected answer."""
    ignore_case: bool = False
    """Whether upper and lower case are the same."""


class RegexDefinition(Definition):
    """1 where a regular expression matches the answer."""

    type: Literal["regex"]
    """The kind of grader."""
    pattern: str | None = None
    """The expression; without it, the expected answer is one."""
    match: Literal["search", "full"] = "search"
    """`search`: somewhere in the answer; `full`: the whole answer, outer whitespace aside."""
    ignore_case: bool = False
    """Whether upper and lower case are the same."""

    @field_validator("pattern")
    @classmethod
    def _is_an_expression(cls, pattern: str | None) -> str | None:
        import regex  # type: ignore[import-untyped]  # noqa: PLC0415 - most recipes have no such grader

        try:
            regex.compile(pattern or "")
        except regex.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return pattern


class LabelDefinition(Definition):
    """1 where the answer is the expected label; case, a full stop and surrounding quotes do not matter."""

    type: Literal["label"]
    """The kind of grader."""


class JsonDefinition(Definition):
    """Compares JSON values, field by field, and with a JSON schema where there is one."""

    type: Literal["json"]
    """The kind of grader."""
    measure: Literal["equal", "field_f1", "valid"] = "equal"
    """The score: `equal`, 1 where the values are equal; `field_f1`, the F1 of the fields; `valid`, 1 where the answer is
    JSON and as `json_schema` says. The other two are reported beside."""
    json_schema: dict[str, Any] | None = None
    """A JSON schema that answers are held against."""


class SqlDefinition(Definition):
    """1 where the answer's query gives the rows that the expected query gives."""

    type: Literal["sql"]
    """The kind of grader."""
    database: str | None = None
    """The SQLite file, opened for reading only; without it, `evaluate.database`."""
    max_rows: Annotated[int, Field(ge=1)] = 10_000
    """The most rows that the expected query may give."""
    max_steps: Annotated[int, Field(ge=1_000)] = 200_000_000
    """The most instructions of SQLite's machine that a query may take: the same on every computer."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds after which a query is given up, as one that could not be scored."""


class PairwiseDefinition(Definition):
    """A model says whose answer is better, the base's or another model's, asked in both orders."""

    type: Literal["pairwise"]
    """The kind of grader."""
    criteria: str = ""
    """What makes an answer better, in words for the judge; its own idea of it, where there are none."""
    show_expected: bool = True
    """Whether the judge sees the expected answer."""


class ToolCallsDefinition(Definition):
    """1 where the answer calls the expected functions with the expected arguments."""

    type: Literal["tool_calls"]
    """The kind of grader."""
    measure: Literal["calls", "names"] = "calls"
    """`calls`: names and arguments; `names`: names alone. The other is reported beside."""
    ordered: bool = False
    """Whether the calls have to come in the expected order."""
