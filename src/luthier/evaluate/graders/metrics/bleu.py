"""BLEU and GLEU of one text against one reference."""

from __future__ import annotations

import math

from luthier.evaluate.graders.metrics.words import num_shared, runs_of, words_of

_ORDERS = range(1, 5)


def bleu(text: str, reference: str) -> float:
    """Returns the BLEU of one text: the geometric mean of its precisions on runs of 1 to 4 words, shortness punished.

    A precision of 0 counts as half, a quarter, … of one run, and runs longer than the text do not count.

    Source: Papineni et al. 2002; smoothing 3 of Chen & Cherry 2014; sacrebleu's `sentence_bleu` with its defaults.
    """
    words, expected = words_of(text), words_of(reference)
    logs, halved = [], 1.0
    for order in _ORDERS:
        runs = runs_of(words, order)
        if not runs:
            break
        shared = num_shared(runs, runs_of(expected, order))
        if not shared:
            if order == 1:
                return 0.0
            halved *= 2
        logs.append(math.log((shared or 1 / halved) / runs.total()))
    if not logs:
        return 0.0
    brevity = min(0.0, 1 - len(expected) / len(words))
    return math.exp(brevity + sum(logs) / len(logs))


def gleu(text: str, reference: str) -> float:
    """Returns the GLEU of one text: of its runs of 1 to 4 words and the reference's, the share that both have.

    It is the smaller one of precision and recall.

    Source: Wu et al. 2016 (arXiv 1609.08144), section 4; nltk's `sentence_gleu`.
    """
    words, expected = words_of(text), words_of(reference)
    shared = sum(num_shared(runs_of(words, order), runs_of(expected, order)) for order in _ORDERS)
    most = max(sum(runs_of(side, order).total() for order in _ORDERS) for side in (words, expected))
    return shared / most if most else 0.0
