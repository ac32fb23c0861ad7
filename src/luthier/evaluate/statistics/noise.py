"""Several sampled answers a row: how much of the uncertainty is theirs, and how much is the rows'."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier.evaluate.statistics.levels import Floats


@dataclass(frozen=True, slots=True)
class Noise:
    """The standard error of a difference of row means, in its two parts.

    Attributes:
        error: of the mean difference; the square of it is the sum of the squares of the next two.
        sampling_error: what answers that differ from one try to the next contribute; 0 for a side that answered once,
            whose sampling cannot be told from the rows.
        row_error: what is left: no number of answers a row brings the error below this.
        base_samples, tuned_samples: answers a row, on average.
    """

    error: float
    sampling_error: float
    row_error: float
    base_samples: float
    tuned_samples: float

    def error_with(self, factor: float) -> float:
        """Returns the standard error that so many times the answers a row would leave."""
        return math.sqrt(self.row_error**2 + self.sampling_error**2 / factor)


def split_noise(base: Sequence[Sequence[float]], tuned: Sequence[Sequence[float]], error: float) -> Noise:
    """Returns the parts of the standard error of a difference of row means.

    With variances s_A^2 and s_B^2 of single answers about their row's mean, and w^2 of the rows' true differences,
    n error^2 = w^2 + s_A^2 / k_A + s_B^2 / k_B. The sampling variances are measured within rows; the rest is the rows'.
    Where chance makes the rest negative it is 0. With clusters, `error` is theirs, and the rest is the clusters' too.

    Args:
        base, tuned: the scores of each row's answers, at least one a row.
        error: the standard error of the mean difference.

    Source: Miller 2024 (arXiv 2411.00640), section 3, for the law of total variance.
    """
    sampling = (_sampling_variance(base) + _sampling_variance(tuned)) / len(base)
    sampling = min(sampling, error**2)
    return Noise(
        error=error,
        sampling_error=math.sqrt(sampling),
        row_error=math.sqrt(max(0.0, error**2 - sampling)),
        base_samples=_mean_size(base),
        tuned_samples=_mean_size(tuned),
    )


def _sampling_variance(rows: Sequence[Sequence[float]]) -> float:
    """Returns the variance of a row's mean around what endless answers would give, on average over rows."""
    counts = np.array([len(row) for row in rows], dtype=np.float64)
    squares: Floats = np.array([np.sum((np.asarray(row) - np.mean(row)) ** 2) for row in rows], dtype=np.float64)
    free = counts.sum() - len(rows)
    if free == 0:
        return 0.0
    pooled = squares.sum() / free
    # a row answered once says nothing of its own spread, and takes that of all others
    own = np.where(counts > 1, squares / np.maximum(counts - 1, 1), pooled)
    return float(np.mean(own / counts))


def _mean_size(rows: Sequence[Sequence[float]]) -> float:
    return float(np.mean([len(row) for row in rows]))
