"""Several tests at once: p-values adjusted so that all of them together keep the level."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns adjusted p-values, in the order given: below alpha only where the family keeps its level of alpha.

    The chance of even one false claim among all tests is at most alpha, however they depend on each other.

    Source: Holm 1979 (Scandinavian Journal of Statistics 6:65).
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
