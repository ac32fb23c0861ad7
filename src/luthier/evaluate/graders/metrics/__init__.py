"""How like two texts are: the measures of OpenAI's `text_similarity`, each from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from luthier.evaluate.graders.metrics.bleu import bleu, gleu
from luthier.evaluate.graders.metrics.fuzzy import fuzzy_match
from luthier.evaluate.graders.metrics.meteor import meteor
from luthier.evaluate.graders.metrics.rouge import rouge_l, rouge_n

METRICS: Mapping[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    "rouge_1": rouge_n(1),
    "rouge_2": rouge_n(2),
    "rouge_3": rouge_n(3),
    "rouge_4": rouge_n(4),
    "rouge_5": rouge_n(5),
    "rouge_l": rouge_l,
}
"""Each takes the text that is graded, then the reference. `cosine` is not among them: it needs embeddings."""

__all__ = ["METRICS", "bleu", "fuzzy_match", "gleu", "meteor", "rouge_l", "rouge_n"]
