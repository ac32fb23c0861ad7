"""Attention over a flat row: each token sees its own example up to itself, and nothing else.

There are two ways to compute it. Where kernels are compiled, pieces of queries and the keys that they see go through one
kernel (`luthier.train.pieces`), whose scores never leave the cache. Elsewhere queries of several segments are laid side by
side as blocks and multiplied as batched matrix products. Either way probabilities are made in float32, and made again in the
backward pass rather than kept. Registered with
transformers as an attention function, too, so that it serves every decoder whose attention goes through that interface, in
the model's own forward. Tensor legend: H heads, G key heads, R = H / G, T tokens of the flat row, B rows of a block, L
queries, S keys, K head width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from luthier.errors import ModelError
from luthier.model.decoder.arena import Arena
from luthier.model.kernels import operations
from luthier.model.kernels.attention import attend, attend_backward
from luthier.train.batch import FlatBatch
from luthier.train.pieces import pieces_of

NAME = "luthier_flat"
UNSUPPORTED = ("softcap", "s_aux", "position_bias")
_MAX_QUERIES = 512
"""Longer segments are cut, so that few scores are computed that no query may see."""
_MAX_SCORES = 1 << 20
"""Scores of a block for each head."""
_MIN_FILLED = 0.6
"""The share of a block's scores that belong to real queries and keys; rows of other lengths go to blocks of their own."""
_QUERY_MULTIPLE, _KEY_MULTIPLE = 16, 32
"""Blocks are filled up to multiples, so that few shapes come up; see `ROW_MULTIPLE`."""


@dataclass(frozen=True, slots=True)
class Block:
    """Queries of several segments, and the keys that they see.

    Attributes:
        query_BL, key_BS: places in the flat row; negative ones are filling.
        first_B: how many keys stand before the one of a row's first query.
    """

    query_BL: Tensor
    key_BS: Tensor
    first_B: Tensor


def blocks_of(layout: FlatBatch) -> list[Block]:
    """Returns the blocks of a flat row; every token but filling is a query of one of them."""
    pieces: list[tuple[Tensor, Tensor]] = []
    for segment in layout.segments:
        before = [torch.arange(other.start, other.start + other.length) for other in layout.ancestors(segment)]
        own = torch.arange(segment.start, segment.start + segment.length)
        for first in range(0, segment.length, _MAX_QUERIES):
            last = min(first + _MAX_QUERIES, segment.length)
            pieces.append((own[first:last], torch.cat([*before, own[:last]])))
    pieces.sort(key=lambda piece: (-len(piece[0]), -len(piece[1])))
    device = layout.ids_T.device
    return [_block(group, device) for group in _alike(pieces)]


