"""Which texts are most like a question, by the words they share (BM25)."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np


class Index:
    """Texts that can be looked up by the words of a question.

    Words are runs of two or more letters or digits in lower case, none of them left out. Scores are Okapi BM25's in the
    variant of Lucene, with k1 = 1.5 and b = 0.75.

    Args:
        texts: at least one.

    Source: Robertson & Zaragoza 2009 (Foundations and Trends in Information Retrieval 3:333); the library bm25s, Lù 2024
    (arXiv 2407.03618).
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._size = len(texts)
        self._found = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        words = [_words(text) for text in texts]
        self._empty = not any(words)
        if not self._empty:
            self._found.index(words, show_progress=False)

    def nearest(self, question: str, count: int) -> list[int]:
        """Returns the numbers of the texts most like a question, the nearest first, and of equal ones the earlier.

        Args:
            question: any text; where it shares no word with any, the first texts are returned.
            count: how many, at most as many as there are.
        """
        words = _words(question)
        scores = np.zeros(self._size) if self._empty or not words else self._found.get_scores(words)
        order: list[int] = np.argsort(-scores, kind="stable")[:count].tolist()
        return order


def _words(text: str) -> list[str]:
    words: list[str] = bm25s.tokenize(text, stopwords=None, return_ids=False, show_progress=False)[0]
    return words
