"""OpenAI's `text_similarity`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from luthier.errors import EvaluateError
from luthier.evaluate.graders.metrics import METRICS
from luthier.evaluate.graders.metrics.rouge import rouge_words
from luthier.evaluate.graders.reward import Case, OpenAIGrader, Reward
from luthier.recipe_graders import Template, TextSimilarityDefinition

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Turns texts into vectors of one length."""


class TextSimilarityGrader(OpenAIGrader):
    """How like two texts are, from 0 to 1.

    Args:
        definition: which texts, and which measure.
        embed: what `cosine` compares; OpenAI takes text-embedding-3-large.

    Raises:
        EvaluateError: code "no_embeddings" for `cosine` without them.
    """

    def __init__(self, definition: TextSimilarityDefinition, embed: Embed | None = None) -> None:
        super().__init__(definition.name or definition.type, pass_threshold=definition.pass_threshold)
        self.metric = definition.evaluation_metric
        self._input = Template(definition.input)
        self._reference = Template(definition.reference)
        if self.metric == "cosine" and embed is None:
            raise EvaluateError(
                "The measure cosine compares embeddings, and there is no model for them.",
                code="no_embeddings",
                param="evaluate.grader",
                hint="Take fuzzy_match, meteor or rouge_l, or pass embed= to open_grader.",
            )
        self._embed = embed

    def _reward(self, case: Case) -> Reward:
        given, reference = self._input.render(case.namespaces), self._reference.render(case.namespaces)
        if not reference.strip():
            return Reward(None, "the reference is empty, and nothing is like an empty text")
        if self.metric.startswith("rouge") and not rouge_words(reference):
            return Reward(None, "ROUGE knows the letters a to z and digits, and the reference has none of them")
        value = self._cosine(given, reference) if self.metric == "cosine" else METRICS[self.metric](given, reference)
        if value is None:
            return Reward(None, "there is no direction to an embedding of zeros")
        return Reward(value, None if value >= 1 else f"{self.metric} {value:.3f}")

    def _cosine(self, given: str, reference: str) -> float | None:
        assert self._embed is not None
        one, other = self._embed([given, reference])
        lengths = math.hypot(*one) * math.hypot(*other)
        product = sum(a * b for a, b in zip(one, other, strict=True))
        # OpenAI's embeddings of texts hardly ever point apart; a score is not negative
        return max(0.0, min(1.0, product / lengths)) if lengths else None
