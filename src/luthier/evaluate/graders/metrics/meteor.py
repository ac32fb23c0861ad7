"""METEOR of one text against one reference, without synonyms."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping

from luthier.evaluate.graders.metrics.porter import stem
from luthier.evaluate.graders.metrics.words import words_of

_ALPHA, _BETA, _GAMMA = 0.9, 3.0, 0.5


def meteor(text: str, reference: str) -> float:
    """Returns METEOR: the mean of precision and recall, recall counting nine times, less up to half for other order.

    Words match where they are equal in lower case, or else where their stems are. METEOR's third way, WordNet's synonyms,
    is left out: its data is not on this machine. So the score is never above that of nltk with WordNet, and equal to it
    where no synonyms occur.

    Source: Lavie & Agarwal 2007; nltk's `meteor_score` and its parameters.
    """
    words, expected = (dict(enumerate(map(str.lower, words_of(side)))) for side in (text, reference))
    matched = _pair(words, expected)
    left, expected_left = (
        {place: stem(word) for place, word in side.items() if place not in taken}
        for side, taken in ((words, matched.keys()), (expected, set(matched.values())))
    )
    matched |= _pair(left, expected_left)
    if not matched:
        return 0.0
    precision, recall = len(matched) / len(words), len(matched) / len(expected)
    mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    places = sorted(matched)
    joined = sum(
        after == before + 1 and matched[after] == matched[before] + 1 for before, after in itertools.pairwise(places)
    )
    penalty: float = _GAMMA * ((len(places) - joined) / len(places)) ** _BETA
    return mean * (1 - penalty)


def _pair(words: Mapping[int, str], expected: Mapping[int, str]) -> dict[int, int]:
    """Returns which word of the reference each word takes, from the end: the last equal one that is free."""
    free: dict[str, list[int]] = defaultdict(list)
    for place, word in expected.items():
        free[word].append(place)
    return {place: free[word].pop() for place, word in reversed(list(words.items())) if free[word]}
