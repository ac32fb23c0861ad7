"""Numbers of a comparison in the words of its one sentence."""

from __future__ import annotations

from luthier.evaluate.statistics import ALPHA


def points(value: float) -> str:
    """Returns hundredths of the scale with one decimal at most, and more where that would read as 0."""
    text = f"{100 * value:.1f}".removesuffix(".0")
    if float(text) == 0:
        text = f"{100 * value:.1g}" if abs(value) > 1e-12 else "0"
    return text.replace("-", "−")


def with_unit(text: str) -> str:
    """Returns points with their unit, in the singular where it is one."""
    return f"{text} point" if text.lstrip("+−") == "1" else f"{text} points"


def signed(value: float) -> str:
    """Returns a difference in points with its sign and unit."""
    text = points(value)
    return with_unit(text if text.startswith("−") or text == "0" else f"+{text}")


def p_value(p: float) -> str:
    """Returns a p-value with its relation, in two digits unless they would move it across the level."""
    if p < 0.0001:
        return "p < 0.0001"
    digits = next(digits for digits in range(2, 18) if (float(f"{p:.{digits}g}") < ALPHA) == (p < ALPHA))
    return f"p = {p:.{digits}g}"


def counted(num: int, noun: str) -> str:
    """Returns `1 row`, `1,200 rows`."""
    return f"{num:,} {noun}" + ("" if num == 1 else "s")


def sentence_start(text: str) -> str:
    """Returns a name as the first word of a sentence; a file's name keeps its spelling."""
    return text[:1].upper() + text[1:] if text.startswith("the ") else text
