"""Noise on embeddings: how much, where, and that everything else stays exact."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch
import torch.nn.functional as F

from luthier.errors import Interrupted
from luthier.model.loader import load_model
from luthier.model.lora import LoraConfig, attach
from luthier.runs import RunFolder, no_listener, read_lines
from luthier.train import training
from luthier.train.batch import flatten
from luthier.train.engine import open_engine
from luthier.train.loop import train
from luthier.train.neftune import NoisyEngine, longest

pytestmark = pytest.mark.unit


@pytest.fixture
def adapter(model):
    made = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=1)
    with torch.no_grad():
        made.flat.add_(torch.randn(made.flat.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    return made


def gradient(engine, adapter, batch):
    torch.manual_seed(3)
    adapter.zero_grad()
    logps = engine.accumulate(batch, torch.full((batch.num_trained,), -1 / batch.num_trained))
    return logps, adapter.flat.grad.clone()


@pytest.mark.parametrize("share_prefix", [True, False])
def test_a_token_belongs_to_its_longest_example(share_prefix, rows):
    batch = flatten(rows[:5], share_prefix=share_prefix)
    lengths = longest(batch)
    computed = [int(row.trained.nonzero()[0][-1]) for row in rows[:5]]
    assert set(lengths.tolist()) - {0.0} <= set(map(float, computed))
    assert lengths.max() == max(computed)
    assert int((lengths == 0).sum()) == len(batch.ids_T) - sum(segment.length for segment in batch.segments)
    if share_prefix:
        assert lengths[0] == max(computed)
    else:
        for segment, length in zip(batch.segments, computed, strict=True):
            assert (lengths[segment.start : segment.start + segment.length] == length).all()


@pytest.mark.parametrize("kind", ["fused", "generic"])
def test_no_noise_is_no_change_and_evaluation_has_none(kind, model, adapter, rows):
    engine = open_engine(model, adapter, kind=kind)
    batch = flatten(rows[:4])
    plain, silent, noisy = (
        gradient(made, adapter, batch)
        for made in (engine, NoisyEngine(engine, model.network, 0.0), NoisyEngine(engine, model.network, 5.0))
    )
    assert torch.equal(plain[0], silent[0])
    assert torch.equal(plain[1], silent[1])
    assert not torch.equal(plain[0], noisy[0])
    assert torch.equal(NoisyEngine(engine, model.network, 5.0).logps(batch), engine.logps(batch))


def test_both_engines_draw_the_same_noise(model, adapter, rows):
    batch = flatten(rows[:4])
    found = [
        gradient(NoisyEngine(open_engine(model, adapter, kind=kind), model.network, 5.0), adapter, batch)
        for kind in ("fused", "generic", "fused")
    ]
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    assert (found[0][1] - found[1][1]).norm() / found[1][1].norm() < 2e-5
    assert torch.equal(found[0][1], found[2][1])


def test_loss_and_gradient_are_those_of_transformers_with_that_noise(model, adapter, rows):
    row = rows[0]
    batch = flatten([row])
    logps, found = gradient(NoisyEngine(open_engine(model, adapter), model.network, 5.0), adapter, batch)
    length, width = int(row.trained.nonzero()[0][-1]), model.network.config.hidden_size
    torch.manual_seed(3)
    noise = torch.empty(len(batch.ids_T), width).uniform_(-1, 1)[:length] * 5.0 / (length * width) ** 0.5
    assert 0 < noise.abs().max() <= 5.0 / (length * width) ** 0.5
    ids = torch.from_numpy(row.ids)
    adapter.zero_grad()
    embedded = model.network.get_input_embeddings()(ids[:length]) + noise
    logits = model.network(inputs_embeds=embedded[None], use_cache=False).logits[0]
    trained = torch.from_numpy(row.trained).nonzero()[:, 0]
    loss = F.cross_entropy(logits[trained - 1], ids[trained])
    loss.backward()
    assert abs(loss.item() + logps.mean().item()) < 1e-5
    assert (found - adapter.flat.grad).norm() / adapter.flat.grad.norm() < 2e-4


@pytest.fixture
def finish(tiny_model_folder, chat, rows):
    """Trains as a new process would."""

    def run_it(folder, settings, stop_requested=lambda: False):
        run = RunFolder(folder)
        run.path.mkdir(exist_ok=True)
        model = load_model(tiny_model_folder, "float32", chat)
        adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=5)
        with contextlib.suppress(Interrupted):
            train(
                model, adapter, rows[:11], rows[11:], settings, run, listener=no_listener, stop_requested=stop_requested
            )
        return read_lines(run.metrics), adapter.state()

    return run_it


def test_a_recipe_turns_noise_on_in_steps_and_nowhere_else(finish, settings, tmp_path, monkeypatch):
    noisy, _ = finish(tmp_path / "noisy", dataclasses.replace(settings, neftune_noise_alpha=5.0, learning_rate=1e-9))
    still, _ = finish(tmp_path / "still", dataclasses.replace(settings, learning_rate=1e-9))
    assert all(one["train_loss"] != other["train_loss"] for one, other in zip(noisy, still, strict=True))
    assert [line.get("valid_loss") for line in noisy] == pytest.approx(
        [line.get("valid_loss") for line in still], abs=1e-6
    )
    engines = []
    monkeypatch.setattr(
        training, "check_against_transformers", lambda _model, engine, _rows: engines.append(type(engine).__name__)
    )
    finish(tmp_path / "checked", dataclasses.replace(settings, neftune_noise_alpha=5.0, max_steps=1))
    assert engines == ["FusedEngine"]


def test_a_resumed_run_draws_the_same_noise(finish, settings, tmp_path):
    noisy = dataclasses.replace(settings, neftune_noise_alpha=5.0, checkpoint_every_s=0)
    _, whole = finish(tmp_path / "whole", noisy)
    asked = iter(range(1, 100))
    finish(tmp_path / "parts", noisy, stop_requested=lambda: next(asked) >= 4)
    _, parts = finish(tmp_path / "parts", noisy)
    assert all(torch.equal(whole[name], value) for name, value in parts.items())
