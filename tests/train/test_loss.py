"""Log-probabilities in chunks against torch's cross-entropy of whole logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from luthier.train.loss import CHUNK_POSITIONS, target_logps

pytestmark = pytest.mark.unit


def test_log_probabilities_and_their_gradient_equal_cross_entropy_across_chunks():
    generator = torch.Generator().manual_seed(0)
    positions = 2 * CHUNK_POSITIONS + 7
    hidden = torch.randn(positions, 16, generator=generator, requires_grad=True)
    head = torch.randn(50, 16, generator=generator)
    targets = torch.randint(0, 50, (positions,), generator=generator)
    expected = F.cross_entropy(hidden @ head.t(), targets)
    expected.backward()
    logps, gradient = target_logps(hidden.detach(), head, targets, torch.full((positions,), -1 / positions))
    assert -logps.mean().item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient, hidden.grad, rtol=1e-4, atol=1e-8)
    assert target_logps(hidden.detach(), head, targets)[1] is None
