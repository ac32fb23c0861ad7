"""Attention over a flat row, both ways to compute it, against torch's own on each example by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from luthier.model.chat_template import EncodedExample
from luthier.model.decoder.arena import Arena
from luthier.model.kernels import operations
from luthier.model.kernels.native import Native, native
from luthier.train.attention import FlatAttention
from luthier.train.batch import flatten
from luthier.train.pieces import pieces_of

pytestmark = pytest.mark.unit

SHARED = list(range(1000, 1030))


@pytest.fixture(params=["compiled", "torch"])
def way(request, monkeypatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(operations, "native", lambda: Native(None, "test"))
    elif native().library is None:
        pytest.skip(f"no compiled kernels: {native().reason}")
    return request.param


def example(ids: list[int]) -> EncodedExample:
    """Returns a row whose tokens are all computed: the one behind them is trained, and predicts nothing."""
    return EncodedExample(np.array([*ids, 0]), np.arange(len(ids) + 1) == len(ids), "x:1")


def batch_of(lengths, *, shared: int):
    rows = [[*SHARED[:shared], *range(n * 2000 + 5000, n * 2000 + 5000 + length)] for n, length in enumerate(lengths)]
    return flatten([example(row) for row in rows])


def paths(batch):
    """Returns, for each leaf, the places of its tokens in the flat row."""
    parents = {segment.parent for segment in batch.segments}
    leaves = [segment for number, segment in enumerate(batch.segments) if number not in parents]
    return [
        torch.cat([torch.arange(s.start, s.start + s.length) for s in [*batch.ancestors(leaf), leaf]])
        for leaf in leaves
    ]


def expected(batch, q, k, v, gradient, window):
    """Returns the output and the gradients; a token that several examples share has the sum of theirs."""
    leaves = [x.double().requires_grad_() for x in (q, k, v)]
    out = torch.zeros(q.shape, dtype=torch.float64)
    counted = torch.zeros(len(q), dtype=torch.bool)
    total = torch.zeros((), dtype=torch.float64)
    for path in paths(batch):
        one, two, three = (x[path].transpose(0, 1)[None] for x in leaves)
        place = torch.arange(len(path))
        seen = (place[:, None] >= place) & (place[:, None] - place < (window or len(path)))
        found = F.scaled_dot_product_attention(one, two, three, attn_mask=seen, scale=0.3, enable_gqa=True)[
            0
        ].transpose(0, 1)
        new = ~counted[path]
        counted[path] = True
        out[path[new]] = found[new].detach()
        total = total + (found[new] * gradient[path[new]].double()).sum()
    total.backward()
    return out, [leaf.grad for leaf in leaves], counted


@pytest.mark.parametrize("window", [None, 7, 150])
@pytest.mark.parametrize(("heads", "groups", "width"), [(9, 3, 64), (4, 4, 24), (2, 1, 8)])
@pytest.mark.parametrize(("lengths", "shared"), [([5, 40, 12], 30), ([300, 9, 131], 0), ([1], 0), ([150, 70], 20)])
def test_each_token_sees_its_own_example_up_to_itself(way, lengths, shared, heads, groups, width, window):
    torch.manual_seed(1)
    batch = batch_of(lengths, shared=shared)
    T = len(batch.ids_T)
    # parts of a wider row, as the product of three layers gives them
    q, k, v = torch.randn(T, heads + 2 * groups, width).split([heads, groups, groups], dim=1)
    gradient = torch.randn(T, heads, width)
    out = torch.full((T, heads, width), torch.nan)
    gradients = torch.full((T, heads + 2 * groups, width), torch.nan).split([heads, groups, groups], dim=1)
    attention = FlatAttention(batch, Arena(q.device))
    attention.forward(q, k, v, out, scaling=0.3, window=window)
    attention.backward(gradient, q, k, v, gradients, scaling=0.3, window=window)
    wanted, wanted_gradients, real = expected(batch, q, k, v, gradient, window)
    assert torch.allclose(out[real].double(), wanted[real], atol=2e-6)
    assert not out[~real].any()
    for found, right in zip(gradients, wanted_gradients, strict=True):
        assert torch.allclose(found.double(), right, atol=2e-5)
        assert not found[~real].any()


def test_bfloat16_is_near_float32(way):
    torch.manual_seed(1)
    batch = batch_of([60, 200], shared=30)
    T = len(batch.ids_T)
    wide = [torch.randn(T, count, 64) for count in (6, 2, 2, 6)]
    narrow = [x.bfloat16() for x in wide]
    results = []
    for q, k, v, gradient in (narrow, [x.float() for x in narrow]):
        out, gradients = torch.empty_like(q), tuple(torch.empty_like(x) for x in (q, k, v))
        attention = FlatAttention(batch, Arena(q.device))
        attention.forward(q, k, v, out, scaling=0.125, window=None)
        attention.backward(gradient, q, k, v, gradients, scaling=0.125, window=None)
        results.append([out, *gradients])
    for found, right in zip(*results, strict=True):
        assert float((found.float() - right).norm() / right.norm()) < 0.006


@pytest.mark.parametrize("lengths", [[5, 40], [1000, 3], [2300]])
def test_every_token_but_filling_is_a_query_of_one_piece(lengths):
    batch = batch_of(lengths, shared=12)
    pieces = pieces_of(batch)
    queries = [
        place
        for start, length in zip(pieces.start_P.tolist(), pieces.length_P.tolist(), strict=True)
        for place in range(start, start + length)
    ]
    real = batch.segments[-1].start + batch.segments[-1].length
    assert sorted(queries) == list(range(real))
    assert pieces.most_queries == max(pieces.length_P.tolist())
    assert pieces.most_queries <= 152  # 2,312 tokens in 16 pieces, up to a multiple of 8
    for token in range(len(batch.ids_T)):
        uses = pieces.seen_at_N[pieces.parts_of[token] : pieces.parts_of[token + 1]]
        assert set(pieces.keys_N[uses].tolist()) <= {token}
        assert len(uses) == int((pieces.keys_N == token).sum())
