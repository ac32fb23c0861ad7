"""Makes a grader of a name or a definition."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.errors import EvaluateError
from luthier.evaluate.graders.choosing import infer_grader
from luthier.evaluate.graders.json_fields import JsonGrader
from luthier.evaluate.graders.label import LabelGrader
from luthier.evaluate.graders.model_graders import LabelModelGrader, ScoreModelGrader
from luthier.evaluate.graders.multi import MultiGrader
from luthier.evaluate.graders.pairwise_grader import PairwiseGrader
from luthier.evaluate.graders.protocol import Grader
from luthier.evaluate.graders.python_grader import PythonGrader
from luthier.evaluate.graders.sql import SqlGrader
from luthier.evaluate.graders.string_check import StringCheckGrader
from luthier.evaluate.graders.text import ContainsGrader, ExactGrader, RegexGrader
from luthier.evaluate.graders.text_similarity import Embed, TextSimilarityGrader
from luthier.evaluate.graders.tool_calls import ToolCallsGrader
from luthier.evaluate.judge import Judge
from luthier.evaluate.sandbox.process import Limits
from luthier.recipe import EvaluateRecipe
from luthier.recipe_graders import (
    ContainsDefinition,
    ExactDefinition,
    GraderDefinition,
    JsonDefinition,
    LabelDefinition,
    LabelModelDefinition,
    MultiDefinition,
    PairwiseDefinition,
    PythonDefinition,
    RegexDefinition,
    ScoreModelDefinition,
    SqlDefinition,
    StringCheckDefinition,
    TextSimilarityDefinition,
    read_definition,
)

GRADERS: Mapping[str, Grader] = {
    grader.name: grader
    for grader in (ExactGrader(), JsonGrader(), ContainsGrader(), LabelGrader(), RegexGrader(), ToolCallsGrader())
}
"""The graders that need nothing but their name."""


def find_grader(name: str) -> Grader:
    """Returns a grader by name.

    Raises:
        EvaluateError: code "unknown_grader", with the nearest name; "no_database" for `sql`, which needs more than its
            name.
    """
    if name in GRADERS:
        return GRADERS[name]
    if name == SqlGrader.name:
        return SqlGrader()
    near = difflib.get_close_matches(name.strip().lower(), GRADERS, n=1, cutoff=0.5)
    raise EvaluateError(
        f"There is no grader named {name!r}.",
        code="unknown_grader",
        param="evaluate.grader",
        hint=(f"Did you mean {near[0]!r}? " if near else "")
        + f"Graders: {', '.join([*GRADERS, SqlGrader.name, PairwiseGrader.name])}.",
    )


def open_grader(
    grader: str | GraderDefinition | Mapping[str, Any],
    *,
    database: str | None = None,
    judge: Judge | None = None,
    embed: Embed | None = None,
    limits: Limits | None = None,
) -> Grader:
    """Returns a grader by name or definition.

    Args:
        grader: a name; a definition as the recipe holds it; OpenAI's JSON as Python holds it.
        database: the SQLite file of `sql` graders that name none.
        judge: whom `label_model`, `score_model` and `pairwise` ask.
        embed: what `cosine` compares.
        limits: of `python` graders.

    Raises:
        EvaluateError: code "unknown_grader", "bad_grader" for a definition that is wrong, "no_database", "no_judge",
            "no_embeddings", "bad_json_schema".
    """
    if grader == PairwiseGrader.name:
        grader = PairwiseDefinition(type="pairwise")
    if isinstance(grader, str):
        return SqlGrader(database=database) if grader == SqlGrader.name else find_grader(grader)
    if isinstance(grader, Mapping):
        try:
            grader = read_definition(grader)
        except ValueError as error:
            raise EvaluateError(
                f"The grader is not defined as it should be: {error}.",
                code="bad_grader",
                param="evaluate.grader",
                hint="docs/graders.md shows each kind.",
            ) from None
    match grader:
        case MultiDefinition():
            parts = {
                name: open_grader(part, database=database, judge=judge, embed=embed, limits=limits)
                for name, part in grader.graders.items()
            }
            return MultiGrader(grader, parts)
        case StringCheckDefinition():
            return StringCheckGrader(grader)
        case TextSimilarityDefinition():
            return TextSimilarityGrader(grader, embed)
        case LabelModelDefinition():
            return LabelModelGrader(grader, judge)
        case ScoreModelDefinition():
            return ScoreModelGrader(grader, judge)
        case PairwiseDefinition():
            return PairwiseGrader(grader, judge)
        case PythonDefinition():
            return PythonGrader(grader, limits)
    return _own(grader, database)


def choose_grader(
    recipe: EvaluateRecipe,
    train_targets: Sequence[str],
    *,
    judge: Judge | None = None,
    embed: Embed | None = None,
) -> tuple[Grader, str]:
    """Returns the grader that a recipe asks for, or else the one that suits the training answers, and why it was taken.

    Args:
        recipe: its `grader` and `database`.
        train_targets: the training answers, as the model has to write them.
        judge: whom `label_model`, `score_model` and `pairwise` ask.
        embed: what `cosine` compares.

    Raises:
        EvaluateError: as `open_grader`.
    """
    if recipe.grader != "auto":
        return open_grader(recipe.grader, database=recipe.database, judge=judge, embed=embed), "as given"
    name, reason = infer_grader(train_targets, database=recipe.database)
    return open_grader(name, database=recipe.database), reason


def _own(definition: Any, database: str | None) -> Grader:
    found: Grader
    match definition:
        case ExactDefinition():
            found = ExactGrader()
        case ContainsDefinition():
            found = ContainsGrader(definition)
        case RegexDefinition():
            found = RegexGrader(definition)
        case LabelDefinition():
            found = LabelGrader()
        case JsonDefinition():
            found = JsonGrader(definition)
        case SqlDefinition():
            found = SqlGrader(definition, database)
        case _:
            found = ToolCallsGrader(definition)
    if definition.name:
        found.name = definition.name
    return found
