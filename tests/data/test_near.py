from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fillings import Fillings, Said, edited
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from luthier.data.twins.best_pairs import BestPairs
from luthier.data.twins.likeness import count_words, normalised
from luthier.data.twins.minhash import signatures
from luthier.data.twins.near import NearResult, clusters, find_near_duplicates, joined

pytestmark = pytest.mark.unit

MIN_RECALL = 0.98
MAX_FALSE_ALARMS = 0.005
"""Source of both: the bar for near duplicates in the data doctor's task."""
LONG = (
    "a guitar needs new strings when the tone turns dull, when tuning drifts within one song, or when the windings "
    "show flat spots over the frets; players who sweat much change them every few weeks, others twice a year."
)


def near(texts: list[str], **options: object) -> NearResult:
    first = {text: place for place, text in reversed(list(enumerate(texts)))}
    again = np.array([first[text] != place for place, text in enumerate(texts)], np.bool_)
    num_words = np.array([count_words(text) for text in texts], np.int64)
    return find_near_duplicates(signatures(texts), num_words, texts.__getitem__, exclude=again, **options)  # type: ignore[arg-type]


def spoken(said: Said) -> str:
    return normalised("\n".join(said))


def planted(rows: list[Said], count: int, source: random.Random) -> tuple[list[str], list[tuple[int, int]]]:
    """The rows and edited copies of some of them, shuffled, with the pairs of a copy and its original."""
    texts = [spoken(row) for row in rows]
    pairs = []
    for original in source.sample([place for place, text in enumerate(texts) if count_words(text) >= 20], count):
        copy = normalised(edited("\n".join(rows[original]), source.uniform(0.005, 0.05), source))
        if copy not in texts[original]:
            pairs.append((len(texts), original))
            texts.append(copy)
    order = source.sample(range(len(texts)), len(texts))
    place = {number: now for now, number in enumerate(order)}
    return [texts[number] for number in order], [(place[one], place[two]) for one, two in pairs]


def found_share(texts: list[str], pairs: list[tuple[int, int]]) -> tuple[float, float]:
    """The share of the pairs that fell into one cluster, and the share of the other rows that are in some cluster."""
    result = near(texts)
    cluster = {row: number for number, rows in enumerate(result.clusters) for row in rows}
    hits = sum(one in cluster and cluster[one] == cluster.get(two) for one, two in pairs)
    false = set(cluster) - {row for pair in pairs for row in pair}
    return hits / max(1, len(pairs)), len(false) / len(texts)


@pytest.mark.parametrize(
    ("seed", "num_templates", "count"), [(1, 12, 10_000), (2, 12, 3000), (3, 40, 3000), (4, 2, 3000)]
)
def test_copies_are_found_among_fillings_of_templates(seed: int, num_templates: int, count: int) -> None:
    rows = Fillings(seed, num_templates).rows(count)
    recall, false_alarms = found_share(*planted(rows, count // 20, random.Random(seed)))
    assert recall >= MIN_RECALL
    assert false_alarms <= MAX_FALSE_ALARMS


@pytest.mark.parametrize("seed", [5, 6])
def test_copies_are_found_among_free_text(seed: int) -> None:
    fillings = Fillings(seed)
    recall, false_alarms = found_share(*planted([fillings.free() for _ in range(2000)], 500, random.Random(seed)))
    assert recall >= MIN_RECALL
    assert false_alarms == 0


@pytest.mark.parametrize(
    ("seed", "num_templates", "num_words"), [(7, 12, (40, 80)), (8, 3, (20, 30)), (9, 30, (60, 80))]
)
def test_fillings_alone_raise_no_alarm(seed: int, num_templates: int, num_words: tuple[int, int]) -> None:
    rows = Fillings(seed, num_templates, num_words, values=(50, 100, 500)).rows(4000)
    assert len(near([spoken(row) for row in rows]).pairs) <= MAX_FALSE_ALARMS * len(rows) / 2


def test_copies_of_real_rows_are_found(public_data: Path) -> None:
    lines = (public_data / "general-instructions" / "train.jsonl").read_text().splitlines()
    texts = [normalised(line) for line in lines]
    source = random.Random(1)
    copies = [normalised(edited(line, 0.05, source)) for line in lines]
    result = near([*texts, *copies])
    pairs = {(row, row + len(texts)) for row in range(len(texts))}
    assert len(pairs & {(one, two) for one, two in result.pairs.tolist()}) >= MIN_RECALL * len(pairs)
    assert not {(one, two) for one, two in result.pairs.tolist()} - pairs


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (LONG, LONG.replace("dull", "flat"), True),
        (LONG, LONG.replace(",", "").replace(";", ","), True),
        (LONG, LONG.replace("strings", "stirngs").replace("windings", "windngs"), True),
        (LONG, LONG.replace("new strings", "newstrings"), True),
        (LONG, LONG + " this holds for steel as well as for nylon.", True),
        (LONG, LONG.replace("one song", "12 songs").replace("dull", "12"), False),
        (f"{LONG} wait 12 days", f"{LONG} wait 15 days", False),
        (f"{LONG} x > 5", f"{LONG} x < 5", False),
        (LONG, LONG.replace("dull", "flat").replace("song", "tune").replace("sweat", "play"), False),
        ("how do i close my account?", "how do i close my acount", True),
        ("a table for 4 at anna's", "a table for 5 at anna's", False),
    ],
)
def test_two_texts_alone(one: str, other: str, same: bool) -> None:
    unlike = ["something else that has nothing to do with it", "and this neither"]
    result = near([normalised(one), *unlike, normalised(other)])
    assert result.pairs.tolist() == ([[0, 3]] if same else [])
    assert result.clusters == (((0, 3),) if same else ())


