"""Flat rows, shared prefixes, and the order of examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.model.chat_template import EncodedExample
from luthier.train.batch import (
    ROW_MULTIPLE,
    Segment,
    epoch_order,
    flatten,
    parts_of_step,
    splitmix64,
    steps_of_epoch,
)

pytestmark = pytest.mark.unit


def row(ids: list[int], trained_from: int) -> EncodedExample:
    trained = np.arange(len(ids)) >= trained_from
    return EncodedExample(np.array(ids, dtype=np.int64), trained, "x:1")


SHARED = list(range(100, 110))


def test_a_shared_prefix_is_computed_once_and_every_target_is_kept():
    rows = [row([*SHARED, 1, 2, 3], 11), row([*SHARED, 4, 5], 11)]
    batch = flatten(rows)
    # the last trained token predicts nothing, so it is not computed
    assert batch.segments == (Segment(0, 10, 0, None), Segment(10, 2, 10, 0), Segment(12, 1, 10, 0))
    assert batch.ids_T[:13].tolist() == [*SHARED, 1, 2, 4]
    assert batch.positions_T[:13].tolist() == [*range(10), 10, 11, 10]
    assert batch.predict_N.tolist() == [10, 11, 12]
    assert batch.targets_N.tolist() == [2, 3, 5]
    assert batch.example_N.tolist() == [0, 0, 1]
    assert batch.real_tokens == 25


def test_the_row_is_filled_up_to_a_multiple():
    batch = flatten([row([*SHARED, 1, 2, 3], 11)])
    assert len(batch.ids_T) == ROW_MULTIPLE
    assert not batch.ids_T[12:].any()


def test_targets_are_the_same_with_and_without_sharing():
    rows = [row([*SHARED, 1, 2, 3], 11), row([*SHARED, 4, 5], 11)]
    shared, apart = flatten(rows), flatten(rows, share_prefix=False)
    assert all(segment.parent is None for segment in apart.segments)
    assert apart.targets_N.tolist() == shared.targets_N.tolist()
    assert apart.ids_T[apart.predict_N].tolist() == shared.ids_T[shared.predict_N].tolist()


def test_groups_of_different_prefixes_each_share_theirs():
    other = list(range(200, 212))
    rows = [row([*SHARED, 1, 2], 11), row([*other, 3, 4], 13), row([*SHARED, 5, 6], 11), row([*other, 7, 8], 13)]
    batch = flatten(rows)
    roots = [segment for segment in batch.segments if segment.parent is None]
    assert [segment.length for segment in roots] == [10, 12]
    assert len(batch.segments) == 6


def test_a_longer_beginning_of_some_is_shared_below_that_of_all():
    """A system prompt for all rows, and one question with two answers, as in preference data."""
    question = list(range(300, 320))
    rows = [
        row([*SHARED, *question, 1, 2], 31),
        row([*SHARED, *question, 3, 4, 5], 31),
        row([*SHARED, *range(400, 420), 6, 7], 31),
    ]
    batch = flatten(rows)
    assert [(s.length, s.position, s.parent) for s in batch.segments] == [
        (10, 0, None),
        (20, 10, 0),
        (1, 30, 1),
        (2, 30, 1),
        (21, 10, 0),
    ]
    assert [s.start for s in batch.ancestors(batch.segments[3])] == [0, 10]
    assert batch.num_shared_tokens == 2 * 10 + 20 + 3  # and the three last tokens


def test_the_prefix_ends_before_the_first_position_that_predicts_a_trained_token():
    same = [*SHARED, 1, 2, 3]
    assert flatten([row(same, 10), row(same, 10)]).segments[0].length == 9


def test_a_short_common_start_is_not_worth_sharing():
    assert len(flatten([row([1, 2, 3, 9, 9], 3), row([1, 2, 3, 8, 8], 3)]).segments) == 2


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 1), min_size=2, max_size=40), st.integers(1, 39)), min_size=1, max_size=7
    )
)
def test_whatever_is_shared_every_example_is_a_path_of_its_own_tokens(drawn):
    rows = [row(ids, min(first, len(ids) - 1)) for ids, first in drawn]
    batch = flatten(rows)
    leaves = set(range(len(batch.segments))) - {segment.parent for segment in batch.segments}
    paths = []
    for place in sorted(leaves):
        leaf = batch.segments[place]
        path = [*batch.ancestors(leaf), leaf]
        ids = [t for s in path for t in batch.ids_T[s.start : s.start + s.length].tolist()]
        positions = [p for s in path for p in batch.positions_T[s.start : s.start + s.length].tolist()]
        assert positions == list(range(len(ids)))
        paths.append(ids)
    wanted = [r.ids[: int(np.flatnonzero(r.trained)[-1])].tolist() for r in rows]
    assert sorted(paths) == sorted(wanted)
    assert batch.ids_T[batch.predict_N].tolist() == [t for r in rows for t in r.ids[np.flatnonzero(r.trained) - 1]]
    assert batch.targets_N.tolist() == [t for r in rows for t in r.ids[r.trained]]


def test_an_epochs_order_is_a_function_of_seed_and_epoch():
    def order(count, seed=1, epoch=0):
        return epoch_order(count, seed=seed, epoch=epoch).tolist()

    assert order(6) == [2, 5, 4, 3, 1, 0]  # recorded: a change here changes every seeded result
    assert sorted(order(100)) == list(range(100))
    assert order(100) != order(100, epoch=1)
    assert order(100) != order(100, seed=2)
    assert order(0) == []


def test_the_numbers_behind_it_are_the_published_generators():
    # The first values of SplitMix64 from the state 1234567, as its reference code in C prints them.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(4, 1234567).tolist() == expected
    assert len(np.unique(splitmix64(100_000, 2**64 - 5))) == 100_000


def test_an_order_is_as_even_as_chance():
    """Where rows 0 … 9 land, over 2,000 epochs: each in each tenth about as often (chi-squared, 81 degrees of freedom)."""
    counts = np.zeros((10, 10))
    for epoch in range(2000):
        counts[np.arange(10), np.argsort(epoch_order(10, seed=3, epoch=epoch))] += 1
    assert 50 < ((counts - 200) ** 2 / 200).sum() < 125  # 0.3 % and 99.9 % of the distribution


def test_the_last_partial_batch_is_trained_on():
    order = np.arange(10)
    assert [step.tolist() for step in steps_of_epoch(order, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [step.tolist() for step in steps_of_epoch(order, 4, first=2)] == [[8, 9]]


def test_parts_of_a_step_lose_no_row_and_stay_below_the_limit_unless_one_row_is_above_it():
    rows = [row(list(range(n)), 1) for n in (5, 5, 30, 2, 2)]
    parts = list(parts_of_step(rows, 10, len))
    assert [[len(r) for r in part] for part in parts] == [[5, 5], [30], [2, 2]]
