"""Cross-entropy at trained positions only, in chunks, with its gradient made in the forward pass.

Nothing of size tokens × vocabulary is ever held. Tensor legend: N trained positions, C positions of a chunk, D width,
V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_POSITIONS = 256


class HeadLoss(torch.autograd.Function):
    """The summed cross-entropy of a frozen output head; logits, softmax and loss in float32."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
        """Returns the sum over N, a float32 scalar."""
        needs_gradient = ctx.needs_input_grad[0]
        gradient_ND = torch.empty_like(hidden_ND) if needs_gradient else None
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        for start in range(0, len(targets_N), CHUNK_POSITIONS):
            chunk = slice(start, start + CHUNK_POSITIONS)
            targets_C1 = targets_N[chunk, None]
            logits_CV = (hidden_ND[chunk] @ head_VD.t()).float()
            log_sum_C1 = logits_CV.logsumexp(1, keepdim=True)
            total += (log_sum_C1 - logits_CV.gather(1, targets_C1)).sum()
            if gradient_ND is not None:
                # softmax(logits) − one-hot(target), in place
                logits_CV.sub_(log_sum_C1).exp_()
                logits_CV.scatter_add_(1, targets_C1, torch.full_like(log_sum_C1, -1.0))
                gradient_ND[chunk] = logits_CV.to(head_VD.dtype) @ head_VD
        if gradient_ND is not None:
            ctx.save_for_backward(gradient_ND)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Returns the gradient of the hidden states [N, D]."""
        (gradient_ND,) = ctx.saved_tensors
        return gradient_ND * gradients[0].to(gradient_ND.dtype), None, None


def head_loss(hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Returns the summed cross-entropy of predicting `targets_N` from hidden states through a frozen head."""
    loss: Tensor = HeadLoss.apply(hidden_ND, head_VD, targets_N)  # type: ignore[no-untyped-call]
    return loss
