"""What a recipe may say about graders: names, OpenAI's six kinds as JSON, and Luthier's own.

Everything that can be wrong in a definition is found when the recipe is loaded, before anything is trained. How a
definition scores answers is in `luthier.evaluate.graders`.
"""

from __future__ import annotations

from luthier.recipe_graders.definitions import (
    GRADER_NAMES,
    GraderDefinition,
    GraderName,
    MultiDefinition,
    SingleDefinition,
    needs_database,
    needs_judge,
)
from luthier.recipe_graders.formula import Formula
from luthier.recipe_graders.openai_kinds import (
    JudgeMessage,
    LabelModelDefinition,
    PythonDefinition,
    SamplingParameters,
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
from luthier.recipe_graders.reading import read_definition, read_grader
from luthier.recipe_graders.template import MissingVariable, Template

__all__ = [
    "GRADER_NAMES",
    "ContainsDefinition",
    "ExactDefinition",
    "Formula",
    "GraderDefinition",
    "GraderName",
    "JsonDefinition",
    "JudgeMessage",
    "LabelDefinition",
    "LabelModelDefinition",
    "MissingVariable",
    "MultiDefinition",
    "PairwiseDefinition",
    "PythonDefinition",
    "RegexDefinition",
    "SamplingParameters",
    "ScoreModelDefinition",
    "SingleDefinition",
    "SqlDefinition",
    "StringCheckDefinition",
    "Template",
    "TextSimilarityDefinition",
    "ToolCallsDefinition",
    "needs_database",
    "needs_judge",
    "read_definition",
    "read_grader",
]
