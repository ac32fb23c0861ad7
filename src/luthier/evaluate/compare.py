"""Two sets of scores for the same rows: difference, interval, test, power, verdict.

The verdict is a rule that can be checked from the numbers beside it. BETTER and WORSE need both a p-value below 0.05
and an interval that excludes 0. Else the verdict is NO DIFFERENCE SHOWN where the smallest detectable gain is at most
the smallest gain worth having, and UNDERPOWERED where it is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np

from luthier.errors import EvaluateError
from luthier.evaluate import statistics
from luthier.evaluate.graders import parse_json
from luthier.evaluate.statistics import ALPHA, MAX_ROWS, POWER, Floats, Interval

Verdict = Literal["BETTER", "WORSE", "NO DIFFERENCE SHOWN", "UNDERPOWERED"]
Scores = Mapping[str, float | None]

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


def compare_scores(
    base: Scores, tuned: Scores, *, minimum_gain: float = 0.1, seed: int = 0, deed: str = "answered"
) -> Comparison:
    """Returns what two sets of scores show, paired by id.

    Right-or-wrong scores (only 0 and 1 on the paired rows) get exact methods, others a permutation test and a
    bootstrap. The order of rows has no influence, and exchanging the sides mirrors the result.

    Args:
        base, tuned: id → score in [0, 1], or None where the answer could not be scored; such rows are left out of the
            comparison and counted.
        minimum_gain: the smallest gain worth having, in score points.
        seed: of the permutations and resamples, where there are any.
        deed: what a model did with a row, for the sentence about right and wrong ones.

    Raises:
        EvaluateError: code "no_common_samples" where no row has two scores; "bad_score" for a score that is not in
            [0, 1]; "bad_minimum_gain" for one that is not between 0 and 1.
    """
    if not 0 < minimum_gain < 1:
        raise EvaluateError(
            f"The smallest gain worth having is {minimum_gain}.",
            code="bad_minimum_gain",
            param="evaluate.minimum_gain",
            hint="Give a number between 0 and 1, such as 0.1 for ten points.",
        )
    pairs = _paired(base, tuned)
    base_side, tuned_side = np.array(pairs, dtype=np.float64).T
    if all(score in (0, 1) for pair in pairs for score in pair):
        findings = _right_or_wrong(base_side, tuned_side, deed)
    else:
        findings = _graded(base_side, tuned_side, seed)
    verdict = _verdict(findings, minimum_gain)
    gain = findings.difference.value if findings.difference.value > 0 else minimum_gain
    rows = findings.rows_needed(gain)
    if verdict == "UNDERPOWERED" and rows is not None and rows <= len(pairs):
        gain = minimum_gain
        rows = findings.rows_needed(gain)
    wins, losses = sum(one < other for one, other in pairs), sum(one > other for one, other in pairs)
    return Comparison(
        n=len(pairs),
        base=findings.base,
        tuned=findings.tuned,
        difference=findings.difference,
        wins=wins,
        losses=losses,
        ties=len(pairs) - wins - losses,
        p_value=findings.p_value,
        test=findings.test,
        detectable_gain=findings.detectable_gain,
        rows_needed=rows,
        planned_gain=gain,
        power_assumption=findings.power_assumption,
        verdict=verdict,
        reason=_reason(findings, verdict, len(pairs), minimum_gain, gain, rows),
        base_unscored=sum(score is None for score in base.values()),
        tuned_unscored=sum(score is None for score in tuned.values()),
        base_only=len(base.keys() - tuned.keys()),
        tuned_only=len(tuned.keys() - base.keys()),
    )


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


# The two families ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Findings:
    """What one family of methods says; see `Comparison`."""

    base: Estimate
    tuned: Estimate
    difference: Estimate
    p_value: float
    test: str
    detectable_gain: float | None
    rows_needed: Callable[[float], int | None]
    power_assumption: str
    lead: str


def _right_or_wrong(base: Floats, tuned: Floats, deed: str) -> _Findings:
    n = len(base)
    base_right, tuned_right = int(base.sum()), int(tuned.sum())
    both = int(base @ tuned)
    wins, losses = tuned_right - both, base_right - both
    wilson = "Wilson 1927"
    newcombe = statistics.newcombe_interval(both, wins, losses, n - both - wins - losses)
    rate = assumed_regress_rate(wins, losses, n)
    return _Findings(
        base=Estimate(base_right / n, *statistics.wilson_interval(base_right, n), wilson),
        tuned=Estimate(tuned_right / n, *statistics.wilson_interval(tuned_right, n), wilson),
        difference=Estimate((wins - losses) / n, *newcombe, "Newcombe 1998, method 10 (paired score interval)"),
        p_value=statistics.mcnemar_p(wins, losses),
        test="exact McNemar test (binomial on the rows that only one model got right)",
        detectable_gain=statistics.detectable_gain(n, rate),
        rows_needed=lambda gain: statistics.rows_needed(gain, rate),
        power_assumption=(
            f"Exact McNemar test, two-sided 5 % level, {_points(POWER)} % power, assuming that {_points(rate)} % of "
            f"the rows flip against the gain (seen here: {min(wins, losses)} of {n}; at least "
            f"{_points(assumed_regress_rate(0, 0, n))} % is assumed)."
        ),
        lead=f"The fine-tuned model {deed} {tuned_right:,} of {_test_rows(n)} rightly, the base {base_right:,}",
    )


def _graded(base: Floats, tuned: Floats, seed: int) -> _Findings:
    n = len(base)
    base, tuned = base.round(12), tuned.round(12)  # equal differences are to be equal, not but for rounding
    differences = (tuned - base).round(12)
    deviation = assumed_deviation(differences)

    def estimate(values: Floats, least: float) -> Estimate:
        interval = statistics.bootstrap_interval(values, bounds=(least, 1.0), seed=seed)
        equal = values.min() == values.max()
        method = "bound for equal values, Clopper & Pearson 1934" if equal else "BCa bootstrap, Efron 1987"
        return Estimate(float(values.mean()), *interval, method)

    return _Findings(
        base=(base_estimate := estimate(base, 0.0)),
        tuned=(tuned_estimate := estimate(tuned, 0.0)),
        difference=estimate(differences, -1.0),
        p_value=statistics.sign_flip_p(differences, seed=seed),
        test="sign-flip permutation test of the mean difference",
        detectable_gain=statistics.detectable_score_gain(n, deviation),
        rows_needed=lambda gain: statistics.score_rows_needed(gain, deviation),
        power_assumption=(
            f"Paired t-test for the permutation test, two-sided 5 % level, {_points(POWER)} % power, assuming that the "
            f"difference spreads over rows with a standard deviation of {_points(deviation)} points (as measured, with two "
            "rows of +50 and −50 points added so that a few equal rows do not promise too much)."
        ),
        lead=(
            f"The fine-tuned model scored {_points(tuned_estimate.value)} of 100 points on average over "
            f"{_test_rows(n)}, the base {_points(base_estimate.value)}"
        ),
    )


def _verdict(findings: _Findings, minimum_gain: float) -> Verdict:
    if findings.p_value < ALPHA and _excludes_zero(findings.difference):
        return "BETTER" if findings.difference.value > 0 else "WORSE"
    detectable = findings.detectable_gain
    return "NO DIFFERENCE SHOWN" if detectable is not None and detectable <= minimum_gain else "UNDERPOWERED"


def _paired(base: Scores, tuned: Scores) -> list[tuple[float, float]]:
    for name, scores in (("base", base), ("fine-tuned", tuned)):
        for key, score in scores.items():
            if score is not None and not 0 <= score <= 1:
                raise EvaluateError(
                    f"The {name} score of {key!r} is {score}.",
                    code="bad_score",
                    hint="Scores lie between 0 and 1; None says that an answer could not be scored.",
                )
    common = sorted(base.keys() & tuned.keys())
    pairs = [(one, other) for key in common if (one := base[key]) is not None and (other := tuned[key]) is not None]
    if pairs:
        return pairs
    if common:
        problem = f"Of the {len(common):,} rows that both sides have, none has a score on both."
        hint = "Look at the reasons why they could not be scored; perhaps the grader does not suit the answers."
    else:
        problem = f"No id is in both: {len(base):,} ids on the base's side, {len(tuned):,} on the other."
        hint = "A comparison is made row by row: give scores of the same rows under the same ids."
    raise EvaluateError(problem, code="no_common_samples", hint=hint)


# The sentence --------------------------------------------------------------------------------------------------------


def _reason(
    findings: _Findings, verdict: Verdict, n: int, minimum_gain: float, planned_gain: float, rows: int | None
) -> str:
    difference = findings.difference
    sentence = (
        f"{findings.lead}: {_signed(difference.value)} (95 % interval {_points(difference.low)} to "
        f"{_points(difference.high)}), {_p_value(findings.p_value)}"
    )
    if verdict in ("BETTER", "WORSE"):
        return f"{sentence}."
    if _excludes_zero(difference) or findings.p_value < ALPHA:
        sentence += "; a verdict needs both p below 0.05 and an interval without 0, and only one of them holds"
    if findings.base.value + minimum_gain > 1:
        sentence += f"; the base leaves {_with_unit(_points(1 - findings.base.value))} to gain"
    wanted = f"a gain of {_with_unit(_points(minimum_gain))}"
    if verdict == "NO DIFFERENCE SHOWN":
        return f"{sentence}; {wanted} would have been shown with at least {_points(POWER)} % power."
    enough = f"about {rows:,}" if rows is not None else f"more than {MAX_ROWS:,}"
    seen = f"the gain seen here, {_with_unit(_points(planned_gain))}" if planned_gain != minimum_gain else "it"
    shortage = f"{_test_rows(n)} cannot be relied on to show {wanted}"
    return f"{sentence}; {shortage}, and {enough} would be needed to show {seen}."


def _excludes_zero(interval: Estimate | Interval) -> bool:
    return not interval.low <= 0 <= interval.high


def _test_rows(n: int) -> str:
    return f"{n:,} test row" + ("" if n == 1 else "s")


def _points(value: float) -> str:
    """Returns hundredths of the scale with one decimal at most, and more where that would read as 0."""
    text = f"{100 * value:.1f}".removesuffix(".0")
    if float(text) == 0:
        text = f"{100 * value:.1g}" if abs(value) > 1e-12 else "0"
    return text.replace("-", "−")


def _signed(value: float) -> str:
    text = _points(value)
    return _with_unit(text if text.startswith("−") or text == "0" else f"+{text}")


def _with_unit(points: str) -> str:
    return f"{points} point" if points.lstrip("+−") == "1" else f"{points} points"


def _p_value(p: float) -> str:
    if p < 0.0001:
        return "p < 0.0001"
    # two digits, unless they would move the value across the level
    digits = next(digits for digits in range(2, 18) if (float(f"{p:.{digits}g}") < ALPHA) == (p < ALPHA))
    return f"p = {p:.{digits}g}"


# Files ---------------------------------------------------------------------------------------------------------------


def read_scores(path: str | Path) -> dict[str, float | None]:
    """Returns id → score from a JSONL file of `{"id", "score"}` lines; other keys are passed over.

    A score is a number in [0, 1], true or false, or null where the answer could not be scored. An id is a text or a
    whole number. Empty lines are passed over.

    Raises:
        EvaluateError: code "unreadable_scores" (with the cause), "no_scores" for an empty file, and with file and line
            "bad_score_line", "duplicate_id".
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 (byte {error.start + 1})"
        raise EvaluateError(
            f"{path} cannot be read: {cause}.",
            code="unreadable_scores",
            hint='Give a UTF-8 file of lines like {"id": "row 1", "score": 1}.',
        ) from None
    scores: dict[str, float | None] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        key, score = _read_line(line, f"{path}:{number}")
        if key in scores:
            raise EvaluateError(
                f"{path}:{number}: the id {key!r} already stands on line {lines[key]}.",
                code="duplicate_id",
                param="id",
                hint="Give each row one score; where answers were sampled several times, give their mean.",
            )
        scores[key], lines[key] = score, number
    if not scores:
        raise EvaluateError(
            f"{path} holds no scores.", code="no_scores", hint='Give lines like {"id": "row 1", "score": 1}.'
        )
    return scores


