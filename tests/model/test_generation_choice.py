"""Tokens are drawn as often as they should be, and the cache's blocks are counted."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from luthier.model.generation.blocks import Blocks
from luthier.model.generation.choice import Chooser, logprob_of
from luthier.model.generation.prompt import Sampling

pytestmark = pytest.mark.unit
SHARES = torch.tensor([0.05, 0.5, 0.0, 0.3, 0.15])


def drawn(temperature, top_p, count=4000):
    chooser = Chooser(Sampling(temperature, top_p, seed=3))
    counts = Counter(chooser.choose(1, SHARES.log()) for _ in range(count))
    return [counts[token] / count for token in range(len(SHARES))]


def test_tokens_are_drawn_as_often_as_they_are_likely():
    assert drawn(1.0, 1.0) == pytest.approx(SHARES.tolist(), abs=0.03)


def test_temperature_flattens_or_sharpens():
    for temperature in (0.5, 2.0):
        expected = torch.softmax(SHARES.log() / temperature, -1)
        assert drawn(temperature, 1.0) == pytest.approx(expected.tolist(), abs=0.03)


@pytest.mark.parametrize(("top_p", "left"), [(0.0, [1]), (0.5, [1]), (0.51, [1, 3]), (0.8, [1, 3]), (0.9, [1, 3, 4])])
def test_top_p_leaves_the_fewest_tokens_that_hold_it(top_p, left):
    found = drawn(1.0, top_p)
    expected = [float(SHARES[token] / SHARES[left].sum()) if token in left else 0.0 for token in range(len(SHARES))]
    assert found == pytest.approx(expected, abs=0.03)
    assert all(share == 0 for token, share in enumerate(found) if token not in left)


def test_more_tokens_than_are_sorted_first_may_be_needed():
    chooser = Chooser(Sampling(1.0, 0.95, seed=1))
    found = {chooser.choose(0, torch.zeros(2000)) for _ in range(4000)}
    assert len(found) > 1000


def test_no_draw_is_needed_where_the_choice_is_greedy():
    assert Chooser(Sampling()).choose(4, None) == 4


def test_log_probabilities_are_of_the_model_whatever_the_sampling():
    logits = torch.randn(50, generator=torch.Generator().manual_seed(1))
    assert logprob_of(logits, 7) == pytest.approx(float(torch.log_softmax(logits, -1)[7]), abs=1e-6)


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=40))
def test_a_block_is_free_when_its_last_user_gave_it_back(steps):
    blocks, held = Blocks(8), []
    for count, taking in steps:
        if taking and blocks.num_free >= count:
            taken = blocks.take(count)
            assert not set(taken) & {block for one in held for block in one}
            held.append(taken)
            if count % 2:
                blocks.share(taken)
                held.append(list(taken))
        elif held:
            blocks.give_back(held.pop(0))
        assert blocks.num_free == 8 - len({block for one in held for block in one})
