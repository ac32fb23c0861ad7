"""Where memory runs out in the middle of a computation, the gradient is in the end what it would have been."""

from __future__ import annotations

import pytest
import torch

from luthier.model.decoder.arena import Arena
from luthier.model.lora import LoraConfig, attach
from luthier.runs import Event
from luthier.train.engine import open_engine
from luthier.train.objective import ANSWERS
from luthier.train.parts import Budget, sum_in_parts

pytestmark = pytest.mark.unit


def test_an_allocation_that_fails_anywhere_in_the_fused_pass_leaves_the_same_gradient(model, rows, monkeypatch):
    """Each time the arena grows, in turn: in the forward pass, in the head, in the backward pass."""
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=1)
    with torch.no_grad():
        adapter.flat.copy_(torch.randn(len(adapter.flat), generator=torch.Generator().manual_seed(1)) * 0.05)
    monkeypatch.setattr("luthier.model.decoder.arena._FIRST_BYTES", 1 << 11)
    monkeypatch.setattr("luthier.model.decoder.arena._RESERVED_BYTES", 1 << 12)
    make_block = Arena._block

    def gradient(fail_at: int) -> tuple[torch.Tensor, int, list[Event]]:
        grown, heard = 0, []

        def block(arena, size):
            nonlocal grown
            grown += getattr(arena, "_blocks", None) is not None
            if grown == fail_at and grown:
                grown += 1
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
            return make_block(arena, size)

        monkeypatch.setattr(Arena, "_block", block)
        engine = open_engine(model, adapter, kind="fused")
        sum_in_parts(
            rows,
            ANSWERS,
            lambda part: ANSWERS.accumulate(engine, part, 100),
            Budget(4096, heard.append),
            restart=adapter.zero_grad,
        )
        return adapter.flat.grad.clone(), grown, heard

    expected, times, silent = gradient(fail_at=0)
    assert times >= 5
    assert silent == []
    for fail_at in range(1, times + 1):
        found, _, heard = gradient(fail_at)
        assert torch.allclose(found, expected, atol=float(1e-5 * expected.abs().max())), fail_at
        assert [event.kind for event in heard] == ["warning"]
        assert heard[0].data["max_batch_tokens"] == sum(map(len, rows)) // 2
