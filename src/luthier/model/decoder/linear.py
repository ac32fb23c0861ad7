"""Linear layers that share an input, as one product, with their LoRA terms as another.

Tensor legend: T tokens, D inputs, O outputs of all the layers, R ranks of all their adapters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from luthier.model.decoder.arena import Arena
from luthier.model.decoder.weights import DenseWeight, weight_of
from luthier.model.kernels.ranks import Outers
from luthier.model.lora_linear import LoraLinear

_CHANCES = 1 << 16
"""Each number of a dropout mask is drawn from this many: a probability is exact to half of one of them."""
_LONG_SUM, _MANY_ROWS = 2048, 384
"""A product of so many rows, with so many numbers in each sum, is computed in two halves. Source:
`docs/measurements/product-shapes.md`."""


@dataclass(frozen=True, slots=True)
class _Term:
    """One layer's adapter: its rows of the output, its columns among the ranks; with DoRA, the lengths of its rows."""

    layer: LoraLinear
    rows: slice
    ranks: slice
    norms_O: Tensor | None


class FusedLinear:
    """`y = x Wᵀ + b + (x Aᵀ) Bᵀ` for several layers at once: W, b and A stacked, B in blocks along the diagonal.

    Rows of the input have room for x Aᵀ behind them, [T, D + R], and rows of the output's gradient for its product with B,
    [T, O + R]: with them, one product computes W and the adapters together where W lies in memory as it is.

    With DoRA, `y = c ∘ (x Wᵀ + (x Aᵀ) Bᵀ) + b` with c = magnitude / length of the rows, a constant in the backward pass.
    With dropout, each layer's A sees the input through a mask of its own, which is drawn again wherever it is needed.

    Args:
        layers: linear layers, adapted or not, of one input width.
        dtype: of the products.
    """

    def __init__(self, layers: Sequence[nn.Linear | LoraLinear], dtype: torch.dtype) -> None:
        bases = [layer.base if isinstance(layer, LoraLinear) else layer for layer in layers]
        self.num_ranks = sum(len(layer.lora_A) for layer in layers if isinstance(layer, LoraLinear))
        self._weight = weight_of(bases, self.num_ranks)
        self._dtype = dtype
        self.num_inputs, self.num_outputs = self._weight.num_inputs, self._weight.num_outputs
        self._whole = self._weight.whole if isinstance(self._weight, DenseWeight) else None
        if self._whole is not None:
            self._a_RD = self._whole[self.num_outputs :, : self.num_inputs]
            self._b_OR = self._whole[: self.num_outputs, self.num_inputs :]
        else:
            self._a_RD = torch.empty(self.num_ranks, self.num_inputs, dtype=dtype, device=self._weight.device)
            self._b_OR = torch.empty(self.num_outputs, self.num_ranks, dtype=dtype, device=self._weight.device)
        self._b_OR.zero_()
        self._bias_O = _biases(bases)
        self._terms: list[_Term] = []
        row = rank = 0
        for layer, base in zip(layers, bases, strict=True):
            rows = slice(row, row + base.out_features)
            if isinstance(layer, LoraLinear):
                r = len(layer.lora_A)
                dora = layer.lora_magnitude_vector is not None
                norms_O = torch.empty(base.out_features, device=self._weight.device) if dora else None
                self._terms.append(_Term(layer, rows, slice(rank, rank + r), norms_O))
                rank += r
            row = rows.stop
        dora = any(term.norms_O is not None for term in self._terms)
        self._scale_O = torch.ones(row, device=self._weight.device) if dora else None
        self._seed = 0

    @property
    def num_kept(self) -> int:
        """How many numbers a token are kept for the backward pass beside input and output: R, with DoRA R + O."""
        return self.num_ranks + (0 if self._scale_O is None else self.num_outputs)

    @property
    def adapted(self) -> bool:
        """Whether any of the layers has an adapter."""
        return bool(self._terms)

    def take_inputs(self, num_tokens: int, arena: Arena) -> Tensor:
        """Returns rows for the input [T, D + R], of which the caller writes the first D columns."""
        return arena.take(num_tokens, self.num_inputs + self.num_ranks, dtype=self._dtype)

    def take_outputs(self, num_tokens: int, arena: Arena) -> Tensor:
        """Returns rows for the output or its gradient [T, O + R], of which the first O columns are it."""
        return arena.take(num_tokens, self.num_outputs + self.num_ranks, dtype=self._dtype)

    def pack(self) -> None:
        """Takes over the adapters' present values."""
        for term in self._terms:
            self._a_RD[term.ranks].copy_(term.layer.lora_A.detach())
            self._b_OR[term.rows, term.ranks].copy_(term.layer.lora_B.detach() * term.layer.scaling)
            magnitude_O = term.layer.lora_magnitude_vector
            if magnitude_O is not None and term.norms_O is not None and self._scale_O is not None:
                term.norms_O.copy_(term.layer.norms())
                torch.div(magnitude_O.detach(), term.norms_O, out=self._scale_O[term.rows])

    def draw(self) -> None:
        """Draws the dropout masks of the batch to come, from torch's generator."""
        if self._dropping:
            self._seed = int(torch.randint(1 << 62, ()))

    def forward(self, x: Tensor, y: Tensor, arena: Arena) -> Tensor | None:
        """Writes the output, and returns what `backward` needs beside the input: with DoRA, the output unscaled [T, O].

        Args:
            x: of `take_inputs`; what stands behind the input is written here.
            y: the output's rows, contiguous or of `take_outputs`.
            arena: for what is returned, and what is needed on the way.
        """
        y_TO = y[:, : self.num_outputs]
        u_TO = self.project(x, arena)
        if u_TO is None:
            self._product(x, self._bias_O, y_TO, arena)
            return None
        assert self._scale_O is not None
        torch.mul(u_TO, self._scale_O, out=y_TO)
        if self._bias_O is not None:
            y_TO += self._bias_O
        return u_TO

    def project(self, x: Tensor, arena: Arena) -> Tensor | None:
        """Writes x Aᵀ behind the input, and returns what `forward` does, without the output."""
        if not self._active:
            return None
        self._down(x, arena)
        if self._scale_O is None:
            return None
        u_TO = arena.take(len(x), self.num_outputs, dtype=x.dtype)
        self._product(x, None, u_TO, arena)
        return u_TO

    def backward(
        self,
        gradient: Tensor,
        x: Tensor,
        u_TO: Tensor | None,
        outers: Outers,
        arena: Arena,
        *,
        needs_input: bool = True,
    ) -> Tensor | None:
        """Returns the gradient of the input [T, D] where it is needed, and writes down what the adapters' are to get.

        Args:
            gradient: of `take_outputs`, with the output's gradient in the first O columns.
            x: what `forward` was given, as it left it.
            u_TO: what `forward` returned.
            outers: what is to be added to the adapters' gradients, from parts of `gradient` and `x`.
            arena: for what is returned, and what is needed on the way.
            needs_input: whether the input's gradient is.
        """
        if u_TO is not None and self._scale_O is not None:
            gradient = self._unscale(gradient, u_TO, self._scale_O, arena)
        x_TD, h_TR = x[:, : self.num_inputs], x[:, self.num_inputs :]
        gradient_TO, gb_TR = gradient[:, : self.num_outputs], gradient[:, self.num_outputs :]
        dx_TD = arena.take(*x_TD.shape, dtype=x.dtype) if needs_input else None
        if not self._active:
            if dx_TD is not None:
                mark = arena.mark()
                self._back(gradient_TO, self._weight.dense(arena), dx_TD)
                arena.release(mark)
            return dx_TD
        torch.mm(gradient_TO, self._b_OR, out=gb_TR)
        together = self._whole is not None and not self._dropping
        if dx_TD is not None:
            if together and self._whole is not None:
                self._back(gradient, self._whole[:, : self.num_inputs], dx_TD)
            else:
                mark = arena.mark()
                self._back(gradient_TO, self._weight.dense(arena), dx_TD)
                arena.release(mark)
                if not self._dropping:
                    dx_TD.addmm_(gb_TR, self._a_RD)
        if self._dropping:
            self._down_backward(gb_TR, x_TD, dx_TD, arena)
        for term in self._terms:
            assert term.layer.lora_A.grad is not None
            assert term.layer.lora_B.grad is not None
            if not self._dropping:
                outers.put(x_TD, gb_TR[:, term.ranks], term.layer.lora_A.grad)
            gradient_B = term.layer.lora_B.grad.t()
            outers.put(gradient_TO[:, term.rows], h_TR[:, term.ranks], gradient_B, term.layer.scaling)
        return dx_TD

    @property
    def _active(self) -> bool:
        return bool(self._terms) and self._terms[0].layer.enabled

    @property
    def _dropping(self) -> bool:
        return self._active and self._terms[0].layer.dropping

    def _product(self, x: Tensor, bias_O: Tensor | None, y_TO: Tensor, arena: Arena) -> None:
        """Writes x Wᵀ, and with active adapters what stands behind x times Bᵀ."""
        mark = arena.mark()
        apart = self._active and self._whole is None
        if self._active and self._whole is not None:
            inputs, weight = x, self._whole[: self.num_outputs]
        else:
            inputs, weight = x[:, : self.num_inputs], self._weight.dense(arena)
        if bias_O is None:
            torch.mm(inputs, weight.t(), out=y_TO)
        else:
            torch.addmm(bias_O, inputs, weight.t(), out=y_TO)
        if apart:
            y_TO.addmm_(x[:, self.num_inputs :], self._b_OR.t())
        arena.release(mark)

    @staticmethod
    def _back(gradient: Tensor, weight: Tensor, dx_TD: Tensor) -> None:
        """Writes a product whose sums are long and whose rows are short: in two halves, where the whole weight would not
        stay in a core's cache."""
        middle = dx_TD.shape[1] // 2
        if len(weight) < _LONG_SUM or len(gradient) < _MANY_ROWS or weight.device.type != "cpu":
            torch.mm(gradient, weight, out=dx_TD)
            return
        torch.mm(gradient, weight[:, :middle], out=dx_TD[:, :middle])
        torch.mm(gradient, weight[:, middle:], out=dx_TD[:, middle:])

    def _down(self, x: Tensor, arena: Arena) -> None:
        """Writes the projection of the input, dropped or not, to the ranks behind it."""
        x_TD, h_TR = x[:, : self.num_inputs], x[:, self.num_inputs :]
        if not self._dropping:
            torch.mm(x_TD, self._a_RD.t(), out=h_TR)
            return
        for number, term in enumerate(self._terms):
            mark = arena.mark()
            mask_TD, share = self._mask(number, x_TD, arena)
            seen_TD = torch.mul(x_TD, mask_TD, out=mask_TD)
            h_TR[:, term.ranks] = (seen_TD @ self._a_RD[term.ranks].t()).div_(share)
            arena.release(mark)

    def _down_backward(self, gb_TR: Tensor, x_TD: Tensor, dx_TD: Tensor | None, arena: Arena) -> None:
        """Adds to the gradients of A, and to that of the input, through the masks of `_down`."""
        for number, term in enumerate(self._terms):
            mark = arena.mark()
            mask_TD, share = self._mask(number, x_TD, arena)
            gb = gb_TR[:, term.ranks] / share
            if dx_TD is not None:
                back_TD = torch.mm(gb, self._a_RD[term.ranks], out=arena.take(*x_TD.shape, dtype=x_TD.dtype))
                dx_TD += back_TD.mul_(mask_TD)
            assert term.layer.lora_A.grad is not None
            outers = Outers()
            outers.put(torch.mul(x_TD, mask_TD, out=mask_TD), gb, term.layer.lora_A.grad)
            outers.add()
            arena.release(mark)

    def _mask(self, number: int, x_TD: Tensor, arena: Arena) -> tuple[Tensor, float]:
        """Returns ones where a layer's adapter sees the input of this batch, and the share that it sees."""
        chances = min(round(self._terms[number].layer.dropout.p * _CHANCES), _CHANCES - 1)
        drawn_TD = _draw(self._seed + number, x_TD.numel(), x_TD.device).view(x_TD.shape)
        mask_TD = arena.take(*x_TD.shape, dtype=x_TD.dtype)
        return torch.ge(drawn_TD, chances - _CHANCES // 2, out=mask_TD), 1 - chances / _CHANCES

    def _unscale(self, gradient: Tensor, u_TO: Tensor, scale_O: Tensor, arena: Arena) -> Tensor:
        """Adds to the magnitudes' gradients, and returns the gradient before the scaling, with room for the ranks."""
        for term in self._terms:
            magnitude_O = term.layer.lora_magnitude_vector
            assert magnitude_O is not None
            assert magnitude_O.grad is not None
            assert term.norms_O is not None
            slope_O = (gradient[:, term.rows] * u_TO[:, term.rows]).sum(0, dtype=torch.float32)
            magnitude_O.grad.add_(slope_O.div_(term.norms_O))
        unscaled = self.take_outputs(len(gradient), arena)
        torch.mul(gradient[:, : self.num_outputs], scale_O, out=unscaled[:, : self.num_outputs])
        return unscaled


def _draw(seed: int, count: int, device: torch.device) -> Tensor:
    """Returns random 16-bit numbers, on a CPU from numpy's fastest generator: it is three times as fast as torch's."""
    words = -(-count // 4)
    if device.type == "cpu":
        drawn = torch.from_numpy(np.random.SFC64(seed).random_raw(words).view(np.int16))
    else:
        generator = torch.Generator(device).manual_seed(seed)
        wide = torch.empty(words, dtype=torch.int64, device=device)
        drawn = wide.random_(-(1 << 63), None, generator=generator).view(torch.int16)
    return drawn[:count]


def _biases(layers: Sequence[nn.Linear]) -> Tensor | None:
    """Returns the biases below each other, zeros where a layer has none; None where no layer has any."""
    some = next((layer.bias for layer in layers if layer.bias is not None), None)
    if some is None:
        return None
    return torch.cat(
        [some.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach() for layer in layers]
    )
