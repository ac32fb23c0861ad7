"""The frozen weights of linear layers that share an input, one below the other.

Tensor legend: D inputs, O outputs of all the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from luthier.model.decoder.arena import Arena
from luthier.model.quantize import QuantizedLinear
from luthier.model.sharding import ShardedLinear


class Weight(Protocol):
    """A frozen matrix [O, D].

    Attributes:
        num_outputs, num_inputs: O and D.
        device: where it lies.
    """

    num_outputs: int
    num_inputs: int
    device: torch.device

    def dense(self, arena: Arena) -> Tensor:
        """Returns the matrix in the type of the products; what is taken from the arena belongs to the caller."""


class DenseWeight:
    """Weights in the type of the products. The layers' own become views of the whole, so nothing is held twice.

    Attributes:
        whole: the matrix with room for R adapter rows and columns, [O + R, D + R]: the weights above left, B (scaled) beside
            them, A below. So one product over D + R inputs gives a layer's output, and one over O + R its input's gradient.
    """

    def __init__(self, layers: Sequence[nn.Linear], ranks: int) -> None:
        self.num_outputs, self.num_inputs = sum(layer.out_features for layer in layers), layers[0].in_features
        self.whole = self._as_laid_out(layers, ranks)
        if self.whole is None:
            self.whole = layers[0].weight.new_zeros(self.num_outputs + ranks, self.num_inputs + ranks)
            start = 0
            for layer in layers:
                part = self.whole[start : start + layer.out_features, : self.num_inputs]
                layer.weight.data = part.copy_(layer.weight.detach())
                start += layer.out_features
        self.device = self.whole.device

    def dense(self, arena: Arena) -> Tensor:  # noqa: ARG002 - others need it
        """Returns the matrix."""
        assert self.whole is not None
        return self.whole[: self.num_outputs, : self.num_inputs]

    def _as_laid_out(self, layers: Sequence[nn.Linear], ranks: int) -> Tensor | None:
        """Returns the whole where the layers are its views already, from an earlier time."""
        first = layers[0].weight.detach()
        stride, place = self.num_inputs + ranks, first.storage_offset()
        for layer in layers:
            weight = layer.weight
            same = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
            if not same or weight.stride() != (stride, 1) or weight.storage_offset() != place:
                return None
            place += layer.out_features * stride
        size = (self.num_outputs + ranks) * stride
        if (first.storage_offset() + size) * first.itemsize > first.untyped_storage().nbytes():
            return None
        return first.as_strided((self.num_outputs + ranks, stride), (stride, 1))


class QuantizedWeight:
    """Weights held in a few bits, dequantized into the arena for each product and given back behind it."""

    def __init__(self, layers: Sequence[QuantizedLinear]) -> None:
        self._layers = layers
        self.num_outputs = sum(layer.out_features for layer in layers)
        self.num_inputs = layers[0].in_features
        self.device = layers[0].device

    def dense(self, arena: Arena) -> Tensor:
        """Returns the matrix."""
        whole_OD = arena.take(self.num_outputs, self.num_inputs, dtype=self._layers[0].dtype)
        start = 0
        for layer in self._layers:
            layer.dequantize(whole_OD[start : start + layer.out_features])
            start += layer.out_features
        return whole_OD


class ShardedWeight:
    """Weights that several processes hold together, gathered with all of their decoder layer."""

    def __init__(self, layers: Sequence[ShardedLinear]) -> None:
        self._layers = layers
        self.num_outputs = sum(layer.out_features for layer in layers)
        self.num_inputs = layers[0].in_features
        self.device = layers[0].share.part.device
        start = layers[0].start
        self._start: int | None = start
        for layer in layers:
            if layer.share is not layers[0].share or layer.start != start:
                self._start = None
            start += layer.out_features * layer.in_features

    def dense(self, arena: Arena) -> Tensor:
        """Returns the matrix; it stands until another decoder layer is asked for."""
        if self._start is not None:
            stop = self._start + self.num_outputs * self.num_inputs
            return self._layers[0].share.whole()[self._start : stop].view(self.num_outputs, self.num_inputs)
        whole_OD = arena.take(self.num_outputs, self.num_inputs, dtype=self._layers[0].share.part.dtype)
        start = 0
        for layer in self._layers:
            whole_OD[start : start + layer.out_features].copy_(layer.weight)
            start += layer.out_features
        return whole_OD


def weight_of(layers: Sequence[nn.Linear], ranks: int) -> Weight:
    """Returns the weights of linear layers that share an input, and of adapters with so many ranks."""
    sharded = [layer for layer in layers if isinstance(layer, ShardedLinear)]
    if sharded:
        return ShardedWeight(sharded)
    quantized = [layer for layer in layers if isinstance(layer, QuantizedLinear)]
    return QuantizedWeight(quantized) if quantized else DenseWeight(layers, ranks)
