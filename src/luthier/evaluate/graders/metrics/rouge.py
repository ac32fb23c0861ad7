"""ROUGE of one text against one reference."""

from __future__ import annotations

import re
from collections.abc import Callable

from rapidfuzz.distance import LCSseq

from luthier.evaluate.graders.metrics.words import num_shared, runs_of

_WORD = re.compile(r"[a-z0-9]+")


def rouge_words(text: str) -> list[str]:
    """Returns the words of a text as ROUGE takes them: letters a to z and digits, in lower case; nothing else counts."""
    return _WORD.findall(text.lower())


def rouge_n(length: int) -> Callable[[str, str], float]:
    """Returns ROUGE-N, a function of a text and a reference: the F1 of their runs of so many words.

    Source: Lin 2004; rouge-score's `RougeScorer` without stemming, `fmeasure`.
    """

    def rouge(text: str, reference: str) -> float:
        runs, expected = runs_of(rouge_words(text), length), runs_of(rouge_words(reference), length)
        both = runs.total() + expected.total()
        return 2 * num_shared(runs, expected) / both if both else 0.0

    return rouge


def rouge_l(text: str, reference: str) -> float:
    """Returns ROUGE-L: the F1 of the longest sequence of words, gaps allowed, that both texts have.

    Source: Lin 2004; rouge-score's `rougeL` without stemming, `fmeasure`.
    """
    words, expected = rouge_words(text), rouge_words(reference)
    both = len(words) + len(expected)
    return 2 * LCSseq.similarity(words, expected) / both if both else 0.0
