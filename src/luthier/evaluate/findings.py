"""What one family of methods finds in paired scores: the exact ones for right or wrong, the others for any scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from luthier.evaluate import statistics
from luthier.evaluate.pairing import Pairs
from luthier.evaluate.sentences import counted, points, sentence_start
from luthier.evaluate.statistics import ALPHA, POWER, Floats, Grouping, Noise

PLANNED_REGRESS_RATE = 0.05
"""The share of rows assumed to flip against the gain before anything is measured."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: in score points, where 1 is the whole scale.
        low, high: the interval's ends.
        method: how the interval was computed, with its source.
    """

    value: float
    low: float
    high: float
    method: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What one family of methods says; see `Comparison`.

    Attributes:
        rows_needed: for a gain.
        lead: the first clause of the reason.
    """

    base: Estimate
    tuned: Estimate
    difference: Estimate
    p_value: float
    mid_p: float | None
    test: str
    detectable_gain: float | None
    rows_needed: Callable[[float], int | None]
    power_assumption: str
    grouping: Grouping | None
    noise: Noise | None
    lead: str


def find(pairs: Pairs, *, seed: int, deed: str, names: tuple[str, str], num_tests: int = 1) -> Findings:
    """Returns the findings of the family that suits the scores.

    Args:
        pairs: the rows.
        seed: of the permutations and resamples, where there are any.
        deed: what a model did with a row, for the sentence about right and wrong ones.
        names: of the two sides, for sentences.
        num_tests: tests that share the level; power is that of the strictest.
    """
    exact = bool(np.all(np.isin(pairs.base, (0, 1)) & np.isin(pairs.tuned, (0, 1))))
    alpha = ALPHA / num_tests
    return _right_or_wrong(pairs, seed, deed, names, alpha) if exact else _graded(pairs, seed, names, alpha)


def assumed_regress_rate(wins: int, losses: int, n: int) -> float:
    """Returns the share of rows assumed to flip against a gain: the rarer flip as measured, with a floor.

    None seen in n rows still leaves a share of 3 / n open (the rule of three), so it is at least that, or 5 % where n
    is so small that 3 / n is more.

    Source: rule of three, Hanley & Lippman-Hand 1983 (JAMA 249:1743).
    """
    return max(min(wins, losses) / n, min(PLANNED_REGRESS_RATE, 3 / n))


def assumed_deviation(differences: Floats) -> float:
    """Returns the standard deviation that score differences are assumed to have.

    Few rows may differ little by chance. Two rows of +0.5 and -0.5 are added about their mean, which matter less the
    more rows there are.

    Source: our choice, after the pseudo-rows of Agresti & Min 2005 (Statistics in Medicine 24:729).
    """
    squares = float(np.sum((differences - differences.mean()) ** 2))
    return math.sqrt((squares + 2 * 0.5**2) / (len(differences) + 1))


def rows_words(pairs: Pairs) -> str:
    """Returns how many rows there are, and from how many clusters."""
    rows = counted(len(pairs.base), "test row")
    return rows if pairs.num_clusters is None else f"{rows} in {counted(pairs.num_clusters, 'cluster')}"


def _right_or_wrong(pairs: Pairs, seed: int, deed: str, names: tuple[str, str], alpha: float) -> Findings:
    base, tuned, clusters, n = pairs.base, pairs.tuned, pairs.clusters, len(pairs.base)
    base_right, tuned_right, both = int(base.sum()), int(tuned.sum()), int(base @ tuned)
    wins, losses = tuned_right - both, base_right - both
    rate = assumed_regress_rate(wins, losses, n)
    grouping = _grouping(pairs)
    wilson, newcombe = "Wilson 1927", "Newcombe 1998, method 10 (paired score interval)"
    if clusters is None:
        intervals = (
            statistics.wilson_interval(base_right, n),
            statistics.wilson_interval(tuned_right, n),
            statistics.newcombe_interval(both, wins, losses, n - both - wins - losses),
        )
        p, mid_p = statistics.mcnemar_p(wins, losses), statistics.mcnemar_mid_p(wins, losses)
        test = "exact McNemar test (binomial on the rows that only one model got right)"
        kind = "Exact McNemar test"
    else:
        intervals = (
            statistics.clustered_wilson_interval(base, clusters),
            statistics.clustered_wilson_interval(tuned, clusters),
            statistics.clustered_newcombe_interval(base, tuned, clusters),
        )
        p, mid_p = statistics.sign_flip_p(tuned - base, clusters=clusters, seed=seed), None
        test = _clustered_test(pairs)
        divided = ", counts divided by the clusters' design effect (Rao & Scott 1992)"
        wilson, newcombe = wilson + divided, newcombe + divided
        kind = "Sign-flip test of whole clusters"
    return Findings(
        base=Estimate(base_right / n, *intervals[0], wilson),
        tuned=Estimate(tuned_right / n, *intervals[1], wilson),
        difference=Estimate((wins - losses) / n, *intervals[2], newcombe),
        p_value=p,
        mid_p=mid_p,
        test=test,
        detectable_gain=statistics.detectable_gain(n, rate, alpha=alpha, grouping=grouping),
        rows_needed=lambda gain: statistics.rows_needed(gain, rate, alpha=alpha, grouping=grouping),
        power_assumption=(
            f"{kind}, two-sided {points(alpha)} % level, {points(POWER)} % power, assuming that {points(rate)} % of "
            f"the rows flip against the gain (seen here: {min(wins, losses)} of {n}; at least "
            f"{points(assumed_regress_rate(0, 0, n))} % is assumed){_alike(grouping)}."
        ),
        grouping=grouping,
        noise=_noise(pairs, grouping),
        lead=f"{sentence_start(names[1])} {deed} {tuned_right:,} of {rows_words(pairs)} rightly, {names[0]} {base_right:,}",
    )


