"""Simulated comparisons whose truth is known: the promises of the statistics, with the margins of the simulation."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from luthier.evaluate import statistics

pytestmark = pytest.mark.proof

SIMULATIONS = 10_000
GRADED_SIMULATIONS = 5_000


def test_right_or_wrong_differences_are_not_claimed_where_there_are_none(calibration: ModuleType) -> None:
    rng = np.random.default_rng(1)
    for truth in calibration.NULLS:
        rates = calibration.right_or_wrong(truth, SIMULATIONS, rng)
        assert rates.significant <= 0.055
        assert rates.verdict <= rates.significant
        if truth.n * (truth.win + truth.lose) >= 10:
            assert 0.035 <= rates.mid <= 0.06
        if truth.n * (truth.win + truth.lose) >= 200:
            assert rates.significant >= 0.04


@pytest.mark.parametrize("n", [10, 20, 50, 100])
def test_graded_differences_are_not_claimed_where_there_are_none(calibration: ModuleType, n: int) -> None:
    rates = calibration.graded(calibration.symmetric(n), 0.0, SIMULATIONS, seed=n)
    assert 0.04 <= rates.significant <= 0.06
    assert rates.verdict <= 0.06
    assert 0.94 <= rates.covered <= 0.96


@pytest.mark.parametrize("index", range(6))
def test_clustered_differences_are_not_claimed_where_there_are_none(calibration: ModuleType, index: int) -> None:
    truth = calibration.NULLS_IN_CLUSTERS[index]
    rates = calibration.right_or_wrong_clusters(truth, SIMULATIONS, seed=index)
    # clusters of one size make p come in steps, as McNemar's does
    assert (0.03 if truth.even else 0.038) <= rates.ours <= 0.06
    assert rates.naive >= 0.1
    assert rates.covered >= 0.94
    assert rates.naive_covered <= 0.9


@pytest.mark.parametrize("index", range(4))
def test_clustered_graded_differences_are_not_claimed_where_there_are_none(calibration: ModuleType, index: int) -> None:
    truth = calibration.NULLS_IN_CLUSTERS[index]
    rates = calibration.graded_clusters(truth, SIMULATIONS, index, skewed=False, interval=False)
    assert 0.04 <= rates.ours <= 0.06
    assert rates.naive >= 0.1


def test_intervals_of_right_or_wrong_scores_hold_the_truth(calibration: ModuleType) -> None:
    rng = np.random.default_rng(2)
    for truth in calibration.GAINS:
        rates = calibration.right_or_wrong(truth, SIMULATIONS, rng)
        assert 0.94 <= rates.covered <= 0.965
        assert 0.925 <= rates.tuned_covered <= 0.97  # Wilson's coverage swings around 95 %


@pytest.mark.parametrize("n", [10, 20, 50, 100])
def test_intervals_of_graded_scores_hold_the_truth(calibration: ModuleType, n: int) -> None:
    rates = calibration.graded(calibration.skewed(n), calibration.SKEWED_MEAN, GRADED_SIMULATIONS, seed=n)
    assert 0.94 <= rates.covered <= 0.96


@pytest.mark.parametrize("index", range(1, 5))
def test_intervals_in_clusters_hold_the_truth(calibration: ModuleType, index: int) -> None:
    truth = calibration.GAINS_IN_CLUSTERS[index]
    rates = calibration.right_or_wrong_clusters(truth, SIMULATIONS, seed=10 + index)
    assert 0.94 <= rates.covered <= 0.965
    assert rates.naive_covered <= 0.9


@pytest.mark.parametrize("clusters", [12, 20, 30, 60])
def test_bootstrap_intervals_of_clusters_hold_the_truth(calibration: ModuleType, clusters: int) -> None:
    truth = calibration.Clustered(clusters, False, 0.5, 0, 0, 0)
    rates = calibration.graded_clusters(truth, GRADED_SIMULATIONS, clusters, skewed=True, test=False)
    assert 0.94 <= rates.covered <= 0.965
    assert rates.naive_covered <= 0.9


@pytest.mark.parametrize("answers", [2, 4])
def test_the_parts_of_the_error_are_right_on_average(calibration: ModuleType, answers: int) -> None:
    rates = calibration.sampled(answers, 2_000, seed=answers)
    assert rates.sampling == pytest.approx(1, abs=0.02)
    assert rates.rows == pytest.approx(1, abs=0.06)
    assert 0.94 <= rates.covered <= 0.965


def test_a_table_of_equals_claims_nothing(calibration: ModuleType) -> None:
    raw, corrected = calibration.families(SIMULATIONS, seed=6)
    assert raw >= 0.1
    assert corrected <= 0.05


@pytest.mark.parametrize("index", range(5))
def test_learning_curves_hold_the_truth(calibration: ModuleType, index: int) -> None:
    rates = calibration.curves(calibration.CURVES[index], 0.01, 2_000, seed=index)
    assert 0.94 <= rates.now <= 0.985
    assert rates.later >= 0.94
    assert rates.gain >= 0.94
    assert rates.number >= 0.94


@pytest.mark.parametrize(("gain", "regress"), [(0.3, 0.05), (0.2, 0.05), (0.1, 0.02), (0.1, 0.1)])
def test_the_promised_rows_show_the_gain(calibration: ModuleType, gain: float, regress: float) -> None:
    n = statistics.rows_needed(gain, regress)
    truth = calibration.Table("gain", n, gain + regress, regress, 0.4)
    rates = calibration.right_or_wrong(truth, SIMULATIONS, np.random.default_rng(3))
    assert rates.right_way == pytest.approx(0.8, abs=0.03)


def test_the_promised_rows_show_a_graded_gain(calibration: ModuleType) -> None:
    n = statistics.score_rows_needed(0.1, calibration.SYMMETRIC_DEVIATION)
    rates = calibration.graded(calibration.symmetric(n, 0.1), 0.1, GRADED_SIMULATIONS, seed=4)
    assert rates.right_way == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("index", range(6))
def test_the_promised_clusters_show_the_gain(calibration: ModuleType, index: int) -> None:
    truth, promised = calibration.planned(*calibration.PLANS[index])
    rates = calibration.right_or_wrong_clusters(truth, GRADED_SIMULATIONS, seed=index)
    assert rates.right_way >= promised - 0.03
    if truth.lose >= 0.05:
        assert rates.right_way <= promised + 0.03


@pytest.mark.parametrize(("regress", "n"), [(0.02, 120), (0.05, 180), (0.1, 300)])
def test_a_gain_worth_having_is_seldom_called_no_difference(calibration: ModuleType, regress: float, n: int) -> None:
    said = calibration.verdicts(
        calibration.Table("gain", n, 0.1 + regress, regress, 0.4), 1_000, np.random.default_rng(5)
    )
    assert said["NO DIFFERENCE SHOWN"] / said.total() <= 0.2
    assert said["WORSE"] == 0
