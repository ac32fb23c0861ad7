from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from fillings import COMMON, LETTERS
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.twins.passages import GRAM_WORDS, Commonness, Passages, boilerplate_limit

pytestmark = pytest.mark.unit


def words(seed: int, count: int) -> list[str]:
    source = random.Random(seed)
    return ["".join(source.choices(LETTERS, k=6)) for _ in range(count)]


def looked(known: list[list[str]], texts: list[list[str]]) -> list[tuple[int, int, str | None]]:
    """Row, known text and kind of each passage; the user says the first message of a known text."""
    passages = Passages(known, [[place == 0 for place in range(len(text))] for text in known])
    found, grams, whole = passages.look(texts)
    common = Commonness(np.bincount(grams, minlength=passages.num_grams), whole, len(texts))
    return [(one.row, one.known, passages.kind(one, common, 1)) for one in found]


ASKED, ANSWERED = words(1, 20), words(2, 40)
KNOWN = [" ".join(ASKED), " ".join(ANSWERED)]


@pytest.mark.parametrize(
    ("num_asked", "num_answered", "kind"),
    [
        (20, 40, "passage"),
        (20, 10, "passage"),
        (10, 20, "passage"),
        (9, 40, "partial"),
        (20, 0, "partial"),
        (0, 13, "partial"),
        (12, 12, None),
    ],
)
def test_half_of_the_words_and_half_of_the_question(num_asked: int, num_answered: int, kind: str | None) -> None:
    text = " ".join(["before", *ASKED[:num_asked], "between", *ANSWERED[:num_answered], "after"])
    assert looked([["nothing of the kind"], KNOWN], [["other words"], [text]]) == ([(1, 1, kind)] if kind else [])


@given(
    texts=st.lists(st.lists(st.sampled_from(COMMON[:6]), max_size=30), max_size=4),
    others=st.lists(st.lists(st.sampled_from(COMMON[:7]), max_size=30), max_size=4),
)
def test_runs_of_words_are_counted_as_sets_of_words_are(texts: list[list[str]], others: list[list[str]]) -> None:
    passages = Passages([[" ".join(text)] for text in texts], [[True] for _ in texts])
    runs = [{tuple(text[n : n + GRAM_WORDS]) for n in range(len(text) - GRAM_WORDS + 1)} for text in (*texts, *others)]
    known = set().union(*runs[: len(texts)])
    assert passages.num_grams == len(known)
    found, grams, _ = passages.look([[" ".join(text)] for text in others])
    assert len(grams) == sum(len(some & known) for some in runs[len(texts) :])
    for one in found:
        text = texts[one.known]
        expected = [
            tuple(text[n : n + GRAM_WORDS]) in runs[len(texts) + one.row] for n in range(len(text) - GRAM_WORDS + 1)
        ]
        assert one.has.tolist() == expected


def filled(*values: str) -> str:
    frame = words(3, 30)
    for place, value in zip((4, 14, 24), values, strict=True):
        frame[place] = value
    return " ".join(frame)


def test_another_filling_of_a_template_is_no_passage_and_the_same_one_is() -> None:
    known = [[filled("oslo", "anna", number), "yes"] for number in ("one", "two", "three", "four", "five")]
    other = filled("oslo", "anna", "six")
    within = f"{' '.join(words(4, 30))} {filled('oslo', 'anna', 'two')} {' '.join(words(5, 30))}"
    found = looked(known, [[other], [within], *([filled("rome", "hugo", str(number))] for number in range(20))])
    assert {(row, kind) for row, _, kind in found if kind} == {(1, "passage")}


def test_boilerplate_is_a_hundredth_of_the_rows_or_ten() -> None:
    assert [boilerplate_limit(rows) for rows in (0, 1000, 1100, 100_000)] == [10, 10, 11, 1000]
    notice = words(6, 30)
    texts = [[" ".join([*words(10 + number, 20), *notice])] for number in range(40)]
    counted = Counter(kind for _, _, kind in looked(texts[:2], texts[2:]))
    assert set(counted) <= {None}


def test_scripts_without_spaces_are_read_by_character() -> None:
    text = "吉他的音色变得沉闷时就需要换新的琴弦如果一首歌之内音就跑了也该换了"
    assert looked([[text]], [[f"有人说{text}你怎么看"]]) == [(0, 0, "passage")]
