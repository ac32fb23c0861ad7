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
    """Weights in the type of the products. The layers' own become views of the whole, so nothing is held twice."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._whole_OD = (
            torch.cat([layer.weight.detach() for layer in layers]) if layers[1:] else layers[0].weight.detach()
        )
        start = 0
        for layer in layers:
            layer.weight.data = self._whole_OD[start : start + layer.out_features]
            start += layer.out_features
        self.num_outputs, self.num_inputs = self._whole_OD.shape
        self.device = self._whole_OD.device

    def dense(self, arena: Arena) -> Tensor:  # noqa: ARG002 - others need it
        """Returns the matrix."""
        return self._whole_OD


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


def weight_of(layers: Sequence[nn.Linear]) -> Weight:
    """Returns the weights of linear layers that share an input."""
    quantized = [layer for layer in layers if isinstance(layer, QuantizedLinear)]
    return QuantizedWeight(quantized) if quantized else DenseWeight(layers)
