"""Likelihoods and divergences against torch's and transformers' own, on a tiny model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from luthier.model.chat_template import EncodedExample
from luthier.model.loader import load_model
from luthier.model.lora import LoraConfig, attach
from luthier.train import likelihood
from luthier.train.engine import open_engine
from luthier.train.likelihood import divergences, greedy_rows, row_logps

pytestmark = pytest.mark.unit


def text_rows(lengths: list[int], seed: int = 3) -> list[EncodedExample]:
    rng = np.random.default_rng(seed)
    return [EncodedExample(rng.integers(3, 260, size=n), np.arange(n) >= 1, str(n)) for n in lengths]


@pytest.fixture(params=["fused", "generic"])
def adapted(request, make_tiny_model):
    """A model whose adapter changes what it expects, and an engine."""
    model = load_model(make_tiny_model(seed=5, width=32, scale=6.0), "float32")
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=1)
    with torch.no_grad():
        adapter.flat.add_(torch.randn(adapter.flat.shape, generator=torch.Generator().manual_seed(2)) * 0.2)
    return model, adapter, open_engine(model, adapter, kind=request.param)


def logits_of(model, row: EncodedExample) -> torch.Tensor:
    with torch.no_grad():
        return model.network(torch.from_numpy(row.ids)[None]).logits[0]


def test_perplexity_is_that_of_transformers_own_loss(adapted):
    model, adapter, engine = adapted
    rows = text_rows([5, 90, 33])
    for row, found in zip(rows, row_logps(engine, rows, 4096), strict=True):
        ids = torch.from_numpy(row.ids)[None]
        with torch.no_grad():
            loss = model.network(ids, labels=ids).loss
        assert -found.mean() == pytest.approx(float(loss), rel=2e-5)
    with adapter.disabled():
        base = row_logps(engine, rows, 4096)
    assert not np.allclose(np.concatenate(base), np.concatenate(row_logps(engine, rows, 4096)), atol=0.01)


def test_divergence_is_torchs_own(adapted, monkeypatch):
    model, adapter, engine = adapted
    monkeypatch.setattr(likelihood, "CHUNK_POSITIONS", 7)
    rows = text_rows([20, 64, 3])
    for row, found in zip(rows, divergences(engine, adapter, rows, 4096), strict=True):
        with adapter.disabled():
            base = functional.log_softmax(logits_of(model, row)[:-1], -1)
        tuned = functional.log_softmax(logits_of(model, row)[:-1], -1)
        theirs = functional.kl_div(tuned, base, reduction="none", log_target=True).sum(-1).numpy()
        assert found.divergence == pytest.approx(theirs, rel=2e-4, abs=2e-5)
        assert found.divergence.mean() > 0.01
        for ours, their in ((found.base, base), (found.fine_tuned, tuned)):
            targets = torch.from_numpy(row.ids[1:])[:, None]
            assert ours == pytest.approx(their.gather(1, targets)[:, 0].numpy(), rel=1e-4, abs=1e-4)


def test_how_many_tokens_are_computed_at_once_changes_nothing(adapted):
    _, adapter, engine = adapted
    rows = text_rows([10, 20, 30, 40])
    whole, parts = (list(divergences(engine, adapter, rows, size)) for size in (4096, 32))
    for one, other in zip(whole, parts, strict=True):
        assert one.divergence == pytest.approx(other.divergence, rel=1e-3, abs=1e-5)
    for one, other in zip(row_logps(engine, rows, 4096), row_logps(engine, rows, 1), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-4)


def test_greedy_rows_are_those_that_argmax_would_write(adapted):
    model, _, engine = adapted
    prompt = text_rows([12])[0].ids
    ids = prompt.tolist()
    for _ in range(3):
        with torch.no_grad():
            ids.append(int(model.network(torch.tensor([ids])).logits[0, -1].argmax()))
    trained = np.arange(15) >= 12
    right = EncodedExample(np.array(ids), trained, "right")
    wrong = EncodedExample(np.array([*ids[:-1], (ids[-1] + 1) % 260]), trained, "wrong")
    assert greedy_rows(engine, [right, wrong, right], 4096) == [True, False, True]


def test_a_model_and_itself_differ_in_nothing(make_tiny_model):
    model = load_model(make_tiny_model(seed=5, width=32), "float32")
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=1)
    engine = open_engine(model, adapter, kind="generic")
    for found in divergences(engine, adapter, text_rows([30, 8]), 4096):
        assert np.array_equal(found.base, found.fine_tuned)
        assert not found.divergence.any()


def test_a_head_trained_whole_is_told_from_the_bases(make_tiny_model):
    model = load_model(make_tiny_model(seed=5, width=32), "float32")
    adapter = attach(model.network, None, seed=1)
    with torch.no_grad():
        adapter.flat.mul_(1.5)
    adapter.refresh()
    engine = open_engine(model, adapter)
    (row,) = rows = text_rows([25])
    (found,) = divergences(engine, adapter, rows, 4096)
    targets = torch.from_numpy(row.ids[1:])[:, None]
    tuned = functional.log_softmax(logits_of(model, row)[:-1], -1).gather(1, targets)[:, 0]
    with adapter.disabled():
        base = functional.log_softmax(logits_of(model, row)[:-1], -1).gather(1, targets)[:, 0]
    assert found.base == pytest.approx(base.numpy(), rel=1e-4, abs=1e-4)
    assert found.fine_tuned == pytest.approx(tuned.numpy(), rel=1e-4, abs=1e-4)
    assert not np.allclose(found.base, found.fine_tuned, atol=0.01)
