"""Simulated comparisons whose truth is known: the promises of the statistics, with the margins of the simulation."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from luthier.evaluate import statistics

pytestmark = pytest.mark.proof

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "statistics_calibration.py"
SIMULATIONS = 10_000
GRADED_SIMULATIONS = 5_000


@pytest.fixture(scope="module")
def calibration() -> ModuleType:
    specification = importlib.util.spec_from_file_location("statistics_calibration", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def test_right_or_wrong_differences_are_not_claimed_where_there_are_none(calibration: ModuleType) -> None:
    rng = np.random.default_rng(1)
    for truth in calibration.NULLS:
        rates = calibration.right_or_wrong(truth, SIMULATIONS, rng)
        assert rates.significant <= 0.06
        assert rates.verdict <= rates.significant


@pytest.mark.parametrize("n", [10, 20, 50, 100])
def test_graded_differences_are_not_claimed_where_there_are_none(calibration: ModuleType, n: int) -> None:
    rates = calibration.graded(calibration.symmetric(n), 0.0, GRADED_SIMULATIONS, seed=n)
    assert 0.04 <= rates.significant <= 0.06
    assert rates.verdict <= 0.06
    assert 0.93 <= rates.covered <= 0.97


def test_intervals_of_right_or_wrong_scores_hold_the_truth(calibration: ModuleType) -> None:
    rng = np.random.default_rng(2)
    for truth in calibration.GAINS:
        rates = calibration.right_or_wrong(truth, SIMULATIONS, rng)
        assert 0.94 <= rates.covered <= 0.97
        assert 0.925 <= rates.tuned_covered <= 0.97  # Wilson's coverage swings around 95 %


@pytest.mark.parametrize("n", [20, 50, 100])
def test_intervals_of_graded_scores_hold_the_truth(calibration: ModuleType, n: int) -> None:
    rates = calibration.graded(calibration.skewed(n), calibration.SKEWED_MEAN, GRADED_SIMULATIONS, seed=n)
    assert 0.94 <= rates.covered <= 0.97


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


@pytest.mark.parametrize(("regress", "n"), [(0.02, 120), (0.05, 180), (0.1, 300)])
def test_a_gain_worth_having_is_seldom_called_no_difference(calibration: ModuleType, regress: float, n: int) -> None:
    said = calibration.verdicts(
        calibration.Table("gain", n, 0.1 + regress, regress, 0.4), 1_000, np.random.default_rng(5)
    )
    assert said["NO DIFFERENCE SHOWN"] / said.total() <= 0.2
    assert said["WORSE"] == 0
