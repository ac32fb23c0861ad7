"""Is what the statistics promise true? Simulated comparisons whose truth is known, written to docs/measurements.

For each kind of score, rows alone and rows in clusters: how often a model that is no better gets p < 0.05 or a verdict
(promised: at most 5 % by the test's level), how often an interval holds the true value (promised: 95 %), and how often a
true gain is shown on the number of rows that `rows_needed` names (promised: 80 %).

    python benchmarks/statistics_calibration.py [--simulations 10000] [--write docs/measurements/statistics.md]
"""

from __future__ import annotations

import argparse
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray
from statistics_simulated import (
    CURVES,
    GAINS_IN_CLUSTERS,
    NULLS_IN_CLUSTERS,
    PLANS,
    SKEWED_MEAN,
    Clustered,
    curves,
    families,
    graded_clusters,
    level,
    planned,
    right_or_wrong_clusters,
    sampled,
    skewed_differences,
    symmetric_differences,
)

from luthier.evaluate import statistics
from luthier.evaluate.compare import compare_scores

Floats = NDArray[np.float64]
SEED = 20_260_501


@dataclass(frozen=True)
class Table:
    """The truth of a right-or-wrong comparison: shares of wins and losses, and of rows both get right."""

    name: str
    n: int
    win: float
    lose: float
    both: float

    @property
    def difference(self) -> float:
        return self.win - self.lose

    @property
    def cells(self) -> list[float]:
        return [self.both, self.win, self.lose, max(0.0, 1 - self.both - self.win - self.lose)]


@dataclass(frozen=True)
class Rates:
    """Shares of the simulated comparisons.

    Attributes:
        significant: p < 0.05.
        verdict: p < 0.05, and the interval excludes 0.
        right_way: a verdict in the direction of the true difference.
        covered: the interval holds the true difference.
        tuned_covered: the interval of the tuned model's own score holds its true value.
        mid: the mid-p-value is below 0.05, for right or wrong.
    """

    significant: float
    verdict: float
    right_way: float
    covered: float
    tuned_covered: float
    mid: float = 0.0


NULLS = [
    Table("few flips", 40, 0.05, 0.05, 0.4),
    Table("few flips", 200, 0.05, 0.05, 0.6),
    Table("many flips", 40, 0.2, 0.2, 0.3),
    Table("many flips", 200, 0.2, 0.2, 0.3),
    Table("many flips", 1000, 0.2, 0.2, 0.3),
]
GAINS = [
    Table("base never right", 40, 0.9, 0.0, 0.0),
    Table("large gain", 40, 0.3, 0.05, 0.4),
    Table("middle gain", 100, 0.2, 0.05, 0.5),
    Table("small gain", 500, 0.08, 0.05, 0.7),
    Table("loss", 100, 0.05, 0.2, 0.5),
]


def right_or_wrong(truth: Table, simulations: int, rng: np.random.Generator) -> Rates:
    """Returns the rates over simulated 2 x 2 tables; equal tables are judged once."""
    drawn, counts = np.unique(rng.multinomial(truth.n, truth.cells, size=simulations), axis=0, return_counts=True)
    rows = []
    for both, wins, losses, neither in drawn.tolist():
        interval = statistics.newcombe_interval(both, wins, losses, neither)
        tuned = statistics.wilson_interval(both + wins, truth.n)
        found = judged(
            statistics.mcnemar_p(wins, losses),
            interval,
            truth.difference,
            (wins - losses) / truth.n,
            tuned.low <= truth.both + truth.win <= tuned.high,
        )
        rows.append((*found, statistics.mcnemar_mid_p(wins, losses) < statistics.ALPHA))
    return Rates(*np.average(np.array(rows, dtype=np.float64), axis=0, weights=counts))


def verdicts(truth: Table, simulations: int, rng: np.random.Generator) -> Counter[str]:
    """Returns how often each verdict is given on whole comparisons, as a person gets them."""
    said: Counter[str] = Counter()
    drawn, counts = np.unique(rng.multinomial(truth.n, truth.cells, size=simulations), axis=0, return_counts=True)
    for (both, wins, losses, neither), count in zip(drawn.tolist(), counts.tolist(), strict=True):
        base = [1.0] * both + [0.0] * wins + [1.0] * losses + [0.0] * neither
        tuned = [1.0] * both + [1.0] * wins + [0.0] * losses + [0.0] * neither
        comparison = compare_scores(*({str(row): score for row, score in enumerate(side)} for side in (base, tuned)))
        said[comparison.verdict] += count
    return said


def judged(
    p: float, interval: statistics.Interval, truth: float, value: float, tuned_covered: bool
) -> tuple[bool, bool, bool, bool, bool]:
    significant = p < statistics.ALPHA
    verdict = significant and not interval.low <= 0 <= interval.high
    covered = interval.low - 1e-12 <= truth <= interval.high + 1e-12
    return significant, verdict, verdict and value * truth > 0, covered, tuned_covered


