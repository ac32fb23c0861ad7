"""The geometry of the report's pictures: percentages of the drawing area, which the template turns into SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.report.schema import LossPoint, ModelScore, Report, TrainingSummary

MOST_POINTS = 600
"""A longer curve is drawn as the means of this many stretches; the caption says so."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A score with its interval, in percent of the axis from 0 to 1."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class DifferenceAxis:
    """The difference on an axis symmetric around zero; positions in percent of the width."""

    reach: float
    """The axis goes from minus this to plus this, in score points."""
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A measured point with what it says when pointed at."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class LossChart:
    """Loss curves. Positions in percent from the left and from the top; paths in a square of 1000 by 1000."""

    train_path: str
    """Each step."""
    mean_path: str
    """The running mean, empty where the curve is short enough to be read without one."""
    valid_path: str
    valid_dots: list[Dot]
    best_x: float | None
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    window: int
    """Steps in the running mean."""
    stretch: int
    """Steps that one drawn point stands for; 1 where each step is drawn."""
    not_finite: int
    """Values that were infinite or not numbers and could not be drawn."""


def bar(score: ModelScore) -> Bar | None:
    """Returns the bar of a score, or None where there is none."""
    if score.score is None:
        return None
    low, high = (None if end is None else _clamped(end * 100) for end in (score.low, score.high))
    return Bar(_clamped(score.score * 100), low, high)


def difference_axis(report: Report) -> DifferenceAxis:
    """Returns the place of the difference and its interval on an axis with zero in the middle."""
    difference = report.difference
    farthest = max(abs(difference.value), abs(difference.low), abs(difference.high))
    reach = next((reach for reach in (0.05, 0.1, 0.2, 0.5, 1.0) if farthest <= reach), 1.0)
    value, low, high = (_clamped(50 + 50 * end / reach) for end in (difference.value, difference.low, difference.high))
    return DifferenceAxis(reach, value, low, high)


def loss_chart(training: TrainingSummary) -> LossChart | None:
    """Returns the loss curves, or None where no loss was recorded."""
    train, bad_train = _finite([(point.step, point.train_loss) for point in training.loss_curve])
    valid, bad_valid = _finite([(point.step, point.valid_loss) for point in training.loss_curve])
    if len(train) + len(valid) < 2:
        return None
    last = max(step for step, _ in [*train, *valid])
    y_ticks = _ticks(max(loss for _, loss in [*train, *valid]), 4)
    top = y_ticks[-1]
    drawn, stretch = _thinned(train)
    window = max(1, round(len(drawn) / 20)) if len(drawn) >= 40 else 1

    def place(step: float, loss: float) -> tuple[float, float]:
        return round(100 * step / last, 2), round(100 - 100 * loss / top, 2)

    def path(points: Sequence[tuple[float, float]]) -> str:
        places = (place(step, loss) for step, loss in points)
        return "M" + "L".join(f"{x * 10:.1f},{y * 10:.1f}" for x, y in places) if len(points) > 1 else ""

    return LossChart(
        train_path=path(drawn),
        mean_path=path(_running_mean(drawn, window)) if window > 1 else "",
        valid_path=path(valid),
        valid_dots=[Dot(*place(step, loss), f"step {step:.0f}: {loss:.4f}") for step, loss in valid],
        best_x=place(training.best_step, 0)[0] if valid and 0 < training.best_step <= last else None,
        x_ticks=[
            Tick(round(100 * step / last, 2), f"{step:,.0f}") for step in _ticks(last, 5, whole=True) if step <= last
        ],
        y_ticks=[Tick(round(100 - 100 * loss / top, 2), f"{loss:g}") for loss in y_ticks],
        window=window * stretch,
        stretch=stretch,
        not_finite=bad_train + bad_valid + _missing(training.loss_curve),
    )


def _missing(curve: Sequence[LossPoint]) -> int:
    """Returns how many points carry no loss at all: JSON has no word for a loss that is not a number."""
    return sum(point.train_loss is None and point.valid_loss is None for point in curve)


def _finite(points: Sequence[tuple[int, float | None]]) -> tuple[list[tuple[float, float]], int]:
    given = [(float(step), loss) for step, loss in points if loss is not None]
    finite = [(step, loss) for step, loss in given if math.isfinite(loss) and loss >= 0]
    return finite, len(given) - len(finite)


def _thinned(points: list[tuple[float, float]]) -> tuple[list[tuple[float, float]], int]:
    stretch = math.ceil(len(points) / MOST_POINTS) or 1
    if stretch == 1:
        return points, 1
    stretches = [points[start : start + stretch] for start in range(0, len(points), stretch)]
    return [(_mean([step for step, _ in part]), _mean([loss for _, loss in part])) for part in stretches], stretch


def _running_mean(points: list[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Returns the mean around each point; at the ends, of the points there are."""
    half = window // 2
    means = []
    for index, (step, _) in enumerate(points):
        reach = min(half, index, len(points) - 1 - index)
        means.append((step, _mean([loss for _, loss in points[index - reach : index + reach + 1]])))
    return means


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _ticks(highest: float, most: int, *, whole: bool = False) -> list[float]:
    """Returns evenly spaced round numbers from 0 to at least `highest`, about `most` steps apart."""
    if highest <= 0:
        return [0.0, 1.0]
    raw = highest / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, float(math.ceil(step)))
    return [round(step * index, 10) for index in range(math.ceil(highest / step - 1e-9) + 1)]


def _clamped(percent: float) -> float:
    return round(min(100.0, max(0.0, percent)), 3)
