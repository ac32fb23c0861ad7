"""Rows that share a source: how alike they are, what they are worth, and the standard error that respects them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from luthier.evaluate.statistics.levels import ROUNDING, Floats, Integers


class Spread(NamedTuple):
    """A standard error and the degrees of freedom of the t distribution that belongs to it."""

    error: float
    freedom: float


@dataclass(frozen=True, slots=True)
class Grouping:
    """What clusters make of a number of rows.

    Attributes:
        rows: all of them.
        clusters: sources they come from.
        weighted_size: rows in the cluster of a row, on average over rows: larger than the mean size where sizes differ.
        correlation: of two rows of one cluster, from 0 (as good as independent) to 1 (as good as one row).

    Source: the design effect of unequal clusters, Kish 1965, "Survey Sampling"; Kerry & Bland 2001 (Statistics in
    Medicine 20:377).
    """

    rows: int
    clusters: int
    weighted_size: float
    correlation: float

    @property
    def design_effect(self) -> float:
        """How many times as many rows are needed as of independent ones."""
        return 1 + (self.weighted_size - 1) * self.correlation

    @property
    def effective_rows(self) -> float:
        """Independent rows that would say as much."""
        return self.rows / self.design_effect

    def clusters_among(self, rows: float) -> float:
        """Returns how many clusters so many rows would come from, at the mean size seen here."""
        return rows * self.clusters / self.rows


def grouping_of(sizes: Sequence[int] | Integers, correlation: float) -> Grouping:
    """Returns what clusters of these sizes make of their rows."""
    counts: Integers = np.asarray(sizes, dtype=np.int64)
    rows = int(counts.sum())
    return Grouping(rows, len(counts), float(np.sum(counts**2)) / rows, correlation)


def cluster_sums(values: Floats, clusters: Integers) -> tuple[Floats, Floats]:
    """Returns each cluster's sum of values and its number of rows.

    Args:
        values: one a row.
        clusters: each row's cluster, numbered from 0 without gaps.
    """
    totals: Floats = np.bincount(clusters, weights=values).astype(np.float64)
    return totals, np.bincount(clusters).astype(np.float64)


def intraclass_correlation(values: Floats, clusters: Integers) -> float:
    """Returns how alike the rows of a cluster are, between 0 and 1.

    Values that do not vary, or one cluster alone, say nothing about it: then 1, the safe side.

    Source: analysis-of-variance estimator, Fisher 1925; for unequal sizes Donner 1986 (International Statistical Review
    54:67). Negative estimates are 0, because chance makes them.
    """
    totals, sizes = cluster_sums(values, clusters)
    rows, num = len(values), len(sizes)
    if num == rows:
        return 0.0
    if num == 1 or float(np.ptp(values)) < ROUNDING:
        return 1.0
    means = totals / sizes
    between = float(np.sum(sizes * (means - values.mean()) ** 2)) / (num - 1)
    within = float(np.sum((values - means[clusters]) ** 2)) / (rows - num)
    size = (rows - float(np.sum(sizes**2)) / rows) / (num - 1)
    return min(1.0, max(0.0, (between - within) / (between + (size - 1) * within)))


def clustered_error(totals: Floats, sizes: Floats, correlation: float, *, jackknife: bool = False) -> Spread:
    """Returns the standard error of a mean over all rows that come in clusters.

    Each cluster's squared deviation is divided by 1 minus its share of the rows, since a large cluster pulls the mean
    towards itself; rows without clusters are clusters of one, and get their usual standard error. The degrees of freedom
    are those of the t distribution with the same mean and variance of the squared error: of clusters of one size their
    number less one, and fewer of unequal ones.

    Args:
        totals, sizes: from `cluster_sums`; at least two clusters.
        correlation: of the rows of a cluster, assumed for the degrees of freedom.
        jackknife: divide once more, as leaving out one cluster at a time would: larger, for few and skewed clusters.

    Source: CR2, CR3 (`jackknife`) and their Satterthwaite approximation, Bell & McCaffrey 2002 (Survey Methodology
    28:169); that few clusters need it, Imbens & Kolesár 2016 (Review of Economics and Statistics 98:701).
    """
    rows = sizes.sum()
    share = sizes / rows
    weight = (1 - share) ** (-2 if jackknife else -1)
    deviations = totals - share * totals.sum()
    error = math.sqrt(float(np.sum(weight * deviations**2))) / float(rows)
    # the squared error is a quadratic form in the clusters' sums: two moments of its matrix, without building it
    variance = sizes * (1 + (sizes - 1) * correlation)
    whole = variance.sum()
    a, b, c = np.sum(weight * variance**2), np.sum(weight * variance * share), np.sum(weight * share**2)
    own = -2 * variance * share + whole * share**2
    trace = np.sum(weight * (variance + own))
    squares = np.sum(weight**2 * variance * (variance + 2 * own))
    squares += 2 * a * c + whole**2 * c**2 + 2 * b**2 - 4 * whole * b * c
    return Spread(error, float(trace**2 / squares))
