"""How alike two texts are by the definition: slow, and without any hash."""

from __future__ import annotations


def shingles(text: str) -> frozenset[str]:
    """The character 5-grams; a text of five characters or fewer is one."""
    return frozenset(text[start : start + 5] for start in range(max(1, len(text) - 4))) if text else frozenset()


def jaccard(one: str, other: str) -> float:
    """The share of the pieces of both that both have."""
    left, right = shingles(one), shingles(other)
    return len(left & right) / len(left | right) if left | right else 0.0
