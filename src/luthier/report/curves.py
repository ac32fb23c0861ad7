"""The geometry of the report's curves, which the template turns into SVG: losses, and scores by the amount of data.

Positions are percentages from the left and from the top; paths lie in a square of 1000 by 1000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luthier.report import numbers
from luthier.report.schema import CurvePoint, LearningCurve, LossPoint, TrainingSummary

MOST_POINTS = 600
"""A longer curve is drawn as the means of this many stretches; the caption says so."""
_TWO_SIDED = 1.96
"""Standard errors that a 95 % interval of a normal mean reaches to either side."""


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


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured score with its 95 % interval."""

    x: float
    y: float
    low: float
    high: float
    label: str


@dataclass(frozen=True, slots=True)
class LearningChart:
    """Scores by the number of training examples, which lie on an axis where equal factors are equally far apart."""

    band_path: str
    """The area between both ends of the band."""
    known_path: str
    """The fitted curve as far as there are data."""
    beyond_path: str
    """The curve beyond them."""
    last_x: float
    """Where the data end."""
    points: list[Measured]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


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
        return _joined([place(step, loss) for step, loss in points])

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


def learning_chart(curve: LearningCurve) -> LearningChart | None:
    """Returns the learning curve, or None where it has fewer than two points."""
    if len(curve.points) < 2:
        return None
    drawn = sorted(curve.drawn or curve.points, key=lambda point: point.examples)
    measured = sorted(curve.points, key=lambda point: point.examples)
    first = max(1, min(drawn[0].examples, measured[0].examples))
    end = max(drawn[-1].examples, measured[-1].examples, first + 1)
    intervals = [(each, _clipped(each.score, -each.error), _clipped(each.score, each.error)) for each in measured]
    values = [value for each in drawn for value in (each.score, each.low, each.high)]
    values += [value for _, low, high in intervals for value in (low, high)]
    y_ticks = _score_ticks(min(values), max(values))
    bottom, top = y_ticks[0], y_ticks[-1]

    def across(examples: float) -> float:
        return round(100 * math.log(max(first, examples) / first) / math.log(end / first), 2)

    def down(score: float) -> float:
        return round(100 - 100 * (min(top, max(bottom, score)) - bottom) / (top - bottom), 2)

    def path(points: Sequence[CurvePoint]) -> str:
        return _joined([(across(point.examples), down(point.score)) for point in points])

    border = measured[-1].examples
    known = [point for point in drawn if point.examples <= border]
    beyond = [*known[-1:], *(point for point in drawn if point.examples > border)]
    band = [(across(point.examples), down(point.high)) for point in drawn]
    band += [(across(point.examples), down(point.low)) for point in reversed(drawn)]
    marks = [*(point.examples for point in measured), *([end] if end > 1.5 * border else [])]
    return LearningChart(
        band_path=_joined(band) + "Z" if len(drawn) > 1 else "",
        known_path=path(known),
        beyond_path=path(beyond),
        last_x=across(border),
        points=[
            Measured(
                across(each.examples),
                down(each.score),
                down(low),
                down(high),
                f"{each.examples:,} examples: {numbers.percent(each.score)} "
                f"({numbers.percent(low)} to {numbers.percent(high)})",
            )
            for each, low, high in intervals
        ],
        x_ticks=[Tick(across(examples), f"{examples:,}") for examples in _apart(marks, across)],
        y_ticks=[Tick(down(score), f"{score * 100:.0f}") for score in y_ticks],
    )


def _clipped(score: float, errors: float) -> float:
    return min(1.0, max(0.0, score + _TWO_SIDED * errors))


def _apart(marks: Sequence[int], across: Callable[[float], float]) -> list[int]:
    """Returns the marks whose labels have room beside each other, from the last."""
    kept: list[int] = []
    for mark in reversed(marks):
        if not kept or across(kept[-1]) - across(mark) > 9:
            kept.append(mark)
    return kept[::-1]


def _score_ticks(lowest: float, highest: float) -> list[float]:
    """Returns round shares from at most the lowest to at least the highest, and never beyond 0 and 1."""
    step = next(step for step in (0.05, 0.1, 0.2) if (highest - lowest) / step <= 6)
    first, last = math.floor(lowest / step + 1e-9), math.ceil(highest / step - 1e-9)
    return [round(index * step, 10) for index in range(max(0, first), max(first + 1, last) + 1)]


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x * 10:.1f},{y * 10:.1f}" for x, y in places) if len(places) > 1 else ""
