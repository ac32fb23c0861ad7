from __future__ import annotations

import random

import exact
import pytest
from fillings import COMMON, LETTERS, edited
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from luthier.data.twins.copies import MAX_EDITED, compare, jaccard, verdict
from luthier.data.twins.likeness import normalised

pytestmark = pytest.mark.unit

TEXT = " ".join(COMMON[:60]) + ", and the total of 1250 is due."


def differences(other: str) -> list[tuple[str, bool, tuple[str, ...], tuple[str, ...]]]:
    compared = compare(TEXT, other)
    assert compared is not None
    return [(place.alike, place.number, place.left, place.right) for place in compared.differences]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("please", "plaese", ("respelt", False, ("please",), ("plaese",))),
        ("order please", "orderplease", ("mark", False, ("order", "please"), ("orderplease",))),
        (", and", " and", ("mark", False, (), ())),
        ("1250", "1260", ("respelt", True, ("1250",), ("1260",))),
        ("1250", "731", ("other", True, ("1250",), ("731",))),
        ("1250", "l250", ("respelt", False, ("1250",), ("l250",))),
        ("please", "ple7ase", ("respelt", False, ("please",), ("ple7ase",))),
        ("had", "had7", ("respelt", True, ("had",), ("had7",))),
        ("1250", "12 50", ("mark", False, ("1250",), ("12", "50"))),
        ("1250", "12.50", ("respelt", True, ("1250",), ("12", "50"))),
        ("please", "banana", ("other", False, ("please",), ("banana",))),
        ("the total", "total", ("mark", False, ("the",), ())),
        ("is due.", "is > due.", ("respelt", True, (), ())),
        ("order please", "order kindly please", ("other", False, (), ("kindly",))),
    ],
)
def test_how_two_texts_differ(old: str, new: str, expected: tuple[str, bool, tuple[str, ...], tuple[str, ...]]) -> None:
    assert old in TEXT
    assert differences(TEXT.replace(old, new))[-1] == expected


@given(seed=st.integers(0, 2**32), share=st.floats(0.01, 0.05))
@settings(max_examples=60, deadline=None)
def test_edits_within_the_limit_are_compared_and_counted(seed: int, share: float) -> None:
    source = random.Random(seed)
    text = " ".join(source.choices(COMMON, k=source.randint(20, 120)))
    other = normalised(edited(text, share, source))
    compared = compare(text, other)
    if compared is None:  # only where a number of words became other ones
        assert len(text) < 200
        return
    assert OSA.distance(text, other) <= compared.num_edits <= MAX_EDITED * max(len(text), len(other)) + 1
    assert bool(compared.differences) == (text != other)


@given(
    one=st.text(max_size=80) | st.text("ab 1.,", max_size=80),
    other=st.text(max_size=80) | st.text("ab 1.,", max_size=80),
)
@settings(deadline=None)
def test_any_two_texts_can_be_compared(one: str, other: str) -> None:
    one, other = normalised(one), normalised(other)
    assert compare(one, one) is not None
    assert verdict(compare(one, one), 2, {}).copy  # type: ignore[arg-type]
    left, right = compare(one, other), compare(other, one)
    assert (left is None) == (right is None)
    if left is not None and right is not None:
        assert verdict(left, 2, {}).copy == verdict(right, 2, {}).copy
    assert jaccard(one, other) == pytest.approx(exact.jaccard(one, other))


def judged(other: str, num_alike: int, **count: int) -> bool:
    compared = compare(TEXT, other)
    assert compared is not None
    return verdict(compared, num_alike, dict.fromkeys(COMMON, 100) | count).copy


def test_a_rare_spelling_of_a_common_word_is_a_typing_error() -> None:
    assert judged(TEXT.replace("please", "plaese"), 100, plaese=1)
    assert not judged(TEXT.replace("please", "plaese"), 100, plaese=50)
    assert judged(TEXT.replace("please", "plaese"), 100, please=9000, plaese=15)
    assert not judged(TEXT.replace("1250", "1260"), 100)
    assert judged(TEXT.replace("1250", "1260").replace("please", "plaese"), 100, plaese=1)
    assert not judged(TEXT.replace("1250", "877").replace("please", "plaese"), 100, plaese=1)


def test_another_word_is_another_wording_only_where_there_is_no_template() -> None:
    assert judged(TEXT.replace("please", "kindly"), 2)
    assert not judged(TEXT.replace("please", "kindly"), 3)
    assert not judged(TEXT.replace("please", "kindly").replace("her", "him"), 2)
    assert not judged(TEXT.replace("1250", "1260"), 2)


def test_a_value_that_was_replaced_in_one_place_only_is_a_typing_error() -> None:
    twice = f"{TEXT} it is for marcellus. his name is marcellus."
    compared = compare(twice, twice.replace("marcellus", "marcelius", 1))
    assert compared is not None
    assert verdict(compared, 100, {"marcellus": 2, "marcelius": 1}).copy
    everywhere = compare(twice, twice.replace("marcellus", "marcelius"))
    assert everywhere is not None
    assert not verdict(everywhere, 100, {"marcellus": 20, "marcelius": 20}).copy


def test_very_long_texts_are_compared_in_time() -> None:
    source = random.Random(1)
    for num_words in (5000, 40_000):
        words = ["".join(source.choices(LETTERS, k=source.randint(2, 9))) for _ in range(num_words)]
        text = " ".join(words)
        assert compare(text, normalised(edited(text, 0.01, source))) is not None
        assert compare(text, " ".join([*words[num_words // 2 :], *words[: num_words // 2]])) is not None
        assert compare(text, text.translate(str.maketrans("etaoin", "xqzjkv"))) is None
