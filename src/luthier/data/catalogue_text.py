"""What the rules about the text and about the whole set say, and their remedies."""

from __future__ import annotations

from luthier.data.findings import Rule

OUTER_WHITESPACE = Rule(
    "outer-whitespace",
    "warning",
    "text",
    "an answer to be learned begins or ends with whitespace, and the model will learn to write it",
    "Strip the answers. A leading space was right for OpenAI's old prompt/completion models only.",
    fix="strips the answers",
)
STOP_TOKEN_LEFTOVER = Rule(
    "stop-token-leftover",
    "warning",
    "text",
    "a message holds a separator or a special token written out as text",
    "Delete it: the chat template marks where a message ends.",
    fix="deletes it",
)
UNFILLED_PLACEHOLDER = Rule(
    "unfilled-placeholder",
    "warning",
    "text",
    "an answer to be learned holds a placeholder that nobody filled in",
    "Fill it in, or the model will say it to your users.",
)
MOJIBAKE = Rule(
    "mojibake",
    "warning",
    "text",
    "text was decoded with the wrong code page at some time",
    "Export the texts again as UTF-8. Characters that became � are lost and must come from the source.",
    fix="repairs what was decoded twice; � stays",
)
UNIFORM_AFFIX = Rule(
    "uniform-affix",
    "warning",
    "text",
    "every answer begins or ends with the same text, and the model will learn to write it always",
    "Delete it, unless you want it in every answer.",
)
CONSTANT_ANSWER = Rule(
    "constant-answer",
    "warning",
    "text",
    "nearly all answers are the same, so there is next to nothing to learn but this one answer",
    "Check the program that fills in the answers; add examples with other answers.",
)
DUPLICATE = Rule(
    "duplicate",
    "warning",
    "set",
    "rows stand in the data more than once, word for word",
    "Keep one of each, unless the repetition is meant: a row that stands twice weighs twice.",
    fix="keeps the first of each",
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
)
SYSTEM_PROMPT_MISSING = Rule(
    "system-prompt-differs",
    "warning",
    "set",
    "some rows have a system prompt and some have none",
    "Give every row the system prompt that the model will be used with, or none at all.",
)
MIXED_FORMATS = Rule(
    "mixed-formats",
    "warning",
    "file",
    "the rows have different shapes",
    "Bring all rows into one shape; the rarer shape is often left from an earlier export.",
)
TOO_FEW = Rule(
    "too-few-examples",
    "error",
    "file",
    "there are too few examples",
    "Add examples: results begin to improve at 50 to 100 good ones.",
)
FEW = Rule(
    "too-few-examples",
    "info",
    "file",
    "the examples are few",
    "Add examples, or give a test file of their own with `data.test`: results begin to improve at 50 to 100 good ones.",
)

RULES = (
    OUTER_WHITESPACE,
    STOP_TOKEN_LEFTOVER,
    UNFILLED_PLACEHOLDER,
    MOJIBAKE,
    UNIFORM_AFFIX,
    CONSTANT_ANSWER,
    DUPLICATE,
    CONFLICTING_ANSWERS,
    SYSTEM_PROMPT_VARIANTS,
    SYSTEM_PROMPT_MISSING,
    MIXED_FORMATS,
    TOO_FEW,
    FEW,
)
