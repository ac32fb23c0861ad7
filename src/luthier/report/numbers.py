"""Numbers as a statistician writes them: a true minus sign, sensible digits, and never a rounded certainty."""

from __future__ import annotations

import math
from datetime import UTC, datetime

MISSING = "–"


def percent(share: float | None) -> str:
    """Returns a share as `92.5 %`; 0 and 1 exactly are `0 %` and `100 %`, and nothing else is rounded to them."""
    if share is None or not math.isfinite(share):
        return MISSING
    if share in (0, 1):
        return f"{share * 100:.0f} %"
    rounded = f"{share * 100:.1f}"
    if 0 < share < 1 and rounded in ("0.0", "100.0"):
        return "< 0.1 %" if share < 0.5 else "> 99.9 %"
    return f"{_minus(rounded)} %"


def points(difference: float | None, *, unit: bool = True) -> str:
    """Returns a difference of shares in percentage points: `+64.0 pp`, `−2.5 pp`, `0 pp`."""
    if difference is None or not math.isfinite(difference):
        return MISSING
    rounded = f"{difference * 100:+.1f}"
    if difference == 0:
        rounded = "0"
    elif float(rounded) == 0:
        rounded = "+< 0.1" if difference > 0 else "-< 0.1"
    return _minus(rounded) + (" pp" if unit else "")


def p_value(value: float) -> str:
    """Returns a p-value with its relation: `= 0.031`, `< 0.0001`, `= 1`."""
    if not math.isfinite(value):
        return MISSING
    if value < 0.0001:
        return "< 0.0001"
    if value >= 0.995:
        return "= 1" if value == 1 else "> 0.99"
    digits = max(2, 1 - math.floor(math.log10(value)))
    return f"= {value:.{digits}f}"


def count(value: int) -> str:
    """Returns a whole number with its thousands apart: `134,515,008`."""
    return _minus(f"{value:,}")


def plural(number: int, noun: str) -> str:
    """Returns `1 row`, `1,200 rows`."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def significant(value: float | None, digits: int = 3) -> str:
    """Returns a measured value with three significant digits, thousands apart, never in powers of ten up to 10⁹."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    if abs(value) >= 1e9 or abs(value) < 1e-6:
        return _minus(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return _minus(text)


def short(value: float | None) -> str:
    """Returns a value with three significant digits at most and no idle zeros: `1`, `0.5`, `0.667`."""
    text = significant(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def fixed(value: float | None, decimals: int) -> str:
    """Returns a value with so many decimals, for a column of them."""
    return MISSING if value is None or not math.isfinite(value) else _minus(f"{value:.{decimals}f}")


def moment(text: str) -> str:
    """Returns an ISO 8601 time as `2026-06-10 09:41 UTC`, and anything else as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if time.tzinfo else text


def duration(seconds: float) -> str:
    """Returns a time as `0.4 s`, `48 s`, `2 min 05 s`, `1 h 03 min`."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def _minus(text: str) -> str:
    return text.replace("-", "−")
