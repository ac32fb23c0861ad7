"""The pictures say what the numbers say."""

from __future__ import annotations

import itertools
import math

import pytest
from sample_reports import full_report, learning_curve, run_report, training

from luthier.report import charts, curves
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
    axis = charts.difference_axis(run_report("NO DIFFERENCE SHOWN").difference)
    assert axis.reach == 0.2
    assert axis.value == pytest.approx(50 + 50 * 0.025 / 0.2)
    assert axis.low == pytest.approx(50 + 50 * -0.0871 / 0.2)
    assert axis.high == pytest.approx(50 + 50 * 0.1355 / 0.2)


def test_loss_points_lie_where_their_numbers_put_them() -> None:
    chart = curves.loss_chart(training())
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
    chart = curves.loss_chart(with_curve(losses([1.0] * 5000)))
    assert chart is not None
    assert chart.stretch == 9
    assert chart.train_path.count("L") + 1 == math.ceil(5000 / 9)


def test_losses_that_are_no_numbers_are_counted_not_drawn() -> None:
    points = [*losses([1.0, math.nan, math.inf, 0.5]), LossPoint(step=5, epoch=0.5)]
    chart = curves.loss_chart(with_curve(points, best_step=0))
    assert chart is not None
    assert chart.not_finite == 3
    assert "nan" not in chart.train_path
    assert chart.best_x is None


def test_without_two_losses_there_is_no_chart() -> None:
    assert curves.loss_chart(with_curve([])) is None
    assert curves.loss_chart(with_curve(losses([1.0]))) is None


def test_losses_of_zero_are_drawn() -> None:
    chart = curves.loss_chart(with_curve(losses([0.0, 0.0])))
    assert chart is not None
    assert chart.train_path == "M500.0,1000.0L1000.0,1000.0"


def test_all_pairs_are_drawn_on_one_axis() -> None:
    table = full_report().table
    assert table is not None
    differences = [pair.difference for pair in table.pairings]
    reach = charts.reach_of(differences)
    assert reach == 1.0
    assert charts.difference_axis(differences[0], reach).value == pytest.approx(50 + 50 * 0.3)
    assert charts.reach_of([]) == 0.05


def test_the_learning_curve_lies_where_its_numbers_put_it() -> None:
    chart = curves.learning_chart(learning_curve())
    assert chart is not None
    steps = [two.x - one.x for one, two in itertools.pairwise(chart.points)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.02), "doublings are equally far apart"
    assert [tick.label for tick in chart.y_ticks] == ["60", "70", "80", "90", "100"]
    point, score = chart.points[0], learning_curve().points[0].score
    assert point.y == pytest.approx(100 - 100 * (score - 0.6) / 0.4, abs=0.01)
    assert point.high < point.y < point.low
    assert chart.known_path.split("L")[-1] == chart.beyond_path[1:].split("L")[0]
    assert chart.last_x == chart.points[-1].x < 100


def test_a_curve_without_beyond_or_of_equal_scores_is_drawn_and_one_point_is_none() -> None:
    curve = learning_curve()
    alone = curve.model_copy(update={"drawn": []})
    chart = curves.learning_chart(alone)
    assert chart is not None
    assert chart.beyond_path == ""
    flat = [point.model_copy(update={"score": 1.0, "error": 0.0, "low": 1.0, "high": 1.0}) for point in curve.points]
    chart = curves.learning_chart(curve.model_copy(update={"points": flat, "drawn": flat}))
    assert chart is not None
    assert all(0 <= point.y <= 100 for point in chart.points)
    assert curves.learning_chart(curve.model_copy(update={"points": curve.points[:1]})) is None
