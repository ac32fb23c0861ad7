"""Log-probabilities at trained positions only, in chunks, with their gradient made in the same pass.

Nothing of size tokens × vocabulary is ever held. Tensor legend: N trained positions, P the same and filling, C
positions of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from luthier.model.kernels import operations

CHUNK_POSITIONS = 256


@torch.no_grad()
def target_logps(
    hidden_PD: Tensor,
    head_VD: Tensor,
    targets_N: Tensor,
    weights_N: Tensor | None = None,
    *,
    head_gradient_VD: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Returns the targets' log-probabilities [N] in float32, and the gradient [P, D] of Σ weight · logp with respect to
    the hidden states where weights are given. Hidden states behind the last target are filling: their gradient is zero.
    The gradient with respect to the head is added to `head_gradient_VD` where that is given."""
    logps_N = torch.empty(len(targets_N), dtype=torch.float32, device=hidden_PD.device)
    gradient_PD = torch.empty_like(hidden_PD) if weights_N is not None else None
    logits_CV = hidden_PD.new_empty(min(CHUNK_POSITIONS, len(hidden_PD)), len(head_VD))
    for start in range(0, len(hidden_PD), CHUNK_POSITIONS):
        chunk = slice(start, start + CHUNK_POSITIONS)
        hidden_CD, targets_C = hidden_PD[chunk], targets_N[chunk]
        logits = torch.mm(hidden_CD, head_VD.t(), out=logits_CV[: len(hidden_CD)])
        weights_C = None if weights_N is None else weights_N[chunk]
        operations.log_probabilities(logits[: len(targets_C)], targets_C, weights_C, logps_N[chunk])
        if gradient_PD is not None:
            logits[len(targets_C) :].zero_()
            torch.mm(logits, head_VD, out=gradient_PD[chunk])
            if head_gradient_VD is not None:
                head_gradient_VD += logits.t() @ hidden_CD
    return logps_N, gradient_PD
