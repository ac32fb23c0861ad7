"""How far a judge's verdicts can be believed, and the share of right answers corrected for its mistakes.

A judge passes some wrong answers and fails some right ones, so the share that it passes is not the share that is right.
From human labels on some of the same kind of answers its two error rates are known, and the share can be corrected; the
interval then covers both what the test rows and what the labels leave open.

Source: "How to Correctly Report LLM-as-a-Judge Evaluations", arXiv 2511.21140: the estimate is Rogan & Gladen's (1978), the
interval Lang & Reiczigel's (2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.errors import EvaluateError
from luthier.evaluate.statistics import wilson_interval
from luthier.evaluate.statistics.levels import normal_quantile

MIN_LABELS = 50
"""Human labels below which no corrected number is shown: its interval would be as wide as the scale. The limit is ours."""


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """A judge's verdicts beside a human's on the same answers.

    Attributes:
        right: answers that the human found right.
        right_passed: of those, how many the judge passed.
        wrong: answers that the human found wrong.
        wrong_passed: of those, how many the judge passed.
    """

    right: int
    right_passed: int
    wrong: int
    wrong_passed: int

    @property
    def num_labels(self) -> int:
        """Answers that both judged."""
        return self.right + self.wrong

    @property
    def sensitivity(self) -> float | None:
        """The share of right answers that the judge passes."""
        return self.right_passed / self.right if self.right else None

    @property
    def specificity(self) -> float | None:
        """The share of wrong answers that the judge fails."""
        return (self.wrong - self.wrong_passed) / self.wrong if self.wrong else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa, the agreement beyond chance; None where chance alone agrees wholly.

        Source: Cohen 1960 (Educational and Psychological Measurement 20:37).
        """
        total = self.num_labels
        if not total:
            return None
        passed = self.right_passed + self.wrong_passed
        agreed = (self.right_passed + self.wrong - self.wrong_passed) / total
        by_chance = (self.right * passed + self.wrong * (total - passed)) / total**2
        return (agreed - by_chance) / (1 - by_chance) if by_chance < 1 else None


@dataclass(frozen=True, slots=True)
class JudgedShare:
    """The share of right answers, as a judge sees it.

    Attributes:
        value: corrected where it could be, else the share that the judge passed.
        low, high: its 95 % interval.
        passed_share: the share that the judge passed.
        calibrated: whether it was corrected.
        said: how, or why not, in one sentence.
    """

    value: float
    low: float
    high: float
    passed_share: float
    calibrated: bool
    said: str


def check_judge(human: Sequence[bool], judge: Sequence[bool]) -> JudgeCheck:
    """Returns how a judge's verdicts compare with a human's.

    Args:
        human: whether each answer is right.
        judge: whether the judge passed it, in the same order.

    Raises:
        ValueError: the lengths differ.
    """
    pairs = list(zip(human, judge, strict=True))
    return JudgeCheck(
        right=sum(bool(right) for right, _ in pairs),
        right_passed=sum(bool(right and passed) for right, passed in pairs),
        wrong=sum(not right for right, _ in pairs),
        wrong_passed=sum(bool(passed and not right) for right, passed in pairs),
    )


def judged_share(passed: int, n: int, check: JudgeCheck | None = None, *, confidence: float = 0.95) -> JudgedShare:
    """Returns the share of right answers, corrected for the judge's mistakes where at least 50 labels tell them.

    Args:
        passed: answers that the judge passed.
        n: answers that it judged.
        check: its verdicts beside a human's, on other answers of the same kind.
        confidence: of the interval.

    Raises:
        EvaluateError: code "nothing_judged" where n is 0.
    """
    if n < 1:
        raise EvaluateError("The judge judged no answer.", code="nothing_judged", param="evaluate.grader")
    share = passed / n
    problem = _problem(check)
    if check is None or problem:
        low, high = wilson_interval(passed, n, confidence)
        return JudgedShare(share, low, high, share, calibrated=False, said=f"Uncalibrated: {problem}.")
    sensitivity, specificity = check.right_passed / check.right, 1 - check.wrong_passed / check.wrong
    value = (share + specificity - 1) / (sensitivity + specificity - 1)
    low, high = _interval(passed, n, check, normal_quantile(confidence))
    value = min(max(value, 0.0), 1.0)
    kappa = "" if check.kappa is None else f", kappa {check.kappa:.2f}"
    return JudgedShare(
        value,
        min(low, value),
        max(high, value),
        share,
        calibrated=True,
        said=(
            f"Corrected for the judge's mistakes on {check.num_labels:,} answers that people labelled (it passes "
            f"{sensitivity:.0%} of right and {1 - specificity:.0%} of wrong answers{kappa}; arXiv 2511.21140)."
        ),
    )


def _problem(check: JudgeCheck | None) -> str:
    if check is None:
        return f"no human labels say how often the judge is wrong; {MIN_LABELS} would do"
    if check.num_labels < MIN_LABELS:
        return f"{check.num_labels} human labels are too few to say how often the judge is wrong; {MIN_LABELS} would do"
    if not check.right or not check.wrong:
        return f"all {check.num_labels} human labels are the same, so one of the judge's error rates is not known"
    if check.right_passed / check.right <= check.wrong_passed / check.wrong:
        return "the judge passes wrong answers as often as right ones, so its verdicts say nothing"
    return ""


def _interval(passed: int, n: int, check: JudgeCheck, z: float) -> tuple[float, float]:
    """Returns the ends of Lang & Reiczigel's interval, within 0 to 1.

    One right and one wrong verdict are added to each group of labels, and z²/2 of each to the test rows.
    """
    rows, right, wrong = n + z**2, check.right + 2, check.wrong + 2
    share = (passed + z**2 / 2) / rows
    sensitivity = (check.right_passed + 1) / right
    specificity = (check.wrong - check.wrong_passed + 1) / wrong
    slope = sensitivity + specificity - 1
    if slope <= 0:
        return 0.0, 1.0
    middle = (share + specificity - 1) / slope
    of_right = sensitivity * (1 - sensitivity) / right
    of_wrong = specificity * (1 - specificity) / wrong
    moved = middle + 2 * z**2 * (middle * of_right - (1 - middle) * of_wrong)
    variance = share * (1 - share) / rows + middle**2 * of_right + (1 - middle) ** 2 * of_wrong
    half = z * math.sqrt(variance) / slope
    return min(max(moved - half, 0.0), 1.0), min(max(moved + half, 0.0), 1.0)
