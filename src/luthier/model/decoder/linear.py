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
from luthier.model.decoder.weights import weight_of
from luthier.model.lora_linear import LoraLinear

_CHANCES = 1 << 16
"""Each number of a dropout mask is drawn from this many: a probability is exact to half of one of them."""


@dataclass(frozen=True, slots=True)
class _Term:
    """One layer's adapter: its rows of the output, its columns among the ranks; with DoRA, the lengths of its rows."""

    layer: LoraLinear
    rows: slice
    ranks: slice
    norms_O: Tensor | None


class FusedLinear:
    """`y = x Wᵀ + b + (x Aᵀ) Bᵀ` for several layers at once: W, b and A stacked, B in blocks along the diagonal.

    With DoRA, `y = c ∘ (x Wᵀ + (x Aᵀ) Bᵀ) + b` with c = magnitude / length of the rows, a constant in the backward pass.
    With dropout, each layer's A sees the input through a mask of its own, which is drawn again wherever it is needed.

    Args:
        layers: linear layers, adapted or not, of one input width.
        dtype: of the products.
    """

    def __init__(self, layers: Sequence[nn.Linear | LoraLinear], dtype: torch.dtype) -> None:
        bases = [layer.base if isinstance(layer, LoraLinear) else layer for layer in layers]
        self._weight = weight_of(bases)
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
        self._a_RD = torch.empty(rank, self._weight.num_inputs, dtype=dtype, device=self._weight.device)
        self._b_OR = torch.zeros(self._weight.num_outputs, rank, dtype=dtype, device=self._weight.device)
        dora = any(term.norms_O is not None for term in self._terms)
        self._scale_O = torch.ones(row, device=self._weight.device) if dora else None
        self._seed = 0

    @property
    def num_inputs(self) -> int:
        """D."""
        return self._weight.num_inputs

    @property
    def num_kept(self) -> int:
        """How many numbers a token are kept for the backward pass beside the input: R, with DoRA R + O."""
        return len(self._a_RD) + (0 if self._scale_O is None else len(self._scale_O))

    @property
    def adapted(self) -> bool:
        """Whether any of the layers has an adapter."""
        return bool(self._terms)

    def pack(self) -> None:
        """Takes over the adapters' present values."""
        for term in self._terms:
            self._a_RD[term.ranks].copy_(term.layer.lora_A.detach())
            torch.mul(term.layer.lora_B.detach(), term.layer.scaling, out=self._b_OR[term.rows, term.ranks])
            magnitude_O = term.layer.lora_magnitude_vector
            if magnitude_O is not None and term.norms_O is not None and self._scale_O is not None:
                term.norms_O.copy_(term.layer.norms())
                torch.div(magnitude_O.detach(), term.norms_O, out=self._scale_O[term.rows])

    def draw(self) -> None:
        """Draws the dropout masks of the batch to come, from torch's generator."""
        if self._dropping:
            self._seed = int(torch.randint(1 << 62, ()))

    def forward(self, x_TD: Tensor, arena: Arena) -> tuple[Tensor, Tensor | None]:
        """Returns the output [T, O] and what `backward` needs beside the input."""
        y_TO = arena.take(len(x_TD), self._weight.num_outputs, dtype=x_TD.dtype)
        if self._scale_O is not None and self._active:
            tape = self.project(x_TD, arena)
            assert tape is not None
            torch.mul(self._parts(tape, len(x_TD))[1], self._scale_O, out=y_TO)
            if self._bias_O is not None:
                y_TO += self._bias_O
            return y_TO, tape
        self._product(x_TD, self._bias_O, y_TO, arena)
        h_TR = self.project(x_TD, arena)
        if h_TR is not None:
            y_TO.addmm_(h_TR, self._b_OR.t())
        return y_TO, h_TR

    def project(self, x_TD: Tensor, arena: Arena) -> Tensor | None:
        """Returns what `backward` needs beside the input; None where no adapter takes part.

        It is x Aᵀ [T, R]; with DoRA, flat, both it and the output before it is scaled [T, O].
        """
        if not self._active:
            return None
        if self._scale_O is None:
            return self._down(x_TD, arena.take(len(x_TD), len(self._a_RD), dtype=x_TD.dtype), arena)
        tape = arena.take(len(x_TD) * (len(self._a_RD) + self._weight.num_outputs), dtype=x_TD.dtype)
        h_TR, u_TO = self._parts(tape, len(x_TD))
        self._product(x_TD, None, u_TO, arena)
        u_TO.addmm_(self._down(x_TD, h_TR, arena), self._b_OR.t())
        return tape

    def backward(
        self, gradient_TO: Tensor, x_TD: Tensor, tape: Tensor | None, arena: Arena, *, needs_input: bool = True
    ) -> Tensor | None:
        """Adds to the adapters' gradients, and returns that of the input [T, D] where it is needed."""
        h_TR = tape
        if tape is not None and self._scale_O is not None:
            h_TR, u_TO = self._parts(tape, len(x_TD))
            gradient_TO = self._unscale(gradient_TO, u_TO, self._scale_O, arena)
        dx_TD = None
        if needs_input:
            dx_TD = arena.take(*x_TD.shape, dtype=x_TD.dtype)
            mark = arena.mark()
            torch.mm(gradient_TO, self._weight.dense(arena), out=dx_TD)
            arena.release(mark)
        if h_TR is None:
            return dx_TD
        gb_TR = torch.mm(gradient_TO, self._b_OR, out=arena.take(*h_TR.shape, dtype=h_TR.dtype))
        da_RD = arena.take(*self._a_RD.shape, dtype=x_TD.dtype)
        if self._dropping:
            self._down_backward(gb_TR, x_TD, dx_TD, da_RD, arena)
        else:
            if dx_TD is not None:
                dx_TD.addmm_(gb_TR, self._a_RD)
            torch.mm(gb_TR.t(), x_TD, out=da_RD)
        for term in self._terms:
            assert term.layer.lora_A.grad is not None
            assert term.layer.lora_B.grad is not None
            term.layer.lora_A.grad.add_(da_RD[term.ranks])
            db_OR = torch.mm(gradient_TO[:, term.rows].t(), h_TR[:, term.ranks])
            term.layer.lora_B.grad.add_(db_OR, alpha=term.layer.scaling)
        return dx_TD

    @property
    def _active(self) -> bool:
        return bool(self._terms) and self._terms[0].layer.enabled

    @property
    def _dropping(self) -> bool:
        return self._active and self._terms[0].layer.dropping

    def _parts(self, tape: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
        end = num_tokens * len(self._a_RD)
        return tape[:end].view(num_tokens, -1), tape[end:].view(num_tokens, -1)

    def _product(self, x_TD: Tensor, bias_O: Tensor | None, y_TO: Tensor, arena: Arena) -> None:
        mark = arena.mark()
        weight_OD = self._weight.dense(arena)
        if bias_O is None:
            torch.mm(x_TD, weight_OD.t(), out=y_TO)
        else:
            torch.addmm(bias_O, x_TD, weight_OD.t(), out=y_TO)
        arena.release(mark)

    def _down(self, x_TD: Tensor, h_TR: Tensor, arena: Arena) -> Tensor:
        """Writes the projection of the input, dropped or not, to the ranks."""
        if not self._dropping:
            return torch.mm(x_TD, self._a_RD.t(), out=h_TR)
        for number, term in enumerate(self._terms):
            mark = arena.mark()
            mask_TD, share = self._mask(number, x_TD, arena)
            seen_TD = torch.mul(x_TD, mask_TD, out=mask_TD)
            h_TR[:, term.ranks] = (seen_TD @ self._a_RD[term.ranks].t()).div_(share)
            arena.release(mark)
        return h_TR

    def _down_backward(self, gb_TR: Tensor, x_TD: Tensor, dx_TD: Tensor | None, da_RD: Tensor, arena: Arena) -> None:
        """Writes the gradients of A, and adds to that of the input, through the masks of `_down`."""
        for number, term in enumerate(self._terms):
            mark = arena.mark()
            mask_TD, share = self._mask(number, x_TD, arena)
            gb = gb_TR[:, term.ranks] / share
            if dx_TD is not None:
                back_TD = torch.mm(gb, self._a_RD[term.ranks], out=arena.take(*x_TD.shape, dtype=x_TD.dtype))
                dx_TD += back_TD.mul_(mask_TD)
            torch.mm(gb.t(), torch.mul(x_TD, mask_TD, out=mask_TD), out=da_RD[term.ranks])
            arena.release(mark)

    def _mask(self, number: int, x_TD: Tensor, arena: Arena) -> tuple[Tensor, float]:
        """Returns ones where a layer's adapter sees the input of this batch, and the share that it sees."""
        chances = min(round(self._terms[number].layer.dropout.p * _CHANCES), _CHANCES - 1)
        drawn_TD = _draw(self._seed + number, x_TD.numel(), x_TD.device).view(x_TD.shape)
        mask_TD = arena.take(*x_TD.shape, dtype=x_TD.dtype)
        return torch.ge(drawn_TD, chances - _CHANCES // 2, out=mask_TD), 1 - chances / _CHANCES

    def _unscale(self, gradient_TO: Tensor, u_TO: Tensor, scale_O: Tensor, arena: Arena) -> Tensor:
        """Adds to the magnitudes' gradients, and returns the gradient before the scaling."""
        for term in self._terms:
            magnitude_O = term.layer.lora_magnitude_vector
            assert magnitude_O is not None
            assert magnitude_O.grad is not None
            assert term.norms_O is not None
            slope_O = (gradient_TO[:, term.rows] * u_TO[:, term.rows]).sum(0, dtype=torch.float32)
            magnitude_O.grad.add_(slope_O.div_(term.norms_O))
        return torch.mul(gradient_TO, scale_O, out=arena.take(*gradient_TO.shape, dtype=gradient_TO.dtype))


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
