"""Judges: pairs in both orders, and shares corrected by human labels."""

from __future__ import annotations

import numpy as np
import pytest

from luthier.errors import EvaluateError, RemoteError
from luthier.evaluate.judge import JudgeReply
from luthier.evaluate.judge_correction import MIN_LABELS, JudgeCheck, check_judge, judged_share
from luthier.evaluate.pairwise import Pair, judge_pairs
from luthier.evaluate.statistics import wilson_interval

pytestmark = pytest.mark.unit


class Rule:
    """A judge that chooses by a rule of the two answers in their order."""

    def __init__(self, rule):
        self.rule = rule
        self.asked = []

    def ask(self, request):
        self.asked.append(request)
        text = request.messages[-1]["content"]
        first, second = (text.split(f"<{tag}>\n")[1].split(f"\n</{tag}>")[0] for tag in ("first", "second"))
        found = self.rule(first, second)
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, JudgeReply) else JudgeReply(f'{{"steps": [], "result": "{found}"}}')


PAIRS = [
    Pair("Capital?", "Rome", "Paris"),
    Pair("Capital?", "Paris", "Rome"),
    Pair("Capital?", "Paris", "Paris", "Paris"),
]


def right(first, second):
    return "tie" if first == second else "first" if first == "Paris" else "second"


def test_a_judge_without_bias_prefers_the_same_answer_in_both_orders():
    judge = Rule(right)
    found = judge_pairs(judge, "m", PAIRS)
    assert [one.score for one in found.judgements] == [1.0, 0.0, 0.5]
    assert found.swap_flip_rate == 0.0
    assert found.first_share == 0.5
    assert found.unscored == 0
    assert len(judge.asked) == 2 * len(PAIRS)
    assert judge.asked[-1].response_schema["properties"]["result"]["enum"] == ["first", "second", "tie"]
    assert "<expected>\nParris" not in judge.asked[0].messages[-1]["content"]
    assert "<expected>\nParis\n</expected>" in judge.asked[-1].messages[-1]["content"]


@pytest.mark.parametrize(("always", "first_share"), [("first", 1.0), ("second", 0.0)])
def test_a_judge_that_looks_at_the_place_prefers_nothing_and_is_found_out(always, first_share):
    found = judge_pairs(Rule(lambda first, second: always), "m", PAIRS, workers=2)
    assert [one.score for one in found.judgements] == [0.5] * 3
    assert found.swap_flip_rate == 1.0
    assert found.first_share == first_share
    assert found.judgements[0].reason == "the judge's choice changes with the order"


def test_a_choice_against_a_tie_is_a_changed_mind_too():
    found = judge_pairs(Rule(lambda first, second: "first" if first == "Rome" else "tie"), "m", PAIRS[:1])
    assert (found.judgements[0].score, found.swap_flip_rate, found.first_share) == (0.5, 1.0, 1.0)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (RemoteError("503.", code="unavailable"), "did not answer: 503."),
        (JudgeReply("", refusal="no thanks"), "made no choice: 'no thanks'"),
        (JudgeReply("both are fine"), "made no choice: 'both are fine'"),
        (JudgeReply('{"result": 1}'), "made no choice"),
    ],
)
def test_a_pair_without_a_choice_is_no_tie(reply, said):
    found = judge_pairs(Rule(lambda first, second: reply), "m", PAIRS[:1])
    assert found.judgements[0].score is None
    assert said in str(found.judgements[0].reason)
    assert (found.unscored, found.swap_flip_rate, found.first_share) == (1, None, None)


def test_no_pairs_are_refused():
    with pytest.raises(EvaluateError) as caught:
        judge_pairs(Rule(right), "m", [])
    assert caught.value.code == "no_pairs"


# Corrected by human labels -------------------------------------------------------------------------------------------


def test_labels_are_counted():
    check = check_judge([True, True, True, False, False], [True, True, False, True, False])
    assert check == JudgeCheck(right=3, right_passed=2, wrong=2, wrong_passed=1)
    assert (check.sensitivity, check.specificity) == (2 / 3, 1 / 2)
    with pytest.raises(ValueError, match="shorter"):
        check_judge([True], [])


