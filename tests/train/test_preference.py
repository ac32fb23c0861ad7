"""Direct preference optimisation against the formula over padded rows, transformers' forward and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from luthier.errors import Interrupted, TrainError
from luthier.model.adapter import WEIGHTS, save_adapter
from luthier.model.chat_template import EncodedExample
from luthier.model.loader import load_model
from luthier.model.lora import LoraConfig, attach
from luthier.runs import RunFolder, no_listener, read_lines
from luthier.train.encode import EncodedPair
from luthier.train.engine import open_engine
from luthier.train.loop import train
from luthier.train.preference import REFERENCE, Preferences, ReferredPair, refer
from luthier.train.token_store import write_token_store

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


def test_pairs_in_a_store_are_those_in_memory_and_put_together_one_at_a_time(model, pairs, referred, monkeypatch):
    adapter, rows, run = referred
    store = write_token_store(run.path / "tokens", pairs, vocabulary_size=260, made_from="x", pairs=True)
    arguments = {"base": "x", "max_tokens": 60, "listener": no_listener}

    def never(*_args, **_kwargs):
        raise AssertionError("the same rows were computed again")

    monkeypatch.setattr("luthier.train.preference._computed", never)
    monkeypatch.setattr(type(store), "_row", never)
    again = refer(model, adapter, {"train": store}, run, **arguments)["train"]
    assert again.lengths.tolist() == [pair.num_tokens for pair in pairs] == rows.lengths.tolist()
    monkeypatch.undo()
    assert [row.base_other for row in again] == [row.base_other for row in rows]
    assert again[1].pair.other.ids.tolist() == pairs[1].other.ids.tolist()
    assert [row.pair.place for row in again[1:3]] == [pair.place for pair in pairs[1:3]]
    with pytest.raises(IndexError):
        again[len(pairs)]


def test_a_damaged_file_is_computed_anew_with_a_warning(model, pairs, referred):
    adapter, rows, run = referred
    whole = (run.data / REFERENCE).read_bytes()
    (run.data / REFERENCE).write_bytes(whole[: len(whole) // 2])
    heard = []
    again = refer(model, adapter, {"train": pairs}, run, base="x", max_tokens=60, listener=heard.append)["train"]
    assert [event.kind for event in heard].count("warning") == 1
    assert (run.data / REFERENCE).read_bytes() == whole
    assert again[0].base_preferred == rows[0].base_preferred


def test_a_stop_before_the_first_step_writes_nothing_and_says_how_to_go_on(model, pairs, tmp_path):
    run = RunFolder(tmp_path)
    run.data.mkdir(parents=True)
    asked = iter([False, True])
    with pytest.raises(Interrupted) as caught:
        refer(model, with_adapter(model), {"train": pairs}, run, base="x", max_tokens=60, listener=no_listener,
              stop_requested=lambda: next(asked))  # fmt: skip
    assert str(tmp_path) in str(caught.value.hint)
    assert not list(run.data.iterdir())


def test_a_full_disk_is_a_readable_error(model, pairs, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    run = RunFolder(tmp_path)
    run.data.mkdir(parents=True)
    monkeypatch.setattr("luthier.train.preference.write_atomically", full)
    with pytest.raises(TrainError, match="No space left") as caught:
        refer(model, with_adapter(model), {"train": pairs}, run, base="x", max_tokens=60, listener=no_listener)
    assert caught.value.code == "reference_not_written"


def test_an_adapter_that_training_goes_on_from_is_the_reference(model, pairs, tmp_path):
    """As in TRL, which keeps a copy of an adapter that it is given. Without it, nothing can be computed anew."""
    run = RunFolder(tmp_path)
    run.data.mkdir(parents=True)
    adapter = with_adapter(model)
    arguments = {"base": "x", "max_tokens": 600, "listener": no_listener}
    with pytest.raises(TrainError) as caught:
        refer(model, adapter, {"train": pairs}, run, start="lost", **arguments)
    assert caught.value.code == "reference_lost"
    rows = refer(model, adapter, {"train": pairs}, run, start="earlier", **arguments)["train"]
    sums = Preferences(BETA).measure(open_engine(model, adapter), rows)
    assert sums["loss"] / len(rows) == pytest.approx(np.log(2), abs=1e-6)
    with torch.no_grad():
        expected = sequence_logp(model.network, pairs[0].other)
    assert rows[0].base_other == pytest.approx(expected.item(), abs=1e-4)
    kept = refer(model, adapter, {"train": pairs}, run, start="lost", **arguments)["train"]
    assert kept[0].base_other == rows[0].base_other


@pytest.fixture
def finish(tiny_model_folder, chat, pairs, settings):
    """Trains as a new process would."""

    def run_it(folder, *, stop_requested=lambda: False):
        run = RunFolder(folder)
        run.data.mkdir(parents=True, exist_ok=True)
        model = load_model(tiny_model_folder, "float32", chat)
        adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1), seed=5)
        sides = {"train": pairs[:3], "validation": pairs[3:]}
        rows = refer(model, adapter, sides, run, base="x", max_tokens=600, listener=no_listener)
        sized = {name: getattr(settings, name) for name in settings.__slots__} | {"batch_size": 2}
        train(model, adapter, rows["train"], rows["validation"], type(settings)(**sized), run, listener=no_listener,
              objective=Preferences(BETA), stop_requested=stop_requested)  # fmt: skip
        save_adapter(adapter, run.adapter, base="tiny")
        return run, (run.adapter / WEIGHTS).read_bytes()

    return run_it


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_a_stopped_run_resumes_to_the_same_bytes(finish, tmp_path, stop_after, monkeypatch):
    whole_run, whole = finish(tmp_path / "whole")
    asked = iter(range(1, 100))
    with pytest.raises(Interrupted):
        finish(tmp_path / "parts", stop_requested=lambda: next(asked) >= stop_after)

    def never(*_args, **_kwargs):
        raise AssertionError("the reference was computed again")

    monkeypatch.setattr("luthier.train.preference._computed", never)
    run, parts = finish(tmp_path / "parts")
    assert parts == whole
    one, other = (
        [{k: v for k, v in m.items() if k != "seconds"} for m in read_lines(r.metrics)] for r in (run, whole_run)
    )
    assert one == other


def test_a_line_a_step_tells_the_rewards(finish, tmp_path):
    run, _ = finish(tmp_path)
    lines = read_lines(run.metrics)
    assert [line["examples"] for line in lines] == [2, 1] * 3
    assert lines[0]["train_loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert lines[0]["trained_tokens"] > 2
    for line in lines:
        assert line["reward_margin"] == pytest.approx(line["reward_preferred"] - line["reward_other"])
        assert 0 <= line["reward_accuracy"] <= 1
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert lines[-1]["reward_accuracy"] == 1
