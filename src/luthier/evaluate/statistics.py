"""Paired statistics: tests, intervals and power, as pure functions of counts and differences.

Two kinds of scores, two families of methods:

- right or wrong (0 or 1): exact McNemar test, Wilson and Newcombe intervals, exact power;
- anything between: sign-flip permutation test, BCa bootstrap interval, power from the spread of the differences.

A *win* is a row on which the fine-tuned model scored higher, a *loss* one on which it scored lower. Nothing here
depends on the order of rows, and exchanging the two models mirrors every result: random draws use sorted values.
`scipy.special` is all that is used of scipy; `scipy.stats` takes most of a second to import.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, gammaln, nctdtr, ndtr, ndtri, stdtrit, xlog1py, xlogy

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ALPHA = 0.05
POWER = 0.8
MAX_ROWS = 100_000
"""No number of rows above this is looked for: nobody labels so many to compare two models."""

NUM_DRAWS = 10_000
"""Sign flips and bootstrap resamples."""

_EXACT_FLIPS = 16
"""With so many nonzero differences, all 65,536 sign assignments are counted instead of drawn."""

_GAIN_STEPS = 10_000
"""Detectable gains are found to a hundredth of a point."""

_ROUNDING = 1e-12
"""Values this close differ by rounding alone."""

_CHUNK = 4_000_000
"""Random numbers held at once."""


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


# Right or wrong ------------------------------------------------------------------------------------------------------


def mcnemar_p(wins: int, losses: int) -> float:
    """Returns the exact two-sided p-value of McNemar's test: by chance, wins are Binomial(wins + losses, 1/2).

    At least 6 flips, all one way, are needed for p < 0.05.

    Source: McNemar 1947; exact conditional form as in Fagerland, Lydersen & Laake 2013 (BMC Med Res Methodol 13:91).
    """
    return min(1.0, 2.0 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Returns the score interval of a proportion.

    Source: Wilson 1927; recommended by Brown, Cai & DasGupta 2001 (Statistical Science 16:101).
    """
    z = _normal_quantile(confidence)
    share, weight = successes / n, z**2 / n
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    # at the ends the formula gives 0 and 1 exactly; rounding does not
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(low, high)


def newcombe_interval(both: int, wins: int, losses: int, neither: int, confidence: float = 0.95) -> Interval:
    """Returns the interval of a paired difference of proportions, (wins - losses) / n, from the whole 2 x 2 table.

    The two Wilson intervals are joined by the correlation of the answers, its numerator corrected for continuity.

    Args:
        both, wins, losses, neither: rows that both models, the fine-tuned one alone, the base alone, and none answered
            rightly.
        confidence: of the interval.

    Source: Newcombe 1998 (Statistics in Medicine 17:2635), method 10.
    """
    n = both + wins + losses + neither
    tuned, base = (both + wins) / n, (both + losses) / n
    tuned_low, tuned_high = wilson_interval(both + wins, n, confidence)
    base_low, base_high = wilson_interval(both + losses, n, confidence)

    agreement: float = both * neither - wins * losses
    if agreement > 0:
        agreement = max(agreement - n / 2, 0)
    margins = (both + wins) * (losses + neither) * (both + losses) * (wins + neither)
    phi = agreement / math.sqrt(margins) if margins else 0.0

    difference = (wins - losses) / n
    down = _correlated_length(tuned - tuned_low, base_high - base, phi)
    up = _correlated_length(tuned_high - tuned, base - base_low, phi)
    return Interval(max(-1.0, difference - down), min(1.0, difference + up))


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


