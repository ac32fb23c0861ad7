"""The calibration of `make proof` in small: exact levels, and a few hundred simulations with room for chance."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.unit


def test_the_exact_levels_of_mcnemar_are_those_of_the_decision(calibration: ModuleType) -> None:
    """Without simulation: the exact test is never above its level, mid-p is within a point of it from 10 flips on."""
    for flips, exact in ((10, 0.022), (50, 0.037), (200, 0.042)):
        assert calibration.level(500, flips / 500, mid_p=False) == pytest.approx(exact, abs=0.0006)
        assert 0.04 <= calibration.level(500, flips / 500, mid_p=True) <= 0.0505


def test_a_few_simulations_hold_the_promises(calibration: ModuleType) -> None:
    """300 of each: what `make proof` does with thousands, wide enough for chance."""
    rng = np.random.default_rng(1)
    assert calibration.right_or_wrong(calibration.NULLS[-1], 300, rng).significant <= 0.09
    assert calibration.graded(calibration.symmetric(20), 0.0, 300, seed=2).significant <= 0.09
    clustered = calibration.right_or_wrong_clusters(calibration.NULLS_IN_CLUSTERS[3], 300, seed=3)
    assert clustered.ours <= 0.09
    assert clustered.naive >= 0.15
    assert clustered.covered >= 0.91
    assert calibration.families(300, seed=4)[1] <= 0.09