def graded(draw: Callable[[np.random.Generator], Floats], truth: float, simulations: int, seed: int) -> Rates:
    """Returns the rates over simulated samples of score differences."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(simulations):
        differences = draw(rng)
        interval = statistics.bootstrap_interval(differences, bounds=(-1.0, 1.0), seed=index)
        p = statistics.sign_flip_p(differences, seed=index)
        rows.append(judged(p, interval, truth, float(differences.mean()), tuned_covered=True))
    return Rates(*np.mean(np.array(rows, dtype=np.float64), axis=0))


def symmetric(n: int, gain: float = 0.0) -> Callable[[np.random.Generator], Floats]:
    """Two models whose scores lean towards 1, and whose difference has a known mean."""
    return lambda rng: symmetric_differences(n, rng) + gain


def skewed(n: int) -> Callable[[np.random.Generator], Floats]:
    """Mostly ties, some large gains, few losses: as field scores are. The mean is `SKEWED_MEAN`."""
    return lambda rng: skewed_differences(n, rng)


SYMMETRIC_DEVIATION = 0.5 * (2 / 18) ** 0.5
"""The variance of Beta(2, 1) is 1/18."""


def report(simulations: int) -> Iterator[str]:
    """Yields the lines of the page."""
    started = time.perf_counter()
    rng = np.random.default_rng(SEED)
    slow = max(100, simulations // 2)
    yield from (
        "# Statistics: is what they promise true?",
        "",
        "Simulated comparisons whose truth is known. Written by `python benchmarks/statistics_calibration.py --write "
        "docs/measurements/statistics.md`; `tests/evaluate/test_calibration.py` (`make proof`) asserts the same.",
        "",
        f"{simulations:,} simulations a line for right-or-wrong scores (standard error of a 5 % rate: "
        f"{100 * (0.05 * 0.95 / simulations) ** 0.5:.2f} points), {slow:,} for graded ones "
        f"({100 * (0.05 * 0.95 / slow) ** 0.5:.2f} points). Seed {SEED}.",
        "",
        "## No difference: how often is one claimed?",
        "",
        "Promised: at most 5 %. The exact McNemar test, which decides, keeps below its level because its p-values come in "
        "steps; its mid-p-value, which is shown beside and decides nothing, is nearer (decision 0015). A verdict needs an "
        "interval without 0 besides.",
        "",
        "| scores | truth | rows | p < 0.05 | mid-p < 0.05 | BETTER or WORSE | interval holds 0 |",
        "|---|---|---:|---:|---:|---:|---:|",
    )
    for truth in NULLS:
        rates = right_or_wrong(truth, simulations, rng)
        yield (
            f"| right or wrong | {truth.name}: {100 * truth.win:g} % each way | {truth.n} | "
            f"{percent(rates.significant)} | {percent(rates.mid)} | {percent(rates.verdict)} | {percent(rates.covered)} |"
        )
    for n in (10, 20, 50, 100):
        rates = graded(symmetric(n), 0.0, slow, SEED + n)
        yield (
            f"| graded | differences symmetric about 0 | {n} | {percent(rates.significant)} | | "
            f"{percent(rates.verdict)} | {percent(rates.covered)} |"
        )
    yield from (
        "",
        "## A true difference: does the interval hold it?",
        "",
        "Promised: 95 %. «Own score» is the Wilson interval of the fine-tuned model's score.",
        "",
        "| scores | truth | rows | interval of the difference | of the own score |",
        "|---|---|---:|---:|---:|",
    )
    for truth in GAINS:
        rates = right_or_wrong(truth, simulations, rng)
        yield (
            f"| right or wrong | {truth.name}: {100 * truth.difference:+g} points | {truth.n} | "
            f"{percent(rates.covered)} | {percent(rates.tuned_covered)} |"
        )
    for n in (10, 20, 50, 100):
        rates = graded(skewed(n), SKEWED_MEAN, slow, SEED + 1000 + n)
        yield f"| graded | skewed: {100 * SKEWED_MEAN:+.2f} points | {n} | {percent(rates.covered)} | |"
    yield from levels()
    yield from in_clusters(simulations, slow)
    yield from (
        "",
        "## The promised power: is the gain shown on `rows_needed` rows?",
        "",
        "Promised: 80 % for the test (computed exactly for right-or-wrong scores, by the paired t-test for graded ones). The "
        "last column is what a person gets: the verdict BETTER.",
        "",
        "| scores | true gain | against it | rows needed | power promised | p < 0.05 | BETTER |",
        "|---|---:|---:|---:|---:|---:|---:|",
    )
    for gain, regress in ((0.3, 0.05), (0.2, 0.05), (0.1, 0.05), (0.1, 0.02), (0.05, 0.05), (0.1, 0.1)):
        n = statistics.rows_needed(gain, regress)
        assert n is not None
        truth = Table("gain", n, gain + regress, regress, 0.4)
        rates = right_or_wrong(truth, simulations, rng)
        promised = statistics.mcnemar_power(gain, regress, n)
        yield (
            f"| right or wrong | {100 * gain:g} points | {100 * regress:g} % | {n} | {percent(promised)} | "
            f"{percent(rates.significant)} | {percent(rates.right_way)} |"
        )
    for gain in (0.1, 0.05):
        n = statistics.score_rows_needed(gain, SYMMETRIC_DEVIATION)
        assert n is not None
        rates = graded(symmetric(n, gain), gain, slow, SEED + 2000 + n)
        promised = statistics.score_power(gain, SYMMETRIC_DEVIATION, n)
        yield (
            f"| graded | {100 * gain:g} points | standard deviation {100 * SYMMETRIC_DEVIATION:.1f} points | {n} | "
            f"{percent(promised)} | {percent(rates.significant)} | {percent(rates.right_way)} |"
        )
    yield from (
        "",
        "## NO DIFFERENCE SHOWN: how often is it said of a gain of the very size worth having?",
        "",
        "Promised: at most 20 %, because the verdict needs 80 % power for that gain; where the rows do not give that, "
        "UNDERPOWERED is said instead. The flips against the gain are measured on the same rows, with their floor. "
        f"{slow // 5:,} simulations a line, true gain 10 points.",
        "",
        "| against it | rows | BETTER | NO DIFFERENCE SHOWN | UNDERPOWERED | WORSE |",
        "|---|---:|---:|---:|---:|---:|",
    )
    for regress in (0.02, 0.05, 0.1):
        for n in (120, 180, 300):
            said = verdicts(Table("gain", n, 0.1 + regress, regress, 0.4), slow // 5, rng)
            shares = " | ".join(
                percent(said[word] / said.total())
                for word in ("BETTER", "NO DIFFERENCE SHOWN", "UNDERPOWERED", "WORSE")
            )
            yield f"| {100 * regress:g} % | {n} | {shares} |"
    yield from (
        "",
        "## Rows needed and power, computed",
        "",
        "80 % power, two-sided 5 % level, exact McNemar test: the smallest n from which the power stays at 80 %.",
        "",
        "| rows that flip against the gain | +20 points | +10 | +5 | +3 |",
        "|---|---:|---:|---:|---:|",
    )
    for regress in (0.02, 0.05, 0.1):
        needed = " | ".join(f"{statistics.rows_needed(gain, regress):,}" for gain in (0.2, 0.1, 0.05, 0.03))
        yield f"| {100 * regress:g} % | {needed} |"
    yield from others(simulations, slow)
    yield from (
        "",
        f"Measured in {time.perf_counter() - started:.0f} s on {platform.machine()} with Python "
        f"{platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}.",
        "",
    )


def levels() -> Iterator[str]:
    """Yields how near McNemar's tests come to their level, computed without simulation."""
    yield from (
        "",
        "## The level of McNemar's test by the number of flips, computed",
        "",
        "500 rows of which so many flip on average, either way alike: the exact probability of p < 0.05.",
        "",
        "| rows that flip | exact | mid-p |",
        "|---:|---:|---:|",
    )
    for flips in (5, 10, 15, 20, 30, 50, 100, 200):
        exact, middle = (percent(level(500, flips / 500, mid_p=mid_p)) for mid_p in (False, True))
        yield f"| {flips} | {exact} | {middle} |"


