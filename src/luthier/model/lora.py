"""LoRA and its relatives: a frozen linear layer plus the product of two small trained matrices (arXiv 2106.09685).

Everything is computed, named and counted as PEFT does.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from luthier.errors import ModelError
from luthier.model.lora_linear import LoraLinear
from luthier.model.targets import by_pattern, check_chosen, layer_number, matches, modules_to_save
from luthier.model.whole import WholeWeight, unfreeze_modules, unfreeze_network

PEFT_PREFIX = "base_model.model."
"""What PEFT puts before the name of a layer."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """What decides an adapter's shape, in PEFT's words.

    Attributes:
        target_modules: `all-linear`, or names or ends of names.
        rank_pattern, alpha_pattern: other values of `r` and `lora_alpha` for layers whose names end in a pattern.
    """

    r: int
    lora_alpha: float
    lora_dropout: float = 0.0
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False
    layers_to_transform: tuple[int, ...] | None = None
    modules_to_save: tuple[str, ...] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    def rank_of(self, name: str) -> int:
        """Returns the rank of the layer of that name."""
        return int(by_pattern(self.rank_pattern, name, self.r))

    def scaling_of(self, name: str) -> float:
        """Returns the factor on a layer's product: alpha over the rank, or over its root (rsLoRA, arXiv 2312.03732)."""
        rank = self.rank_of(name)
        alpha: float = by_pattern(self.alpha_pattern, name, self.lora_alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def targets(self, name: str) -> bool:
        """Whether `target_modules` and the other keys mean the layer of that name (PEFT's rules)."""
        if any(f".{module}." in f".{name}." for module in self.modules_to_save):
            return False
        if self.target_modules != "all-linear":
            if name in self.target_modules:
                return True
            if not any(matches(name, target) for target in self.target_modules):
                return False
        return not self.layers_to_transform or layer_number(name) in self.layers_to_transform


class Adapter:
    """What is trained of one network: LoRA matrices beside frozen weights, or weights themselves.

    All trained numbers lie side by side in one float32 vector, and their gradients in another, so that the optimizer, the
    norm of the gradient and its sum over processes are each one operation. The layers' parameters are views of it, in an
    order that makes the matrices A of layers that share an input one matrix: all A, then all B, then the rest.

    Attributes:
        network: the network it is part of.
        config: rank, scaling, dropout, the layers adapted; None where every weight is trained and none is adapted.
        layers: the LoRA layers, by the name of the layer they replaced.
        whole: the weights trained in full.
        named: the trained parameters, by PEFT's names (every weight: by transformers' names), in the order in which they
            lie in `flat`.
        flat: all of them [P], with `flat.grad` beside it; both are written in place only.
    """

    def __init__(
        self, network: Any, config: LoraConfig | None, layers: dict[str, LoraLinear], whole: list[WholeWeight]
    ) -> None:
        self.network = network
        self.config = config
        self.layers = layers
        self.whole = whole
        prefix = "" if config is None else PEFT_PREFIX
        self.named: dict[str, nn.Parameter] = {
            f"{prefix}{name}.{part}.weight": getattr(layer, part)
            for part in ("lora_A", "lora_B")
            for name, layer in layers.items()
        }
        for name, layer in layers.items():
            if layer.lora_magnitude_vector is not None:
                self.named[f"{prefix}{name}.lora_magnitude_vector"] = layer.lora_magnitude_vector
        masters = [nn.Parameter(weight.parameter.data) for weight in whole]
        self.named |= {f"{prefix}{weight.name}": master for weight, master in zip(whole, masters, strict=True)}
        device = next(iter(self.named.values())).device
        self.flat = nn.Parameter(
            torch.empty(sum(parameter.numel() for parameter in self.named.values()), device=device)
        )
        self.flat.grad = torch.zeros_like(self.flat)
        start = 0
        for parameter in self.named.values():
            stop = start + parameter.numel()
            parameter.data = self.flat.data[start:stop].view_as(parameter).copy_(parameter.data)
            parameter.grad = self.flat.grad[start:stop].view_as(parameter)
            start = stop
        for weight, master in zip(whole, masters, strict=True):
            weight.join(master)

    def parameters(self) -> list[nn.Parameter]:
        """Returns the trained parameters, in the order in which they lie in `flat`."""
        return list(self.named.values())

    def zero_grad(self) -> None:
        """Sets the gradients to zero, in place."""
        assert self.flat.grad is not None
        self.flat.grad.zero_()

    def refresh(self) -> None:
        """Lets the network compute with the present values of the weights trained in full."""
        for weight in self.whole:
            weight.refresh()

    def gradient_of(self, parameter: Tensor) -> Tensor | None:
        """Returns the place of the gradient of a weight of the network, float32; None where it is not trained in full."""
        for weight in self.whole:
            if weight.parameter is parameter:
                return weight.gradient
        return None

    def state(self) -> dict[str, Tensor]:
        """Returns copies of the trained parameters under PEFT's names."""
        return {name: parameter.detach().clone() for name, parameter in self.named.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Sets the trained parameters.

        Raises:
            ModelError: names or shapes are not this adapter's.
        """
        wrong = sorted(set(self.named) ^ set(state)) or sorted(
            name for name, parameter in self.named.items() if parameter.shape != state[name].shape
        )
        if wrong:
            raise ModelError(
                f"The adapter's weights do not fit this base model: {wrong[0]}"
                + (f" and {len(wrong) - 1} more." if len(wrong) > 1 else "."),
                code="adapter_mismatch",
                hint="Was it trained on another base, or with other target_modules?",
            )
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(state[name])
        self.refresh()

    def train(self, mode: bool = True) -> None:
        """Turns the adapter's dropout on or off."""
        for layer in self.layers.values():
            layer.train(mode)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The base model alone, for as long as the block lasts."""
        self._enable(False)
        try:
            yield
        finally:
            self._enable(True)

    def _enable(self, enabled: bool) -> None:
        for layer in self.layers.values():
            layer.enabled = enabled
        for weight in self.whole:
            weight.enable(enabled)


def attach(network: Any, config: LoraConfig | None, *, seed: int) -> Adapter:
    """Puts LoRA layers into a network, in place, or makes all its weights trainable.

    Args:
        network: a frozen causal language model of transformers, in eval mode; dropout is off until `Adapter.train`.
        config: rank, scaling, dropout and the layers to adapt; None to train every weight instead.
        seed: decides the first values of A; each layer has a stream of its own, so the layers chosen do not change it.

    Raises:
        ModelError: a name in `target_modules` matches no linear layer (with the names there are), one in
            `modules_to_save` no module, a number in `layers_to_transform` no layer; or what is to be trained is quantized.
    """
    if config is None:
        return Adapter(network, None, {}, unfreeze_network(network))
    saved = modules_to_save(network, config.modules_to_save)
    linear = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module is not network.get_output_embeddings()
    }
    chosen = [name for name in linear if config.targets(name)]
    check_chosen(
        linear,
        chosen,
        saved,
        target_modules=() if config.target_modules == "all-linear" else config.target_modules,
        layers_to_transform=config.layers_to_transform or (),
    )
    layers = {}
    for index, (name, module) in enumerate(linear.items()):
        if name not in chosen:
            continue
        parent, _, leaf = name.rpartition(".")
        layers[name] = LoraLinear(
            module,
            r=config.rank_of(name),
            scaling=config.scaling_of(name),
            dropout=config.lora_dropout,
            use_dora=config.use_dora,
            generator=torch.Generator().manual_seed(seed * 1_000_003 + index),
        )
        setattr(network.get_submodule(parent), leaf, layers[name])
    adapter = Adapter(network, config, layers, unfreeze_modules(network, saved))
    adapter.train(False)
    return adapter
