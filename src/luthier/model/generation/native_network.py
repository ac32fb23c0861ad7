"""A network of the Llama family as the kernels see it: where each weight lies, read from the network's own layers.

Nothing of the base is copied but biases and norms, which become float32; an adapter is, in the type of the products. Tensor
legend: D inputs, O outputs, R ranks, S positions, K turned numbers of a head.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luthier.model.decoder.families import activation_of, norm_weight, unsupported
from luthier.model.kernels.native import native
from luthier.model.lora_linear import LoraLinear
from luthier.model.quantize import SCALE_BLOCK, Int8Linear, Nf4Linear, QuantizedLinear

DEEP = 32
"""Inputs of a product are filled up to a multiple of this; the kernels' own number (decode.c)."""
_HALF = 16
_ROTARY = ("default", "linear", "llama3", "yarn")
"""Ways of turning queries and keys in which an angle depends on the position alone, not on the length of the text."""
_ACTIVATIONS = {"silu": 0, "gelu_tanh": 1}
_DENSE, _INT8, _NF4 = 0, 1, 2

_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64


class Linear(ctypes.Structure):
    """`Linear` of decode.c."""

    _fields_ = (
        *((name, _POINTER) for name in ("weight", "factor", "levels", "bias", "down", "up", "scale")),
        *((name, _INTEGER) for name in ("outputs", "inputs", "kind", "ranks", "stride")),
    )


class Layer(ctypes.Structure):
    """`Layer` of decode.c."""

    _fields_ = (
        *((name, _POINTER) for name in ("attention_norm", "mlp_norm", "query_norm", "key_norm")),
        ("linear", Linear * 7),
        ("window", _INTEGER),
    )


class Network(ctypes.Structure):
    """`Network` of decode.c."""

    _fields_ = (
        ("layers", ctypes.POINTER(Layer)),
        *((name, _POINTER) for name in ("norm", "cosine", "sine")),
        ("head", Linear),
        *((name, _INTEGER) for name in ("L", "D", "F", "H", "G", "K", "V", "turned", "activation")),
        ("epsilon", ctypes.c_float),
        ("scaling", ctypes.c_float),
    )


def obstacle_of(network: Any) -> str | None:
    """Returns why the kernels cannot compute a network, or None."""
    against = unsupported(network)
    if against:
        return against
    weight = network.get_input_embeddings().weight
    if weight.device.type != "cpu":
        return "it is not on a CPU"
    if weight.dtype not in (torch.float32, torch.bfloat16):
        return f"its numbers are {weight.dtype}"
    rotary = getattr(network.base_model.rotary_emb, "rope_type", None)
    if rotary not in _ROTARY:
        return f"its positions are turned in a way ({rotary}) that depends on the length of the text"
    if native("decode").library is None:
        return native("decode").reason
    return None


class NativeNetwork:
    """A network with its adapter as it is now.

    Attributes:
        structure: what the kernels take.
        most_ranks: the most ranks of layers that share an input, filled up.
        deepest: the most inputs of a layer, filled up.

    Args:
        network: one that `obstacle_of` has nothing against.
        most_tokens: of a text.
    """

    def __init__(self, network: Any, most_tokens: int) -> None:
        self._kept: list[Any] = []
        self._embed = network.get_input_embeddings()
        self.dtype: torch.dtype = self._embed.weight.dtype
        config, base = network.config, network.base_model
        layers = (Layer * len(base.layers))(*(self._layer(network, layer) for layer in base.layers))
        attention = base.layers[0].self_attn
        cosine, sine = base.rotary_emb(torch.zeros(1, 1, 1), position_ids=torch.arange(most_tokens)[None])
        turned = cosine.shape[-1] // 2
        head = network.get_output_embeddings()
        self.structure = Network(
            layers=layers,
            norm=self._keep(norm_weight(network, base.norm)),
            cosine=self._keep(cosine[0, :, :turned].float()),
            sine=self._keep(sine[0, :, :turned].float()),
            head=self._linear(head),
            L=len(base.layers),
            D=config.hidden_size,
            F=layers[0].linear[6].inputs,
            H=config.num_attention_heads,
            G=config.num_key_value_heads,
            K=attention.head_dim,
            V=head.out_features,
            turned=turned,
            activation=_ACTIVATIONS[activation_of(network)],
            epsilon=config.rms_norm_eps,
            scaling=attention.scaling,
        )
        self._kept.append(layers)
        groups = [(0, 3), (3, 4), (4, 6), (6, 7)]
        self.most_ranks = max(sum(one.ranks for one in layer.linear[i:j]) for layer in layers for i, j in groups)
        self.deepest = max(_filled(one.inputs) for one in layers[0].linear)

    def embed(self, ids_T: Tensor) -> Tensor:
        """Returns the stream before the first layer [T, D], float32."""
        x_TD: Tensor = self._embed(ids_T).float().contiguous()
        return x_TD

    def _layer(self, network: Any, layer: Any) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        linears = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
        linears += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
        norms = [layer.input_layernorm, layer.post_attention_layernorm]
        norms += [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        weights = [None if norm is None else self._keep(norm_weight(network, norm)) for norm in norms]
        if hasattr(attention, "sliding_window"):
            window = attention.sliding_window
        else:
            window = network.config.sliding_window if type(network).__name__ == "MistralForCausalLM" else None
        return Layer(*weights, (Linear * 7)(*map(self._linear, linears)), window or 0)

    def _linear(self, layer: nn.Linear | LoraLinear) -> Linear:
        base = layer.base if isinstance(layer, LoraLinear) else layer
        found = Linear(outputs=base.out_features, inputs=base.in_features)
        if isinstance(base, QuantizedLinear):
            self._quantized(base, found)
        else:
            # Training leaves room for adapters between rows (`decoder.weights`).
            weight = base.weight.detach()
            weight = weight if weight.stride(1) == 1 else weight.contiguous()
            self._kept.append(weight)
            found.kind, found.weight, found.stride = _DENSE, weight.data_ptr(), weight.stride(0)
        if base.bias is not None:
            found.bias = self._keep(base.bias.detach().float())
        if isinstance(layer, LoraLinear) and layer.enabled:
            r = len(layer.lora_A)
            down = F.pad(layer.lora_A.detach(), (0, -base.in_features % DEEP, 0, -r % DEEP))
            up = F.pad(layer.lora_B.detach() * layer.scaling, (0, -r % DEEP, 0, -base.out_features % _HALF))
            found.ranks = len(down)
            found.down, found.up = self._keep(down.to(self.dtype)), self._keep(up.to(self.dtype))
            if layer.lora_magnitude_vector is not None:
                found.scale = self._keep(layer.lora_magnitude_vector.detach() / layer.norms())
        return found

    def _quantized(self, base: QuantizedLinear, found: Linear) -> None:
        if isinstance(base, Int8Linear):
            found.kind, found.weight, found.factor = _INT8, self._keep(base.packed), self._keep(base.most)
            return
        assert isinstance(base, Nf4Linear)
        found.weight = self._keep(base.packed)
        wide_B = base.wide_scale.repeat_interleave(SCALE_BLOCK)[: len(base.scale)]
        found.kind, found.levels = _NF4, self._keep(base.levels)
        found.factor = self._keep(base.places[base.scale.int()] * wide_B + base.offset)

    def _keep(self, tensor: Tensor) -> int:
        """Returns where a tensor lies, and holds on to it."""
        tensor = tensor.contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def _filled(count: int) -> int:
    return -(-count // DEEP) * DEEP
