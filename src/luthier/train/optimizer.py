"""AdamW over the adapter's one vector, with weight decay on the weights that transformers' trainer decays."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from luthier.model.lora import Adapter

_SPARED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
"""Names of weights without decay: biases, and weights of norms. Source: transformers 5.24,
`Trainer.get_decay_parameter_names`."""


def adamw(adapter: Adapter, *, rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Returns the optimizer of an adapter.

    Args:
        adapter: what is trained.
        rate: the learning rate, until another one is set.
        weight_decay: of all that is trained but biases and norms.
    """
    decayed = _decayed(adapter)
    everything = sum(part.numel() for part in decayed) == adapter.flat.numel()
    within = weight_decay if everything else 0.0
    optimizer = torch.optim.AdamW([adapter.flat], lr=rate, weight_decay=within, fused=True)
    if weight_decay and not everything:

        @torch.no_grad()
        def decay(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for part in decayed:
                part.mul_(1 - optimizer.param_groups[0]["lr"] * weight_decay)

        optimizer.register_step_pre_hook(decay)
    return optimizer


def spared(adapter: Adapter) -> set[str]:
    """Returns the names of the trained weights without decay, as in `Adapter.named`."""
    names = {name for name in adapter.named if _SPARED.search(name.lower())}
    for weight, name in zip(adapter.whole, list(adapter.named)[len(adapter.named) - len(adapter.whole) :], strict=True):
        if isinstance(adapter.network.get_submodule(weight.name.rpartition(".")[0]), nn.LayerNorm):
            names.add(name)
    return names


def _decayed(adapter: Adapter) -> list[Tensor]:
    """Returns the parts of the adapter's vector that are decayed, each as long as can be."""
    without = spared(adapter)
    bounds: list[tuple[int, int]] = []
    stop = 0
    for name, parameter in adapter.named.items():
        start, stop = stop, stop + parameter.numel()
        if name in without:
            continue
        if bounds and bounds[-1][1] == start:
            start = bounds.pop()[0]
        bounds.append((start, stop))
    return [adapter.flat.data[start:stop] for start, stop in bounds]