def detectable_gain(n: int, regress_rate: float, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """Returns the smallest true gain that McNemar's test on n rows shows with this power, rounded up to 0.0001.

    Returns:
        None where not even a gain on every row would be shown: below 6 rows at the usual level.

    Source: `mcnemar_power`, which grows with the gain: one more win never raises the p-value.
    """

    def enough(step: int) -> bool:
        return mcnemar_power(step / _GAIN_STEPS, regress_rate, n, alpha) >= power

    step = bisect_left(range(1, _GAIN_STEPS + 1), True, key=enough) + 1
    return step / _GAIN_STEPS if step <= _GAIN_STEPS else None


def rows_needed(gain: float, regress_rate: float, power: float = POWER, alpha: float = ALPHA) -> int | None:
    """Returns the smallest n from which on McNemar's test shows this gain with this power.

    The power of an exact test climbs in a sawtooth, so the first n that reaches the power may be followed by one that
    does not. A tooth of the conditional power is at most 0.8 / sqrt(d) high at d = n q discordant rows, and power rises
    by about 0.4 for each unit of log n, so no tooth reaches back further than 2 sqrt(n / q) rows: these are looked at.

    Returns:
        None where more than `MAX_ROWS` rows would be needed.

    Source: `mcnemar_power`.
    """
    if gain <= 0:
        return None

    def enough(n: int) -> bool:
        return mcnemar_power(gain, regress_rate, n, alpha) >= power

    n = bisect_left(range(1, MAX_ROWS + 1), True, key=enough) + 1
    while n <= MAX_ROWS:
        lookahead = math.ceil(2 * math.sqrt(n / sum(_flip_rates(gain, regress_rate))))
        ahead = range(n, n + 1 + lookahead)
        powers = _powers(ahead, gain, regress_rate, alpha)
        short = [at for at, reached in zip(ahead, powers, strict=True) if reached < power]
        if not short:
            return n
        n = short[-1] + 1
    return None


# Any scores ----------------------------------------------------------------------------------------------------------


def sign_flip_p(differences: Sequence[float] | Floats, *, seed: int = 0) -> float:
    """Returns the two-sided p-value of the mean difference when each difference could as well have the other sign.

    Exact up to 16 nonzero differences; beyond, 10,000 seeded flips of which the observed one counts as one more, so
    that the p-value is valid and never 0.

    Source: Fisher 1935; Phipson & Smyth 2010 (arXiv 1603.05766) for the added one.
    """
    values = np.asarray(differences, dtype=np.float64)
    sizes = np.sort(np.abs(values[np.abs(values) > _ROUNDING]))
    if not len(sizes):
        return 1.0
    total = sizes.sum()
    observed = abs(values.sum()) - 1e-9 * total  # sums that differ by rounding alone are as extreme
    if len(sizes) <= _EXACT_FLIPS:
        flips = (np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes))) & 1
        return float(np.mean(np.abs(total - 2 * (flips @ sizes)) >= observed))
    rng = np.random.default_rng(seed)
    extreme = 0
    for num in _chunks(NUM_DRAWS, len(sizes)):
        flips = rng.integers(2, size=(num, len(sizes)), dtype=np.uint8)
        extreme += int(np.sum(np.abs(total - 2 * (flips @ sizes)) >= observed))
    return (1 + extreme) / (1 + NUM_DRAWS)


def bootstrap_interval(
    values: Sequence[float] | Floats, *, bounds: tuple[float, float], seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Returns the interval of a mean: bias-corrected and accelerated bootstrap, 10,000 seeded resamples.

    The resamples come in pairs whose ranks are reversed, so that negated values give the negated interval, and the
    level is widened for small samples from the normal to Student's t. Equal values say nothing about their spread, and
    get `equal_values_interval`.

    Args:
        values: one a row.
        bounds: the least and the greatest value possible.
        seed: of the resamples.
        confidence: of the interval.

    Source: Efron 1987 (JASA 82:171); reversed ranks: Hall 1989 (Biometrika 76:713); small samples: Hesterberg 2015
    (arXiv 1411.5279), expanded percentiles.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if ordered[-1] - ordered[0] < _ROUNDING:
        return equal_values_interval(float(ordered[0]), n, bounds=bounds, confidence=confidence)
    rng = np.random.default_rng(seed)
    parts = []
    for num in _chunks(NUM_DRAWS // 2, n):
        picks = rng.integers(n, size=(num, n))
        parts += [ordered[picks].mean(axis=1), ordered[::-1][picks].mean(axis=1)]
    means = np.concatenate(parts)

    mean = ordered.mean()
    below, level = np.mean(means < mean - _ROUNDING), np.mean(np.abs(means - mean) <= _ROUNDING)
    bias = ndtri(below + level / 2)
    centred = ordered - mean
    acceleration = np.sum(centred**3) / (6 * np.sum(centred**2) ** 1.5)
    z = math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + confidence) / 2) * np.array([-1.0, 1.0])
    shifted = bias + z
    # past the pole of the acceleration the quantile is the last one
    ends = np.where(
        acceleration * shifted < 1, ndtr(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-12)), (z > 0) * 1.0
    )
    low, high = np.quantile(means, ends)
    return Interval(float(low), float(high))


def equal_values_interval(value: float, n: int, *, bounds: tuple[float, float], confidence: float = 0.95) -> Interval:
    """Returns a conservative interval of a mean from n equal values between bounds.

    A share u of other values is seen in none of n rows with probability (1 - u)^n; at most the share for which that is
    (1 - confidence) / 2 is believed in, and it may all lie at either bound.

    Source: Clopper & Pearson 1934 for zero of n.
    """
    unseen = 1 - ((1 - confidence) / 2) ** (1 / n)
    least, greatest = bounds
    return Interval(value - unseen * (value - least), value + unseen * (greatest - value))


