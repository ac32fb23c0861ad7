"""LoRA: a frozen linear layer plus the product of two small trained matrices (arXiv 2106.09685).

Tensor legend: T tokens, D inputs, O outputs, R rank.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from luthier.errors import ModelError


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """What decides an adapter's shape, in PEFT's words."""

    r: int
    lora_alpha: float
    lora_dropout: float = 0.0
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"

    @property
    def scaling(self) -> float:
        """The factor on the adapter's product."""
        return self.lora_alpha / self.r


class LoraLinear(nn.Module):
    """`y = x Wᵀ + b + scaling · (dropout(x) Aᵀ) Bᵀ`, with W frozen and A, B in float32.

    A and B are cast to the type of W for their products, so a bfloat16 base computes in bfloat16 while the adapter is
    kept and updated in float32.
    """

    def __init__(self, base: nn.Linear, config: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scaling = config.scaling
        self.dropout = nn.Dropout(config.lora_dropout)
        self.enabled = True
        # PEFT's start: Kaiming-uniform with a = √5, which is U(−1/√D, 1/√D), and zeros: training begins at the base.
        bound = 1 / math.sqrt(base.in_features)
        a_RD = torch.empty(config.r, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(a_RD)
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, config.r))

    def forward(self, x_TD: Tensor) -> Tensor:
        """Returns the layer's output [T, O]."""
        y_TO: Tensor = self.base(x_TD)
        if not self.enabled:
            return y_TO
        h_TR: Tensor = self.dropout(x_TD) @ self.lora_A.to(x_TD.dtype).t()
        z_TO: Tensor = h_TR @ (self.lora_B * self.scaling).to(x_TD.dtype).t()
        return y_TO + z_TO


class Adapter:
    """The LoRA layers of one network, by the name of the layer they replaced."""

    def __init__(self, config: LoraConfig, layers: dict[str, LoraLinear]) -> None:
        self.config = config
        self.layers = layers

    def parameters(self) -> list[nn.Parameter]:
        """Returns the trained matrices, in a fixed order."""
        return [matrix for layer in self.layers.values() for matrix in (layer.lora_A, layer.lora_B)]

    def state(self) -> dict[str, Tensor]:
        """Returns copies of the trained matrices under PEFT's names."""
        return {
            f"base_model.model.{name}.{part}.weight": getattr(layer, part).detach().clone()
            for name, layer in self.layers.items()
            for part in ("lora_A", "lora_B")
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Sets the trained matrices.

        Raises:
            ModelError: names or shapes are not this adapter's.
        """
        own = self.state()
        wrong = sorted(set(own) ^ set(state)) or sorted(n for n in own if own[n].shape != state[n].shape)
        if wrong:
            raise ModelError(
                f"The adapter's weights do not fit this base model: {wrong[0]}"
                + (f" and {len(wrong) - 1} more." if len(wrong) > 1 else "."),
                code="adapter_mismatch",
                hint="Was it trained on another base, or with other target_modules?",
            )
        with torch.no_grad():
            for name, layer in self.layers.items():
                for part in ("lora_A", "lora_B"):
                    getattr(layer, part).copy_(state[f"base_model.model.{name}.{part}.weight"])

    def train(self, mode: bool = True) -> None:
        """Turns the adapter's dropout on or off."""
        for layer in self.layers.values():
            layer.train(mode)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The base model alone, for as long as the block lasts."""
        for layer in self.layers.values():
            layer.enabled = False
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.enabled = True


def attach(network: Any, config: LoraConfig, *, seed: int) -> Adapter:
    """Puts LoRA layers into a network, in place.

    Args:
        network: a frozen causal language model of transformers.
        config: rank, scaling, dropout and the layers to adapt.
        seed: decides the first values of A; each layer has a stream of its own, so the layers chosen do not change it.

    Raises:
        ModelError: a name in `target_modules` matches no linear layer (with the names there are).
    """
    linear = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module is not network.get_output_embeddings()
    }
    wanted = None if config.target_modules == "all-linear" else set(config.target_modules)
    chosen = {n: m for n, m in linear.items() if wanted is None or any(matches(n, target) for target in wanted)}
    unmatched = sorted(t for t in wanted or () if not any(matches(name, t) for name in linear))
    if unmatched or not chosen:
        available = sorted({name.rsplit(".", 1)[-1] for name in linear})
        raise ModelError(
            f"adapter.target_modules names {', '.join(unmatched) or 'nothing'}, which this model has no linear layer for.",
            code="unknown_target_modules",
            param="adapter.target_modules",
            hint=f"There are: {', '.join(available)}." if available else "This model has no linear layers to adapt.",
        )
    layers = {}
    for index, (name, module) in enumerate(chosen.items()):
        parent, _, leaf = name.rpartition(".")
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        layers[name] = LoraLinear(module, config, generator)
        setattr(network.get_submodule(parent), leaf, layers[name])
    return Adapter(config, layers)


def matches(name: str, target: str) -> bool:
    """Whether a layer's dotted name is, or ends in, a target (PEFT's rule)."""
    return name == target or name.endswith(f".{target}")
