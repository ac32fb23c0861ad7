"""The learning rate of each step."""

from __future__ import annotations

import pytest

from luthier.train.schedule import learning_rate_at

pytestmark = pytest.mark.unit


def rates(schedule, total=20, warmup=0.1):
    return [
        learning_rate_at(s, total_steps=total, peak=1.0, warmup_ratio=warmup, schedule=schedule) for s in range(total)
    ]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_every_step_moves_and_none_is_above_the_peak(schedule):
    values = rates(schedule)
    assert all(0 < value <= 1 for value in values)
    assert values[0] < values[1] < values[2] == 1.0


def test_linear_falls_in_equal_steps_to_just_above_zero():
    values = rates("linear", warmup=0.0)
    assert values[0] == 1.0
    assert values[-1] == pytest.approx(1 / 20)


def test_cosine_is_at_half_height_in_the_middle():
    assert rates("cosine", warmup=0.0)[10] == pytest.approx(0.5)