def _read_line(line: str, place: str) -> tuple[str, float | None]:
    def refuse(problem: str, hint: str, param: str | None = None) -> EvaluateError:
        return EvaluateError(f"{place}: {problem}.", code="bad_score_line", param=param, hint=hint)

    try:
        row = parse_json(line)
    except ValueError as error:
        raise refuse(
            f"the line cannot be read as JSON: {error}", 'Write {"id": "row 1", "score": 1}; null for no score.'
        ) from None
    if not isinstance(row, dict):
        raise refuse("the line is not a JSON object", 'Write {"id": "row 1", "score": 1}.')
    for name in ("id", "score"):
        if name not in row:
            raise refuse(f'there is no "{name}"', 'Each line needs "id" and "score".', name)
    return _read_id(row["id"], refuse), _read_score(row["score"], refuse)


def _read_id(value: Any, refuse: Callable[..., EvaluateError]) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return str(value)
    raise refuse("the id is neither a text nor a whole number", "Give ids as text.", "id")


def _read_score(value: Any, refuse: Callable[..., EvaluateError]) -> float | None:
    if value is None:
        return None
    # parse_json gives numbers as Decimal
    if not isinstance(value, Decimal | bool):
        raise refuse("the score is not a number", "Write a number between 0 and 1, true, false, or null.", "score")
    if not 0 <= value <= 1:
        raise refuse(
            f"the score is {value}",
            "Scores lie between 0 and 1: divide percentages by 100; null for no score.",
            "score",
        )
    return float(value)
