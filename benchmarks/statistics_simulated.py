"""Comparisons whose truth is known: rows in clusters, rows answered several times, families of tests, learning curves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from luthier.evaluate import statistics
from luthier.evaluate.learning_curve import fit_curve
from luthier.evaluate.statistics import Grouping

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ROWS_A_CLUSTER = 5
NAIVE_SIMULATIONS = 1_000
"""So many are enough to show that rows taken as independent fail; the test by rows is slow."""


@dataclass(frozen=True)
class Clustered:
    """The truth of a right-or-wrong comparison in clusters.

    A row takes the fate of its cluster with a probability whose square is the correlation of two rows, and else its own.

    Attributes:
        even: whether every cluster has five rows; else 1 + Poisson(4).
    """

    clusters: int
    even: bool
    correlation: float
    win: float
    lose: float
    both: float

    @property
    def difference(self) -> float:
        return self.win - self.lose

    @property
    def words(self) -> str:
        sizes = "5 rows each" if self.even else "1 to about 12 rows"
        return f"{self.clusters} clusters of {sizes}, correlation {self.correlation:g}"

    def grouping(self) -> Grouping:
        weighted = ROWS_A_CLUSTER if self.even else ROWS_A_CLUSTER + 4 / ROWS_A_CLUSTER
        return Grouping(self.clusters * ROWS_A_CLUSTER, self.clusters, weighted, self.correlation)

    def labels(self, rng: np.random.Generator) -> Integers:
        sizes = np.full(self.clusters, ROWS_A_CLUSTER) if self.even else 1 + rng.poisson(4, self.clusters)
        return np.repeat(np.arange(self.clusters), sizes)

    def shared(self, clusters: Integers, rng: np.random.Generator) -> NDArray[np.bool_]:
        return rng.random(len(clusters)) < math.sqrt(self.correlation)

    def draw(self, rng: np.random.Generator) -> tuple[Floats, Floats, Integers]:
        """Returns whether base and tuned are right, and each row's cluster."""
        clusters = self.labels(rng)
        fate = np.where(self.shared(clusters, rng), rng.random(self.clusters)[clusters], rng.random(len(clusters)))
        win, lose = fate < self.win, (fate >= self.win) & (fate < self.win + self.lose)
        both = (fate >= self.win + self.lose) & (fate < self.win + self.lose + self.both)
        return (lose | both).astype(np.float64), (win | both).astype(np.float64), clusters


@dataclass(frozen=True)
class ClusteredRates:
    """Shares of the simulated comparisons: p < 0.05 with rows taken as independent and with clusters, the latter in the
    right direction, and intervals that hold the truth, of both kinds."""

    naive: float
    ours: float
    right_way: float
    naive_covered: float
    covered: float


NULLS_IN_CLUSTERS = [
    Clustered(20, True, 0.5, 0.25, 0.25, 0.3),
    Clustered(20, False, 0.5, 0.25, 0.25, 0.3),
    Clustered(50, True, 0.2, 0.15, 0.15, 0.4),
    Clustered(50, False, 0.5, 0.15, 0.15, 0.4),
    Clustered(50, False, 0.9, 0.15, 0.15, 0.4),
    Clustered(200, False, 0.5, 0.1, 0.1, 0.5),
]
GAINS_IN_CLUSTERS = [
    Clustered(10, False, 0.5, 0.25, 0.1, 0.3),
    Clustered(30, True, 0.2, 0.2, 0.05, 0.4),
    Clustered(30, False, 0.5, 0.25, 0.1, 0.3),
    Clustered(60, False, 0.5, 0.2, 0.05, 0.4),
    Clustered(200, False, 0.5, 0.1, 0.05, 0.5),
]


