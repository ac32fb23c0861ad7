"""Numbers are written as a statistician writes them."""

from __future__ import annotations

import math

import pytest

from luthier.report import numbers

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("share", "written"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.925, "92.5 %"),
        (0.9997, "> 99.9 %"),
        (0.0002, "< 0.1 %"),
        (0.5, "50.0 %"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_a_share_is_never_rounded_to_certainty(share: float | None, written: str) -> None:
    assert numbers.percent(share) == written


@pytest.mark.parametrize(
    ("difference", "written"),
    [
        (0.925, "+92.5 pp"),
        (-0.4, "−40.0 pp"),
        (0.0, "0 pp"),
        (0.0001, "+< 0.1 pp"),
        (-0.0001, "−< 0.1 pp"),
        (None, "–"),
    ],
)
def test_a_difference_has_a_sign_and_its_unit(difference: float | None, written: str) -> None:
    assert numbers.points(difference) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1.45e-11, "< 0.0001"),
        (0.0, "< 0.0001"),
        (0.000144958, "= 0.00014"),
        (0.0312, "= 0.031"),
        (0.5842, "= 0.58"),
        (0.9999, "> 0.99"),
        (1.0, "= 1"),
    ],
)
def test_a_p_value_is_never_zero(value: float, written: str) -> None:
    assert numbers.p_value(value) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.31, "0.3 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (151.4, "2 min 31 s"),
        (3599.7, "1 h 00 min"),
        (7380, "2 h 03 min"),
    ],
)
def test_a_duration_carries_over(seconds: float, written: str) -> None:
    assert numbers.duration(seconds) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(14.82, "14.8"), (1234.5, "1,234"), (0.001234, "0.00123"), (0.0, "0"), (-2.0, "−2.00"), (1e12, "1.00e+12")],
)
def test_a_measured_value_has_three_digits(value: float, written: str) -> None:
    assert numbers.significant(value) == written


def test_short_values_drop_idle_zeros_only() -> None:
    assert [numbers.short(value) for value in (1.0, 0.5, 2 / 3, 100.0, 1200.0)] == ["1", "0.5", "0.667", "100", "1,200"]


def test_a_time_is_shown_in_utc_and_anything_else_as_it_is() -> None:
    assert numbers.moment("2026-06-10T11:41:22+02:00") == "2026-06-10 09:41 UTC"
    assert numbers.moment("yesterday") == "yesterday"


def test_plurals_and_thousands() -> None:
    assert numbers.plural(1, "row") == "1 row"
    assert numbers.plural(134515, "row") == "134,515 rows"
