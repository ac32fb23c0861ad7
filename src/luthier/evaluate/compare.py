"""Two sets of scores for the same rows: difference, interval, test, power, verdict.

The verdict is a rule that can be checked from the numbers beside it. BETTER and WORSE need both a p-value below 0.05
and an interval that excludes 0; where several tests were made, the p-value is the corrected one. Else the verdict is NO
DIFFERENCE SHOWN where the smallest detectable gain is at most the smallest gain worth having, and UNDERPOWERED where it
is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from luthier.errors import EvaluateError
from luthier.evaluate.findings import (
    PLANNED_REGRESS_RATE,
    Estimate,
    Findings,
    assumed_deviation,
    assumed_regress_rate,
    find,
    rows_words,
)
from luthier.evaluate.pairing import Pairs, Score, Scores, pair_scores
from luthier.evaluate.sentences import counted, p_value, points, signed, with_unit
from luthier.evaluate.statistics import ALPHA, MAX_ROWS, POWER, Noise

__all__ = [
    "NAMES",
    "PLANNED_REGRESS_RATE",
    "Comparison",
    "Estimate",
    "Score",
    "Scores",
    "Verdict",
    "assumed_deviation",
    "assumed_regress_rate",
    "check_minimum_gain",
    "compare_scores",
    "conclude",
]

Verdict = Literal["BETTER", "WORSE", "NO DIFFERENCE SHOWN", "UNDERPOWERED"]

NAMES = ("the base", "the fine-tuned model")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two sets of scores for the same rows show.

    Attributes:
        n: rows that both sides have a score for; all numbers below are about them.
        base, tuned: mean scores.
        difference: tuned minus base.
        wins, losses, ties: rows on which tuned scored higher, lower, the same.
        p_value: two-sided, paired.
        test: its name and source.
        detectable_gain: the smallest gain that this many rows show with 80 % power; None where none is.
        rows_needed: rows that would show `planned_gain` with 80 % power; None above 100,000.
        planned_gain: the observed gain where there is one, else the smallest worth having; also where the observed
            gain should have been shown by the rows there are, and was not.
        power_assumption: what the three numbers above assume.
        verdict, reason: the answer, and the numbers behind it in one sentence.
        base_unscored, tuned_unscored: rows without a score, on each side.
        base_only, tuned_only: ids that only one side has.
        mid_p: the mid-p-value of McNemar's test, for independent right-or-wrong rows; it decides nothing.
        num_tests: tests made together with this one.
        adjusted_p: the p-value corrected for them (Holm), which decides; None where this is the only test.
        clusters: sources that the rows come from; None where rows are taken as independent.
        correlation, design_effect: how alike rows of one cluster are, and how many rows are worth one because of it.
        noise: the standard error in its parts, where answers were sampled several times.
        notes: what a reader must know besides.
    """

    n: int
    base: Estimate
    tuned: Estimate
    difference: Estimate
    wins: int
    losses: int
    ties: int
    p_value: float
    test: str
    detectable_gain: float | None
    rows_needed: int | None
    planned_gain: float
    power_assumption: str
    verdict: Verdict
    reason: str
    base_unscored: int
    tuned_unscored: int
    base_only: int
    tuned_only: int
    mid_p: float | None = None
    num_tests: int = 1
    adjusted_p: float | None = None
    clusters: int | None = None
    correlation: float | None = None
    design_effect: float | None = None
    noise: Noise | None = None
    notes: tuple[str, ...] = ()


def compare_scores(
    base: Scores,
    tuned: Scores,
    *,
    minimum_gain: float = 0.1,
    seed: int = 0,
    deed: str = "answered",
    clusters: Mapping[str, str] | None = None,
    names: tuple[str, str] = NAMES,
) -> Comparison:
    """Returns what two sets of scores show, paired by id.

    Right-or-wrong scores (only 0 and 1 on the paired rows) get exact methods, others a permutation test and a
    bootstrap. The order of rows has no influence, and exchanging the sides mirrors the result.

    Args:
        base, tuned: id → score in [0, 1], or None where the answer could not be scored; such rows are left out of the
            comparison and counted. A row that was answered several times has a list of scores.
        minimum_gain: the smallest gain worth having, in score points.
        seed: of the permutations and resamples, where there are any.
        deed: what a model did with a row, for the sentence about right and wrong ones.
        clusters: id → the source that a row shares with others; None where rows are independent.
        names: of the two sides, for sentences.

    Raises:
        EvaluateError: code "no_common_samples" where no row has two scores; "bad_score" for a score that is not in
            [0, 1]; "no_cluster" for a row without one; "bad_minimum_gain" for one that is not between 0 and 1.
    """
    check_minimum_gain(minimum_gain)
    pairs = pair_scores(base, tuned, clusters, names)
    return conclude(pairs, find(pairs, seed=seed, deed=deed, names=names), minimum_gain, names)


def check_minimum_gain(minimum_gain: float) -> None:
    """Refuses a smallest gain worth having that is not between 0 and 1.

    Raises:
        EvaluateError: code "bad_minimum_gain".
    """
    if not 0 < minimum_gain < 1:
        raise EvaluateError(
            f"The smallest gain worth having is {minimum_gain}.",
            code="bad_minimum_gain",
            param="evaluate.minimum_gain",
            hint="Give a number between 0 and 1, such as 0.1 for ten points.",
        )


