"""Rows on disk: what was written is what is read, whole or not at all, one row in memory at a time."""

from __future__ import annotations

import errno
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import DataError, TrainError
from luthier.model.chat_template import EncodedExample
from luthier.runs import disk
from luthier.train.encode import EncodedPair, TooLong
from luthier.train.token_store import TokenStore, content_digest, digest_of, open_token_store, write_token_store

pytestmark = pytest.mark.unit


def random_rows(count: int, vocabulary: int = 50_000, seed: int = 0):
    draw = np.random.default_rng(seed)
    for number in range(count):
        length = int(draw.integers(2, 90))
        trained = draw.random(length) < 0.3
        trained[0], trained[-1] = False, True
        yield EncodedExample(draw.integers(0, vocabulary, length), trained, f"façade {number}.jsonl:{number + 1}")


def same(one: EncodedExample, other: EncodedExample) -> bool:
    return (
        one.ids.tolist() == other.ids.tolist()
        and one.ids.dtype == other.ids.dtype
        and one.trained.tolist() == other.trained.tolist()
        and one.trained.dtype == other.trained.dtype
        and one.place == other.place
    )


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 65_535), min_size=2, max_size=40), st.integers(1, 39), st.text(max_size=9)),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([65_536, 65_537]),
)
def test_what_was_written_is_what_is_read(tmp_path_factory, drawn, vocabulary):
    rows = [
        EncodedExample(np.array(ids, np.int64), np.arange(len(ids)) >= min(first, len(ids) - 1), place)
        for ids, first, place in drawn
    ]
    folder = tmp_path_factory.mktemp("store") / "train"
    store = write_token_store(folder, iter(rows), vocabulary_size=vocabulary, made_from="x")
    assert len(store) == len(rows)
    assert all(same(store[place], row) for place, row in enumerate(rows))
    assert all(map(same, store, rows))
    assert same(store[-1], rows[-1])
    assert all(map(same, store[1:3], rows[1:3]))
    assert store.lengths.tolist() == [len(row) for row in rows]
    assert store.num_tokens == sum(map(len, rows))
    assert store.num_trained == sum(row.num_trained for row in rows)
    assert store.longest_answer_tokens == max(row.last_answer_tokens for row in rows)
    with pytest.raises(IndexError):
        store[len(rows)]


def random_pairs(count: int, seed: int = 0):
    draw = np.random.default_rng(seed)
    for number in range(count):
        prompt = draw.integers(0, 300, int(draw.integers(1, 30)))
        answers = (np.concatenate([prompt, draw.integers(0, 300, int(draw.integers(1, 20)))]) for _ in range(2))
        yield EncodedPair(*(EncodedExample(a, np.arange(len(a)) >= len(prompt), f"ü.jsonl:{number}") for a in answers))


def test_pairs_are_read_as_they_were_written(tmp_path):
    pairs = list(random_pairs(40))
    write_token_store(tmp_path / "s", iter(pairs), vocabulary_size=300, made_from="a", pairs=True)
    store = open_token_store(tmp_path / "s", made_from="a")
    assert store is not None
    for pair, read in zip(pairs, store, strict=True):
        assert isinstance(read, EncodedPair)
        assert same(pair.preferred, read.preferred)
        assert same(pair.other, read.other)
    assert same(store[-1].other, pairs[-1].other)
    assert store.lengths.tolist() == [pair.num_tokens for pair in pairs]
    assert store.num_tokens == sum(pair.num_tokens for pair in pairs)
    assert store.num_trained == sum(pair.preferred.num_trained + pair.other.num_trained for pair in pairs)
    assert store.longest_answer_tokens == max(pair.last_answer_tokens for pair in pairs)


def test_content_is_what_rows_hold_whatever_their_places(tmp_path):
    for number, rows in enumerate((list(random_rows(20, 300)), list(random_pairs(20)))):
        pairs = number == 1
        store = write_token_store(tmp_path / "s", rows, vocabulary_size=300, made_from="a", pairs=pairs)
        assert store.content == content_digest(rows) == content_digest(store)
        assert store.content != content_digest(rows[1:])
        first = rows[0].preferred if pairs else rows[0]
        elsewhere = EncodedExample(first.ids, first.trained, "moved:1")
        moved = [EncodedPair(elsewhere, rows[0].other) if pairs else elsewhere, *rows[1:]]
        assert store.content == content_digest(moved)
        first.trained[-1] = False
        assert store.content != content_digest(rows)


