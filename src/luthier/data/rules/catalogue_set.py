"""The rules about all rows together, and their remedies."""

from __future__ import annotations

from luthier.data.findings import Rule

DUPLICATE = Rule(
    "duplicate",
    "warning",
    "set",
    "rows stand in the data more than once, word for word",
    "Keep one of each, unless the repetition is meant: a row that stands twice weighs twice.",
    fix="keeps the first of each",
)
NEAR_DUPLICATE = Rule(
    "near-duplicate",
    "warning",
    "set",
    "rows are nearly the same as others: a typing error, a few characters, a little rewording apart",
    "Keep one of each. They add weight but nothing to learn, and leak when one of them is held out for the test.",
    fix="keeps the first of each (only when asked for by name)",
)
CONFLICTING_ANSWERS = Rule(
    "conflicting-answers",
    "warning",
    "set",
    "the same prompt has different answers",
    "Decide on one answer each. If several are right, know that no test by exact answer can go past their agreement.",
)
SYSTEM_PROMPT_VARIANTS = Rule(
    "system-prompt-differs",
    "warning",
    "set",
    "the system prompt is nearly the same in all rows, but not quite",
    "Write one of them everywhere, and give exactly that one when the model is used.",
    fix="writes the commoner one in its place",
)
SYSTEM_PROMPT_MISSING = Rule(
    "system-prompt-differs",
    "warning",
    "set",
    "some rows have a system prompt and some have none",
    "Give every row the system prompt that the model will be used with, or none at all.",
)
SYSTEM_PROMPT_SEVERAL = Rule(
    "system-prompt-differs",
    "info",
    "set",
    "the rows have several system prompts",
    "Nothing needs to be done where they are meant; give the model the one that belongs to the task when it is used.",
)
ANSWER_FORMAT = Rule(
    "answer-format-differs",
    "warning",
    "set",
    "most answers have one form, and these have another",
    "Bring them into the form of the others: one malformed example can bias the whole model.",
)
LABEL_IMBALANCE = Rule(
    "label-imbalance",
    "warning",
    "set",
    "some labels have very few examples beside the others",
    "Add examples of the rare labels, or take some of the common ones away: the model will guess the common ones.",
)
MISSING_EDGE_CASES = Rule(
    "missing-edge-cases",
    "info",
    "set",
    "cases that will come in use are not among the examples",
    "Add a few examples of each, with the answer you want: a model shown only the happy path invents the rest.",
)
TOO_LONG = Rule(
    "too-long",
    "error",
    "set",
    "the row is longer than the model's context, in its own tokens",
    "Shorten or split the row, or choose a model with a longer context. Rows are never cut here; other services cut the end, "
    "which is the answer.",
)
TOO_LONG_UNCOUNTED = Rule(
    "too-long",
    "info",
    "set",
    "the rows were not counted in the model's tokens",
    "`luthier models pull` fetches the model's tokenizer.",
)

RULES = (
    DUPLICATE,
    NEAR_DUPLICATE,
    CONFLICTING_ANSWERS,
    SYSTEM_PROMPT_VARIANTS,
    SYSTEM_PROMPT_MISSING,
    SYSTEM_PROMPT_SEVERAL,
    ANSWER_FORMAT,
    LABEL_IMBALANCE,
    MISSING_EDGE_CASES,
    TOO_LONG,
    TOO_LONG_UNCOUNTED,
)