def test_kappa_is_that_of_statsmodels():
    from statsmodels.stats.inter_rater import cohens_kappa

    for cells in ((20, 5, 10, 15), (45, 15, 25, 15), (1, 0, 0, 1), (50, 2, 3, 100)):
        right_passed, wrong_passed, right_failed, wrong_failed = cells
        check = JudgeCheck(right_passed + right_failed, right_passed, wrong_passed + wrong_failed, wrong_passed)
        table = [[right_passed, right_failed], [wrong_passed, wrong_failed]]
        assert check.kappa == pytest.approx(cohens_kappa(table).kappa, abs=1e-12)
    assert JudgeCheck(0, 0, 0, 0).kappa is None
    assert JudgeCheck(5, 5, 0, 0).kappa is None


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (None, "no human labels"),
        (JudgeCheck(30, 28, MIN_LABELS - 31, 1), "49 human labels are too few"),
        (JudgeCheck(60, 50, 0, 0), "all 60 human labels are the same"),
        (JudgeCheck(30, 15, 30, 15), "say nothing"),
        (JudgeCheck(30, 10, 30, 20), "say nothing"),
    ],
)
def test_without_labels_that_tell_the_share_is_uncalibrated(check, said):
    found = judged_share(80, 100, check)
    assert not found.calibrated
    assert found.value == found.passed_share == 0.8
    assert (found.low, found.high) == wilson_interval(80, 100)
    assert found.said.startswith("Uncalibrated: ")
    assert said in found.said


def test_the_correction_is_rogan_and_gladens():
    # 0.75 = 0.9 x + 0.3 (1 - x) has the solution x = 0.75
    found = judged_share(75, 100, JudgeCheck(right=100, right_passed=90, wrong=100, wrong_passed=30))
    assert found.calibrated
    assert found.value == pytest.approx(0.75)
    assert found.low < 0.75 < found.high
    assert "90% of right and 30% of wrong answers" in found.said
    generous = judged_share(600, 1_000, JudgeCheck(right=100, right_passed=90, wrong=100, wrong_passed=30))
    assert generous.value == pytest.approx(0.5)
    assert judged_share(0, 50, JudgeCheck(50, 45, 50, 5)).value == 0.0
    assert judged_share(50, 50, JudgeCheck(50, 45, 50, 5)).value == 1.0


def test_the_interval_is_lang_and_reiczigels():
    # z = 1.959964, written out: AP' = (75 + z²/2) / (100 + z²), Se' = 91/102, Sp' = 71/102, P' = 0.73869
    found = judged_share(75, 100, JudgeCheck(right=100, right_passed=90, wrong=100, wrong_passed=30))
    z = 1.959963984540054
    share, sensitivity, specificity = (75 + z * z / 2) / (100 + z * z), 91 / 102, 71 / 102
    middle = (share + specificity - 1) / (sensitivity + specificity - 1)
    shift = 2 * z * z * (middle * sensitivity * 11 / 102 / 102 - (1 - middle) * specificity * 31 / 102 / 102)
    variance = share * (1 - share) / (100 + z * z)
    variance += middle**2 * sensitivity * 11 / 102 / 102 + (1 - middle) ** 2 * specificity * 31 / 102 / 102
    half = z * variance**0.5 / (sensitivity + specificity - 1)
    assert (found.low, found.high) == pytest.approx((middle + shift - half, middle + shift + half), abs=1e-12)


def test_more_labels_make_the_interval_narrower():
    few = judged_share(300, 500, JudgeCheck(30, 27, 30, 6))
    many = judged_share(300, 500, JudgeCheck(300, 270, 300, 60))
    raw = judged_share(300, 500)
    assert few.high - few.low > many.high - many.low > raw.high - raw.low


@pytest.mark.parametrize(("truth", "sensitivity", "specificity"), [(0.5, 0.9, 0.8), (0.8, 0.85, 0.7), (0.2, 0.95, 0.9)])
def test_the_corrected_interval_covers_the_truth_where_the_plain_one_does_not(truth, sensitivity, specificity):
    draw = np.random.default_rng(7)
    rounds, n, labels = 1_500, 300, 100
    corrected = plain = 0
    for _ in range(rounds):
        num_right = draw.binomial(n, truth)
        passed = draw.binomial(num_right, sensitivity) + draw.binomial(n - num_right, 1 - specificity)
        right = int(draw.binomial(labels, truth))
        check = JudgeCheck(
            right,
            int(draw.binomial(right, sensitivity)),
            labels - right,
            int(draw.binomial(labels - right, 1 - specificity)),
        )
        found = judged_share(int(passed), n, check)
        corrected += found.low <= truth <= found.high
        low, high = wilson_interval(int(passed), n)
        plain += low <= truth <= high
    assert 0.935 <= corrected / rounds <= 0.985
    assert plain / rounds < 0.9


def test_nothing_judged_is_refused():
    with pytest.raises(EvaluateError) as caught:
        judged_share(0, 0)
    assert caught.value.code == "nothing_judged"
