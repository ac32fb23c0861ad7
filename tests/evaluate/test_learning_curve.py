"""Learning curves whose truth is known: the fit, its intervals, and what they say of more data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from luthier.errors import EvaluateError
from luthier.evaluate.learning_curve import HORIZON, fit_curve

pytestmark = pytest.mark.unit

SIZES = [125, 250, 500, 1000]


def curve(n: float | np.ndarray, ceiling: float = 0.9, drop: float = 2.0, rate: float = 0.35) -> float | np.ndarray:
    return ceiling - drop * n**-rate


def test_exact_scores_give_the_curve_back() -> None:
    found = fit_curve(SIZES, [curve(n) for n in SIZES], [1e-4] * 4)
    assert found.score_at(1000)[0] == pytest.approx(curve(1000), abs=1e-4)
    assert found.gain_at(4000)[0] == pytest.approx(curve(4000) - curve(1000), abs=1e-3)
    # 2 (1000^-0.35 - n^-0.35) = 0.05
    truth = (1000**-0.35 - 0.05 / 2) ** (-1 / 0.35) - 1000
    more = found.examples_for(0.05)
    assert more.answer == "MORE DATA WILL HELP"
    assert more.best == pytest.approx(truth, rel=0.03)
    assert more.low is not None
    assert more.high is not None
    assert more.low <= truth <= more.high
    assert f"{more.low:,} to {more.high:,}" in more.reason


def test_the_best_curve_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(1)
    sizes = np.array([50, 100, 200, 400, 800, 1600])
    scores = curve(sizes) + rng.normal(0, 0.004, 6)
    errors = np.full(6, 0.004)
    theirs, _ = curve_fit(curve, sizes, scores, p0=(0.9, 2.0, 0.35), sigma=errors, bounds=((0, 0, 0.05), (1, 50, 3)))
    ours = fit_curve(sizes, scores, errors)
    best = float(np.sum(((scores - curve(sizes, *theirs)) / errors) ** 2))
    assert best - 1e-9 <= ours.misfit <= best + 0.02
    assert ours.score_at(3200)[0] == pytest.approx(curve(3200, *theirs), abs=0.004)
    assert ours.misfit_p is not None
    assert 0 < ours.misfit_p < 1


def test_a_flat_curve_will_not_help() -> None:
    found = fit_curve([500, 1000, 2000, 4000], [0.8, 0.8, 0.8, 0.8], [0.0005] * 4)
    more = found.examples_for(0.05)
    assert more.answer == "MORE DATA WILL NOT HELP"
    assert (more.low, more.best, more.high) == (None, None, None)
    assert more.reason.startswith("More data will not help")
    assert found.gain_at(1000 * 4000)[1].high < 0.05


def test_the_ceiling_of_the_scale_ends_all_gains() -> None:
    found = fit_curve(SIZES, [0.90, 0.94, 0.965, 0.98], [0.002] * 4)
    assert found.score_at(1e9)[1].high <= 1.0
    assert found.examples_for(0.05).answer == "MORE DATA WILL NOT HELP"


def test_noisy_scores_tell_nothing_and_say_so() -> None:
    more = fit_curve(SIZES, [0.5, 0.56, 0.55, 0.6], [0.05] * 4).examples_for(0.05)
    assert more.answer == "CANNOT BE TOLD"
    assert more.low is not None
    assert more.high is None
    assert "at least" in more.reason


def test_shared_test_rows_make_gains_surer_than_scores() -> None:
    scores = [0.55, 0.64, 0.70, 0.74]
    alone = fit_curve(SIZES, scores, [0.03] * 4)
    shared = np.full((4, 4), 0.03**2 * 0.95) + np.diag([0.03**2 * 0.05] * 4)
    joint = fit_curve(SIZES, scores, [0.03] * 4, covariance=shared)
    width, joint_width = (fit.gain_at(2000)[1].high - fit.gain_at(2000)[1].low for fit in (alone, joint))
    assert joint_width < 0.6 * width
    same = fit_curve(SIZES, scores, [0.03] * 4, covariance=np.full((4, 4), 0.03**2))
    assert math.isfinite(same.score_at(2000)[0])


@pytest.mark.parametrize("truth", [(0.9, 2.0, 0.35), (0.85, 5.0, 0.8), (0.8, 0.0, 0.5)])
def test_intervals_hold_the_truth(truth: tuple[float, float, float]) -> None:
    """120 simulations each; `benchmarks/statistics_calibration.py` makes many more."""
    rng = np.random.default_rng(7)
    held = np.zeros(3)
    for _ in range(120):
        found = fit_curve(SIZES, [curve(n, *truth) + rng.normal(0, 0.015) for n in SIZES], [0.015] * 4)
        later, now = curve(4000, *truth), curve(1000, *truth)
        for index, (value, interval) in enumerate(
            [(now, found.score_at(1000)[1]), (later, found.score_at(4000)[1]), (later - now, found.gain_at(4000)[1])]
        ):
            held[index] += interval.low - 1e-9 <= value <= interval.high + 1e-9
    assert held.min() / 120 >= 0.90


@given(
    st.lists(st.tuples(st.integers(1, 10**7), st.floats(0, 1), st.floats(1e-4, 0.5)), min_size=3, max_size=8),
    st.floats(0.001, 0.9),
)
@settings(deadline=None, max_examples=40)
def test_no_scores_crash_it_and_intervals_hold_the_best(points: list[tuple[int, float, float]], gain: float) -> None:
    sizes, scores, errors = zip(*points, strict=True)
    if len(set(sizes)) < 3:
        return
    found = fit_curve(sizes, scores, errors)
    for examples in (min(sizes), max(sizes), 10 * max(sizes)):
        best, interval = found.score_at(examples)
        assert interval.low - 1e-6 <= best <= interval.high + 1e-6
        assert interval.high <= 1 + 1e-9
    more = found.examples_for(gain)
    numbers = [math.inf if number is None else number for number in (more.low, more.best, more.high)]
    assert numbers == sorted(numbers)
    assert all(number <= HORIZON * max(sizes) for number in numbers if number != math.inf)


@pytest.mark.parametrize(
    ("sizes", "scores", "errors"),
    [
        ([1, 2], [0.1, 0.2], [0.1, 0.1]),
        ([1, 2, 2], [0.1, 0.2, 0.2], [0.1] * 3),
        ([1, 2, 3], [0.1, 0.2, 0.3], [0.1, 0.0, 0.1]),
        ([0, 2, 3], [0.1, 0.2, 0.3], [0.1] * 3),
        ([1, 2, 3], [0.1, math.nan, 0.3], [0.1] * 3),
        ([1, 2, 3], [0.1, 0.2], [0.1] * 3),
    ],
)
def test_what_cannot_be_a_curve_is_refused(sizes: list[float], scores: list[float], errors: list[float]) -> None:
    with pytest.raises(EvaluateError) as caught:
        fit_curve(sizes, scores, errors)
    assert caught.value.code == "bad_curve"
    assert caught.value.hint
