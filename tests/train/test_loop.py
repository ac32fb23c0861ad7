"""The loop: metrics, normalisation, best checkpoint, early stopping, and resumption to the same bytes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from luthier.errors import Interrupted, TrainError
from luthier.model.adapter import WEIGHTS, save_adapter
from luthier.model.loader import load_model
from luthier.model.lora import LoraConfig, attach
from luthier.runs import RunFolder, no_listener, read_lines
from luthier.train import loop
from luthier.train.checkpoint import load_checkpoint, save_checkpoint
from luthier.train.loop import train

pytestmark = pytest.mark.unit
CONFIG = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1)


@pytest.fixture
def fresh(tiny_model_folder, chat):
    """Makes a model with a new adapter, as a new process would."""

    def make():
        model = load_model(tiny_model_folder, "float32", chat)
        return model, attach(model.network, CONFIG, seed=5)

    return make


def finish(fresh, rows, settings, folder, **kwargs):
    model, adapter = fresh()
    run = RunFolder(folder)
    run.data.mkdir(parents=True, exist_ok=True)
    progress = train(model, adapter, rows[:11], rows[11:], settings, run, listener=no_listener, **kwargs)
    save_adapter(adapter, run.adapter, base="tiny")
    return run, progress, (run.adapter / WEIGHTS).read_bytes()


def test_a_line_a_step_with_the_documented_fields(fresh, rows, settings, tmp_path):
    run, progress, _ = finish(fresh, rows, settings, tmp_path)
    lines = read_lines(run.metrics)
    assert [line["step"] for line in lines] == list(range(1, 10)) == list(range(1, progress.step + 1))
    fields = {"step", "epoch", "train_loss", "learning_rate", "examples", "tokens", "trained_tokens", "seconds"}
    assert all(fields <= set(line) for line in lines)
    assert [line["examples"] for line in lines] == [4, 4, 3] * 3
    assert [line["epoch"] for line in lines if "valid_loss" in line] == [1.0, 2.0, 3.0]
    assert sum(line["trained_tokens"] for line in lines[:3]) == sum(row.num_trained for row in rows[:11])
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]


def test_the_same_inputs_give_the_same_bytes_and_another_seed_does_not(fresh, rows, settings, tmp_path):
    _, _, one = finish(fresh, rows, settings, tmp_path / "a")
    _, _, two = finish(fresh, rows, settings, tmp_path / "b")
    _, _, other = finish(fresh, rows, dataclasses.replace(settings, seed=6), tmp_path / "c")
    assert one == two
    assert one != other


@pytest.mark.parametrize("stop_after", [1, 3, 4, 8])
def test_a_stopped_run_resumes_to_the_same_bytes(fresh, rows, settings, tmp_path, stop_after):
    whole_run, _, whole = finish(fresh, rows, settings, tmp_path / "whole")
    asked = iter(range(1, 100))
    with pytest.raises(Interrupted, match=f"after step {stop_after} ") as caught:
        finish(fresh, rows, settings, tmp_path / "parts", stop_requested=lambda: next(asked) >= stop_after)
    assert "--resume" in str(caught.value.hint)
    run, _, parts = finish(fresh, rows, settings, tmp_path / "parts")
    assert parts == whole
    timeless = [
        [{k: v for k, v in m.items() if k != "seconds"} for m in read_lines(r.metrics)] for r in (run, whole_run)
    ]
    assert timeless[0] == timeless[1]


def test_a_step_larger_than_the_token_limit_takes_the_same_step(fresh, rows, settings, tmp_path):
    plain = dataclasses.replace(settings, max_steps=3)
    model, adapter = fresh()
    adapter.config  # noqa: B018 - dropout is drawn per forward, so it is off here
    results = []
    for limit in (4096, 60):
        model, adapter = fresh()
        for layer in adapter.layers.values():
            layer.dropout.p = 0.0
        run = RunFolder(tmp_path / str(limit))
        run.data.mkdir(parents=True)
        train(model, adapter, rows, [], dataclasses.replace(plain, max_batch_tokens=limit), run, listener=no_listener)
        results.append([line["train_loss"] for line in read_lines(run.metrics)])
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_the_loss_is_the_mean_over_the_trained_tokens_of_the_step(fresh, rows, settings, tmp_path):
    model, adapter = fresh()
    with loop.flat_attention_in(model.network), torch.inference_mode():
        adapter.train(False)
        sums = [float(loop.loss_sum(model, loop.flatten([row]))) for row in rows]
    order = loop.epoch_order(len(rows), seed=settings.seed, epoch=0)[:4]
    expected = sum(sums[i] for i in order) / sum(rows[i].num_trained for i in order)
    run = RunFolder(tmp_path)
    run.data.mkdir(parents=True, exist_ok=True)
    one = dataclasses.replace(settings, max_steps=1)
    for layer in adapter.layers.values():
        layer.dropout.p = 0.0
    train(model, adapter, rows, [], one, run, listener=no_listener)
    assert read_lines(run.metrics)[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_best_epoch_is_kept_and_patience_ends_the_run(fresh, rows, settings, tmp_path, monkeypatch):
    losses = iter([9.0, 3.0, 4.0, 5.0, 1.0])
    monkeypatch.setattr(loop, "mean_loss", lambda *_: next(losses))
    patient = dataclasses.replace(settings, n_epochs=4, early_stopping_patience=2)
    run, progress, kept = finish(fresh, rows, patient, tmp_path)
    assert progress.stopped_early
    assert progress.best_step == 3
    assert progress.step == 9
    assert progress.best_valid_loss == 3.0
    short = dataclasses.replace(patient, n_epochs=1)
    assert (run.adapter / WEIGHTS).read_bytes() == kept
    monkeypatch.setattr(loop, "learning_rate_at", _rates_of(patient, 12))
    monkeypatch.setattr(loop, "mean_loss", lambda *_: 1.0)
    _, _, one_epoch = finish(fresh, rows, short, tmp_path / "one")
    assert one_epoch == kept


def _rates_of(settings, total):
    from luthier.train.schedule import learning_rate_at

    def rate(step, **kwargs):
        return learning_rate_at(step, **{**kwargs, "total_steps": total})

    return rate


def test_a_loss_that_is_not_finite_names_its_rows_and_keeps_the_checkpoint(fresh, rows, settings, tmp_path):
    explosive = dataclasses.replace(settings, learning_rate=1e30, max_grad_norm=None, checkpoint_every_s=0.0)
    with pytest.raises(TrainError, match=r"words\.jsonl:\d+") as caught:
        finish(fresh, rows, explosive, tmp_path)
    assert caught.value.code == "loss_not_finite"
    assert list((tmp_path / "checkpoints").glob("step-*/state.json"))


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(fresh, tmp_path):
    from luthier.train.checkpoint import Progress

    _, adapter = fresh()
    optimizer = torch.optim.AdamW(adapter.parameters())
    save_checkpoint(tmp_path, adapter, optimizer, Progress(step=3))
    file = tmp_path / "step-000003" / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    heard = []
    assert load_checkpoint(tmp_path, adapter, optimizer, heard.append) is None
    assert [event.kind for event in heard] == ["warning"]
    assert "damaged" in heard[0].message


def test_a_full_disk_is_a_readable_error_and_the_last_checkpoint_stands(fresh, tmp_path, monkeypatch):
    from luthier.train import checkpoint
    from luthier.train.checkpoint import Progress

    _, adapter = fresh()
    optimizer = torch.optim.AdamW(adapter.parameters())
    save_checkpoint(tmp_path, adapter, optimizer, Progress(step=3))

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_bytes", full)
    with pytest.raises(TrainError, match="No space left") as caught:
        save_checkpoint(tmp_path, adapter, optimizer, Progress(step=4))
    assert caught.value.code == "checkpoint_not_written"
    assert [p.name for p in tmp_path.iterdir()] == ["step-000003"]
    assert load_checkpoint(tmp_path, adapter, optimizer, no_listener) == Progress(step=3)


def test_max_steps_ends_inside_an_epoch_with_a_last_validation(fresh, rows, settings, tmp_path):
    run, progress, _ = finish(fresh, rows, dataclasses.replace(settings, max_steps=2), tmp_path)
    lines = read_lines(run.metrics)
    assert progress.step == len(lines) == 2
    assert math.isfinite(lines[-1]["valid_loss"])
