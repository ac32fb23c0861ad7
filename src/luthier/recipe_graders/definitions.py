"""All definitions of graders: names, OpenAI's six kinds, and Luthier's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from luthier.recipe_graders.base import Definition
from luthier.recipe_graders.formula import Formula
from luthier.recipe_graders.openai_kinds import (
    LabelModelDefinition,
    PythonDefinition,
    ScoreModelDefinition,
    StringCheckDefinition,
    TextSimilarityDefinition,
)
from luthier.recipe_graders.own_kinds import (
    ContainsDefinition,
    ExactDefinition,
    JsonDefinition,
    LabelDefinition,
    PairwiseDefinition,
    RegexDefinition,
    SqlDefinition,
    ToolCallsDefinition,
)

GraderName = Literal["auto", "exact", "json", "contains", "label", "regex", "sql", "tool_calls", "pairwise"]
GRADER_NAMES: tuple[str, ...] = get_args(GraderName)

SingleDefinition = Annotated[
    StringCheckDefinition
    | TextSimilarityDefinition
    | PythonDefinition
    | ScoreModelDefinition
    | LabelModelDefinition
    | ExactDefinition
    | ContainsDefinition
    | RegexDefinition
    | LabelDefinition
    | JsonDefinition
    | SqlDefinition
    | ToolCallsDefinition,
    Field(discriminator="type"),
]


class MultiDefinition(Definition):
    """OpenAI's `multi`: a formula over the scores of other graders."""

    type: Literal["multi"]
    """The kind of grader."""
    graders: Annotated[dict[str, SingleDefinition], Field(min_length=1)]
    """The graders by name. A list, and a single one, are taken as well: each goes by its name where the formula can use
    it, else by its type and `_score`."""
    calculate_output: str
    """The formula: + - * / ^, min, max, abs, floor, ceil, exp, sqrt, log, over the graders' names."""

    @field_validator("graders", mode="before")
    @classmethod
    def _by_name(cls, graders: Any) -> Any:
        if isinstance(graders, dict) and isinstance(graders.get("type"), str):
            graders = [graders]
        if not isinstance(graders, list):
            return graders
        named: dict[str, Any] = {}
        for grader in graders:
            given = grader if isinstance(grader, dict) else {}
            name = str(given.get("name") or "")
            key = name if name.isidentifier() else f"{given.get('type')}_score"
            if key in named:
                raise ValueError(f"two graders go by {key!r}; give them names of their own")
            named[key] = grader
        return named

    @model_validator(mode="after")
    def _formula_is_sound(self) -> MultiDefinition:
        Formula(self.calculate_output, self.graders)
        return self


GraderDefinition = Annotated[SingleDefinition | PairwiseDefinition | MultiDefinition, Field(discriminator="type")]


def needs_judge(grader: Any) -> str:
    """Returns the kind of grader that asks a model, by name or definition, in this one; empty where none does."""
    if isinstance(grader, MultiDefinition):
        return next(filter(None, map(needs_judge, grader.graders.values())), "")
    asks = isinstance(grader, LabelModelDefinition | ScoreModelDefinition | PairwiseDefinition)
    return grader.type if asks else "pairwise" if grader == "pairwise" else ""


def needs_database(grader: Any) -> bool:
    """Whether a grader, by name or definition, runs queries and names no database itself."""
    if isinstance(grader, MultiDefinition):
        return any(map(needs_database, grader.graders.values()))
    return grader == "sql" or (isinstance(grader, SqlDefinition) and grader.database is None)
