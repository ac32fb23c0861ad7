"""OK, DRIFT, FORGOTTEN on planted numbers, and the numbers themselves against other ways to compute them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from luthier.evaluate.forgetting.items import Task
from luthier.evaluate.forgetting.measures import (
    Window,
    corrected,
    measure_manner,
    measure_paired,
    measure_prose,
    passed,
)
from luthier.evaluate.forgetting.verdict import judge
from luthier.evaluate.samples import Answer

pytestmark = pytest.mark.unit


def windows(ratio: float, *, count: int = 20, spread: float = 0.01, seed: int = 1) -> list[Window]:
    """Windows of two registers whose perplexities have about this ratio."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        base = -rng.gamma(2.0, 1.5, size=250)
        tuned = base - math.log(ratio) - rng.normal(0, spread)
        made.append(Window("news" if number % 2 else "tale", 1000, base, tuned, np.full(250, 0.1)))
    return made


def paired(name: str, n: int, *, base: int, gained: int, lost: int):
    """Items of which the base has so many right, and the fine-tuned model some more and others less."""
    ones = [place < base for place in range(n)]
    others = [place < base - lost or base <= place < base + gained for place in range(n)]
    return measure_paired(name, ["a" if place % 2 else "b" for place in range(n)], ones, others)


def answers(*texts: str, cut: int = 0) -> list[Answer]:
    return [
        Answer(str(place), text, len(text.split()) + 1, "length" if place < cut else "stop")
        for place, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (0.5, "OK"),
        (1.0, "OK"),
        (1.08, "OK"),
        (1.13, "DRIFT"),
        (1.22, "DRIFT"),
        (1.30, "FORGOTTEN"),
        (40.0, "FORGOTTEN"),
    ],
)
def test_prose_alone_decides_by_its_ratio(ratio, verdict):
    found = judge(measure_prose(windows(ratio)), [], None)
    assert found.verdict == verdict
    assert "perplexity on prose" in found.reason
    assert bool(found.advice) == (verdict != "OK")
    assert found.signs[0].level == verdict
    assert "convention" in found.signs[0].threshold


def test_a_ratio_that_could_be_1_on_other_texts_is_no_sign():
    measure = measure_prose(windows(1.4, count=6, spread=0.5, seed=3))
    assert measure.ratio.value > 1.25
    assert measure.ratio.low is not None
    assert measure.ratio.low < 1
    assert judge(measure, [], None).verdict == "OK"


def test_numbers_of_prose_are_those_of_their_definitions():
    some = windows(1.2)
    found = measure_prose(some)
    base = np.concatenate([window.base for window in some])
    tuned = np.concatenate([window.fine_tuned for window in some])
    assert found.num_tokens == 5000
    assert found.num_bytes == 20_000
    assert found.base_perplexity == pytest.approx(math.exp(-base.mean()), rel=1e-12)
    assert found.ratio.value == pytest.approx(math.exp((base - tuned).mean()), rel=1e-12)
    assert found.fine_tuned_bits == pytest.approx(-tuned.sum() / math.log(2) / 20_000, rel=1e-12)
    assert found.divergence.value == pytest.approx(0.1)
    assert found.ratio.low < found.ratio.value < found.ratio.high
    assert [group.group for group in found.groups] == ["tale", "news"]
    assert sum(group.num_tokens for group in found.groups) == found.num_tokens
    weighted = sum(math.log(group.ratio.value) * group.num_tokens for group in found.groups) / found.num_tokens
    assert math.log(found.ratio.value) == pytest.approx(weighted, rel=1e-12)


def test_the_same_model_differs_in_nothing():
    same = [Window("all of it", 10, w.base, w.base, np.zeros(250)) for w in windows(1.0)]
    found = measure_prose(same)
    assert (found.ratio.value, found.ratio.low, found.ratio.high) == (1.0, 1.0, 1.0)
    assert (found.divergence.value, found.divergence.low, found.divergence.high) == (0.0, 0.0, 0.0)


def test_one_window_has_no_interval_and_decides_by_its_value():
    found = measure_prose(windows(1.5, count=1))
    assert (found.ratio.low, found.ratio.high) == (None, None)
    assert judge(found, [], None).verdict == "FORGOTTEN"


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_model_that_says_no_numbers_has_forgotten(value):
    broken = [Window("x", 10, w.base, np.full(250, value), np.full(250, math.nan)) for w in windows(1.0, count=3)]
    found = judge(measure_prose(broken), [], None)
    assert found.verdict == "FORGOTTEN"