def in_clusters(simulations: int, slow: int) -> Iterator[str]:
    """Yields what holds where rows share a source."""
    yield from (
        "",
        "## Rows that share a source",
        "",
        "No true difference. Promised: p < 0.05 in 5 % of comparisons by the sign-flip test of whole clusters, a little less "
        "where few clusters of one size make p come in steps. «Rows alone» "
        f"is the test that takes rows as independent (of graded scores, {1_000:,} simulations).",
        "",
        "| scores | truth | rows alone: p < 0.05 | by clusters: p < 0.05 | rows alone: interval holds 0 | by clusters |",
        "|---|---|---:|---:|---:|---:|",
    )
    for index, truth in enumerate(NULLS_IN_CLUSTERS):
        found = right_or_wrong_clusters(truth, simulations, SEED + 3000 + index)
        yield (
            f"| right or wrong | {truth.words}, {100 * truth.win:g} % flips each way | {percent(found.naive)} | "
            f"{percent(found.ours)} | {percent(found.naive_covered)} | {percent(found.covered)} |"
        )
    for index, truth in enumerate(NULLS_IN_CLUSTERS[:4]):
        found = graded_clusters(truth, slow, SEED + 3100 + index, skewed=False)
        yield (
            f"| graded | {truth.words} | {percent(found.naive)} | {percent(found.ours)} | "
            f"{percent(found.naive_covered)} | {percent(found.covered)} |"
        )
    yield from (
        "",
        "A true difference: does the interval hold it? Promised: 95 %.",
        "",
        "| scores | truth | rows alone | by clusters |",
        "|---|---|---:|---:|",
    )
    for index, truth in enumerate(GAINS_IN_CLUSTERS):
        found = right_or_wrong_clusters(truth, simulations, SEED + 3200 + index)
        gain = f"{100 * truth.difference:+.0f} points, {100 * truth.lose:g} % against"
        yield f"| right or wrong | {truth.words}: {gain} | {percent(found.naive_covered)} | {percent(found.covered)} |"
    for index, (clusters, even) in enumerate(
        ((8, True), (8, False), (12, False), (20, False), (30, False), (60, False))
    ):
        truth = Clustered(clusters, even, 0.5, 0, 0, 0)
        found = graded_clusters(truth, slow, SEED + 3300 + index, skewed=True, test=False)
        yield (
            f"| graded, skewed | {truth.words}: {100 * SKEWED_MEAN:+.2f} points | {percent(found.naive_covered)} | "
            f"{percent(found.covered)} |"
        )
    yield from (
        "",
        "Right or wrong: Newcombe's interval of the counts divided by the design effect. Graded: BCa bootstrap of whole "
        "clusters at the level of the jackknife's error and Student's t; below 20 clusters it is widened to hold the t "
        "interval too. Where few clusters hold all flips, or fewer than about 12 there are, neither is sure of 95 %: the "
        "sign-flip test, which a verdict needs besides, keeps its level at any number.",
        "",
        "Is the gain shown on the rows that `rows_needed` names? Promised: 80 %, within 3 points, and not less where flips "
        "against the gain are rare (the last line).",
        "",
        "| true gain | against it | correlation | clusters | power promised | p < 0.05, right way |",
        "|---:|---:|---:|---:|---:|---:|",
    )
    for index, (gain, regress, correlation, even) in enumerate(PLANS):
        truth, power = planned(gain, regress, correlation, even)
        found = right_or_wrong_clusters(truth, slow, SEED + 3400 + index)
        sizes = "of 5 rows" if even else "of 1 to 12 rows"
        yield (
            f"| {100 * gain:g} points | {100 * regress:g} % | {correlation:g} | {truth.clusters} {sizes} | "
            f"{percent(power)} | {percent(found.right_way)} |"
        )


