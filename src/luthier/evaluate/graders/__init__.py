"""Graders: how an answer is scored against the expected one, and which grader suits which answers.

A grader scores one answer at a time. What can only be said of all rows together (macro-F1, micro-averaged fields) is
the `summarise` of those graders that have one. A wrong answer scores 0 with a reason; a row that cannot be judged
scores None with a reason.
"""

from __future__ import annotations

from luthier.evaluate.graders.choosing import infer_grader
from luthier.evaluate.graders.json_fields import FieldScore, JsonGrader, field_scores
from luthier.evaluate.graders.json_value import parse_json
from luthier.evaluate.graders.label import ConfusionMatrix, LabelGrader, confusion_matrix, label_of
from luthier.evaluate.graders.opening import GRADERS, choose_grader, find_grader, open_grader
from luthier.evaluate.graders.protocol import (
    NO_ITEM,
    Grader,
    Item,
    Summarising,
    grade_all,
    grade_answers,
    summarise,
    unscored_reasons,
)
from luthier.evaluate.graders.reward import Case, Fault, OpenAIGrader, Reward
from luthier.evaluate.graders.sql import SqlGrader
from luthier.evaluate.graders.text import ContainsGrader, ExactGrader, RegexGrader
from luthier.evaluate.graders.tool_calls import ToolCallsGrader

__all__ = [
    "GRADERS",
    "NO_ITEM",
    "Case",
    "ConfusionMatrix",
    "ContainsGrader",
    "ExactGrader",
    "Fault",
    "FieldScore",
    "Grader",
    "Item",
    "JsonGrader",
    "LabelGrader",
    "OpenAIGrader",
    "RegexGrader",
    "Reward",
    "SqlGrader",
    "Summarising",
    "ToolCallsGrader",
    "choose_grader",
    "confusion_matrix",
    "field_scores",
    "find_grader",
    "grade_all",
    "grade_answers",
    "infer_grader",
    "label_of",
    "open_grader",
    "parse_json",
    "summarise",
    "unscored_reasons",
]
