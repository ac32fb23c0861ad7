"""The rules about the text of messages, and their remedies."""

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
STOP_TOKEN_ONLY = Rule(
    "stop-token-leftover",
    "warning",
    "text",
    "a message is nothing but a separator or a special token written out as text",
    "Write what belongs there, or delete the row.",
)
ROLE_PREFIX_LEFTOVER = Rule(
    "role-prefix-leftover",
    "warning",
    "text",
    "a message begins with a role's name, left over from a transcript or an older format",
    "Delete it: the chat template writes who speaks.",
    fix="deletes it",
)
ROLE_PREFIX_ONLY = Rule(
    "role-prefix-leftover",
    "warning",
    "text",
    "a message is nothing but a role's name",
    "Write what belongs there, or delete the row.",
)
UNFILLED_PLACEHOLDER = Rule(
    "unfilled-placeholder",
    "warning",
    "text",
    "an answer to be learned holds a placeholder that nobody filled in",
    "Fill it in, or the model will say it to your users.",
)
REFUSAL_ANSWER = Rule(
    "refusal-answer",
    "warning",
    "text",
    "an answer to be learned refuses, or speaks as an AI model, as chatbots do whose output was copied",
    "Replace it with the answer you want, or keep it where refusing is right.",
)
TRUNCATED_ANSWER = Rule(
    "truncated-answer",
    "warning",
    "text",
    "an answer to be learned stops in the middle",
    "Write its end: a model that learns from it stops in the middle, too.",
)
REPETITION = Rule(
    "repetition",
    "warning",
    "text",
    "a message repeats itself many times over",
    "Delete the repetition: a model that learns it gets into loops.",
)
LANGUAGE_MIX = Rule(
    "language-mix",
    "warning",
    "text",
    "the answer is in another language than most answers, and than its own prompt",
    "Write the answer in the language it is asked for, unless the mix is meant.",
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

RULES = (
    OUTER_WHITESPACE,
    STOP_TOKEN_LEFTOVER,
    STOP_TOKEN_ONLY,
    ROLE_PREFIX_LEFTOVER,
    ROLE_PREFIX_ONLY,
    UNFILLED_PLACEHOLDER,
    REFUSAL_ANSWER,
    TRUNCATED_ANSWER,
    REPETITION,
    LANGUAGE_MIX,
    UNIFORM_AFFIX,
    CONSTANT_ANSWER,
)
