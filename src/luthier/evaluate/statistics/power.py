"""What a number of rows can show, and how many rows would do: before a test, or for the next one."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import bdtr, gammaln, nctdtr, stdtrit, xlog1py, xlogy

from luthier.evaluate.statistics.clusters import Grouping
from luthier.evaluate.statistics.levels import ALPHA, MAX_ROWS, POWER, Floats, Integers, normal_quantile

_GAIN_STEPS = 10_000
"""Detectable gains are found to a hundredth of a point."""

_WHOLE = 0.9
"""From this correlation on, clusters flip as wholes, and the test of clusters is McNemar's on as many rows.
Source: docs/measurements/statistics.md; below it the approximation of `gain_power` is closer."""


def mcnemar_power(gain: float, regress_rate: float, n: int, alpha: float = ALPHA) -> float:
    """Returns the exact probability that McNemar's test on n rows shows a true gain, in the right direction.

    Args:
        gain: the true difference of the shares of right answers.
        regress_rate: the share of rows that the base answers rightly and the fine-tuned model wrongly. Where `gain`
            leaves no room for it, as much as there is room for: (1 - gain) / 2.
        n: test rows.
        alpha: two-sided level.

    Source: the test's rejection probability given the number of discordant rows, summed over its binomial
    distribution, as in Duffy 1984 (Biometrics 40:1005).
    """
    return next(_powers(range(n, n + 1), gain, regress_rate, alpha))


def flip_deviation(gain: float, regress_rate: float) -> float:
    """Returns the standard deviation between rows of right-or-wrong differences, which are 1, 0 or -1."""
    wins, losses = _flip_rates(gain, regress_rate)
    return math.sqrt(max(0.0, wins + losses - gain**2))


def gain_power(
    gain: float, regress_rate: float, n: int, alpha: float = ALPHA, *, grouping: Grouping | None = None
) -> float:
    """Returns the probability that a gain in right answers is shown by n rows that come in clusters or do not.

    Without clusters it is exact: `mcnemar_power`. Where the rows of a cluster flip together (a correlation of 0.9 or
    more), clusters are rows of another name, and it is exact for the effective number of rows. In between it is that of
    McNemar's test on the effective rows with two corrections: its p-values come in steps of one effective row, those of
    the sign-flip test of clusters in steps of one row; and there are fewer clusters than effective rows to tell the
    spread, which costs what the t distribution loses from the ones to the others.

    Source: our approximation; within 3 points of simulation where it was tried at a power of about 80 %, on the safe side
    where flips against the gain are rare (docs/measurements/statistics.md).
    """
    if grouping is None:
        return mcnemar_power(gain, regress_rate, n, alpha)
    effect, clusters = grouping.design_effect, grouping.clusters_among(n)
    effective = n / effect
    if grouping.correlation >= _WHOLE:
        return mcnemar_power(gain, regress_rate, math.floor(effective), alpha)
    if 2.0 ** (1 - clusters) >= alpha or effective < 2:
        return 0.0
    whole = math.floor(effective)
    below, above = _powers(range(whole, whole + 2), gain, regress_rate, alpha, step=1 / effect)
    power = below + (effective - whole) * (above - below)
    noncentrality = gain / max(flip_deviation(gain, regress_rate), 1e-9) * math.sqrt(effective)
    lost = _t_power(noncentrality, effective - 1, alpha) - _t_power(noncentrality, clusters - 1, alpha)
    return max(0.0, power - max(0.0, lost))


def detectable_gain(
    n: int, regress_rate: float, power: float = POWER, alpha: float = ALPHA, *, grouping: Grouping | None = None
) -> float | None:
    """Returns the smallest true gain in right answers that n rows show with this power, rounded up to 0.0001.

    Args:
        n: test rows.
        regress_rate: the share of rows assumed, or seen, to flip against the gain.
        power: the probability that the gain is shown.
        alpha: two-sided level.
        grouping: of the rows; None where they are independent.

    Returns:
        None where not even a gain on every row would be shown: below 6 rows (or clusters) at the usual level.

    Source: `gain_power`, which grows with the gain: one more win never raises the p-value.
    """
    return _smallest_gain(lambda gain: gain_power(gain, regress_rate, n, alpha, grouping=grouping) >= power)


def rows_needed(
    gain: float, regress_rate: float, power: float = POWER, alpha: float = ALPHA, *, grouping: Grouping | None = None
) -> int | None:
    """Returns the smallest n from which on a test of n rows shows this gain in right answers with this power.

    The power of an exact test climbs in a sawtooth, so the first n that reaches the power may be followed by one that
    does not. A tooth of the conditional power is at most 0.8 / sqrt(d) high at d = n q discordant rows, and power rises
    by about 0.4 for each unit of log n, so no tooth reaches back further than 2 sqrt(n / q) rows: these are looked at.

    Args:
        gain, regress_rate, power, alpha: as in `detectable_gain`.
        grouping: of the rows there are; more would come in clusters like these.

    Returns:
        None where more than `MAX_ROWS` rows would be needed.

    Source: `gain_power`.
    """
    if gain <= 0:
        return None
    if grouping is not None and grouping.correlation < _WHOLE:
        return _fewest_rows(lambda n: gain_power(gain, regress_rate, n, alpha, grouping=grouping) >= power)
    effect = grouping.design_effect if grouping is not None else 1.0

    def enough(n: int) -> bool:
        return mcnemar_power(gain, regress_rate, n, alpha) >= power

    n = bisect_left(range(1, MAX_ROWS + 1), True, key=enough) + 1
    while n * effect <= MAX_ROWS:
        lookahead = math.ceil(2 * math.sqrt(n / sum(_flip_rates(gain, regress_rate))))
        ahead = range(n, n + 1 + lookahead)
        powers = _powers(ahead, gain, regress_rate, alpha)
        short = [at for at, reached in zip(ahead, powers, strict=True) if reached < power]
        if not short:
            return math.ceil(n * effect)
        n = short[-1] + 1
    return None


def score_power(
    gain: float, deviation: float, n: int, alpha: float = ALPHA, *, grouping: Grouping | None = None
) -> float:
    """Returns the probability that a paired t-test on n normal differences shows a gain, in its direction.

    It stands for the sign-flip test, which it approximates: exact power would need the distribution of the scores. With
    clusters, the error grows by the design effect, and the degrees of freedom are those of the clusters.

    Args:
        gain: the true mean difference.
        deviation: the standard deviation of the differences between rows.
        n: test rows; where they (or their clusters) are so few that no sign-flip test can reach alpha, the power is 0.
        alpha: two-sided level.
        grouping: of the rows; None where they are independent.

    Source: noncentral t distribution, Johnson, Kotz & Balakrishnan 1995, chapter 31; with normal quantiles this is
    the sample size formula of Miller 2024 (arXiv 2411.00640).
    """
    units: float = n
    effective: float = n
    if grouping is not None:
        units, effective = grouping.clusters_among(n), n / grouping.design_effect
    if 2.0 ** (1 - units) >= alpha:
        return 0.0
    if deviation == 0:
        return 1.0 if gain > 0 else 0.0
    return _t_power(gain / deviation * math.sqrt(effective), units - 1, alpha)


def detectable_score_gain(
    n: int, deviation: float, power: float = POWER, alpha: float = ALPHA, *, grouping: Grouping | None = None
) -> float | None:
    """Returns the smallest mean gain that n differences of this standard deviation show, rounded up to 0.0001.

    Returns:
        None where a gain of 1, the whole scale, would not be shown.

    Source: `score_power`.
    """
    return _smallest_gain(lambda gain: score_power(gain, deviation, n, alpha, grouping=grouping) >= power)


def score_rows_needed(
    gain: float, deviation: float, power: float = POWER, alpha: float = ALPHA, *, grouping: Grouping | None = None
) -> int | None:
    """Returns the smallest number of rows on which differences of this standard deviation show this mean gain.

    Returns:
        None where more than `MAX_ROWS` rows would be needed.

    Source: `score_power`, which grows with n.
    """
    if gain <= 0:
        return None
    return _fewest_rows(lambda n: score_power(gain, deviation, n, alpha, grouping=grouping) >= power)


def _smallest_gain(shown: Callable[[float], bool]) -> float | None:
    step = bisect_left(range(1, _GAIN_STEPS + 1), True, key=lambda step: shown(step / _GAIN_STEPS)) + 1
    return step / _GAIN_STEPS if step <= _GAIN_STEPS else None


def _fewest_rows(shown: Callable[[int], bool]) -> int | None:
    n = bisect_left(range(1, MAX_ROWS + 1), True, key=shown) + 1
    return n if n <= MAX_ROWS else None


def _t_power(noncentrality: float, freedom: float, alpha: float) -> float:
    """Returns the probability that a t-test is significant in the right direction."""
    critical = stdtrit(freedom, 1 - alpha / 2)
    missed = nctdtr(freedom, noncentrality, critical)
    if math.isnan(missed):  # scipy's answer where the probability is too near 0 or 1 to be computed
        return 1.0 if noncentrality > critical else 0.0
    return float(1 - missed)


def _flip_rates(gain: float, regress_rate: float) -> tuple[float, float]:
    """Returns the shares of wins and losses; wins, losses and ties cannot exceed all rows."""
    losses = min(regress_rate, (1 - gain) / 2)
    return losses + gain, losses


def _powers(rows: range, gain: float, regress_rate: float, alpha: float, step: float = 1.0) -> Iterator[float]:
    """Yields the exact power for each number of rows; the conditional power is computed once for all of them.

    Args:
        rows, gain, regress_rate, alpha: as in `mcnemar_power`.
        step: how large the steps of the test are, in rows; with steps of 0 it would be at its level exactly, as by a
            coin thrown for the table at the edge.
    """
    win_rate, loss_rate = _flip_rates(gain, regress_rate)
    rate = min(1.0, win_rate + loss_rate)
    if rate == 0:
        yield from (0.0 for _ in rows)
        return
    # outside nine standard deviations, less than 1e-15 of the distribution is left
    spread = 9 * math.sqrt(rows[-1] * rate * (1 - rate)) + 9
    lowest, highest = math.floor(rows[0] * rate - spread), math.ceil(rows[-1] * rate + spread)
    discordant = np.arange(max(0, lowest), min(rows[-1], highest) + 1)
    critical = _critical_losses(discordant, alpha)
    losing = loss_rate / rate
    shown = np.where(critical >= 0, bdtr(np.maximum(critical, 0), discordant, losing), 0.0)
    if step < 1:
        level = np.where(critical >= 0, bdtr(np.maximum(critical, 0), discordant, 0.5), 0.0)
        edge = np.minimum(critical + 1, discordant)
        thrown = (alpha / 2 - level) / _binomial_pmf(edge, discordant, 0.5)
        shown = shown + (1 - step) * np.minimum(thrown, 1.0) * _binomial_pmf(edge, discordant, losing)
    for n in rows:
        here = discordant[: np.searchsorted(discordant, n, side="right")]
        yield float(_binomial_pmf(here, n, rate) @ shown[: len(here)])


def _critical_losses(discordant: Integers, alpha: float) -> Integers:
    """Returns the most losses among so many discordant rows at which p stays below alpha; -1 where even none do."""
    guess = (discordant - normal_quantile(1 - alpha) * np.sqrt(discordant)) / 2
    critical = np.maximum(np.floor(guess).astype(np.int64) - 3, -1)
    while np.any(more := 2 * bdtr(critical + 1, discordant, 0.5) < alpha):
        critical = critical + more
    return critical


def _binomial_pmf(k: Integers, n: int | Integers, rate: float) -> Floats:
    log_choices = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    probabilities: Floats = np.exp(log_choices + xlogy(k, rate) + xlog1py(n - k, -rate))
    return probabilities
