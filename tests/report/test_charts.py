"""The pictures say what the numbers say."""

from __future__ import annotations

import math

import pytest
from sample_reports import run_report, training

from luthier.report import charts
from luthier.report.schema import LossPoint, ModelScore, TrainingSummary

pytestmark = pytest.mark.unit


def with_curve(points: list[LossPoint], **changes: object) -> TrainingSummary:
    return training().model_copy(update={"loss_curve": points, **changes})


def losses(values: list[float]) -> list[LossPoint]:
    return [LossPoint(step=step, epoch=step / 10, train_loss=loss) for step, loss in enumerate(values, start=1)]


def test_a_bar_is_the_score_in_percent() -> None:
    assert charts.bar(ModelScore(name="x", score=0.925, low=0.801, high=0.974)) == charts.Bar(92.5, 80.1, 97.4)
    assert charts.bar(ModelScore(name="x", score=None, low=None, high=None)) is None


def test_the_difference_lies_on_an_axis_around_zero() -> None:
    axis = charts.difference_axis(run_report("NO DIFFERENCE SHOWN"))
    assert axis.reach == 0.2
    assert axis.value == pytest.approx(50 + 50 * 0.025 / 0.2)
    assert axis.low == pytest.approx(50 + 50 * -0.0871 / 0.2)
    assert axis.high == pytest.approx(50 + 50 * 0.1355 / 0.2)


def test_loss_points_lie_where_their_numbers_put_them() -> None:
    chart = charts.loss_chart(training())
    assert chart is not None
    assert chart.best_x == 100
    assert [tick.label for tick in chart.y_ticks] == ["0", "0.5", "1", "1.5", "2"]
    assert [dot.x for dot in chart.valid_dots] == [33.33, 66.67, 100]
    last = training().loss_curve[-1].valid_loss
    assert last is not None
    assert chart.valid_dots[-1].y == pytest.approx(100 - 100 * last / 2, abs=0.01)
    assert chart.train_path.count("L") == 119
    assert chart.stretch == 1


def test_a_long_curve_is_drawn_as_means_and_says_how_many_steps_each_stands_for() -> None:
    chart = charts.loss_chart(with_curve(losses([1.0] * 5000)))
    assert chart is not None
    assert chart.stretch == 9
    assert chart.train_path.count("L") + 1 == math.ceil(5000 / 9)


def test_losses_that_are_no_numbers_are_counted_not_drawn() -> None:
    points = [*losses([1.0, math.nan, math.inf, 0.5]), LossPoint(step=5, epoch=0.5)]
    chart = charts.loss_chart(with_curve(points, best_step=0))
    assert chart is not None
    assert chart.not_finite == 3
    assert "nan" not in chart.train_path
    assert chart.best_x is None


def test_without_two_losses_there_is_no_chart() -> None:
    assert charts.loss_chart(with_curve([])) is None
    assert charts.loss_chart(with_curve(losses([1.0]))) is None


def test_losses_of_zero_are_drawn() -> None:
    chart = charts.loss_chart(with_curve(losses([0.0, 0.0])))
    assert chart is not None
    assert chart.train_path == "M500.0,1000.0L1000.0,1000.0"
