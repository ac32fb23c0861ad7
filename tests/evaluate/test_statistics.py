"""Tests, intervals and power: properties that hold for every input, and the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luthier.evaluate import statistics
from luthier.evaluate.statistics import MAX_ROWS, mcnemar_power

pytestmark = pytest.mark.unit

COUNTS = st.integers(0, 60)
DIFFERENCES = st.lists(st.integers(-100, 100).map(lambda hundredths: hundredths / 100), min_size=1, max_size=30)


def test_six_one_way_flips_are_needed() -> None:
    assert statistics.mcnemar_p(5, 0) == 0.0625
    assert statistics.mcnemar_p(6, 0) == 0.03125
    assert statistics.mcnemar_p(0, 0) == 1.0


@given(COUNTS, COUNTS)
def test_mcnemar_does_not_depend_on_the_side(wins: int, losses: int) -> None:
    p = statistics.mcnemar_p(wins, losses)
    assert p == statistics.mcnemar_p(losses, wins)
    assert 0 < p <= 1


@given(COUNTS, COUNTS)
def test_mid_p_is_below_the_exact_one_and_reaches_the_level_with_five_flips(wins: int, losses: int) -> None:
    mid_p = statistics.mcnemar_mid_p(wins, losses)
    assert 0 < mid_p <= statistics.mcnemar_p(wins, losses)
    assert mid_p == statistics.mcnemar_mid_p(losses, wins)
    assert statistics.mcnemar_mid_p(5, 0) == 0.03125
    assert statistics.mcnemar_mid_p(4, 0) == 0.0625


def test_mid_p_of_the_worked_example() -> None:
    """Bentur et al. in Fagerland, Lydersen & Laake 2013: 1 against 7 flips, exact p 0.0703, mid-p 0.0391."""
    assert statistics.mcnemar_p(1, 7) == pytest.approx(0.0703, abs=5e-5)
    assert statistics.mcnemar_mid_p(1, 7) == pytest.approx(0.0391, abs=5e-5)


@given(st.lists(st.floats(0, 1), max_size=12), st.randoms(use_true_random=False))
def test_holm_only_raises_and_does_not_depend_on_order(p_values: list[float], random: object) -> None:
    adjusted = statistics.holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    assert [rank for _, rank in sorted(zip(p_values, adjusted, strict=True))] == sorted(adjusted)
    order = list(range(len(p_values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert statistics.holm([p_values[at] for at in order]) == [adjusted[at] for at in order]
    assert statistics.holm(p_values[:1]) == p_values[:1]


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_newcombe_is_mirrored_and_holds_the_difference(both: int, wins: int, losses: int, neither: int) -> None:
    n = both + wins + losses + neither
    if n == 0:
        return
    low, high = statistics.newcombe_interval(both, wins, losses, neither)
    assert -1 <= low <= (wins - losses) / n <= high <= 1
    assert low < high
    mirrored = statistics.newcombe_interval(both, losses, wins, neither)
    assert (mirrored.low, mirrored.high) == pytest.approx((-high, -low), abs=1e-12)
    # where right and wrong are exchanged, so are wins and losses
    assert statistics.newcombe_interval(neither, wins, losses, both) == pytest.approx((low, high), abs=1e-12)


def test_wilson_at_the_ends_is_exact() -> None:
    assert statistics.wilson_interval(0, 10).low == 0.0
    assert statistics.wilson_interval(10, 10).high == 1.0


@pytest.mark.parametrize(("n", "half"), [(10, 22.7), (50, 10.9), (100, 7.8), (200, 5.5), (1000, 2.5)])
def test_wilson_half_widths_at_eighty_percent(n: int, half: float) -> None:
    low, high = statistics.wilson_interval(round(0.8 * n), n)
    assert 50 * (high - low) == pytest.approx(half, abs=0.06)


@pytest.mark.parametrize(
    ("n", "gain", "power"), [(20, 0.2, 0.20), (50, 0.2, 0.70), (100, 0.1, 0.54), (200, 0.1, 0.88), (500, 0.05, 0.80)]
)
def test_power_is_that_of_the_design_table(n: int, gain: float, power: float) -> None:
    assert mcnemar_power(gain, 0.05, n) == pytest.approx(power, abs=0.006)


@pytest.mark.parametrize(
    ("regress", "rows"), [(0.02, (47, 114, 303, 645)), (0.05, (61, 168, 498, 1185)), (0.1, (84, 249, 817, 2064))]
)
def test_rows_needed_are_those_of_the_design_table(regress: float, rows: tuple[int, ...]) -> None:
    assert tuple(statistics.rows_needed(gain, regress) for gain in (0.2, 0.1, 0.05, 0.03)) == rows


def test_power_equals_the_sum_over_all_tables() -> None:
    n, win, lose = 14, 0.45, 0.1
    total = sum(
        math.comb(n, wins) * math.comb(n - wins, losses) * win**wins * lose**losses * (1 - win - lose) ** ties
        for wins in range(n + 1)
        for losses in range(n + 1 - wins)
        if (ties := n - wins - losses) >= 0 and wins > losses and statistics.mcnemar_p(wins, losses) < 0.05
    )
    assert mcnemar_power(win - lose, lose, n) == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize(("gain", "regress"), [(0.9, 0.05), (0.5, 0.25), (0.2, 0.05), (0.06, 0.47), (0.1, 0.0)])
def test_power_never_falls_below_the_promise_again(gain: float, regress: float) -> None:
    needed = statistics.rows_needed(gain, regress)
    assert needed is not None
    assert mcnemar_power(gain, regress, needed - 1) < 0.8
    assert min(mcnemar_power(gain, regress, n) for n in range(needed, 3 * needed)) >= 0.8


def test_the_sawtooth_is_real() -> None:
    """With all rows flipping, 9 rows show more than 10 or 11: the first n that reaches the power is not the answer."""
    powers = {n: mcnemar_power(0.86, 0.07, n) for n in range(6, 13)}
    assert powers[6] > powers[7] > powers[8]
    assert powers[9] > powers[10] > powers[11] < powers[12]


@given(st.integers(6, 400), st.sampled_from([0.0, 0.02, 0.05, 0.1]))
@settings(deadline=None, max_examples=40)
def test_the_detectable_gain_is_the_smallest(n: int, regress: float) -> None:
    gain = statistics.detectable_gain(n, regress)
    assert gain is not None
    assert mcnemar_power(gain, regress, n) >= 0.8 > mcnemar_power(gain - 1e-4, regress, n)


def test_nothing_is_promised_where_nothing_can_be_shown() -> None:
    assert statistics.detectable_gain(5, 0.05) is None
    assert statistics.detectable_score_gain(5, 0.01) is None
    assert statistics.detectable_score_gain(6, 1.0) is None
    assert statistics.rows_needed(0.0, 0.05) is None
    assert statistics.rows_needed(-0.1, 0.05) is None
    assert statistics.rows_needed(0.0001, 0.05) is None
    assert statistics.score_rows_needed(0.0, 0.1) is None
    assert statistics.score_rows_needed(1e-6, 0.5) is None
    assert mcnemar_power(0.0, 0.0, 50) == 0.0
    large = statistics.rows_needed(0.003, 0.05)
    assert large is not None
    assert 50_000 < large <= MAX_ROWS


@given(st.floats(0.01, 0.9), st.floats(0.01, 0.5))
@example(0.859375, 0.0703125)  # scipy's noncentral t is nan here
@settings(deadline=None, max_examples=40)
def test_score_rows_needed_are_the_fewest(gain: float, deviation: float) -> None:
    n = statistics.score_rows_needed(gain, deviation)
    assert n is not None
    assert statistics.score_power(gain, deviation, n) >= 0.8 > statistics.score_power(gain, deviation, n - 1)


def test_score_rows_agree_with_the_normal_formula_where_there_are_many() -> None:
    """Miller 2024 (arXiv 2411.00640), with its example: w^2 = 1/9 of variance, 3 points, 969 rows."""
    assert statistics.score_rows_needed(0.03, math.sqrt(1 / 9)) == pytest.approx(969, abs=3)


@given(st.integers(0, 15), st.integers(0, 15), st.integers(0, 5))
@settings(deadline=None)
def test_sign_flips_of_equal_sizes_are_mcnemar(wins: int, losses: int, ties: int) -> None:
    if wins + losses > 16 or wins + losses + ties == 0:
        return
    p = statistics.sign_flip_p([0.25] * wins + [-0.25] * losses + [0.0] * ties)
    assert p == pytest.approx(statistics.mcnemar_p(wins, losses), abs=1e-12)


def test_drawn_flips_agree_with_mcnemar_and_are_never_zero() -> None:
    assert statistics.sign_flip_p([0.5] * 20 + [-0.5] * 10) == pytest.approx(statistics.mcnemar_p(20, 10), abs=0.015)
    assert statistics.sign_flip_p([0.5] * 40) == 1 / 10_001
    assert statistics.sign_flip_p([0.0] * 5) == 1.0


@given(DIFFERENCES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_graded_statistics_are_mirrored_and_do_not_depend_on_order(differences: list[float], random: object) -> None:
    shuffled = list(differences)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    negated = [-difference for difference in shuffled]
    p = statistics.sign_flip_p(differences, seed=3)
    assert statistics.sign_flip_p(shuffled, seed=3) == p
    assert statistics.sign_flip_p(negated, seed=3) == p
    low, high = statistics.bootstrap_interval(differences, bounds=(-1, 1), seed=3)
    assert statistics.bootstrap_interval(shuffled, bounds=(-1, 1), seed=3) == (low, high)
    assert statistics.bootstrap_interval(negated, bounds=(-1, 1), seed=3) == pytest.approx((-high, -low), abs=1e-9)
    assert -1 <= low <= high <= 1


def test_equal_values_get_a_bound_and_not_a_point() -> None:
    low, high = statistics.bootstrap_interval([0.3] * 50, bounds=(-1, 1))
    assert low < 0.3 < high
    # a share of 1 - 0.025 ** (1 / 50) of rows may be different and unseen
    assert high == pytest.approx(0.3 + (1 - 0.025 ** (1 / 50)) * 0.7)
    assert statistics.bootstrap_interval([0.1 + 0.2, 0.3], bounds=(0, 1)) == pytest.approx(
        statistics.equal_values_interval(0.3, 2, bounds=(0, 1))
    )


def test_bootstrap_is_seeded() -> None:
    values = np.random.default_rng(0).random(30)
    first = statistics.bootstrap_interval(values, bounds=(0, 1), seed=1)
    assert statistics.bootstrap_interval(values, bounds=(0, 1), seed=1) == first
    assert statistics.bootstrap_interval(values, bounds=(0, 1), seed=2) != first
