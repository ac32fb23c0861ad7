from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.counting import estimates
from luthier.data.counting.estimates import MIN_SAMPLED_ROWS, SAMPLED_ROWS, Estimate, estimate_total, sample_rows

pytestmark = pytest.mark.unit

Row = tuple[int, int]


def population(kind: str, count: int) -> list[Row]:
    """Rows as (bytes, tokens): skewed lengths, and scripts with different tokens per byte."""
    draw = random.Random(1)
    rows: list[Row] = []
    for _ in range(count):
        if kind == "log-normal":
            length = int(draw.lognormvariate(6, 1.2)) + 1
        elif kind == "Pareto":
            length = int(min(2e5, 50 * draw.paretovariate(1.3)))
        else:  # one row in fifty is a long document, and these are most of the text
            long = draw.random() < 0.02
            length = int(draw.lognormvariate(9.5, 1) if long else draw.lognormvariate(5, 0.5)) + 1
        script = draw.random()
        rate = (
            draw.gauss(0.24, 0.02)
            if script < 0.85
            else draw.gauss(0.32, 0.03)
            if script < 0.95
            else draw.gauss(0.5, 0.08)
        )
        rows.append((length, int(max(1, length * max(0.1, rate)))))
    return rows


def sampled(rows: list[Row], seed: int, budget: int) -> Estimate:
    lengths = [length for length, _ in rows]
    indices = sample_rows(lengths, seed=seed, budget_bytes=budget).tolist()
    return estimate_total(lengths, {index: rows[index][1] for index in indices})


@pytest.mark.parametrize(
    ("kind", "budget", "widest"),
    [("log-normal", 2_000_000, 0.03), ("Pareto", 400_000, 0.05), ("documents", 2_000_000, 0.12)],
)
def test_the_interval_covers_the_total_as_often_as_it_says(kind: str, budget: int, widest: float) -> None:
    rows = population(kind, 20_000)
    total = sum(count for _, count in rows)
    found = [sampled(rows, seed, budget) for seed in range(300)]
    covered = sum(estimate.low <= total <= estimate.high for estimate in found) / len(found)
    bias = sum(estimate.total for estimate in found) / len(found) / total - 1
    width = sum(estimate.high - estimate.low for estimate in found) / len(found) / 2 / total
    assert covered >= 0.93
    assert abs(bias) < 0.01
    assert width < widest
    assert not any(estimate.exact for estimate in found)


def test_a_small_set_is_counted_exactly_and_says_so() -> None:
    rows = population("log-normal", 500)
    total = sum(count for _, count in rows)
    assert sampled(rows, 0, 10_000_000) == Estimate(total, total, total, True, 500)
    assert sampled([], 0, 1) == Estimate(0, 0, 0, True, 0)


def test_the_variance_is_cochrans_where_lengths_are_alike() -> None:
    """Of equal lengths the ratio estimator is the mean, and its interval the textbook's (scipy's t)."""
    from scipy import stats

    draw = random.Random(3)
    counts = [draw.randrange(100, 200) for _ in range(1000)]
    chosen = draw.sample(range(1000), 200)
    found = estimate_total([50] * 1000, {index: counts[index] for index in chosen})
    values = [counts[index] for index in chosen]
    mean = sum(values) / 200
    variance = sum((value - mean) ** 2 for value in values) / 199
    margin = 1000 * (variance / 200 * 0.8) ** 0.5
    assert found.total == round(1000 * mean)
    assert (found.high - found.low) / 2 == pytest.approx(margin * stats.t.ppf(0.975, 199), rel=0.02)
    assert found.sampled_rows == 200


@pytest.mark.parametrize("degrees", [2, 3, 5, 10, 29, 100, 1000])
def test_students_t_is_scipys(degrees: int) -> None:
    from scipy import stats

    assert estimates._student_t(degrees) == pytest.approx(
        stats.t.ppf(0.975, degrees), rel=0.01 if degrees < 10 else 1e-4
    )


def test_the_same_seed_gives_the_same_sample_and_another_another() -> None:
    rows = population("log-normal", 5000)
    assert sampled(rows, 1, 100_000) == sampled(rows, 1, 100_000)
    assert sampled(rows, 1, 100_000) != sampled(rows, 2, 100_000)


def test_every_row_is_as_likely_to_be_drawn_first_or_last() -> None:
    chosen = [0] * 400
    for seed in range(200):
        indices = sample_rows([100] * 400, seed=seed, budget_bytes=20_000).tolist()
        assert len(indices) == 200
        assert indices == sorted(indices)
        for index in indices:
            chosen[index] += 1
    assert sum(chosen[:200]) == pytest.approx(20_000, rel=0.03)
    assert 60 < min(chosen) <= max(chosen) < 140


@pytest.mark.parametrize(
    ("length", "kept"), [(50, 2000), (100, 1000), (1000, 100), (5000, 100), (20_000, 50), (200_000, MIN_SAMPLED_ROWS)]
)
def test_the_sample_stays_within_its_budget(length: int, kept: int) -> None:
    assert len(sample_rows([length] * 2000, budget_bytes=100_000)) == kept
    assert kept * length <= 1_000_000 or kept == MIN_SAMPLED_ROWS
    assert SAMPLED_ROWS == 100


def test_few_long_rows_are_all_counted() -> None:
    assert sample_rows([10**9] * 5, budget_bytes=100).tolist() == [0, 1, 2, 3, 4]


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=60), st.integers(0, 10**6))
def test_no_lengths_and_counts_crash_the_estimate(rows: list[Row], budget: int) -> None:
    found = sampled(rows, 0, budget)
    assert 0 <= found.low <= found.total <= found.high
    assert found.exact == (found.sampled_rows == len(rows))


def test_rows_without_length_are_counted_by_the_mean() -> None:
    found = estimate_total([0] * 100, dict.fromkeys(range(50), 7))
    assert (found.total, found.low, found.high) == (700, 700, 700)
    assert not found.exact


def test_one_row_is_no_sample() -> None:
    with pytest.raises(ValueError, match="two sampled rows"):
        estimate_total([1, 2], {0: 5})


def test_an_estimate_is_multiplied() -> None:
    estimate = Estimate(10, 8, 13, False, 5)
    assert estimate.times(3) == Estimate(30, 24, 39, False, 5)