def conclude(
    pairs: Pairs,
    findings: Findings,
    minimum_gain: float,
    names: tuple[str, str] = NAMES,
    *,
    adjusted_p: float | None = None,
    num_tests: int = 1,
) -> Comparison:
    """Returns the comparison with its verdict.

    Args:
        pairs, findings: what was measured.
        minimum_gain: the smallest gain worth having, in score points.
        names: of the two sides, for sentences.
        adjusted_p: the corrected p-value where `num_tests` tests were made together.
        num_tests: how many there were.
    """
    deciding = findings.p_value if adjusted_p is None else adjusted_p
    verdict = _verdict(findings, deciding, minimum_gain)
    gain = findings.difference.value if findings.difference.value > 0 else minimum_gain
    rows = findings.rows_needed(gain)
    n = len(pairs.base)
    if verdict == "UNDERPOWERED" and rows is not None and rows <= n:
        gain = minimum_gain
        rows = findings.rows_needed(gain)
    wins, losses = int((pairs.tuned > pairs.base).sum()), int((pairs.tuned < pairs.base).sum())
    grouping = findings.grouping
    return Comparison(
        n=n,
        base=findings.base,
        tuned=findings.tuned,
        difference=findings.difference,
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        p_value=findings.p_value,
        test=findings.test,
        detectable_gain=findings.detectable_gain,
        rows_needed=rows,
        planned_gain=gain,
        power_assumption=findings.power_assumption,
        verdict=verdict,
        reason=_Reason(pairs, findings, names, deciding, num_tests).sentence(verdict, minimum_gain, gain, rows),
        base_unscored=pairs.base_unscored,
        tuned_unscored=pairs.tuned_unscored,
        base_only=pairs.base_only,
        tuned_only=pairs.tuned_only,
        mid_p=findings.mid_p,
        num_tests=num_tests,
        adjusted_p=adjusted_p,
        clusters=pairs.num_clusters,
        correlation=grouping.correlation if grouping else None,
        design_effect=grouping.design_effect if grouping else None,
        noise=findings.noise,
        notes=tuple(_notes(pairs, findings.noise, names)),
    )


def _verdict(findings: Findings, deciding_p: float, minimum_gain: float) -> Verdict:
    if deciding_p < ALPHA and _excludes_zero(findings.difference):
        return "BETTER" if findings.difference.value > 0 else "WORSE"
    detectable = findings.detectable_gain
    return "NO DIFFERENCE SHOWN" if detectable is not None and detectable <= minimum_gain else "UNDERPOWERED"


def _excludes_zero(interval: Estimate) -> bool:
    return not interval.low <= 0 <= interval.high


@dataclass(frozen=True, slots=True)
class _Reason:
    """The one sentence, put together from the numbers it is about."""

    pairs: Pairs
    findings: Findings
    names: tuple[str, str]
    deciding_p: float
    num_tests: int

    def sentence(self, verdict: Verdict, minimum_gain: float, planned_gain: float, rows: int | None) -> str:
        """Returns the verdict's reason."""
        difference = self.findings.difference
        sentence = (
            f"{self.findings.lead}: {signed(difference.value)} (95 % interval {points(difference.low)} to "
            f"{points(difference.high)}), {p_value(self.deciding_p)}"
        )
        if self.num_tests > 1:
            sentence += f" after Holm's correction for {self.num_tests:,} tests"
        if verdict in ("BETTER", "WORSE"):
            return f"{sentence}."
        if _excludes_zero(difference) or self.deciding_p < ALPHA:
            sentence += "; a verdict needs both p below 0.05 and an interval without 0, and only one of them holds"
        if self.findings.base.value + minimum_gain > 1:
            sentence += f"; {self.names[0]} leaves {with_unit(points(1 - self.findings.base.value))} to gain"
        wanted = f"a gain of {with_unit(points(minimum_gain))}"
        if verdict == "NO DIFFERENCE SHOWN":
            return f"{sentence}; {wanted} would have been shown with at least {points(POWER)} % power."
        enough = f"about {rows:,}" if rows is not None else f"more than {MAX_ROWS:,}"
        seen = f"the gain seen here, {with_unit(points(planned_gain))}" if planned_gain != minimum_gain else "it"
        shortage = f"{rows_words(self.pairs)} cannot be relied on to show {wanted}"
        return f"{sentence}; {shortage}, and {enough} would be needed to show {seen}."


def _notes(pairs: Pairs, noise: Noise | None, names: tuple[str, str]) -> list[str]:
    notes = []
    if pairs.alone:
        notes.append("Each cluster is one row: rows were taken as independent.")
    if pairs.answers_unscored:
        answers = counted(pairs.answers_unscored, "answer")
        notes.append(f"{answers} could not be scored in rows with others, and were left out of the rows' means.")
    if noise is not None:
        notes.append(
            f"Of the difference's standard error of {with_unit(points(noise.error))}, sampling makes "
            f"{points(noise.sampling_error)} ({noise.base_samples:.3g} answers a row from {names[0]}, "
            f"{noise.tuned_samples:.3g} from {names[1]}) and the rows {points(noise.row_error)}: twice the answers a row "
            f"would leave {points(noise.error_with(2))}, and no number of them less than the rows' part (Miller 2024, "
            "arXiv 2411.00640)."
        )
    return notes
