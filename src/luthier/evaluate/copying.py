"""Training answers said word for word where something else was asked: the sign of learning by heart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from luthier.evaluate.samples import Sample

FEWEST_WORDS = 12
"""Answers of fewer words can hardly be worded in another way, so that repeating one tells nothing. The choice is ours."""
COPIED = 0.9
"""The share of an answer's words that have to be given, in one run of words, for it to be copied. The choice is ours."""

_WRAPPED = "Here is what I would like to know. {question} Thank you in advance."
_WORDS = {
    "what": "which thing",
    "how": "in which way",
    "why": "for which reason",
    "please": "kindly",
    "can you": "are you able to",
    "could you": "would you be able to",
    "tell me": "let me know",
    "write": "draft",
    "explain": "describe",
    "give": "offer",
    "make": "create",
    "need": "require",
    "want": "would like",
    "help": "assist",
    "find": "look up",
    "show": "display",
}
_ANY_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)


def in_other_words(sample: Sample) -> Sample:
    """Returns the same question in other words, under an id of its own.

    Common words of questions are exchanged for others and a sentence is put around them: enough that the text is not the one
    trained on, not so much that it asks for something else.
    """
    last = max((i for i, message in enumerate(sample.prompt) if message["role"] == "user"), default=None)
    if last is None or not isinstance(sample.prompt[last].get("content"), str):
        return replace(sample, id=f"{sample.id}-reworded")
    prompt = list(sample.prompt)
    prompt[last] = {**prompt[last], "content": _WRAPPED.format(question=_exchanged(prompt[last]["content"]))}
    return replace(sample, id=f"{sample.id}-reworded", prompt=prompt)


def is_worded(target: str) -> bool:
    """Whether an answer is long enough to be worded in more than one way."""
    return len(target.split()) >= FEWEST_WORDS


def is_copied(target: str, answer: str) -> bool:
    """Whether an answer repeats the target, or nearly all of it in one run of words."""
    expected, given = target.split(), answer.split()
    return _longest_run(expected, given) >= COPIED * len(expected)


def copied_share(targets: Sequence[str], answers: Sequence[str]) -> float:
    """Returns the share of targets that are copied; there is at least one."""
    return sum(map(is_copied, targets, answers)) / len(targets)


def _exchanged(text: str) -> str:
    def other(found: re.Match[str]) -> str:
        word = _WORDS[found.group().lower()]
        return word.capitalize() if found.group()[0].isupper() else word

    return _ANY_WORD.sub(other, text)


def _longest_run(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns the length of the longest run of words that stands in both."""
    return SequenceMatcher(None, one, other, autojunk=False).find_longest_match().size