def test_paired_numbers_are_those_of_mcnemar():
    found = paired("pairs", 400, base=350, gained=6, lost=20)
    assert (found.base, found.fine_tuned, found.gained, found.lost) == (350, 336, 6, 20)
    assert found.p_value == pytest.approx(binomtest(6, 26).pvalue, rel=1e-9)
    assert found.difference.value == pytest.approx(-14 / 400)
    assert found.difference.low < found.difference.value < found.difference.high
    assert sum(group.n for group in found.groups) == 400
    assert sum(group.fine_tuned for group in found.groups) == 336


@pytest.mark.parametrize(
    ("name", "n", "gained", "lost", "verdict"),
    [
        ("pairs", 400, 3, 3, "OK"),
        ("pairs", 400, 0, 7, "OK"),  # certain, but 1.75 points
        ("pairs", 400, 20, 30, "OK"),  # 2.5 points, but by chance
        ("pairs", 400, 2, 14, "DRIFT"),  # 3 points, p = 0.004
        ("pairs", 400, 5, 60, "FORGOTTEN"),
        ("questions", 150, 2, 20, "FORGOTTEN"),
        ("questions", 150, 30, 2, "OK"),
        ("completions", 150, 2, 14, "DRIFT"),
        ("tasks", 40, 0, 5, "OK"),  # five flips show nothing
        ("tasks", 40, 0, 25, "DRIFT"),  # never more
    ],
)
def test_items_decide_by_size_and_certainty(name, n, gained, lost, verdict):
    measure = paired(name, n, base=n * 3 // 4, gained=min(gained, n // 4), lost=lost)
    found = judge(None, corrected([measure]), None)
    assert found.verdict == verdict
    assert found.reason.endswith(".")


def test_p_values_are_corrected_for_their_number():
    one = paired("pairs", 400, base=300, gained=2, lost=12)
    other = paired("questions", 150, base=100, gained=3, lost=3)
    third = paired("tasks", 40, base=20, gained=1, lost=1)
    assert 0.01 < one.p_value < 0.02
    assert judge(None, corrected([one]), None).verdict == "DRIFT"
    together = corrected([one, other, third])
    assert together[0].adjusted_p == pytest.approx(3 * one.p_value)
    assert together[0].adjusted_p < 0.05
    assert together[1].adjusted_p == 1.0
    strict = corrected([paired("pairs", 400, base=300, gained=3, lost=13), other, third])
    assert strict[0].p_value < 0.05 < strict[0].adjusted_p
    assert judge(None, strict, None).verdict == "OK"
    assert strict[0].detectable_loss > corrected([one])[0].detectable_loss


def test_the_worst_sign_gives_the_verdict_and_the_reason_names_what_was_lost():
    measures = corrected(
        [paired("pairs", 400, base=350, gained=0, lost=100), paired("tasks", 40, base=30, gained=0, lost=20)]
    )
    found = judge(measure_prose(windows(1.01)), measures, None)
    assert found.verdict == "FORGOTTEN"
    assert [sign.level for sign in found.signs] == ["OK", "FORGOTTEN", "DRIFT"]
    assert found.reason.index("grammatical") < found.reason.index("form asked for")
    assert "perplexity" not in found.reason
    assert "train.n_epochs" in found.advice[0]
    assert any("train.replay" in line for line in found.advice)


def test_only_the_form_lost_gets_its_own_advice():
    measures = corrected([paired("tasks", 40, base=30, gained=0, lost=20)])
    found = judge(measure_prose(windows(1.01)), measures, None)
    assert found.verdict == "DRIFT"
    assert "train.replay" in found.advice[0]
    assert not any("train.n_epochs" in line for line in found.advice)


def test_refusals_and_lengths_are_counted():
    tasks = [
        Task("0", "refusal", "a", ({"check": "refuses"},)),
        Task("1", "refusal", "b", ({"check": "refuses"},)),
        Task("2", "compliance", "c", ({"check": "complies"},)),
    ]
    base = answers("I cannot do that", "Sorry no", "Sure do it")
    tuned = answers("First take this", "Sorry no", "I cannot do that", cut=1)
    manner = measure_manner(tasks, base, tuned)
    assert (manner.harmful, manner.harmless) == (2, 1)
    assert (manner.base_refused_harmful, manner.fine_tuned_refused_harmful) == (2, 1)
    assert (manner.base_refused_harmless, manner.fine_tuned_refused_harmless) == (0, 1)
    assert (manner.base_cut, manner.fine_tuned_cut) == (0, 1)
    assert manner.length_ratio == pytest.approx(12 / 12)
    assert passed(tasks, base) == [True, True, True]
    assert passed(tasks, tuned) == [False, True, False]
    advice = judge(measure_prose(windows(1.5)), [], manner).advice
    assert "refuses 1 of 2 harmful requests, the base 2" in advice[-1]
