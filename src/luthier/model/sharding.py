"""A frozen base that several processes hold together: each keeps a part of every layer's matrices.

A layer's matrices are gathered when the first of them is needed, into memory that all layers share, and stand there until
another layer is needed: once a layer in the forward pass and once in the backward pass. So a process holds 1/N of them,
and one layer whole. Embedding, output head, norms and biases stay whole in each.

Tensor legend: D inputs, O outputs; numbers of a layer lie flat.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luthier.errors import ModelError

_LAYER = re.compile(r"^(.*?\.\d+)\.")
"""The part of a linear layer's name that names the decoder layer it belongs to."""
_ALIGNMENT = 64
"""Matrices begin at a multiple of so many numbers."""


class Holders(Protocol):
    """The processes that hold a base together.

    Attributes:
        rank, size: the number of this one, and of all.
        in_step: set where a base is split, because each pass then needs all of them.
        meetings: how often they have agreed on something; between two such times all do the same.
    """

    rank: int
    size: int
    in_step: bool
    meetings: int

    def gather(self, part: Tensor, whole: Tensor, number: int) -> None:
        """Fills `whole` with the equal parts of all of them, by rank. All must ask for the same number."""


class _Desk:
    """Where one layer lies whole, at the same time in all processes."""

    def __init__(self, holders: Holders) -> None:
        self._holders = holders
        self._room: Tensor | None = None
        self._lies: tuple[int, int] | None = None

    def whole(self, number: int, part: Tensor) -> Tensor:
        """Returns the numbers of a layer; they are overwritten when another layer is asked for."""
        count = part.numel() * self._holders.size
        if self._room is None or len(self._room) < count or self._room.device != part.device:
            with torch.inference_mode(False):
                self._room = torch.empty(count, dtype=part.dtype, device=part.device)
            self._lies = None
        found = self._room[:count]
        # After they have met they may have left a pass half done, each at another layer.
        wanted = self._holders.meetings, number
        if self._lies != wanted:
            self._lies = None
            self._holders.gather(part, found, number)
            self._lies = wanted
        return found


class Share(nn.Module):
    """This process's part of the matrices of one decoder layer, flat and padded to equal parts.

    Attributes:
        part: the numbers.
    """

    part: Tensor

    def __init__(self, number: int, part: Tensor, desk: _Desk) -> None:
        super().__init__()
        self.register_buffer("part", part, persistent=False)
        self._number = number
        self._desk = desk

    def whole(self) -> Tensor:
        """Returns all numbers of the layer, until another layer is asked for."""
        return self._desk.whole(self._number, self.part)


class ShardedLinear(nn.Linear):
    """A frozen linear layer of whose matrix each process holds a part.

    Attributes:
        share: the part, and the way to the whole.
        start: where its matrix begins in the whole.
    """

    def __init__(self, layer: nn.Linear, share: Share, start: int, dtype: torch.dtype) -> None:
        super(nn.Linear, self).__init__()  # nn.Linear's own would make a matrix
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.share, self.start = share, start
        bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().to(dtype, copy=True), False)
        self.register_parameter("bias", bias)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The matrix [O, D], gathered; it stands until another decoder layer is asked for."""
        stop = self.start + self.out_features * self.in_features
        return self.share.whole()[self.start : stop].view(self.out_features, self.in_features)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Returns the layer's output."""
        product: Tensor = _Product.apply(input, self)  # type: ignore[no-untyped-call]
        return product


class _Product(torch.autograd.Function):
    """`x Wᵀ + b`; between the two passes nothing of W is held."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: ShardedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.weight, layer.bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.weight, None


def shard(network: Any, holders: Holders, dtype: torch.dtype, *, keep: tuple[str, ...] = ()) -> int:
    """Splits the matrices of all decoder layers among processes, in place; each is let go of as soon as it is split.

    Args:
        network: a frozen causal language model of transformers, the same in all processes; its weights may lie in mapped
            files.
        holders: the processes.
        dtype: of the products; weights are rounded to it.
        keep: layers whose name holds one of these stay whole.

    Returns:
        How many numbers were split.

    Raises:
        ModelError: there is no linear layer in a numbered decoder layer.
    """
    head = network.get_output_embeddings()
    layers: dict[str, list[str]] = {}
    for name, module in network.named_modules():
        found = _LAYER.match(name)
        kept = module is head or any(part in f"{name}.weight" for part in keep)
        if found and isinstance(module, nn.Linear) and not kept:
            layers.setdefault(found[1], []).append(name)
    if not layers:
        raise ModelError(
            f"{type(network).__name__} has no linear layers in decoder layers that could be split.",
            code="nothing_to_shard",
            param="train.shard",
            hint="Set train.shard=off.",
        )
    desk = _Desk(holders)
    count = sum(_split(network, names, number, holders, desk, dtype) for number, names in enumerate(layers.values()))
    holders.in_step = True
    return count


def _split(network: Any, names: list[str], number: int, holders: Holders, desk: _Desk, dtype: torch.dtype) -> int:
    """Splits the matrices of one decoder layer, and returns how many numbers they have."""
    modules = [network.get_submodule(name) for name in names]
    starts = [0]
    for module in modules:
        starts.append(starts[-1] + -(-module.weight.numel() // _ALIGNMENT) * _ALIGNMENT)
    length = -(-starts[-1] // (holders.size * _ALIGNMENT)) * _ALIGNMENT
    part = torch.zeros(length, dtype=dtype, device=modules[0].weight.device)
    share = Share(number, part, desk)
    first = holders.rank * length
    for name, module, start in zip(names, modules, starts, strict=False):
        flat = module.weight.detach().reshape(-1)
        low, high = max(start, first), min(start + len(flat), first + length)
        if low < high:
            part[low - first : high - first].copy_(flat[low - start : high - start])
        parent, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(parent), leaf, ShardedLinear(module, share, start, dtype).train(module.training))
    return sum(module.in_features * module.out_features for module in modules)
