"""Scores of any size: the sign-flip test, and the bootstrap interval of a mean; by rows or by clusters of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from luthier.evaluate.statistics.clusters import cluster_sums, clustered_error, intraclass_correlation
from luthier.evaluate.statistics.levels import NUM_DRAWS, ROUNDING, Floats, Integers, Interval, chunks

_EXACT_FLIPS = 16
"""With so many nonzero differences, all 65,536 sign assignments are counted instead of drawn."""

_FEW_CLUSTERS = 20
"""Below so many clusters the bootstrap's interval is widened to hold Student's t interval too.
Source: docs/measurements/statistics.md; from about 20 on it holds the truth often enough without."""


def sign_flip_p(differences: Sequence[float] | Floats, *, clusters: Integers | None = None, seed: int = 0) -> float:
    """Returns the two-sided p-value of the mean difference when each difference could as well have the other sign.

    With clusters, all differences of one change their signs together: what rows share cannot pass for evidence then.
    Exact up to 16 nonzero differences or clusters; beyond, 10,000 seeded flips of which the observed one counts as one
    more, so that the p-value is valid and never 0.

    Args:
        differences: one a row.
        clusters: each row's cluster, numbered from 0 without gaps; None where rows are independent.
        seed: of the flips.

    Source: Fisher 1935; Phipson & Smyth 2010 (arXiv 1603.05766) for the added one; by clusters: Canay, Romano & Shaikh
    2017 (Econometrica 85:1013).
    """
    values = np.asarray(differences, dtype=np.float64)
    if clusters is not None:
        values = cluster_sums(values, clusters)[0]
    sizes = np.sort(np.abs(values[np.abs(values) > ROUNDING]))
    if not len(sizes):
        return 1.0
    total = sizes.sum()
    observed = abs(values.sum()) - 1e-9 * total  # sums that differ by rounding alone are as extreme
    if len(sizes) <= _EXACT_FLIPS:
        flips = (np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes))) & 1
        return float(np.mean(np.abs(total - 2 * (flips @ sizes)) >= observed))
    rng = np.random.default_rng(seed)
    extreme = 0
    for num in chunks(NUM_DRAWS, len(sizes)):
        bits = rng.integers(256, size=(num, -(-len(sizes) // 8)), dtype=np.uint8)
        flips = np.unpackbits(bits, axis=1, count=len(sizes)).astype(np.float64)
        extreme += int(np.sum(np.abs(total - 2 * (flips @ sizes)) >= observed))
    return (1 + extreme) / (1 + NUM_DRAWS)


def bootstrap_interval(
    values: Sequence[float] | Floats,
    *,
    bounds: tuple[float, float],
    clusters: Integers | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Returns the interval of a mean: bias-corrected and accelerated bootstrap, 10,000 seeded resamples.

    The level is widened from the normal to Student's t, and by the ratio of the jackknife's standard error to the
    bootstrap's own. With clusters, whole clusters are resampled, and below 20 of them the interval also holds Student's.
    Negated values give the negated interval. Equal values say nothing about their spread, and get
    `equal_values_interval`.

    Args:
        values: one a row.
        bounds: the least and the greatest value possible.
        clusters: each row's cluster, numbered from 0 without gaps; None where rows are independent.
        seed: of the resamples.
        confidence: of the interval.

    Source: Efron 1987 (JASA 82:171); by clusters: Davison & Hinkley 1997, section 3.8; small samples: Hesterberg 2015
    (arXiv 1411.5279), expanded percentiles; measured in docs/measurements/statistics.md.
    """
    rows = np.asarray(values, dtype=np.float64)
    if clusters is None:
        totals, sizes, correlation = rows, np.ones(len(rows)), 0.0
    else:
        totals, sizes = cluster_sums(rows, clusters)
        correlation = intraclass_correlation(rows, clusters)
    sign, totals, sizes = _oriented(totals, sizes)
    mean = float(totals.sum() / sizes.sum())
    deviations = totals - mean * sizes
    if len(totals) == 1 or float(np.max(np.abs(deviations))) < ROUNDING:
        worth = float(sizes.sum() ** 2 / np.sum(sizes**2))  # clusters that count as one row each, Kish 1965
        return equal_values_interval(sign * mean, worth, bounds=bounds, confidence=confidence)
    spread = clustered_error(totals, sizes, correlation, jackknife=True)
    reach = float(stdtrit(spread.freedom, (1 + confidence) / 2))
    plain = math.sqrt(float(np.sum(deviations**2))) / float(sizes.sum())
    low, high = _bca(totals, sizes, reach * spread.error / plain, seed)
    if clusters is not None and len(totals) < _FEW_CLUSTERS:
        low, high = min(low, mean - reach * spread.error), max(high, mean + reach * spread.error)
    low, high = (low, high) if sign > 0 else (-high, -low)
    return Interval(max(bounds[0], low), min(bounds[1], high))


def equal_values_interval(value: float, n: float, *, bounds: tuple[float, float], confidence: float = 0.95) -> Interval:
    """Returns a conservative interval of a mean from n equal values between bounds.

    A share u of other values is seen in none of n rows with probability (1 - u)^n; at most the share for which that is
    (1 - confidence) / 2 is believed in, and it may all lie at either bound.

    Source: Clopper & Pearson 1934 for zero of n.
    """
    unseen = 1 - ((1 - confidence) / 2) ** (1 / n)
    least, greatest = bounds
    return Interval(value - unseen * (value - least), value + unseen * (greatest - value))


def _bca(totals: Floats, sizes: Floats, reach: float, seed: int) -> tuple[float, float]:
    """Returns the interval of the ratio of totals to sizes that reaches so many bootstrap standard errors."""
    num, mean = len(totals), float(totals.sum() / sizes.sum())
    even = bool(np.all(sizes == sizes[0]))
    rng = np.random.default_rng(seed)
    parts = []
    for count in chunks(NUM_DRAWS, num):
        picks = rng.integers(num, size=(count, num))
        drawn = sizes[0] * num if even else sizes[picks].sum(axis=1)
        parts.append(totals[picks].sum(axis=1) / drawn)
    means = np.concatenate(parts)
    below, level = np.mean(means < mean - ROUNDING), np.mean(np.abs(means - mean) <= ROUNDING)
    bias = ndtri(np.clip(below + level / 2, 1 / NUM_DRAWS, 1 - 1 / NUM_DRAWS))
    deviations = totals - mean * sizes
    acceleration = np.sum(deviations**3) / (6 * np.sum(deviations**2) ** 1.5)
    z = reach * np.array([-1.0, 1.0])
    shifted = bias + z
    # past the pole of the acceleration the quantile is the last one
    ends = np.where(
        acceleration * shifted < 1, ndtr(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-12)), (z > 0) * 1.0
    )
    low, high = np.quantile(means, ends)
    return float(low), float(high)


def _oriented(totals: Floats, sizes: Floats) -> tuple[int, Floats, Floats]:
    """Returns sorted clusters and a sign: the same clusters for negated values, and the other sign.

    Resamples are drawn from these, so that neither the order of rows nor the side a model stands on has an influence.
    """
    order, mirror = np.lexsort((sizes, totals)), np.lexsort((sizes, -totals))
    here = np.stack([totals[order], sizes[order]])
    there = np.stack([-totals[mirror], sizes[mirror]])
    different = np.flatnonzero((here != there).T)
    if len(different) and here.T.flat[different[0]] < there.T.flat[different[0]]:
        return -1, there[0], there[1]
    return 1, here[0], here[1]