def score_power(gain: float, deviation: float, n: int, alpha: float = ALPHA) -> float:
    """Returns the probability that a paired t-test on n normal differences shows a gain, in its direction.

    It stands for the sign-flip test, which it approximates: exact power would need the distribution of the scores.

    Args:
        gain: the true mean difference.
        deviation: the standard deviation of the differences between rows.
        n: test rows; where they are so few that no sign-flip test can reach alpha, the power is 0.
        alpha: two-sided level.

    Source: noncentral t distribution, Johnson, Kotz & Balakrishnan 1995, chapter 31; with normal quantiles this is
    the sample size formula of Miller 2024 (arXiv 2411.00640).
    """
    if 2.0 ** (1 - n) >= alpha:
        return 0.0
    if deviation == 0:
        return 1.0 if gain > 0 else 0.0
    noncentrality, critical = gain / deviation * math.sqrt(n), stdtrit(n - 1, 1 - alpha / 2)
    missed = nctdtr(n - 1, noncentrality, critical)
    if math.isnan(missed):  # scipy's answer where the probability is too near 0 or 1 to be computed
        return 1.0 if noncentrality > critical else 0.0
    return float(1 - missed)


def detectable_score_gain(n: int, deviation: float, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """Returns the smallest mean gain that n differences of this standard deviation show, rounded up to 0.0001.

    Returns:
        None where a gain of 1, the whole scale, would not be shown.

    Source: `score_power`.
    """

    def enough(step: int) -> bool:
        return score_power(step / _GAIN_STEPS, deviation, n, alpha) >= power

    step = bisect_left(range(1, _GAIN_STEPS + 1), True, key=enough) + 1
    return step / _GAIN_STEPS if step <= _GAIN_STEPS else None


def score_rows_needed(gain: float, deviation: float, power: float = POWER, alpha: float = ALPHA) -> int | None:
    """Returns the smallest number of rows on which differences of this standard deviation show this mean gain.

    Returns:
        None where more than `MAX_ROWS` rows would be needed.

    Source: `score_power`, which grows with n.
    """
    if gain <= 0:
        return None

    def enough(n: int) -> bool:
        return score_power(gain, deviation, n, alpha) >= power

    n = bisect_left(range(1, MAX_ROWS + 1), True, key=enough) + 1
    return n if n <= MAX_ROWS else None


# Parts ---------------------------------------------------------------------------------------------------------------


def _normal_quantile(confidence: float) -> float:
    return float(ndtri((1 + confidence) / 2))


def _correlated_length(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))


def _flip_rates(gain: float, regress_rate: float) -> tuple[float, float]:
    """Returns the shares of wins and losses; wins, losses and ties cannot exceed all rows."""
    losses = min(regress_rate, (1 - gain) / 2)
    return losses + gain, losses


def _powers(rows: range, gain: float, regress_rate: float, alpha: float) -> Iterator[float]:
    """Yields the exact power for each number of rows; the conditional power is computed once for all of them."""
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
    shown = np.where(critical >= 0, bdtr(np.maximum(critical, 0), discordant, loss_rate / rate), 0.0)
    for n in rows:
        here = discordant[: np.searchsorted(discordant, n, side="right")]
        yield float(_binomial_pmf(here, n, rate) @ shown[: len(here)])


def _critical_losses(discordant: Integers, alpha: float) -> Integers:
    """Returns the most losses among so many discordant rows at which p stays below alpha; -1 where even none do."""
    guess = (discordant - _normal_quantile(1 - alpha) * np.sqrt(discordant)) / 2
    critical = np.maximum(np.floor(guess).astype(np.int64) - 3, -1)
    while np.any(more := 2 * bdtr(critical + 1, discordant, 0.5) < alpha):
        critical = critical + more
    return critical


def _binomial_pmf(k: Integers, n: int, rate: float) -> Floats:
    log_choices = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    probabilities: Floats = np.exp(log_choices + xlogy(k, rate) + xlog1py(n - k, -rate))
    return probabilities


def _chunks(num: int, width: int) -> Iterator[int]:
    """Yields sizes that add up to num, each at most so large that `_CHUNK` numbers are held at once."""
    size = max(1, _CHUNK // width)
    for start in range(0, num, size):
        yield min(size, num - start)