def right_or_wrong_clusters(truth: Clustered, simulations: int, seed: int) -> ClusteredRates:
    """Returns the rates over simulated right-or-wrong comparisons in clusters."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((simulations, 5))
    for row in rows:
        base, tuned, clusters = truth.draw(rng)
        both, wins, losses = int(base @ tuned), int((tuned > base).sum()), int((base > tuned).sum())
        p = statistics.sign_flip_p(tuned - base, clusters=clusters)
        naive = statistics.newcombe_interval(both, wins, losses, len(base) - both - wins - losses)
        ours = statistics.clustered_newcombe_interval(base, tuned, clusters)
        row[:] = (
            statistics.mcnemar_p(wins, losses) < statistics.ALPHA,
            p < statistics.ALPHA,
            p < statistics.ALPHA and wins > losses,
            holds(naive, truth.difference),
            holds(ours, truth.difference),
        )
    return ClusteredRates(*rows.mean(axis=0).tolist())


def graded_clusters(
    truth: Clustered, simulations: int, seed: int, *, skewed: bool, test: bool = True, interval: bool = True
) -> ClusteredRates:
    """Returns the rates over simulated score differences in clusters: symmetric about 0, or skewed and above it."""
    rng = np.random.default_rng(seed)
    draw, mean = (skewed_differences, SKEWED_MEAN) if skewed else (symmetric_differences, 0.0)
    rows = np.full((simulations, 5), np.nan)
    for index, row in enumerate(rows):
        clusters = truth.labels(rng)
        own = draw(len(clusters), rng)
        values = np.where(truth.shared(clusters, rng), draw(truth.clusters, rng)[clusters], own)
        if test:
            p = statistics.sign_flip_p(values, clusters=clusters)
            row[1:3] = p < statistics.ALPHA, p < statistics.ALPHA and values.sum() > 0
            if index < NAIVE_SIMULATIONS:
                row[0] = statistics.sign_flip_p(values) < statistics.ALPHA
        if interval:
            row[4] = holds(statistics.bootstrap_interval(values, bounds=(-1, 1), clusters=clusters), mean)
            if index < NAIVE_SIMULATIONS:
                row[3] = holds(statistics.bootstrap_interval(values, bounds=(-1, 1)), mean)
    counted = [column[~np.isnan(column)] for column in rows.T]
    return ClusteredRates(*(float(column.mean()) if len(column) else math.nan for column in counted))


def holds(interval: statistics.Interval, truth: float) -> bool:
    return interval.low - 1e-12 <= truth <= interval.high + 1e-12


def symmetric_differences(n: int, rng: np.random.Generator) -> Floats:
    """Two models whose scores lean towards 1."""
    return 0.5 * (rng.beta(2, 1, n) - rng.beta(2, 1, n))


def skewed_differences(n: int, rng: np.random.Generator) -> Floats:
    """Mostly ties, some large gains, few losses: as field scores are. The mean is `SKEWED_MEAN`."""
    gains = np.where(rng.random(n) < 0.3, 0.8 * rng.beta(2, 2, n), 0.0)
    return gains - np.where(rng.random(n) < 0.05, 0.5 * rng.random(n), 0.0)


SKEWED_MEAN = 0.3 * 0.8 * 0.5 - 0.05 * 0.5 * 0.5


# Levels, plans, families, samples, curves ----------------------------------------------------------------------------


def level(n: int, flip_rate: float, *, mid_p: bool) -> float:
    """Returns the exact probability that McNemar's test calls a null comparison of n rows significant."""
    p_of = statistics.mcnemar_mid_p if mid_p else statistics.mcnemar_p
    total = 0.0
    for flips in range(n + 1):
        likely = float(binom.pmf(flips, n, flip_rate))
        if likely < 1e-9:
            continue
        wins = np.arange(flips + 1)
        shown = np.array([p_of(int(count), flips - int(count)) < statistics.ALPHA for count in wins])
        total += likely * float(binom.pmf(wins, flips, 0.5) @ shown)
    return total


PLANS = [(0.15, 0.05, 0.2, True), (0.15, 0.05, 0.2, False), (0.2, 0.1, 0.5, True), (0.2, 0.1, 0.5, False)]
PLANS += [(0.15, 0.05, 1.0, True), (0.1, 0.02, 0.3, False)]
"""Gain, share of rows that flip against it, correlation, and whether clusters are of one size."""