def test_a_word_is_a_typing_error_only_if_it_stands_nowhere_else() -> None:
    form = "dear {}, your parcel has been sent to {} today and will be there within three days; we thank you for your order"
    names = [
        f"{first} {last}"
        for first in ("anna", "anne", "hanna", "clara")
        for last in ("lindqvist", "lindquist", "moore")
    ]
    texts = [form.format(name, city) for name in names for city in ("oslo", "turin", "lyon", "ghent")]
    assert len(near(texts).pairs) == 0
    typed = texts[5].replace("parcel", "pracel").replace("thank", "thnak")
    assert near([*texts, typed]).pairs.tolist() == [[5, len(texts)]]


def test_words_in_scripts_without_spaces_count() -> None:
    one = (
        "吉他的音色变得沉闷时就需要换新的琴弦如果一首歌之内音就跑了也该换了经常出汗的人几周换一次其他人一年换两次就够了"
    )
    other = one.replace("沉闷", "沈闷")
    assert count_words(one) >= 20
    assert near([one, other]).pairs.tolist() == [[0, 1]]


def test_the_same_pairs_whoever_compares() -> None:
    texts, _ = planted(Fillings(11).rows(600), 60, random.Random(11))
    alone = near(texts)
    with ThreadPoolExecutor(2) as pool:
        together = near(texts, run=pool.map)
    assert together.pairs.tolist() == alone.pairs.tolist()
    assert together.clusters == alone.clusters


def test_rows_without_text_and_repeated_ones_are_left_out() -> None:
    assert near([]).clusters == ()
    assert near(["", ""]).clusters == ()
    assert near([LONG, LONG, LONG]).clusters == ()
    assert near([LONG, LONG, LONG.replace("dull", "flat")]).clusters == ((0, 2),)


def test_rows_with_more_of_their_kind_than_are_compared_are_counted() -> None:
    few, many = (
        ("cable", "pedal"),
        [word + other for word in ("bol", "nar", "kin", "tes") for other in ("da", "fo", "gi")],
    )
    form = (
        "the {} {} of the {} is sold with a {} and a {} in every shop of the country, and so are all others of its kind"
    )
    texts = [form.format(a, b, c, d, e) for a in many for b in few for c in many for d in few for e in many]
    result = near(texts)
    assert len(result.pairs) == 0
    assert result.num_unexamined > 0


@given(texts=st.lists(st.text(max_size=60) | st.text("ab ,.1", max_size=200), max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_texts_can_be_compared(texts: list[str]) -> None:
    texts = [normalised(text) for text in texts]
    result = near(texts)
    for one, two in result.pairs.tolist():
        assert one < two
        assert texts[one] != texts[two]
        assert OSA.distance(texts[one], texts[two]) <= 0.5 * max(len(texts[one]), len(texts[two])) + 1


@given(pairs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_joined_places(pairs: list[tuple[int, int]]) -> None:
    least = list(range(31))
    for _ in range(31):
        for one, two in pairs:
            least[one] = least[two] = min(least[one], least[two])
    found = np.array(pairs, np.int64).reshape(-1, 2)
    assert joined(31, found).tolist() == least
    assert all(len(cluster) > 1 or (cluster[0], cluster[0]) in pairs for cluster in clusters(31, found))


def test_the_likeliest_pairs_are_kept() -> None:
    best = BestPairs(6, 1, counted_from=0.5)
    best.add(np.array([[0, 1], [2, 0], [3, 0], [4, 5]]), np.array([0.9, 0.8, 0.2, 0.1], np.float32))
    best.add(np.array([[1, 2], [1, 0]]), np.array([0.7, 0.9], np.float32))
    assert best.pairs().tolist() == [[0, 1], [0, 2], [0, 3], [4, 5]]
    assert best.missed.tolist() == [False, True, True, False, False, False]
    assert best.num_partners.tolist() == [3, 2, 2, 1, 1, 1]
