from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.twins.likeness import content_words, normalised, rewording
from luthier.data.twins.rewordings import reworded_pairs

pytestmark = pytest.mark.unit


def pairs(texts: list[str], **options: bool) -> list[list[int]]:
    found = reworded_pairs(np.arange(len(texts)), texts.__getitem__, **options)
    assert len(found.unexamined) == 0
    return found.pairs.tolist()


WORDS = st.sampled_from(
    ["where", "card", "carde", "cards", "cart", "i", "my", "the", "order", "ordre", "12", "13", "ab", "é"]
)


@given(texts=st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=12))
@settings(max_examples=200)
def test_all_rewordings_are_found(texts: list[str]) -> None:
    expected = [
        [one, two]
        for one in range(len(texts))
        for two in range(one + 1, len(texts))
        if rewording(texts[one], texts[two]) is not None and (content_words(texts[one]) or texts[one] == texts[two])
    ]
    assert pairs(texts, known_words_differ=False) == expected


def test_two_known_words_are_not_one_spelt_in_two_ways() -> None:
    texts = [f"please call {name} at {hour}" for name in ("anna", "anne") for hour in (7, 8, 9, 10)]
    assert pairs(texts) == []
    assert len(pairs(texts, known_words_differ=False)) == 4
    assert pairs([*texts, "please call annna at 9"]) == [[2, 8]]
    plural = [
        f"send {count} {thing} to {place}"
        for thing in ("card", "cards")
        for count in (3, 4)
        for place in ("rome", "oslo")
    ]
    assert len(pairs(plural)) == 4


def test_templated_texts_by_the_thousand_raise_no_alarm_and_are_quickly_told_apart() -> None:
    source = random.Random(1)
    names = ["".join(source.choice("bdfklmn") + source.choice("aeiou") for _ in range(3)) for _ in range(300)]
    texts = {
        normalised(f"Book a table for {source.randint(1, 40)} at {source.choice(names)} in {source.choice(names)}")
        for _ in range(5000)
    }
    assert len(pairs(sorted(texts))) <= 0.0025 * len(texts)


def test_what_was_not_compared_is_counted() -> None:
    texts = ["where is it " + "the " * number for number in range(200)]
    found = reworded_pairs(np.arange(200), [normalised(text) for text in texts].__getitem__)
    assert found.unexamined.tolist() == list(range(200))
    assert len(found.pairs) > 100