def test_what_was_left_out_is_noted_also_where_no_row_is_left(tmp_path):
    left_out = []

    def rows():
        left_out.append(TooLong(0, "a.jsonl:1", 99))
        yield from ()

    write_token_store(tmp_path / "s", rows(), vocabulary_size=300, made_from="a", too_long=left_out)
    store = open_token_store(tmp_path / "s", made_from="a")
    assert store is not None
    assert store.too_long == (TooLong(0, "a.jsonl:1", 99),)
    assert len(store) == store.num_tokens == store.longest_answer_tokens == 0
    assert list(store) == []


def test_a_store_is_opened_again_for_what_it_was_made_from_and_for_nothing_else(tmp_path):
    rows = list(random_rows(30))
    assert open_token_store(tmp_path / "s", made_from="a") is None
    write_token_store(tmp_path / "s", rows, vocabulary_size=50_000, made_from="a")
    store = open_token_store(tmp_path / "s", made_from="a")
    assert store is not None
    assert all(map(same, store, rows))
    assert open_token_store(tmp_path / "s", made_from="b") is None
    assert digest_of("ab", "c") != digest_of("a", "bc")


@pytest.mark.parametrize("file", ["rows.bin", "starts.bin", "lengths.bin", "store.json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_store_is_said_and_made_again(tmp_path, file, damage):
    write_token_store(tmp_path / "s", random_rows(30), vocabulary_size=50_000, made_from="a")
    path = tmp_path / "s" / file
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-3] if damage == "cut" else data[:7] + bytes([data[7] ^ 1]) + data[8:])
    heard = []
    assert open_token_store(tmp_path / "s", made_from="a", listener=heard.append) is None
    if file != "store.json" or damage != "gone":
        assert "damaged" in heard[0].message


def test_rows_that_vanish_while_they_are_read_are_a_readable_error(tmp_path):
    store = write_token_store(tmp_path / "s", random_rows(30), vocabulary_size=50_000, made_from="a")
    os.truncate(tmp_path / "s" / "rows.bin", 100)
    with pytest.raises(TrainError, match="ends before its row 30") as caught:
        store[29]
    assert caught.value.code == "token_store_damaged"


def test_a_row_that_cannot_be_made_leaves_nothing_behind(tmp_path):
    def rows():
        yield from random_rows(3)
        raise DataError("rows.jsonl:4: no.", code="nothing_trained")

    with pytest.raises(DataError):
        write_token_store(tmp_path / "s", rows(), vocabulary_size=50_000, made_from="a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["make_folder", "sync", "rename"])
def test_a_full_disk_is_a_readable_error_and_leaves_nothing_behind(tmp_path, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, call, full)
    with pytest.raises(TrainError, match="No space left") as caught:
        write_token_store(tmp_path / "s", random_rows(3), vocabulary_size=50_000, made_from="a")
    assert caught.value.code == "token_store_not_written"
    assert list(tmp_path.iterdir()) == []


def test_ids_beyond_the_vocabulary_are_never_folded_into_it(tmp_path):
    row = EncodedExample(np.array([1, 70_000]), np.array([False, True]), "a:1")
    with pytest.raises(ValueError, match="a:1 holds token 70000"):
        write_token_store(tmp_path / "s", [row], vocabulary_size=50_000, made_from="a")
    assert write_token_store(tmp_path / "s", [row], vocabulary_size=70_001, made_from="a")[0].ids.tolist() == [
        1,
        70_000,
    ]


def test_a_row_takes_few_bytes_of_disk_and_memory(tmp_path):
    tracemalloc.start()
    store = write_token_store(tmp_path / "s", random_rows(20_000), vocabulary_size=50_000, made_from="a")
    _, peak = tracemalloc.get_traced_memory()
    before = tracemalloc.get_traced_memory()[0]
    assert sum(len(row) for row in store) == store.num_tokens
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 100_000  # reading them all keeps none
    assert peak < 20_000 * 120  # writing them keeps their places in the file alone
    assert isinstance(store, TokenStore)
    size = sum(file.stat().st_size for file in (tmp_path / "s").iterdir())
    assert size < store.num_tokens * 2.2 + 20_000 * 40
