"""Right or wrong: McNemar's test, and the intervals of a share and of a paired difference of shares."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import bdtr, gammaln, stdtrit

from luthier.evaluate.statistics.clusters import cluster_sums, clustered_error, grouping_of, intraclass_correlation
from luthier.evaluate.statistics.levels import ROUNDING, Floats, Integers, Interval, normal_quantile


def mcnemar_p(wins: int, losses: int) -> float:
    """Returns the exact two-sided p-value of McNemar's test: by chance, wins are Binomial(wins + losses, 1/2).

    At least 6 flips, all one way, are needed for p < 0.05. Because p comes in steps, fewer than 5 % of null comparisons
    get there, and far fewer where flips are few.

    Source: McNemar 1947; exact conditional form as in Fagerland, Lydersen & Laake 2013 (BMC Med Res Methodol 13:91).
    """
    return min(1.0, 2.0 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def mcnemar_mid_p(wins: int, losses: int) -> float:
    """Returns the mid-p-value of McNemar's test: of the probability of the very table that was seen, half counts.

    It is near its nominal level from about 15 flips on, where the exact test stays below; unlike the exact test it has
    no guarantee. 5 flips, all one way, are enough for p < 0.05.

    Source: Fagerland, Lydersen & Laake 2013 (BMC Med Res Methodol 13:91), equation for the mid-p test; it kept the
    level in all of their 9,595 scenarios.
    """
    flips = wins + losses
    if flips == 0:
        return 1.0
    seen = math.exp(gammaln(flips + 1) - (gammaln(wins + 1) + gammaln(losses + 1)) - flips * math.log(2))
    return 1 - seen / 2 if wins == losses else mcnemar_p(wins, losses) - seen


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Returns the score interval of a proportion.

    Source: Wilson 1927; recommended by Brown, Cai & DasGupta 2001 (Statistical Science 16:101).
    """
    return _wilson(successes, n, normal_quantile(confidence))


def newcombe_interval(both: float, wins: float, losses: float, neither: float, confidence: float = 0.95) -> Interval:
    """Returns the interval of a paired difference of proportions, (wins - losses) / n, from the whole 2 x 2 table.

    The two Wilson intervals are joined by the correlation of the answers, its numerator corrected for continuity.

    Args:
        both, wins, losses, neither: rows that both models, the fine-tuned one alone, the base alone, and none answered
            rightly.
        confidence: of the interval.

    Source: Newcombe 1998 (Statistics in Medicine 17:2635), method 10.
    """
    return _newcombe(both, wins, losses, neither, normal_quantile(confidence))


def clustered_wilson_interval(right: Floats, clusters: Integers, confidence: float = 0.95) -> Interval:
    """Returns the interval of a share whose rows come in clusters.

    Wilson's interval of the counts divided by their design effect, at the level of Student's t for so few clusters.

    Args:
        right: 0 or 1 a row.
        clusters: each row's cluster, numbered from 0 without gaps.
        confidence: of the interval.

    Source: Rao & Scott 1992 (Biometrics 48:577) for counts divided by the design effect.
    """
    effect, reach = _worth(right, clusters, confidence)
    return _wilson(float(right.sum()) / effect, len(right) / effect, reach)


def clustered_newcombe_interval(base: Floats, tuned: Floats, clusters: Integers, confidence: float = 0.95) -> Interval:
    """Returns the interval of a paired difference of shares whose rows come in clusters.

    Newcombe's method 10 on the 2 x 2 table divided by the design effect of the difference, at the level of Student's t
    for so few clusters. Where no row flips, each cluster counts as one row.

    Args:
        base, tuned: 0 or 1 a row.
        clusters: each row's cluster, numbered from 0 without gaps.
        confidence: of the interval.

    Source: as `newcombe_interval` and Rao & Scott 1992 (Biometrics 48:577); among four methods this one held the truth
    most reliably (docs/measurements/statistics.md).
    """
    effect, reach = _worth(tuned - base, clusters, confidence)
    both, base_right, tuned_right = float(base @ tuned), float(base.sum()), float(tuned.sum())
    wins, losses = tuned_right - both, base_right - both
    neither = len(base) - both - wins - losses
    return _newcombe(both / effect, wins / effect, losses / effect, neither / effect, reach)


def _worth(values: Floats, clusters: Integers, confidence: float) -> tuple[float, float]:
    """Returns how many rows count as one in a mean of these values, and the quantile that belongs to its error."""
    totals, sizes = cluster_sums(values, clusters)
    correlation = intraclass_correlation(values, clusters)
    alone = float(np.mean((values - values.mean()) ** 2)) / len(values)
    if len(sizes) == 1 or alone < ROUNDING**2:
        # nothing varies, so nothing is known of how alike rows are: a cluster counts as one row
        effect = grouping_of(sizes.astype(np.int64), 1.0).design_effect
        return effect, float(stdtrit(max(1, len(sizes) - 1), (1 + confidence) / 2))
    spread = clustered_error(totals, sizes, correlation)
    return max(1.0, spread.error**2 / alone), float(stdtrit(spread.freedom, (1 + confidence) / 2))


def _wilson(successes: float, n: float, reach: float) -> Interval:
    share, weight = successes / n, reach**2 / n
    centre = (share + weight / 2) / (1 + weight)
    half = reach / (1 + weight) * math.sqrt(max(0.0, share * (1 - share)) / n + weight / (4 * n))
    # at the ends the formula gives 0 and 1 exactly; rounding does not
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(low, high)


def _newcombe(both: float, wins: float, losses: float, neither: float, reach: float) -> Interval:
    n = both + wins + losses + neither
    tuned, base = (both + wins) / n, (both + losses) / n
    tuned_low, tuned_high = _wilson(both + wins, n, reach)
    base_low, base_high = _wilson(both + losses, n, reach)

    agreement: float = both * neither - wins * losses
    if agreement > 0:
        agreement = max(agreement - n / 2, 0)
    margins = (both + wins) * (losses + neither) * (both + losses) * (wins + neither)
    phi = agreement / math.sqrt(margins) if margins else 0.0

    difference = (wins - losses) / n
    down = _correlated_length(tuned - tuned_low, base_high - base, phi)
    up = _correlated_length(tuned_high - tuned, base - base_low, phi)
    return Interval(max(-1.0, difference - down), min(1.0, difference + up))


def _correlated_length(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))
