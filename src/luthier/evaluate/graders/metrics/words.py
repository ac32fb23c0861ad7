"""Texts taken apart into words, and words into runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

Run = tuple[str, ...]

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SPLITS = (
    (re.compile(r"([!-&(-+:-@\[-`{-~/])"), r" \1 "),  # ASCII punctuation but ' - , .
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def words_of(text: str) -> list[str]:
    """Returns the words and signs of a text as WMT's evaluations take them apart.

    Source: NIST's mteval-v13a, sacrebleu's tokenizer `13a`.
    """
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, sign in _ENTITIES:
        line = line.replace(entity, sign)
    line = f" {line} "
    for pattern, spaced in _SPLITS:
        line = pattern.sub(spaced, line)
    return line.split()


def runs_of(words: Sequence[str], length: int) -> Counter[Run]:
    """Returns how often each run of so many words stands in a text."""
    return Counter(tuple(words[start : start + length]) for start in range(len(words) - length + 1))


def num_shared(one: Counter[Run], other: Counter[Run]) -> int:
    """Returns how many runs two texts have in common, each as often as it stands in both."""
    return (one & other).total()
