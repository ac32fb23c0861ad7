"""Nothing in a shown text acts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.report.visible import columns, one_line, shortened, visible

pytestmark = pytest.mark.unit


def test_controls_are_spelled_out_and_the_rest_stays() -> None:
    assert visible("a\x1b[31mred\x00\x7f\x9b\r\nb\tc") == "a␛[31mred␀␡⟨U+009B⟩\nb\tc"
    assert visible("pay \u202eevil\u2066\u200b\ufeff") == "pay ⟨U+202E⟩evil⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩"
    assert visible("half \ud800") == "half ⟨U+D800⟩"
    assert visible("Zoë 日本 👩‍👧 — “x”") == "Zoë 日本 👩‍👧 — “x”"


@given(st.text(st.characters(exclude_categories=[])))
def test_no_text_keeps_a_character_that_acts(text: str) -> None:
    shown = visible(text)
    acting = {
        c for c in shown if unicodedata.category(c) in ("Cc", "Cs") or unicodedata.bidirectional(c) in ("RLO", "LRO")
    }
    assert acting <= {"\n", "\t"}
    shown.encode("utf-8")


@given(st.text(max_size=60), st.integers(2, 30))
def test_one_line_fits_and_is_one_line(text: str, width: int) -> None:
    line = one_line(text, width)
    assert columns(line) <= width
    assert "\n" not in line


def test_one_line_marks_its_cut_and_counts_wide_characters() -> None:
    assert one_line("日本語テキスト", 7) == "日本語…"
    assert one_line("fits\n here", 9) == "fits here"


@given(st.text("ab \n", max_size=300), st.integers(5, 60), st.integers(1, 5))
def test_a_shortened_text_is_one_end_of_it(text: str, length: int, lines: int) -> None:
    start, end = shortened(text, length, lines), shortened(text, length, lines, "end")
    if start is None:
        assert end is None
        assert len(text) <= length
        assert text.count("\n") < lines
    else:
        assert end is not None
        assert text.startswith(start)
        assert text.endswith(end)
        assert max(len(start), len(end)) <= length
        assert max(start.count("\n"), end.count("\n")) < lines
