from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from datasketch import MinHash
from exact import jaccard, shingles
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.twins.minhash import (
    NUM_MINIMA,
    agreement,
    alike_across,
    batches,
    neighbours,
    shingle_hashes,
    signatures,
)

pytestmark = pytest.mark.unit


def changed(text: str, count: int, source: random.Random) -> str:
    words = text.split()
    for place in source.sample(range(len(words)), count):
        words[place] = "".join(source.choices("qwxyz", k=5))
    return " ".join(words)


def pairs_of_texts(count: int) -> list[tuple[str, str]]:
    source = random.Random(1)
    found = []
    for number in range(count):
        text = " ".join("".join(source.choices("abcdefghij", k=source.randint(2, 9))) for _ in range(80))
        text = text.replace("a", "ä") if number % 5 == 0 else text
        found.append((text, changed(text, number % 60, source)))
    return found


def test_estimates_agree_with_the_exact_similarity_and_with_datasketch() -> None:
    texts = pairs_of_texts(120)
    signed = signatures([text for pair in texts for text in pair])
    ours = agreement(signed, np.arange(2 * len(texts)).reshape(-1, 2))
    exact = np.array([jaccard(one, other) for one, other in texts])
    theirs = []
    for pair in texts:
        sketches = [MinHash(num_perm=NUM_MINIMA), MinHash(num_perm=NUM_MINIMA)]
        for sketch, text in zip(sketches, pair, strict=True):
            sketch.update_batch([shingle.encode() for shingle in shingles(text)])
        theirs.append(sketches[0].jaccard(sketches[1]))
    sigma = np.sqrt(exact * (1 - exact) / NUM_MINIMA) + 1e-3
    for estimates in (ours, np.array(theirs)):
        off = (estimates - exact) / sigma
        assert abs(off.mean()) < 0.5
        assert np.abs(off).max() < 5
        assert off.std() < 1.5


@given(texts=st.lists(st.text(max_size=12) | st.text("ab", max_size=30), max_size=6))
def test_a_text_has_the_hashes_of_its_shingles(texts: list[str]) -> None:
    hashes, offsets = shingle_hashes(texts)
    assert offsets.tolist() == np.cumsum([0, *map(len, texts)]).tolist()
    found = [set(hashes[start:stop].tolist()) for start, stop in itertools.pairwise(offsets)]
    pieces = [shingles(text) for text in texts]
    assert [len(some) for some in found] == [len(some) for some in pieces]
    for one, other, left, right in zip(found, found[::-1], pieces, pieces[::-1], strict=True):
        assert len(one & other) == len(left & right)


def test_lone_surrogates_and_empty_texts_have_signatures() -> None:
    signed = signatures(["", "\ud800 x", "a", ""])
    assert signed.shape == (4, NUM_MINIMA)
    assert signed.dtype == np.uint16
    assert (signed[0] == 65535).all()
    assert (signed[0] == signed[3]).all()
    assert (signed[1] != signed[2]).any()
    assert signatures([]).shape == (0, NUM_MINIMA)


def test_a_text_is_signed_the_same_in_any_company() -> None:
    texts = [text for pair in pairs_of_texts(20) for text in pair]
    together = signatures(texts)
    assert all((signatures([text])[0] == row).all() for text, row in zip(texts, together, strict=True))
    assert [slice(*part) for part in batches(["x" * 200_000] * 3)] == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_neighbours_share_a_band_and_most_of_what_follows() -> None:
    source = np.random.default_rng(1)
    signed = source.integers(0, 2**16, (300, NUM_MINIMA), dtype=np.uint16)
    signed[7], signed[250] = signed[3], signed[3]
    signed[100, 8:12] = signed[200, 8:12]
    found: set[tuple[int, int]] = set()
    for band, (pairs, cut_off) in enumerate(neighbours(signed, np.arange(300), band_size=4, window=1)):
        here = {(min(pair), max(pair)) for pair in pairs.tolist()}
        assert all(
            (signed[one, 4 * band : 4 * band + 4] == signed[two, 4 * band : 4 * band + 4]).all() for one, two in here
        )
        assert cut_off.tolist() == [3]
        found |= here
    assert found == {(3, 7), (7, 250), (100, 200)}
    only = [pairs for pairs, _ in neighbours(signed, np.array([3, 100, 250]), band_size=4, window=2)]
    assert {tuple(pair) for pairs in only for pair in pairs.tolist()} == {(3, 250)}


def test_neighbours_of_two_sides() -> None:
    signed = np.zeros((6, NUM_MINIMA), np.uint16)
    signed[5] = 1
    side = np.array([True, True, False, True, False, True])
    for pairs in alike_across(signed, np.arange(6), side, band_size=4):
        found = {(min(pair), max(pair)) for pair in pairs.tolist()}
        assert found == {(1, 2), (0, 2), (2, 3), (3, 4)}
