"""The comparison of two sets of scores: verdicts, sentences, and what holds for every pair of sets."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.errors import EvaluateError
from luthier.evaluate.compare import Comparison, assumed_deviation, assumed_regress_rate, compare_scores
from luthier.evaluate.statistics import mcnemar_power

pytestmark = pytest.mark.unit

MIRRORED = {
    "BETTER": "WORSE",
    "WORSE": "BETTER",
    "NO DIFFERENCE SHOWN": "NO DIFFERENCE SHOWN",
    "UNDERPOWERED": "UNDERPOWERED",
}
RIGHT_OR_WRONG = st.sampled_from([0.0, 1.0])
GRADED = st.integers(0, 20).map(lambda twentieths: twentieths / 20)


def scores(values: Sequence[float | None]) -> dict[str, float | None]:
    return {f"row {index}": value for index, value in enumerate(values)}


def compared(base: Sequence[float | None], tuned: Sequence[float | None], minimum_gain: float = 0.1) -> Comparison:
    return compare_scores(scores(base), scores(tuned), minimum_gain=minimum_gain)


def table(both: int, wins: int, losses: int, neither: int) -> Comparison:
    base = [1.0] * both + [0.0] * wins + [1.0] * losses + [0.0] * neither
    tuned = [1.0] * both + [1.0] * wins + [0.0] * losses + [0.0] * neither
    return compared(base, tuned)


def test_a_clear_gain() -> None:
    result = table(both=0, wins=36, losses=0, neither=4)
    assert result.verdict == "BETTER"
    assert (result.n, result.wins, result.losses, result.ties) == (40, 36, 0, 4)
    assert (result.base.value, result.tuned.value, result.difference.value) == (0.0, 0.9, 0.9)
    assert result.reason == (
        "The fine-tuned model answered 36 of 40 test rows rightly, the base 0: +90 points (95 % interval 74.3 to 96), "
        "p < 0.0001."
    )
    assert result.test.startswith("exact McNemar")
    assert "method 10" in result.difference.method


def test_a_clear_loss() -> None:
    result = table(both=10, wins=1, losses=20, neither=9)
    assert result.verdict == "WORSE"
    assert "−47.5 points" in result.reason


def test_few_rows_are_underpowered_and_say_how_many_would_do() -> None:
    result = table(both=0, wins=3, losses=0, neither=5)
    assert result.verdict == "UNDERPOWERED"
    assert result.planned_gain == result.difference.value == 0.375
    assert result.rows_needed == 27
    assert result.reason.endswith(
        "8 test rows cannot be relied on to show a gain of 10 points, and about 27 would be needed to show the gain "
        "seen here, 37.5 points."
    )


def test_without_a_gain_the_rows_are_those_for_the_smallest_worth_having() -> None:
    result = table(both=10, wins=2, losses=3, neither=25)
    assert result.verdict == "UNDERPOWERED"
    assert result.planned_gain == 0.1
    assert result.rows_needed == 168
    assert result.reason.endswith("and about 168 would be needed to show it.")


def test_enough_rows_without_a_difference() -> None:
    result = table(both=150, wins=4, losses=5, neither=141)
    assert result.verdict == "NO DIFFERENCE SHOWN"
    assert result.detectable_gain is not None
    assert result.detectable_gain <= 0.1
    assert result.reason.endswith("a gain of 10 points would have been shown with at least 80 % power.")


@pytest.mark.parametrize("values", [[1.0, 0.0] * 200, [0.2, 0.7] * 200, [1.0], [0.5], [0.0] * 9])
def test_a_model_against_itself(values: list[float]) -> None:
    result = compared(values, values)
    assert result.difference.value == 0.0
    assert result.p_value == 1.0
    assert result.difference.low < 0 < result.difference.high
    assert result.verdict == ("NO DIFFERENCE SHOWN" if len(values) == 400 else "UNDERPOWERED")


def test_the_interval_alone_does_not_make_a_verdict() -> None:
    result = table(both=0, wins=5, losses=0, neither=195)
    assert result.p_value == 0.0625
    assert result.difference.low > 0
    assert result.verdict == "NO DIFFERENCE SHOWN"
    assert "only one of them holds" in result.reason


def test_the_test_alone_does_not_make_a_verdict() -> None:
    """Equal gains on every row: the flips are significant, but so few equal rows bound the mean only loosely."""
    result = compared([0.2] * 8, [0.3] * 8)
    assert result.p_value < 0.05
    assert result.difference.low < 0
    assert result.verdict == "UNDERPOWERED"
    assert "only one of them holds" in result.reason


def test_little_room_above_the_base_is_said() -> None:
    assert "the base leaves 2.5 points to gain" in table(both=195, wins=2, losses=0, neither=3).reason


def test_scores_between_zero_and_one_get_the_other_family() -> None:
    rng = random.Random(1)
    base = [rng.random() for _ in range(60)]
    result = compared(base, [min(1.0, value + 0.1 + 0.1 * rng.random()) for value in base])
    assert result.verdict == "BETTER"
    assert result.test.startswith("sign-flip permutation test")
    assert result.difference.method.startswith("BCa bootstrap")
    assert "of 100 points on average over 60 test rows" in result.reason


def test_one_score_in_between_decides_the_family_only_where_it_is_compared() -> None:
    base, tuned = scores([0.0, 1.0, 0.5]), scores([1.0, 1.0, None])
    assert compare_scores(base, tuned).test.startswith("exact McNemar")


def test_rows_left_out_are_counted() -> None:
    base: dict[str, float | None] = {"a": 1, "b": None, "c": 0, "d": 1, "x": 1, "y": None}
    tuned: dict[str, float | None] = {"a": 1, "b": 1, "c": None, "d": 0, "z": 1}
    result = compare_scores(base, tuned)
    assert result.n == 2
    assert (result.base_unscored, result.tuned_unscored) == (2, 1)
    assert (result.base_only, result.tuned_only) == (2, 1)


@pytest.mark.parametrize(
    ("base", "tuned", "message"),
    [
        ({"a": 1.0}, {"b": 1.0}, "No id is in both"),
        ({}, {}, "No id is in both"),
        ({"a": 1.0}, {"a": None}, "none has a score on both"),
    ],
)
def test_nothing_in_common(base: dict[str, float | None], tuned: dict[str, float | None], message: str) -> None:
    with pytest.raises(EvaluateError, match=message) as caught:
        compare_scores(base, tuned)
    assert caught.value.code == "no_common_samples"
    assert caught.value.hint


@pytest.mark.parametrize("bad", [1.5, -0.1, float("nan"), float("inf")])
def test_a_score_outside_the_scale_is_refused(bad: float) -> None:
    with pytest.raises(EvaluateError, match="'b'") as caught:
        compare_scores({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": bad})
    assert caught.value.code == "bad_score"


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 10.0, float("nan")])
def test_a_smallest_gain_outside_the_scale_is_refused(bad: float) -> None:
    with pytest.raises(EvaluateError) as caught:
        compare_scores({"a": 1.0}, {"a": 1.0}, minimum_gain=bad)
    assert caught.value.code == "bad_minimum_gain"


def test_the_assumed_flips_are_measured_with_a_floor() -> None:
    assert assumed_regress_rate(5, 0, 20) == 0.05
    assert assumed_regress_rate(5, 0, 60) == 0.05
    assert assumed_regress_rate(5, 0, 300) == 0.01
    assert assumed_regress_rate(90, 30, 300) == 0.1
    assert assumed_regress_rate(30, 90, 300) == 0.1


def test_the_assumed_deviation_is_that_of_two_rows_more() -> None:
    differences = np.random.default_rng(3).normal(0, 0.2, size=30)
    with_two_more = np.append(differences, differences.mean() + np.array([0.5, -0.5]))
    assert assumed_deviation(differences) == pytest.approx(np.std(with_two_more, ddof=1))
    assert assumed_deviation(np.zeros(1)) == 0.5


def test_differences_that_are_equal_but_for_rounding_are_equal() -> None:
    result = compared([0.1, 0.2, 0.3] * 20, [0.3, 0.4, 0.5] * 20)
    assert result.verdict == "BETTER"
    assert result.difference.method.startswith("bound for equal values")
    assert result.base.method.startswith("BCa")


@given(
    st.one_of(
        st.lists(st.tuples(RIGHT_OR_WRONG, RIGHT_OR_WRONG), min_size=1, max_size=80),
        st.lists(st.tuples(GRADED, GRADED), min_size=1, max_size=30),
    ),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=60)
def test_sides_are_mirrored_and_order_does_not_matter(pairs: list[tuple[float, float]], order: random.Random) -> None:
    base, tuned = (scores(side) for side in zip(*pairs, strict=True))
    result = compare_scores(base, tuned)
    keys = list(base)
    order.shuffle(keys)
    assert compare_scores({key: base[key] for key in keys}, tuned) == result

    mirror = compare_scores(tuned, base)
    assert mirror.verdict == MIRRORED[result.verdict]
    assert mirror.p_value == result.p_value
    assert (mirror.wins, mirror.losses, mirror.ties) == (result.losses, result.wins, result.ties)
    assert (mirror.base, mirror.tuned) == (result.tuned, result.base)
    assert mirror.detectable_gain == result.detectable_gain
    assert (mirror.difference.value, mirror.difference.low, mirror.difference.high) == pytest.approx(
        (-result.difference.value, -result.difference.high, -result.difference.low), abs=1e-9
    )


@given(st.lists(st.tuples(RIGHT_OR_WRONG, RIGHT_OR_WRONG), min_size=1, max_size=200), st.floats(0.01, 0.5))
@settings(deadline=None, max_examples=60)
def test_the_verdict_follows_from_the_numbers_beside_it(pairs: list[tuple[float, float]], minimum_gain: float) -> None:
    base, tuned = (list(side) for side in zip(*pairs, strict=True))
    result = compared(base, tuned, minimum_gain)
    shown = result.p_value < 0.05 and not result.difference.low <= 0 <= result.difference.high
    assert (result.verdict in ("BETTER", "WORSE")) == shown
    assert result.n == result.wins + result.losses + result.ties == len(pairs)
    assert result.difference.value == pytest.approx(result.tuned.value - result.base.value, abs=1e-12)
    if shown:
        assert (result.verdict == "BETTER") == (result.wins > result.losses)
        return
    rate = assumed_regress_rate(result.wins, result.losses, result.n)
    enough = mcnemar_power(minimum_gain, rate, result.n) >= 0.8
    near = result.detectable_gain is not None and abs(result.detectable_gain - minimum_gain) < 2e-4
    assert near or (result.verdict == "NO DIFFERENCE SHOWN") == enough
    if result.verdict == "UNDERPOWERED":
        assert result.rows_needed is None or result.rows_needed > result.n


def test_the_same_seed_gives_the_same_comparison() -> None:
    rng = random.Random(2)
    base, tuned = (scores([rng.random() for _ in range(40)]) for _ in range(2))
    first = compare_scores(base, tuned, seed=5)
    assert compare_scores(base, tuned, seed=5) == first
    assert dataclasses.astuple(compare_scores(base, tuned, seed=6).difference) != dataclasses.astuple(first.difference)


def test_neither_torch_nor_the_slow_part_of_scipy_is_imported() -> None:
    code = "import sys, luthier.evaluate.compare; print(sorted({'torch', 'transformers', 'scipy.stats'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"
