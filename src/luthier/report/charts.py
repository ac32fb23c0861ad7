"""The geometry of the report's bars and intervals: percentages of the drawing area, which the template turns into SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.report.schema import DifferenceInterval, ModelScore


@dataclass(frozen=True, slots=True)
class Bar:
    """A score with its interval, in percent of the axis from 0 to 1."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class DifferenceAxis:
    """The difference on an axis symmetric around zero; positions in percent of the width."""

    reach: float
    """The axis goes from minus this to plus this, in score points."""
    value: float
    low: float
    high: float


def bar(score: ModelScore) -> Bar | None:
    """Returns the bar of a score, or None where there is none."""
    if score.score is None:
        return None
    low, high = (None if end is None else _clamped(end * 100) for end in (score.low, score.high))
    return Bar(_clamped(score.score * 100), low, high)


def reach_of(differences: Sequence[DifferenceInterval]) -> float:
    """Returns how far an axis with zero in the middle goes to hold all of them."""
    ends = (end for each in differences for end in (each.value, each.low, each.high))
    farthest = max((abs(end) for end in ends), default=0.0)
    return next((reach for reach in (0.05, 0.1, 0.2, 0.5, 1.0) if farthest <= reach), 1.0)


def difference_axis(difference: DifferenceInterval, reach: float | None = None) -> DifferenceAxis:
    """Returns the place of a difference and its interval on an axis with zero in the middle.

    Args:
        difference: to draw.
        reach: of the axis, where others are drawn on it, too.
    """
    reach = reach_of([difference]) if reach is None else reach
    value, low, high = (_clamped(50 + 50 * end / reach) for end in (difference.value, difference.low, difference.high))
    return DifferenceAxis(reach, value, low, high)


def _clamped(percent: float) -> float:
    return round(min(100.0, max(0.0, percent)), 3)