def others(simulations: int, slow: int) -> Iterator[str]:
    """Yields what holds of families of tests, of rows answered several times, and of learning curves."""
    raw, corrected = families(simulations, SEED + 4000)
    yield from (
        "",
        "## Four equally good models, six pairs: how often is any difference claimed?",
        "",
        f"Promised: at most 5 % after Holm's correction. Uncorrected: {percent(raw)}. Corrected: {percent(corrected)}.",
        "",
        "## Rows answered several times",
        "",
        "Two models with their own chance on each of 80 rows. The parts of the squared standard error, as measured, in "
        "shares of their true values; promised: 100 % on average.",
        "",
        "| answers a row | interval holds the difference | sampling part | row part |",
        "|---:|---:|---:|---:|",
    )
    for answers in (2, 4, 8):
        found = sampled(answers, slow // 2, SEED + 4100 + answers)
        yield f"| {answers} | {percent(found.covered)} | {percent(found.sampling)} | {percent(found.rows)} |"
    yield from (
        "",
        "## Learning curves from four sizes",
        "",
        "1/8, 1/4, 1/2 and all of 1,000 examples. Promised: 95 %, and more where the bounds of ceiling and rate rule out a "
        f"part of what chance might show. {slow // 2:,} simulations a line.",
        "",
        "| true curve | standard error | score now | at 4 × the examples | gain between | examples for 3 points |",
        "|---|---:|---:|---:|---:|---:|",
    )
    for index, (ceiling, drop, rate) in enumerate(CURVES):
        for error in (0.01, 0.03):
            held = curves((ceiling, drop, rate), error, slow // 2, SEED + 4200 + 100 * index + round(1000 * error))
            yield (
                f"| {ceiling:g} − {drop:g} n^−{rate:g} | {100 * error:g} points | {percent(held.now)} | "
                f"{percent(held.later)} | {percent(held.gain)} | {percent(held.number)} |"
            )


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    lines = []
    for line in report(arguments.simulations):
        print(line, flush=True)
        lines.append(line)
    if arguments.write:
        arguments.write.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
