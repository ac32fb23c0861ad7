"""Direct preference optimisation against the formula over padded rows, transformers' forward and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from luthier.model.chat_template import EncodedExample
from luthier.model.lora import LoraConfig, attach
from luthier.runs import RunFolder, no_listener
from luthier.train.encode import EncodedPair
from luthier.train.engine import open_engine
from luthier.train.preference import REFERENCE, Preferences, ReferredPair, refer

pytestmark = pytest.mark.unit
BETA = 0.3


@pytest.fixture
def pairs():
    generator = np.random.default_rng(0)
    system = generator.integers(3, 260, 12)

    def answer(prompt, length, place):
        ids = np.concatenate([prompt, generator.integers(3, 260, length)])
        return EncodedExample(ids, np.arange(len(ids)) >= len(prompt), place)

    found = []
    for number in range(4):
        prompt = np.concatenate([system, generator.integers(3, 260, 10 + number)])
        place = f"pairs.jsonl:{number + 1}"
        found.append(EncodedPair(answer(prompt, 5, place), answer(prompt, 9 - number, place)))
    return found


def with_adapter(model):
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=3)
    with torch.no_grad():
        adapter.flat.add_(torch.randn(len(adapter.flat), generator=torch.Generator().manual_seed(1)) * 0.05)
    return adapter


def sequence_logp(network, row):
    logps = F.log_softmax(network(torch.from_numpy(row.ids)[None], use_cache=False).logits[0].float(), -1)
    trained = torch.from_numpy(np.flatnonzero(row.trained))
    return logps[trained - 1, torch.from_numpy(row.ids)[trained]].sum()


def expected_loss(model, adapter, pairs):
    """Equation 7 of the paper, row by row."""
    losses = []
    for pair in pairs:
        with torch.no_grad(), adapter.disabled():
            base = [sequence_logp(model.network, row) for row in (pair.preferred, pair.other)]
        now = [sequence_logp(model.network, row) for row in (pair.preferred, pair.other)]
        losses.append(-F.logsigmoid(BETA * ((now[0] - base[0]) - (now[1] - base[1]))))
    return torch.stack(losses).mean()


@pytest.fixture
def referred(model, pairs, tmp_path):
    run = RunFolder(tmp_path)
    run.data.mkdir(parents=True)
    adapter = with_adapter(model)
    found = refer(model, adapter, {"train": pairs}, run, base="x", max_tokens=60, listener=no_listener)
    return adapter, found["train"], run


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("kind", ["fused", "generic"])
@pytest.mark.parametrize("parts", [[4], [1, 3], [1, 1, 1, 1]])
def test_loss_and_gradient_are_those_of_the_formula(model, pairs, referred, kind, share_prefix, parts):
    adapter, rows, _ = referred
    adapter.zero_grad()
    expected = expected_loss(model, adapter, pairs)
    expected.backward()
    wanted = adapter.flat.grad.clone()
    adapter.zero_grad()
    engine, objective = open_engine(model, adapter, kind=kind), Preferences(BETA, share_prefix=share_prefix)
    loss, start = 0.0, 0
    for size in parts:
        loss += objective.accumulate(engine, rows[start : start + size], len(rows))["loss"]
        start += size
    assert loss / len(rows) == pytest.approx(expected.item(), abs=1e-5)
    assert (adapter.flat.grad - wanted).norm() / wanted.norm() < 2e-4
    assert objective.measure(engine, rows)["loss"] / len(rows) == pytest.approx(expected.item(), abs=1e-5)


def test_at_the_start_the_loss_is_that_of_a_coin(model, pairs, tmp_path):
    run = RunFolder(tmp_path)
    run.data.mkdir(parents=True)
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=3)
    rows = refer(model, adapter, {"train": pairs}, run, base="x", max_tokens=600, listener=no_listener)["train"]
    sums = Preferences(BETA).measure(open_engine(model, adapter), rows)
    assert sums["loss"] / len(rows) == pytest.approx(np.log(2), abs=1e-6)
    assert sums["reward_margin"] == pytest.approx(0, abs=1e-5)


def test_what_the_base_gives_is_computed_once_and_of_these_rows_only(model, pairs, referred, monkeypatch):
    adapter, rows, run = referred
    before = (run.data / REFERENCE).read_bytes()

    def never(*_args, **_kwargs):
        raise AssertionError("it was computed again")

    arguments = {"base": "x", "max_tokens": 60}
    with monkeypatch.context() as patched:
        patched.setattr("luthier.train.preference._computed", never)
        again = refer(model, adapter, {"train": pairs}, run, listener=no_listener, **arguments)["train"]
    assert [(r.base_preferred, r.base_other) for r in again] == [(r.base_preferred, r.base_other) for r in rows]
    heard = []
    other = refer(model, adapter, {"train": pairs[:3]}, run, listener=heard.append, **arguments)["train"]
    assert len(other) == 3
    assert any(event.kind == "warning" for event in heard)
    assert (run.data / REFERENCE).read_bytes() != before
    assert isinstance(other[0], ReferredPair)
