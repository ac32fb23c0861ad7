"""The levels that every test, interval and power is held to, and the types that they share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ALPHA = 0.05
POWER = 0.8
MAX_ROWS = 100_000
"""No number of rows above this is looked for: nobody labels so many to compare two models."""

NUM_DRAWS = 10_000
"""Sign flips and bootstrap resamples."""

ROUNDING = 1e-12
"""Values this close differ by rounding alone."""

_CHUNK = 4_000_000
"""Random numbers held at once."""


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


def normal_quantile(confidence: float) -> float:
    """Returns how many standard errors a two-sided normal interval reaches to each side."""
    return float(ndtri((1 + confidence) / 2))


def chunks(num: int, width: int) -> Iterator[int]:
    """Yields sizes that add up to num, each at most so large that a few million numbers are held at once."""
    size = max(1, _CHUNK // width)
    for start in range(0, num, size):
        yield min(size, num - start)
