"""Fuzzy matching of texts."""

from __future__ import annotations

from rapidfuzz import fuzz, utils


def fuzzy_match(text: str, reference: str) -> float:
    """Returns rapidfuzz's weighted ratio of two texts, case and punctuation aside.

    OpenAI says that `fuzzy_match` is rapidfuzz's and not which of its ratios; this is the one of its guide's example.

    Source: OpenAI's graders guide, "Python graders": `fuzz.WRatio(…, processor=utils.default_process) / 100`.
    """
    return fuzz.WRatio(text, reference, processor=utils.default_process) / 100
