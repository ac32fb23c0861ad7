"""Which networks of transformers the decoder computes, and where each keeps its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from luthier.model.decoder.linear import FusedLinear
from luthier.model.kernels.operations import Activation

_FAMILIES = {
    "LlamaForCausalLM": 0.0,
    "MistralForCausalLM": 0.0,
    "Qwen2ForCausalLM": 0.0,
    "Qwen3ForCausalLM": 0.0,
    "GemmaForCausalLM": 1.0,
}
"""Each computes `x + attention(norm(x))`, then `x + mlp(norm(x))` with a gated MLP; the number is added to the weights of
its norms."""
_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's parts.

    Attributes:
        attention_norm_D, mlp_norm_D: weights of the norms, float32.
        qkv, out, gate_up, down: the products.
        query_norm_K, key_norm_K: weights of the norms over each head, where there are any.
        num_heads, num_groups, head_width: H query heads share G key heads of K numbers.
        scaling: of the products of query and key.
        window: how many tokens back a token sees, itself included; None for all.
    """

    attention_norm_D: Tensor
    mlp_norm_D: Tensor
    qkv: FusedLinear
    out: FusedLinear
    gate_up: FusedLinear
    down: FusedLinear
    query_norm_K: Tensor | None
    key_norm_K: Tensor | None
    num_heads: int
    num_groups: int
    head_width: int
    scaling: float
    window: int | None

    @property
    def linears(self) -> tuple[FusedLinear, ...]:
        """Its products, in the order in which they are computed."""
        return self.qkv, self.out, self.gate_up, self.down

    @property
    def adapted(self) -> bool:
        """Whether anything in the layer is trained."""
        return any(linear.adapted for linear in self.linears)

    def tape_bytes_a_token(self, width: int, itemsize: int) -> int:
        """Returns what the backward pass keeps for each token: inputs of norms in float32, of products in their type."""
        inner, heads = self.down.num_inputs, (self.num_heads + 2 * self.num_groups) * self.head_width
        if self.query_norm_K is not None:
            heads *= 2
        products = 2 * width + heads + self.num_heads * self.head_width + 3 * inner
        adapters = sum(linear.num_kept for linear in self.linears)
        return 4 * 2 * width + itemsize * (products + adapters)


def unsupported(network: Any) -> str | None:
    """Returns why a network cannot be computed by the decoder, or None."""
    if type(network).__name__ not in _FAMILIES:
        return f"{type(network).__name__} is not of the Llama family"
    if network.config.hidden_act not in _ACTIVATIONS:
        return f"its activation {network.config.hidden_act} is not fused"
    return None


def activation_of(network: Any) -> Activation:
    """Returns the MLP's activation."""
    return _ACTIVATIONS[network.config.hidden_act]


def norm_weight(network: Any, norm: Any) -> Tensor:
    """Returns what a norm multiplies by, float32."""
    weight: Tensor = norm.weight.detach().float() + _FAMILIES[type(network).__name__]
    return weight


def layers_of(network: Any, dtype: torch.dtype) -> list[Layer]:
    """Returns the layers of a network that `unsupported` has nothing against."""
    return [_layer(network, layer, dtype) for layer in network.base_model.layers]


def _layer(network: Any, layer: Any, dtype: torch.dtype) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    config = network.config
    if hasattr(attention, "sliding_window"):
        window = attention.sliding_window
    else:
        window = config.sliding_window if type(network).__name__ == "MistralForCausalLM" else None
    norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
    query_norm, key_norm = (norm_weight(network, norm) if norm is not None else None for norm in norms)
    return Layer(
        attention_norm_D=norm_weight(network, layer.input_layernorm),
        mlp_norm_D=norm_weight(network, layer.post_attention_layernorm),
        qkv=FusedLinear([attention.q_proj, attention.k_proj, attention.v_proj], dtype),
        out=FusedLinear([attention.o_proj], dtype),
        gate_up=FusedLinear([mlp.gate_proj, mlp.up_proj], dtype),
        down=FusedLinear([mlp.down_proj], dtype),
        query_norm_K=query_norm,
        key_norm_K=key_norm,
        num_heads=config.num_attention_heads,
        num_groups=config.num_key_value_heads,
        head_width=attention.head_dim,
        scaling=float(attention.scaling),
        window=window,
    )
