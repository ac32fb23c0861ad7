"""A frozen linear layer with a LoRA adapter beside it, for autograd.

Tensor legend: T tokens, D inputs, O outputs, R rank.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """`y = x Wᵀ + b + scaling · (dropout(x) Aᵀ) Bᵀ`, with W frozen and A, B in float32.

    A and B are cast to the type of W for their products, so a bfloat16 base computes in bfloat16 while the adapter is
    kept and updated in float32. With DoRA (arXiv 2402.09353), the rows of W + scaling · B A are scaled to trained lengths,
    the magnitudes; as in PEFT, dropout then acts on the rescaled part of `x Wᵀ`, too.
    """

    def __init__(
        self,
        base: nn.Linear,
        *,
        r: int,
        scaling: float,
        dropout: float,
        use_dora: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.base = base
        self.scaling = scaling
        self.dropout = nn.Dropout(dropout)
        self.enabled = True
        # PEFT's start: Kaiming-uniform with a = √5, which is U(−1/√D, 1/√D), and zeros: training begins at the base.
        bound = 1 / math.sqrt(base.in_features)
        device = next(itertools.chain(base.parameters(), base.buffers())).device
        a_RD = torch.empty(r, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(a_RD.to(device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, r, device=device))
        self.lora_magnitude_vector: nn.Parameter | None = None
        if use_dora:
            self._squares_O = base.weight.detach().float().square().sum(1)
            self.lora_magnitude_vector = nn.Parameter(self._squares_O.sqrt())

    @property
    def dropping(self) -> bool:
        """Whether inputs are dropped now."""
        return self.dropout.training and self.dropout.p > 0

    def forward(self, x_TD: Tensor) -> Tensor:
        """Returns the layer's output [T, O]."""
        y_TO: Tensor = self.base(x_TD)
        if not self.enabled:
            return y_TO
        dropped_TD: Tensor = self.dropout(x_TD)
        h_TR = dropped_TD @ self.lora_A.to(x_TD.dtype).t()
        z_TO = h_TR @ (self.lora_B * self.scaling).to(x_TD.dtype).t()
        if self.lora_magnitude_vector is None:
            return y_TO + z_TO
        plain_TO: Tensor = self.base(dropped_TD) if self.dropping else y_TO
        if self.base.bias is not None:
            plain_TO = plain_TO - self.base.bias
        scale_O = self.lora_magnitude_vector / self.norms()
        return (y_TO + (scale_O - 1) * plain_TO + scale_O * z_TO).to(y_TO.dtype)

    @torch.no_grad()
    def norms(self) -> Tensor:
        """Returns the lengths of the rows of W + scaling · B A [O], float32, without ever making that matrix."""
        weight_OD = self.base.weight
        cross_OR = (self.lora_A.to(weight_OD.dtype) @ weight_OD.t()).t().float()
        own_OR = self.lora_B @ (self.lora_A @ self.lora_A.t())
        rest_O = ((2 * cross_OR + self.scaling * own_OR) * self.lora_B).sum(1)
        return (self._squares_O + self.scaling * rest_O).clamp_(min=0).sqrt_()
