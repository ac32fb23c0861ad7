"""Attention over a flat row: each example sees the shared prefix and itself, nothing else.

Registered with transformers as an attention function, so it serves every decoder whose attention goes through that
interface, in the model's own forward. Tensor legend: H heads, G key/value heads, T tokens, P prefix, L an example's own
tokens, K head width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from luthier.errors import ModelError
from luthier.train.batch import FlatBatch

NAME = "luthier_flat"
UNSUPPORTED = ("softcap", "s_aux", "position_bias")


def flat_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: FlatBatch,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Returns the attention's output [1, T, H, K] for a flat row.

    Args:
        module: the attention layer.
        query: [1, H, T, K]; key, value: [1, G, T, K].
        attention_mask: none; the layout says who sees whom.
        layout: the batch.
        scaling: of the products of query and key.
        dropout: of the probabilities.
        sliding_window: how many tokens back a token sees, itself included.
        kwargs: of other attention functions; those that would change the result are refused.

    Raises:
        ModelError: the architecture needs something this attention does not compute.
    """
    for name in UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise ModelError(
                f"This model's attention uses {name}, which Luthier cannot train yet.", code="unsupported_attention"
            )
    num_groups = query.shape[1] // key.shape[1]
    if num_groups > 1:
        key, value = key.repeat_interleave(num_groups, 1), value.repeat_interleave(num_groups, 1)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = _mask(q.shape[2], k.shape[2], sliding_window)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout, scale=scaling
        )

    num_prefix = layout.prefix_tokens
    outputs = []
    if num_prefix:
        outputs.append(attend(query[:, :, :num_prefix], key[:, :, :num_prefix], value[:, :, :num_prefix]))
    start = num_prefix
    for length in layout.lengths:
        own = slice(start, start + length)
        k, v = key[:, :, own], value[:, :, own]
        if num_prefix:
            k, v = torch.cat([key[:, :, :num_prefix], k], 2), torch.cat([value[:, :, :num_prefix], v], 2)
        outputs.append(attend(query[:, :, own], k, v))
        start += length
    return torch.cat(outputs, 2).transpose(1, 2), None


def _mask(num_queries: int, num_keys: int, sliding_window: int | None) -> Tensor | None:
    """Returns which key each query sees [L, P + L], or None where plain causal attention is the same."""
    if num_queries == num_keys and (sliding_window is None or num_keys <= sliding_window):
        return None
    visible = torch.ones(num_queries, num_keys, dtype=torch.bool).tril(num_keys - num_queries)
    if sliding_window is not None:
        visible = visible.triu(num_keys - num_queries - sliding_window + 1)
    return visible


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


def _no_mask(*args: Any, **kwargs: Any) -> None:  # noqa: ARG001 - the signature of a mask function
    """The layout is the mask."""


AttentionInterface.register(NAME, flat_attention)
AttentionMaskInterface.register(NAME, _no_mask)
