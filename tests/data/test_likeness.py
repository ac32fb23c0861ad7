from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.likeness import (
    content_words,
    jaccard,
    mistyped,
    normalised,
    respelt,
    reworded,
    shingles,
    spelling_keys,
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
    assert reworded(one, other)
    assert spelling_keys(one) & spelling_keys(other)


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
    assert not reworded(one, other)


def test_respelt_words() -> None:
    assert respelt("colour", "color")
    assert not respelt("1234", "1235")
    assert not respelt("cat", "car")
    assert not respelt("paris", "parma")


@given(one=st.text(max_size=30), other=st.text(max_size=30))
def test_reworded_is_symmetric_and_its_keys_find_it(one: str, other: str) -> None:
    one, other = normalised(one), normalised(other)
    assert reworded(one, other) == reworded(other, one)
    assert reworded(one, one)
    if reworded(one, other) and content_words(one):
        assert spelling_keys(one) & spelling_keys(other)


def test_one_changed_word_costs_little() -> None:
    ten = "one two three four five six seven eight nine ten"
    assert jaccard(shingles(ten), shingles(ten)) == 1.0
    assert 0.6 < jaccard(shingles(ten), shingles(ten.replace("five", "fire"))) < 1
    assert jaccard(shingles("abc"), shingles("xyz")) == 0.0


def test_mistyped() -> None:
    assert mistyped("You answer questions about guitars.", "You answer  question about guitars")
    assert not mistyped("Answer in at most 10 words, please.", "Answer in at most 20 words, please.")
    assert not mistyped("You are the bot of ACME company.", "You are the bot of Initech company.")
    assert not mistyped("Be kind.", "Be bold.")