def planned(gain: float, regress: float, correlation: float, even: bool) -> tuple[Clustered, float]:
    """Returns the comparison on as many rows as `rows_needed` asks for, and the power it promises."""
    kind = Clustered(1_000, even, correlation, gain + regress, regress, 0.4)
    rows = statistics.rows_needed(gain, regress, grouping=kind.grouping())
    assert rows is not None
    truth = Clustered(-(-rows // ROWS_A_CLUSTER), even, correlation, gain + regress, regress, 0.4)
    num_rows = truth.clusters * ROWS_A_CLUSTER
    return truth, statistics.gain_power(gain, regress, num_rows, grouping=truth.grouping())


def families(simulations: int, seed: int, *, models: int = 4, n: int = 200) -> tuple[float, float]:
    """Returns how often a table of equally good models claims any difference: uncorrected, and after Holm."""
    rng = np.random.default_rng(seed)
    raw = corrected = 0
    for _ in range(simulations):
        right = rng.random((models, n)) < 0.6
        p_values = []
        for one in range(models):
            for other in range(one + 1, models):
                wins, losses = (right[other] & ~right[one]).sum(), (right[one] & ~right[other]).sum()
                p_values.append(statistics.mcnemar_p(int(wins), int(losses)))
        raw += min(p_values) < statistics.ALPHA
        corrected += min(statistics.holm(p_values)) < statistics.ALPHA
    return raw / simulations, corrected / simulations


@dataclass(frozen=True)
class SampledRates:
    """Of rows answered several times: intervals that hold the truth, and the parts of the squared standard error as
    measured, each as a share of its true value."""

    covered: float
    sampling: float
    rows: float


def sampled(answers: int, simulations: int, seed: int, *, n: int = 80, clusters: int | None = None) -> SampledRates:
    """Returns the rates over comparisons of two models that answer each row several times, right or wrong.

    Each row has its own chances of a right answer: for the base Beta(2, 2), for the tuned model Beta(3, 2).
    """
    rng = np.random.default_rng(seed)
    truth = 3 / 5 - 1 / 2
    # E[p(1 - p)] and Var(p) of both Beta distributions
    sampling = (1 / 5 + 1 / 5) / answers / n
    row_part = (1 / 20 + 1 / 25) / n
    found = np.zeros((simulations, 3))
    for index, row in enumerate(found):
        base = rng.binomial(1, rng.beta(2, 2, n)[:, None], (n, answers)).astype(np.float64)
        tuned = rng.binomial(1, rng.beta(3, 2, n)[:, None], (n, answers)).astype(np.float64)
        differences = tuned.mean(1) - base.mean(1)
        error = float(differences.std(ddof=1)) / math.sqrt(n)
        noise = statistics.split_noise(base.tolist(), tuned.tolist(), error)
        interval = statistics.bootstrap_interval(differences, bounds=(-1, 1), seed=index)
        row[:] = holds(interval, truth), noise.sampling_error**2 / sampling, noise.row_error**2 / row_part
    return SampledRates(*found.mean(axis=0).tolist())


@dataclass(frozen=True)
class CurveRates:
    """Of fitted learning curves: intervals that hold the score at all examples, at four times as many, the gain between,
    and the number of examples for three points more."""

    now: float
    later: float
    gain: float
    number: float


CURVES = [(0.9, 2.0, 0.35), (0.95, 0.8, 0.1), (0.85, 5.0, 0.8), (0.8, 0.0, 0.5), (0.99, 20.0, 0.9)]
"""Ceiling, drop and rate of true curves; the fourth is flat."""


def curves(truth: tuple[float, float, float], error: float, simulations: int, seed: int) -> CurveRates:
    """Returns the rates over fits to four noisy scores, at 1/8, 1/4, 1/2 and all of 1,000 examples."""
    rng = np.random.default_rng(seed)
    ceiling, drop, rate = truth
    sizes = np.array([125.0, 250.0, 500.0, 1000.0])
    missing = drop * 1000**-rate
    times = (1 - 0.03 / missing) ** (-1 / rate) if missing > 0.03 else math.inf
    needed = (times - 1) * 1000 if times <= 100 else math.inf
    now, later = ceiling - missing, ceiling - drop * 4000**-rate
    found = np.zeros((simulations, 4))
    for row in found:
        fit = fit_curve(sizes, ceiling - drop * sizes**-rate + rng.normal(0, error, 4), [error] * 4)
        more = fit.examples_for(0.03)
        low, high = (math.inf if number is None else number for number in (more.low, more.high))
        gain = statistics.Interval(*(end for end in fit.gain_at(4000)[1]))
        row[:] = (
            holds(fit.score_at(1000)[1], now),
            holds(fit.score_at(4000)[1], later),
            holds(statistics.Interval(gain.low - 1e-9, gain.high + 1e-9), later - now),
            low - 1 <= needed <= high,
        )
    return CurveRates(*found.mean(axis=0).tolist())
