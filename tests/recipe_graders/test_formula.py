"""The formulas of `multi` graders: arithmetic, and nothing else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.recipe_graders import Formula

pytestmark = pytest.mark.unit
SCORES = {"a": 0.5, "name_1": 0.25, "min": 1.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5 * a + 0.5 * name_1", 0.375),
        ("(a + name_1) / 2", 0.375),
        ("(100 - abs(2 - 7)) / 100", 0.95),
        ("2 ^ 3 ^ 2", 512),
        ("-a ^ 2", -0.25),
        ("+a - -a", 1.0),
        ("min(a, name_1, 3) + max(a, name_1)", 0.75),
        ("min(a)", 0.5),
        ("min", 1.0),
        ("floor(1.7) + ceil(1.2)", 3),
        ("sqrt(4) + exp(0) + log(exp(2))", 5),
        (" 1e-1\n", 0.1),
    ],
)
def test_formulas_are_computed(text, value):
    assert Formula(text, SCORES).value(SCORES) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "a +", "b", "a.real", "a[0]", "a()", "a(1)", "abs()", "abs(1, 2)", "abs", "min()", "max(*a)", "round(a)",
     "abs(x=1)", "a ** 2", "a // 2", "a % 2", "a | 1", "a & 1", "a << 1", "~a", "not a", "a < 1", "a and a", "True", "'a'",
     "None", "[a]", "(a, a)", "{a}", "a if a else a", "lambda: a", "a := 1", "a = 1", "a; a", "f'{a}'", "1j", "...",
     "__import__('os').system('true')", "().__class__", "a @ a", "await a", "(" * 300 + "a" + ")" * 300,
     "-" * 500 + "a", "+".join("a" * 500), "1" * 2_001],
)  # fmt: skip
def test_anything_else_is_refused_when_read(text):
    with pytest.raises(ValueError, match=r"formula|power"):
        Formula(text, SCORES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a / (a - 0.5)", "divides by zero"),
        ("0 ^ (0 - 1)", "divides by zero"),
        ("log(0)", "no value"),
        ("sqrt(0 - a)", "no value"),
        ("(0 - a) ^ 0.5", "no finite value"),
        ("min((0 - a) ^ 0.5, 1)", "no value"),
        ("9 ^ 9 ^ 9 ^ 9", "out of range"),
        ("exp(1000)", "out of range"),
        ("1e999 - 1e999", "no finite value"),
        ("floor(1e999)", "out of range"),
        ("9" * 1_000, "out of range"),
    ],
)
def test_a_formula_without_a_value_says_so(text, said):
    with pytest.raises(ArithmeticError, match=said):
        Formula(text, SCORES).value(SCORES)


@given(st.text(alphabet="a1.+-*/^(), minxgo", max_size=40))
def test_any_formula_has_a_finite_value_or_is_refused(text):
    said, value = None, math.nan
    try:
        value = Formula(text, SCORES).value(SCORES)
    except (ValueError, ArithmeticError) as error:
        said = str(error)
    assert said or math.isfinite(value)
