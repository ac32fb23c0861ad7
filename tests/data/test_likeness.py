from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.twins.likeness import (
    count_words,
    is_plural,
    is_word,
    mistyped,
    normalised,
    respelt,
    rewording,
    tokens,
    words,
)

pytestmark = pytest.mark.unit


def test_normalising() -> None:
    assert normalised("  Ｈello\n\tSTRASSE ") == normalised("hello straße") == "hello strasse"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("where can i order a virtual card?", "where can i order my virtual card"),
        ("what's the top up limit?", "what is the top up limit"),
        ("when will the transfer reach my account", "when will my transfers reach my account"),
        ("i want to cancel the transfer", "i want to cancell the transfer"),
    ],
)
def test_the_same_question_in_other_spelling(one: str, other: str) -> None:
    assert rewording(one, other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("book a table for 4 in newark", "book a table for 5 in newark"),
        ("what is the weather in paris today", "what is the weather in parma today"),
        ("how do i top up my card", "why do i top up my card"),
        ("can i use my card abroad", "can't i use my card abroad"),
        ("transfer money from ann to bob", "transfer money from bob to ann"),
        ("set an alarm for 7 pm", "set an alarm for 7 am"),
        ("rate this book four of six", "rate this book five of six"),
    ],
)
def test_two_fillings_of_one_template_are_not_the_same(one: str, other: str) -> None:
    assert rewording(one, other) is None


def test_respelt_words() -> None:
    assert respelt("colour", "color")
    assert not respelt("1234", "1235")
    assert not respelt("cat", "car")
    assert not respelt("paris", "parma")


@given(one=st.text(max_size=30), other=st.text(max_size=30))
def test_rewording_is_symmetric(one: str, other: str) -> None:
    one, other = normalised(one), normalised(other)
    found = rewording(one, other)
    assert rewording(other, one) == (found and found[::-1])
    assert rewording(one, one) == ()


def test_mistyped() -> None:
    assert mistyped("You answer questions about guitars.", "You answer  question about guitars")
    assert not mistyped("Answer in at most 10 words, please.", "Answer in at most 20 words, please.")
    assert not mistyped("You are the bot of ACME company.", "You are the bot of Initech company.")
    assert not mistyped("Be kind.", "Be bold.")


def test_words_and_marks() -> None:
    assert tokens("don't pay 3.50€, ünal_2!") == ["don", "'", "t", "pay", "3", ".", "50", "€", ",", "ünal_2", "!"]
    assert tokens("琴弦a1。") == ["琴", "弦", "a1", "。"]
    assert [token for token in tokens("_x (y) 1") if is_word(token)] == ["_x", "y", "1"]


@given(text=st.text(max_size=40))
def test_every_word_is_made_of_tokens(text: str) -> None:
    assert "".join(tokens(text)) == "".join(text.split()) or not text.isprintable()
    assert "".join(token for token in tokens(text) if is_word(token)) == "".join(words(text))
    assert count_words(text) >= len(words(text))


def test_words_are_counted_in_scripts_without_spaces() -> None:
    assert count_words("where is my card?") == 4
    assert count_words("吉他的音色变得沉闷时就需要换新的琴弦") == 9
    assert count_words("") == 0


def test_the_word_that_is_spelt_otherwise() -> None:
    assert rewording("i want to cancel it", "please cancel it i want") is None
    assert rewording("i want to cancel the transfer", "i want to cancell a transfer") == ("cancel", "cancell")
    assert rewording("what's the top up limit?", "what is the top up limit") == ()
    assert is_plural("card", "cards")
    assert is_plural("cards", "card")
    assert not is_plural("anna", "anne")


def test_boards_with_the_same_pieces_in_other_places_are_other_boards() -> None:
    board = 'game state: [["x","o",""],["x","",""],["","",""]], your move as \'o\'.\n{"move":{"row":2,"col":0}}'
    other = 'game state: [["x","",""],["","x",""],["","","o"]], your move as \'o\'.\n{"move":{"row":0,"col":2}}'
    swapped = 'game state: [["o","x",""],["x","",""],["","",""]], your move as \'o\'.\n{"move":{"row":2,"col":0}}'
    assert rewording(board, other) is None
    assert rewording(board, swapped) is None
    assert rewording(board, board.replace("state", "stata")) is not None