def _graded(pairs: Pairs, seed: int, names: tuple[str, str], alpha: float) -> Findings:
    n, clusters = len(pairs.base), pairs.clusters
    base, tuned = pairs.base.round(12), pairs.tuned.round(12)  # equal differences are to be equal, not but for rounding
    differences = (tuned - base).round(12)
    deviation = assumed_deviation(differences)
    grouping = _grouping(pairs)

    def estimate(values: Floats, least: float) -> Estimate:
        interval = statistics.bootstrap_interval(values, bounds=(least, 1.0), clusters=clusters, seed=seed)
        equal = values.min() == values.max()
        method = "bound for equal values, Clopper & Pearson 1934" if equal else "BCa bootstrap, Efron 1987"
        if clusters is not None:
            method += " (of whole clusters)"
        return Estimate(float(values.mean()), *interval, method)

    return Findings(
        base=(base_estimate := estimate(base, 0.0)),
        tuned=(tuned_estimate := estimate(tuned, 0.0)),
        difference=estimate(differences, -1.0),
        p_value=statistics.sign_flip_p(differences, clusters=clusters, seed=seed),
        mid_p=None,
        test="sign-flip permutation test of the mean difference" if clusters is None else _clustered_test(pairs),
        detectable_gain=statistics.detectable_score_gain(n, deviation, alpha=alpha, grouping=grouping),
        rows_needed=lambda gain: statistics.score_rows_needed(gain, deviation, alpha=alpha, grouping=grouping),
        power_assumption=(
            f"Paired t-test for the permutation test, two-sided {points(alpha)} % level, {points(POWER)} % power, "
            f"assuming that the difference spreads over rows with a standard deviation of {points(deviation)} points (as "
            "measured, with two rows of +50 and −50 points added so that a few equal rows do not promise too much)"
            f"{_alike(grouping)}."
        ),
        grouping=grouping,
        noise=_noise(pairs, grouping),
        lead=(
            f"{sentence_start(names[1])} scored {points(tuned_estimate.value)} of 100 points on average over "
            f"{rows_words(pairs)}, {names[0]} {points(base_estimate.value)}"
        ),
    )


def _clustered_test(pairs: Pairs) -> str:
    return (
        f"sign-flip permutation test of the mean difference, the rows of each of {pairs.num_clusters:,} clusters "
        "flipping together"
    )


def _grouping(pairs: Pairs) -> Grouping | None:
    if pairs.clusters is None:
        return None
    differences = (pairs.tuned - pairs.base).round(12)
    correlation = statistics.intraclass_correlation(differences, pairs.clusters)
    return statistics.grouping_of(np.bincount(pairs.clusters), correlation)


def _alike(grouping: Grouping | None) -> str:
    if grouping is None:
        return ""
    return (
        f", and that rows of one cluster are as alike as here (intraclass correlation {grouping.correlation:.2f}: "
        f"{grouping.rows:,} rows are worth {grouping.effective_rows:,.0f} independent ones)"
    )


def _noise(pairs: Pairs, grouping: Grouping | None) -> Noise | None:
    """Returns the parts of the standard error where answers were sampled several times."""
    differences = (pairs.tuned - pairs.base).round(12)
    if not pairs.sampled or len(differences) < 2 or (grouping is not None and grouping.clusters < 2):
        return None
    if pairs.clusters is None or grouping is None:
        error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    else:
        sums = statistics.cluster_sums(differences, pairs.clusters)
        error = statistics.clustered_error(*sums, grouping.correlation).error
    return statistics.split_noise(pairs.base_answers, pairs.tuned_answers, error)