def _alike(pieces: Sequence[tuple[Tensor, Tensor]]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yields the pieces in groups of like lengths."""
    group: list[tuple[Tensor, Tensor]] = []
    for piece in pieces:
        together = [*group, piece]
        queries, keys = max(len(q) for q, _ in together), max(len(k) for _, k in together)
        whole, real = len(together) * queries * keys, sum(len(q) * len(k) for q, k in together)
        if group and (whole > _MAX_SCORES or real < _MIN_FILLED * whole):
            yield group
            group = []
        group.append(piece)
    yield group


def _block(group: Sequence[tuple[Tensor, Tensor]], device: torch.device) -> Block:
    queries, keys = max(len(q) for q, _ in group), max(len(k) for _, k in group)
    query_BL = torch.full((len(group), -(-queries // _QUERY_MULTIPLE) * _QUERY_MULTIPLE), -1)
    key_BS = torch.full((len(group), -(-keys // _KEY_MULTIPLE) * _KEY_MULTIPLE), -1)
    for row, (query, key) in enumerate(group):
        query_BL[row, : len(query)] = query
        key_BS[row, : len(key)] = key
    first_B = torch.tensor([len(key) - len(query) for query, key in group])
    return Block(query_BL.to(device), key_BS.to(device), first_B.to(device))


class FlatAttention:
    """Grouped-query attention within the blocks of a flat row."""

    def __init__(self, layout: FlatBatch, arena: Arena) -> None:
        self._arena = arena
        self._pieces = pieces_of(layout) if operations.compiled(layout.ids_T.device) else None
        self._blocks = blocks_of(layout) if self._pieces is None else []
        self._num_real = layout.segments[-1].start + layout.segments[-1].length

    def forward(
        self, q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, out_THK: Tensor, *, scaling: float, window: int | None
    ) -> None:
        """Writes the attended values; zeros for filling."""
        out_THK[self._num_real :].zero_()
        if self._pieces is not None:
            attend(q_THK, k_TGK, v_TGK, out_THK, self._pieces, self._arena, scaling=scaling, window=window)
            return
        for block in self._blocks:
            mark = self._arena.mark()
            q, k, v = (
                self._gather(x, place)
                for x, place in ((q_THK, block.query_BL), (k_TGK, block.key_BS), (v_TGK, block.key_BS))
            )
            p = self._probabilities(block, q, k, scaling, window)
            out = self._product(p, _rows(v))
            operations.scatter_heads(out_THK, block.query_BL, out.view(q.shape))
            self._arena.release(mark)

    def backward(
        self,
        gradient_THK: Tensor,
        q_THK: Tensor,
        k_TGK: Tensor,
        v_TGK: Tensor,
        out: tuple[Tensor, Tensor, Tensor],
        *,
        scaling: float,
        window: int | None,
    ) -> None:
        """Writes the gradients of queries, keys and values to `out`; zeros for filling."""
        out[0][self._num_real :].zero_()
        if self._pieces is not None:
            tokens = (q_THK, k_TGK, v_TGK)
            attend_backward(gradient_THK, tokens, out, self._pieces, self._arena, scaling=scaling, window=window)
            return
        whole = self._arena.mark()
        dk_TGK, dv_TGK = (self._arena.take(*x.shape, dtype=torch.float32).zero_() for x in (k_TGK, v_TGK))
        for block in self._blocks:
            mark = self._arena.mark()
            q, g = self._gather(q_THK, block.query_BL), self._gather(gradient_THK, block.query_BL)
            k, v = self._gather(k_TGK, block.key_BS), self._gather(v_TGK, block.key_BS)
            p = self._probabilities(block, q, k, scaling, window)
            q_rows, g_rows = q.view(p.shape[0], p.shape[1], -1), g.view(p.shape[0], p.shape[1], -1)
            operations.add_heads(dv_TGK, block.key_BS, self._product(p.transpose(1, 2), g_rows).view(v.shape))
            ds = self._product(g_rows, _rows(v).transpose(1, 2))
            operations.softmax_backward(ds.view(-1, ds.shape[-1]), p.view(-1, p.shape[-1]), scaling=scaling)
            operations.scatter_heads(out[0], block.query_BL, self._product(ds, _rows(k)).view(q.shape))
            operations.add_heads(dk_TGK, block.key_BS, self._product(ds.transpose(1, 2), q_rows).view(k.shape))
            self._arena.release(mark)
        out[1].copy_(dk_TGK)
        out[2].copy_(dv_TGK)
        self._arena.release(whole)

    def _gather(self, x_THK: Tensor, place_BL: Tensor) -> Tensor:
        """Returns heads in the order of places, [B, H, L, K]."""
        out = self._arena.take(len(place_BL), x_THK.shape[1], place_BL.shape[1], x_THK.shape[2], dtype=x_THK.dtype)
        operations.gather_heads(x_THK, place_BL, out)
        return out

    def _probabilities(self, block: Block, q: Tensor, k: Tensor, scaling: float, window: int | None) -> Tensor:
        """Returns the probabilities; heads that share keys are rows of one product, [B · G, R · L, S]."""
        B, H, L, K = q.shape
        p = self._product(q.view(B * k.shape[1], -1, K), _rows(k).transpose(1, 2))
        operations.softmax(p.view(B, H, L, -1), block.first_B, scaling=scaling, window=window)
        return p

    def _product(self, one: Tensor, other: Tensor) -> Tensor:
        out = self._arena.take(one.shape[0], one.shape[1], other.shape[2], dtype=one.dtype)
        return torch.bmm(one, other, out=out)


def _rows(x_BGSK: Tensor) -> Tensor:
    return x_BGSK.view(-1, *x_BGSK.shape[2:])


class _ForTransformers(torch.autograd.Function):
    """The same attention as a step of transformers' own forward: heads stand before tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        q_HTK: Tensor,
        k_GTK: Tensor,
        v_GTK: Tensor,
        attention: FlatAttention,
        scaling: float,
        window: int | None,
    ) -> Tensor:
        """Returns the attended values [T, H, K]."""
        q_THK, k_TGK, v_TGK = (x.transpose(0, 1).contiguous() for x in (q_HTK, k_GTK, v_GTK))
        out_THK = torch.empty_like(q_THK)
        attention.forward(q_THK, k_TGK, v_TGK, out_THK, scaling=scaling, window=window)
        ctx.save_for_backward(q_THK, k_TGK, v_TGK)
        ctx.arguments = (attention, scaling, window)
        return out_THK

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of queries, keys and values."""
        attention, scaling, window = ctx.arguments
        tokens = ctx.saved_tensors
        out = tuple(torch.empty_like(x) for x in tokens)
        attention.backward(gradients[0].contiguous(), *tokens, out, scaling=scaling, window=window)
        return *(x.transpose(0, 1) for x in out), None, None, None


def flat_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - the layout says who sees whom
    *,
    flat: FlatAttention,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Returns the attention's output [1, T, H, K] for a flat row; the signature is transformers'.

    Args:
        module: the attention layer.
        query: [1, H, T, K].
        key: [1, G, T, K].
        value: [1, G, T, K].
        attention_mask: none.
        flat: the batch's attention.
        scaling: of the products of query and key; `1 / √K` where not given.
        dropout: of the probabilities; the frozen base is in eval mode, so there is none.
        sliding_window: how many tokens back a token sees, itself included.
        kwargs: of other attention functions; those that would change the result are refused.

    Raises:
        ModelError: the architecture needs something that this attention does not compute.
    """
    asked = [name for name in UNSUPPORTED if kwargs.get(name) is not None] + (["dropout"] if dropout else [])
    if value.shape[-1] != query.shape[-1]:
        asked.append("values of another width than its keys")
    if asked:
        raise ModelError(
            f"The attention of {type(module).__name__} uses {asked[0]}, which Luthier cannot train yet.",
            code="unsupported_attention",
            param="model.base",
        )
    out_THK: Tensor = _ForTransformers.apply(  # type: ignore[no-untyped-call]
        query[0], key[0], value[0], flat, scaling or query.shape[-1] ** -0.5, sliding_window
    )
    return out_THK[None], None


@contextlib.contextmanager
def flat_attention_in(network: Any) -> Iterator[None]:
    """Makes a network compute flat rows (given as `flat=`) for as long as the block lasts.

    Raises:
        ModelError: the architecture does not let its attention be replaced.
    """
    if not getattr(network, "_supports_attention_backend", False):
        raise ModelError(
            f"{type(network).__name__} does not let its attention be replaced, so Luthier cannot train it yet.",
            code="unsupported_architecture",
            param="model.base",
            hint="Llama, Mistral, Qwen, Gemma, Phi and most decoders since 2023 do.",
        )
    before = network.config._attn_implementation
    network.set_attn_implementation(NAME)
    try:
        yield
    finally:
        network.set_attn_implementation(before)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """The layout is the mask."""


AttentionInterface.register(NAME, flat_attention)
AttentionMaskInterface.register(NAME, _no_mask)
