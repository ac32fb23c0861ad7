"""Rows that share a source: what they are worth, and that copies of a row are worth one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.evaluate import statistics
from luthier.evaluate.statistics import Floats, Grouping, Integers, grouping_of

pytestmark = pytest.mark.unit

DIFFERENCES = st.lists(st.integers(-20, 20).map(lambda twentieths: twentieths / 20), min_size=2, max_size=25)


def copied(values: list[float], times: int) -> tuple[Floats, Integers]:
    return np.repeat(values, times), np.repeat(np.arange(len(values)), times)


@given(DIFFERENCES, st.integers(2, 5))
@settings(deadline=None, max_examples=30)
def test_copies_of_a_row_are_worth_one(differences: list[float], times: int) -> None:
    values, clusters = copied(differences, times)
    assert statistics.sign_flip_p(values, clusters=clusters) == pytest.approx(statistics.sign_flip_p(differences))
    assert statistics.intraclass_correlation(values, clusters) == pytest.approx(1.0)
    grouped = statistics.bootstrap_interval(values, bounds=(-1, 1), clusters=clusters)
    alone = statistics.bootstrap_interval(
        differences, bounds=(-1, 1), clusters=np.arange(len(differences), dtype=np.int64)
    )
    assert grouped == pytest.approx(alone, abs=1e-9)


def test_copies_of_a_right_or_wrong_row_are_worth_one() -> None:
    base, tuned = np.array([0.0, 1, 0, 1, 0, 0, 1, 0, 1, 0] * 3), np.array([1.0, 1, 0, 0, 1, 1, 1, 0, 1, 1] * 3)
    clusters = np.repeat(np.arange(len(base)), 4)
    low, high = statistics.clustered_newcombe_interval(np.repeat(base, 4), np.repeat(tuned, 4), clusters)
    both, wins, losses = base @ tuned, (tuned > base).sum(), (base > tuned).sum()
    plain = statistics.newcombe_interval(both, wins, losses, len(base) - both - wins - losses)
    naive = statistics.newcombe_interval(*(4 * n for n in (both, wins, losses, len(base) - both - wins - losses)))
    assert (low, high) == pytest.approx(plain, abs=0.02)
    assert low < plain.low < naive.low
    assert naive.high < plain.high < high


@given(
    st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 5)), min_size=2, max_size=40),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=30)
def test_clustered_statistics_are_mirrored_and_do_not_depend_on_order(
    rows: list[tuple[int, int]], random: object
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def results(rows: list[tuple[int, int]], sign: int) -> tuple[float, statistics.Interval]:
        values = np.array([sign * value / 4 for value, _ in rows])
        clusters = np.unique([cluster for _, cluster in rows], return_inverse=True)[1].astype(np.int64)
        return (
            statistics.sign_flip_p(values, clusters=clusters),
            statistics.bootstrap_interval(values, bounds=(-1, 1), clusters=clusters),
        )

    p, (low, high) = results(rows, 1)
    assert -1 <= low <= high <= 1
    assert results(shuffled, 1) == (p, pytest.approx((low, high), abs=1e-9))
    assert results(rows, -1) == (p, pytest.approx((-high, -low), abs=1e-9))


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 6)), min_size=1, max_size=60))
@settings(deadline=None)
def test_intervals_of_clustered_right_or_wrong_rows_hold_what_was_seen(rows: list[tuple[bool, bool, int]]) -> None:
    base, tuned = (np.array([row[side] for row in rows], dtype=np.float64) for side in (0, 1))
    clusters = np.unique([row[2] for row in rows], return_inverse=True)[1].astype(np.int64)
    low, high = statistics.clustered_newcombe_interval(base, tuned, clusters)
    assert -1 <= low <= (tuned - base).mean() + 1e-12
    assert (tuned - base).mean() - 1e-12 <= high <= 1
    mirrored = statistics.clustered_newcombe_interval(tuned, base, clusters)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)
    low, high = statistics.clustered_wilson_interval(base, clusters)
    assert 0 <= low <= base.mean() + 1e-12
    assert base.mean() - 1e-12 <= high <= 1


def test_fewer_than_six_clusters_show_nothing() -> None:
    values, clusters = copied([1.0] * 5, 100)
    assert statistics.sign_flip_p(values, clusters=clusters) == 0.0625
    grouping = grouping_of([100] * 5, 0.5)
    assert statistics.gain_power(0.9, 0.05, 500, grouping=grouping) == 0.0
    assert statistics.detectable_gain(500, 0.05, grouping=grouping) is None


def test_one_cluster_and_equal_values_promise_nothing() -> None:
    one = np.zeros(8, dtype=np.int64)
    assert statistics.bootstrap_interval(np.arange(8) / 8, bounds=(0, 1), clusters=one).low < 0.02
    assert statistics.clustered_newcombe_interval(np.zeros(8), np.ones(8), one).low < 0.1
    equal = statistics.bootstrap_interval([0.2] * 8, bounds=(-1, 1), clusters=np.repeat([0, 1, 2, 3], 2))
    assert equal == pytest.approx(statistics.equal_values_interval(0.2, 4, bounds=(-1, 1)))


def test_the_design_effect_of_equal_and_unequal_clusters() -> None:
    assert grouping_of([5] * 10, 0.25) == Grouping(50, 10, 5.0, 0.25)
    assert grouping_of([5] * 10, 0.25).design_effect == 2.0
    assert grouping_of([5] * 10, 0.25).effective_rows == 25.0
    assert grouping_of([1, 9], 1.0).design_effect == pytest.approx(8.2)
    assert grouping_of([1] * 7, 1.0).design_effect == 1.0


def test_power_falls_with_the_correlation_and_rows_needed_rise() -> None:
    powers = [statistics.gain_power(0.15, 0.05, 240, grouping=grouping_of([6] * 40, rho)) for rho in (0, 0.2, 0.5, 0.8)]
    assert powers == sorted(powers, reverse=True)
    needed = [statistics.rows_needed(0.15, 0.05, grouping=grouping_of([6] * 40, rho)) for rho in (0, 0.2, 0.5, 0.8, 1)]
    assert all(needed)
    assert needed == sorted(needed)  # type: ignore[type-var]
    alone = statistics.rows_needed(0.15, 0.05)
    assert alone is not None
    assert needed[-1] == 6 * alone


def test_rows_needed_in_clusters_have_the_power() -> None:
    for rho in (0.1, 0.4, 0.7, 0.95):
        grouping = grouping_of([2, 4, 6, 8] * 10, rho)
        n = statistics.rows_needed(0.1, 0.05, grouping=grouping)
        assert n is not None
        assert statistics.gain_power(0.1, 0.05, n, grouping=grouping) >= 0.8
        assert statistics.gain_power(0.1, 0.05, n - 10, grouping=grouping) < 0.805
        gain = statistics.detectable_gain(n, 0.05, grouping=grouping)
        assert gain is not None
        assert gain <= 0.1


def test_the_naive_test_claims_differences_that_clusters_explain() -> None:
    """200 null comparisons of 30 sources with 8 rows each: the naive test calls a fifth of them or more significant."""
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(30), 8)
    naive = ours = 0
    for _ in range(200):
        source, own = rng.random(30)[clusters], rng.random(240)
        drawn = np.where(rng.random(240) < 0.7, source, own)
        wins, losses = int((drawn < 0.25).sum()), int((drawn > 0.75).sum())
        naive += statistics.mcnemar_p(wins, losses) < 0.05
        ours += statistics.sign_flip_p((drawn < 0.25) * 1.0 - (drawn > 0.75), clusters=clusters) < 0.05
    assert naive >= 40
    assert ours <= 20
