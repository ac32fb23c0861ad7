"""Attention over a flat row: each example sees the shared prefix and itself, nothing else.

Registered with transformers as an attention function, so it serves every decoder whose attention goes through that
interface, in the model's own forward. Products are plain batched matrix products, which on CPUs are several times
faster in bfloat16 than the fused kernel's backward pass; probabilities are made in float32, a block of queries at a
time, and made again in the backward pass rather than kept.

Tensor legend: H heads, G key/value heads, R = H / G, T tokens of the flat row, Q queries of a block (as a dimension of
grouped heads: R · Q), S keys it sees, K head width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from luthier.errors import ModelError
from luthier.train.batch import FlatBatch

NAME = "luthier_flat"
UNSUPPORTED = ("softcap", "s_aux", "position_bias")
BLOCK_QUERIES = 512


class _Block(NamedTuple):
    """Some queries of one example, and the keys they see: the shared prefix, then the example's own up to the last
    query.

    Attributes:
        queries: their place in the flat row.
        own: the place of the example's own keys.
        prefix: how many keys of the shared prefix come before them; 0 for the prefix itself.
    """

    queries: slice
    own: slice
    prefix: int

    def select(self, x_GTK: Tensor) -> Tensor:
        """Returns the keys or values that the block sees [G, S, K]."""
        if not self.prefix:
            return x_GTK[:, self.own]
        return torch.cat([x_GTK[:, : self.prefix], x_GTK[:, self.own]], 1)

    def add_to(self, x_GTK: Tensor, part_GSK: Tensor) -> None:
        """Adds a gradient of what `select` returned to the place it came from."""
        if self.prefix:
            x_GTK[:, : self.prefix] += part_GSK[:, : self.prefix]
        x_GTK[:, self.own] += part_GSK[:, self.prefix :]


def blocks_of(layout: FlatBatch) -> Iterator[_Block]:
    """Yields the blocks of a flat row: those of the prefix, then those of each example."""
    start = 0
    for length, prefix in [(layout.prefix_tokens, 0), *((length, layout.prefix_tokens) for length in layout.lengths)]:
        for first in range(0, length, BLOCK_QUERIES):
            last = min(first + BLOCK_QUERIES, length)
            yield _Block(slice(start + first, start + last), slice(start, start + last), prefix)
        start += length


class FlatAttention(torch.autograd.Function):
    """Grouped-query attention within the blocks of a flat row."""

    @staticmethod
    def forward(
        ctx: Any, q_HTK: Tensor, k_GTK: Tensor, v_GTK: Tensor, layout: FlatBatch, scaling: float, window: int | None
    ) -> Tensor:
        """Returns the attended values [H, T, K]."""
        out_HTK = q_HTK.new_empty(*q_HTK.shape[:2], v_GTK.shape[-1])
        for block in blocks_of(layout):
            k_GSK, v_GSK = block.select(k_GTK), block.select(v_GTK)
            p_GQS = _probabilities(_grouped(q_HTK[:, block.queries], k_GTK), k_GSK, block, scaling, window)
            out = torch.bmm(p_GQS.to(v_GSK.dtype), v_GSK)
            out_HTK[:, block.queries] = out.view(len(q_HTK), -1, out.shape[-1])
        ctx.save_for_backward(q_HTK, k_GTK, v_GTK)
        ctx.arguments = (layout, scaling, window)
        return out_HTK

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of queries, keys and values."""
        q_HTK, k_GTK, v_GTK = ctx.saved_tensors
        layout, scaling, window = ctx.arguments
        dq_HTK, dk_GTK, dv_GTK = (torch.zeros_like(x) for x in (q_HTK, k_GTK, v_GTK))
        for block in blocks_of(layout):
            q_GQK = _grouped(q_HTK[:, block.queries], k_GTK)
            g_GQK = _grouped(gradients[0][:, block.queries], k_GTK)
            k_GSK, v_GSK = block.select(k_GTK), block.select(v_GTK)
            p_GQS = _probabilities(q_GQK, k_GSK, block, scaling, window)
            block.add_to(dv_GTK, torch.bmm(p_GQS.to(v_GSK.dtype).transpose(1, 2), g_GQK))
            dp_GQS = torch.bmm(g_GQK, v_GSK.transpose(1, 2)).float()
            ds_GQS = torch._softmax_backward_data(dp_GQS, p_GQS, -1, torch.float32).mul_(scaling).to(k_GSK.dtype)
            dq_HTK[:, block.queries] = torch.bmm(ds_GQS, k_GSK).view(len(q_HTK), -1, k_GSK.shape[-1])
            block.add_to(dk_GTK, torch.bmm(ds_GQS.transpose(1, 2), q_GQK))
        return dq_HTK, dk_GTK, dv_GTK, None, None, None


def flat_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - the layout says who sees whom
    *,
    layout: FlatBatch,
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
        layout: the batch.
        scaling: of the products of query and key; `1 / √K` where not given.
        dropout: of the probabilities; the frozen base is in eval mode, so there is none.
        sliding_window: how many tokens back a token sees, itself included.
        kwargs: of other attention functions; those that would change the result are refused.

    Raises:
        ModelError: the architecture needs something that this attention does not compute.
    """
    asked = [name for name in UNSUPPORTED if kwargs.get(name) is not None] + (["dropout"] if dropout else [])
    if asked:
        raise ModelError(
            f"The attention of {type(module).__name__} uses {asked[0]}, which Luthier cannot train yet.",
            code="unsupported_attention",
            param="model.base",
        )
    out_HTK: Tensor = FlatAttention.apply(  # type: ignore[no-untyped-call]
        query[0], key[0], value[0], layout, scaling or query.shape[-1] ** -0.5, sliding_window
    )
    return out_HTK.transpose(0, 1)[None], None


def _grouped(x_HQK: Tensor, k_GTK: Tensor) -> Tensor:
    """Returns the heads that share keys side by side, as rows of one product [G, R · Q, K]."""
    return x_HQK.reshape(len(k_GTK), -1, x_HQK.shape[-1])


def _probabilities(q_GQK: Tensor, k_GSK: Tensor, block: _Block, scaling: float, window: int | None) -> Tensor:
    """Returns the attention's probabilities in float32 [G, R · Q, S]; the queries are the last of the tokens seen."""
    num_queries = block.queries.stop - block.queries.start
    num_groups, num_keys = k_GSK.shape[:2]
    s_GQS = torch.bmm(q_GQK, k_GSK.transpose(1, 2)).float().mul_(scaling)
    offset = num_keys - num_queries
    hidden_QS = torch.ones(num_queries, num_keys, dtype=torch.bool).triu(offset + 1)
    if window is not None:
        hidden_QS |= torch.ones_like(hidden_QS).tril(offset - window)
    s_GQS.view(num_groups, -1, num_queries, num_keys).masked_fill_(hidden_QS, -torch.inf)
    p_GQS: Tensor = s_GQS.softmax(-1)
    return p_GQS


@contextlib.contextmanager
def flat_attention_in(network: Any) -> Iterator[None]:
    """Makes a network compute flat rows (given as `layout=`) for as long as the block lasts.

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
