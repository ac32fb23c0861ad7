"""What differs in an answer is marked word by word, and the pieces are the texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.report.word_diff import MOST_WORDS, Piece, compared

pytestmark = pytest.mark.unit


def test_a_wrong_value_is_marked_alone() -> None:
    assert compared('{"a":1,"quantity":999}', '{"a":1,"quantity":3}') == [
        Piece('{"a":1,"quantity":', "same"),
        Piece("3", "missing"),
        Piece("999", "extra"),
        Piece("}", "same"),
    ]


def test_signs_between_two_changed_words_belong_to_the_change() -> None:
    assert compared("the quick red fox jumps over it", "the quick brown dog jumps over it") == [
        Piece("the quick ", "same"),
        Piece("brown dog", "missing"),
        Piece("red fox", "extra"),
        Piece(" jumps over it", "same"),
    ]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert compared("東京は雨です", "京都は雨です") is not None


def test_nothing_is_marked_where_that_would_show_nothing() -> None:
    assert compared("same", "same") is None
    assert compared("", "expected") is None
    assert compared("an answer", "") is None
    assert compared("wholly other words than these", '{"total":12}') is None
    long = "word " * MOST_WORDS
    assert compared(long + "x", long + "y") is None


@given(st.text("ab .,\n", max_size=60), st.text("ab .,\n", max_size=60))
def test_the_pieces_are_both_texts(answer: str, expected: str) -> None:
    pieces = compared(answer, expected)
    if pieces is not None:
        assert "".join(piece.text for piece in pieces if piece.kind != "missing") == answer
        assert "".join(piece.text for piece in pieces if piece.kind != "extra") == expected
        assert all(piece.text for piece in pieces)
