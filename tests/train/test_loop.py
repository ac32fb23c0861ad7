"""The loop: metrics, normalisation, best checkpoint, early stopping, and resumption to the same bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from luthier.errors import Interrupted, TrainError
from luthier.model.adapter import WEIGHTS, save_adapter
from luthier.model.loader import load_model
from luthier.model.lora import LoraConfig, attach
from luthier.runs import RunFolder, no_listener, read_lines
from luthier.train import metrics, training
from luthier.train.batch import epoch_order, flatten
from luthier.train.checkpoint import ADAPTER
from luthier.train.engine import open_engine
from luthier.train.loop import train
from luthier.train.objective import Answers
from luthier.train.parts import is_out_of_memory
from luthier.train.token_store import write_token_store

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
    adapter.train(False)
    engine = open_engine(model, adapter)
    sums = [-float(engine.logps(flatten([row])).sum()) for row in rows]
    order = epoch_order(len(rows), seed=settings.seed, epoch=0)[:4]
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
    monkeypatch.setattr(training, "loss_on", lambda *_: next(losses))
    patient = dataclasses.replace(settings, n_epochs=4, early_stopping_patience=2)
    run, progress, kept = finish(fresh, rows, patient, tmp_path)
    assert progress.stopped_early
    assert progress.best_step == 3
    assert progress.step == 9
    assert progress.best_valid_loss == 3.0
    short = dataclasses.replace(patient, n_epochs=1)
    assert (run.adapter / WEIGHTS).read_bytes() == kept
    monkeypatch.setattr(training, "learning_rate_at", _rates_of(patient, 12))
    monkeypatch.setattr(training, "loss_on", lambda *_: 1.0)
    _, _, one_epoch = finish(fresh, rows, short, tmp_path / "one")
    assert one_epoch == kept


def _rates_of(settings, total):
    from luthier.train.schedule import learning_rate_at

    def rate(step, **kwargs):
        return learning_rate_at(step, **{**kwargs, "total_steps": total})

    return rate


class Poisoned(Answers):
    """The loss of answers, with a fault in one row from some time on."""

    def __init__(self, place: str, after: int, *, adapter=None, loss=None, gradient=None, error=None):
        self._place, self._after, self._loss, self._gradient, self._error = place, after, loss, gradient, error
        self._adapter = adapter
        self.calls = 0

    def accumulate(self, engine, rows, total):
        self.calls += 1
        sums = dict(super().accumulate(engine, rows, total))
        if self.calls > self._after and any(row.place == self._place for row in rows):
            if self._error is not None:
                raise self._error
            if self._loss is not None:
                sums["loss"] = self._loss * sum(row.num_trained for row in rows)
            if self._gradient is not None:
                self._adapter.flat.grad[0] = self._gradient
        return sums


@pytest.mark.parametrize(
    "fault", [{"loss": math.nan}, {"loss": math.inf}, {"gradient": math.nan}, {"gradient": -math.inf}]
)
def test_a_loss_that_is_not_finite_names_its_row_and_keeps_what_was_good(fresh, rows, settings, tmp_path, fault):
    model, adapter = fresh()
    run = RunFolder(tmp_path)
    objective = Poisoned(rows[2].place, 6, adapter=adapter, **fault)
    always = dataclasses.replace(settings, checkpoint_every_s=0.0)
    with pytest.raises(TrainError, match=r"words\.jsonl:3\b") as caught:
        train(model, adapter, rows[:11], rows[11:], always, run, listener=no_listener, objective=objective)
    assert caught.value.code == "loss_not_finite"
    assert "it comes from words.jsonl:3." in caught.value.message  # and from no other row of the step
    taken = read_lines(run.metrics)[-1]["step"]
    assert [path.name for path in run.checkpoints.glob("step-*")] == [f"step-{taken - 1:06d}"]
    clean = RunFolder(tmp_path / "clean")
    with pytest.raises(Interrupted):
        finish(fresh, rows, always, clean.path, stop_requested=_after(taken))
    good = load_file(clean.checkpoints / f"step-{taken:06d}" / ADAPTER)
    assert all(torch.equal(value, good[name]) for name, value in adapter.state().items())  # the bad step moved nothing


def test_an_adapter_that_left_its_course_is_never_in_the_last_checkpoint(fresh, rows, settings, tmp_path, monkeypatch):
    """The fourth update ruins the adapter: a checkpoint of it would be due, and is not written."""
    monkeypatch.setattr(training, "learning_rate_at", lambda step, **_: 1e30 if step == 3 else 0.01)
    always = dataclasses.replace(settings, checkpoint_every_s=0.0, length_window=2)
    run = RunFolder(tmp_path)
    model, adapter = fresh()
    with pytest.raises(TrainError, match="every row of that step") as caught:
        train(model, adapter, rows, [], always, run, listener=no_listener)
    assert caught.value.code == "loss_not_finite"
    assert [path.name for path in run.checkpoints.glob("step-*")] == ["step-000003"]
    assert all(bool(value.isfinite().all()) for value in load_file(run.checkpoints / "step-000003" / ADAPTER).values())


def test_a_loss_that_explodes_stops_the_run_before_the_bad_checkpoint(fresh, rows, settings, tmp_path):
    """One step far worse than guessing is let pass, three in a row are not."""
    places = {row.place for row in rows}
    guessing = math.log(260)

    class Exploding(Answers):
        calls = 0

        def accumulate(self, engine, rows, total):
            self.calls += 1
            sums = dict(super().accumulate(engine, rows, total))
            if self.calls in (3, 4) or self.calls > 6:
                sums["loss"] = 2.1 * guessing * sum(row.num_trained for row in rows)
            return sums

    always = dataclasses.replace(settings, checkpoint_every_s=0.0)
    run = RunFolder(tmp_path)
    model, adapter = fresh()
    with pytest.raises(TrainError, match=r"exploded: it is 11\.68 at step 9,") as caught:
        train(model, adapter, rows, [], always, run, listener=no_listener, objective=Exploding())
    assert caught.value.code == "loss_exploded"
    assert any(place in caught.value.message for place in places)
    assert [path.name for path in run.checkpoints.glob("step-*")] == ["step-000005"]


def test_a_validation_loss_that_is_not_finite_names_its_rows(fresh, rows, settings, tmp_path):
    class Bad(Answers):
        def measure(self, engine, rows):
            bad = any(row.place == "words.jsonl:14" for row in rows)
            return {"loss": math.nan} if bad else super().measure(engine, rows)

    with pytest.raises(TrainError, match=r"it comes from words\.jsonl:14\.") as caught:
        finish(fresh, rows, settings, tmp_path, objective=Bad())
    assert caught.value.code == "loss_not_finite"


OUT_OF_MEMORY = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
]


class Cramped(Answers):
    """No part of more than so many tokens fits into memory, after some calls."""

    def __init__(self, limit: int, error: BaseException, after: int = 0):
        self._limit, self._error, self._after, self.calls = limit, error, after, 0

    def accumulate(self, engine, rows, total):
        self.calls += 1
        numbers = super().accumulate(engine, rows, total)  # and leaves a gradient that must be thrown away
        if self.calls > self._after and sum(map(len, rows)) > self._limit:
            raise self._error
        return numbers


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_where_memory_runs_out_the_same_steps_are_taken_in_smaller_parts(fresh, rows, settings, tmp_path, error):
    heard = []
    results = []
    for objective in (Answers(), Cramped(sum(map(len, rows[:2])), error, after=4)):
        model, adapter = fresh()
        for layer in adapter.layers.values():
            layer.dropout.p = 0.0
        run = RunFolder(tmp_path / type(objective).__name__)
        run.data.mkdir(parents=True)
        train(model, adapter, rows, [], settings, run, listener=heard.append, objective=objective)
        results.append([(line["train_loss"], line["examples"]) for line in read_lines(run.metrics)])
    assert [examples for _, examples in results[0]] == [examples for _, examples in results[1]]
    assert [loss for loss, _ in results[0]] == pytest.approx([loss for loss, _ in results[1]], rel=1e-4)
    said = [event for event in heard if event.kind == "warning"]
    assert 1 <= len(said) <= 3  # it is kept, not found out anew in each step
    assert "Memory ran out with" in said[0].message
    assert said[0].data["max_batch_tokens"] < sum(map(len, rows[:4]))


def test_a_run_that_shrank_its_parts_resumes_to_the_same_bytes(fresh, rows, settings, tmp_path):
    def cramped():
        return Cramped(sum(map(len, rows[:2])), OUT_OF_MEMORY[0], after=2)

    _, _, whole = finish(fresh, rows, settings, tmp_path / "whole", objective=cramped())
    with pytest.raises(Interrupted):
        finish(fresh, rows, settings, tmp_path / "parts", objective=cramped(), stop_requested=_after(5))
    _, progress, parts = finish(fresh, rows, settings, tmp_path / "parts")  # with all the memory there is
    assert parts == whole
    assert progress.max_batch_tokens < settings.max_batch_tokens


def test_a_single_row_that_does_not_fit_is_named(fresh, rows, settings, tmp_path):
    objective = Poisoned(rows[4].place, 0, error=OUT_OF_MEMORY[0])
    with pytest.raises(TrainError, match=r"single row: words\.jsonl:5, ") as caught:
        finish(fresh, rows, settings, tmp_path, objective=objective)
    assert caught.value.code == "out_of_memory"
    assert caught.value.hint is not None


def test_memory_that_runs_out_in_validation_shrinks_the_parts_too(fresh, rows, settings, tmp_path):
    class CrampedMeasure(Answers):
        def measure(self, engine, rows):
            if len(rows) > 1:
                raise MemoryError
            return super().measure(engine, rows)

    run, progress, _ = finish(fresh, rows, settings, tmp_path / "a", objective=CrampedMeasure())
    plain, _, _ = finish(fresh, rows, settings, tmp_path / "b")
    first, second = ([line.get("valid_loss", 0) for line in read_lines(r.metrics)] for r in (run, plain))
    assert first == pytest.approx(second, rel=0.05)  # dropout draws otherwise in other parts
    assert progress.max_batch_tokens < 4096


def test_another_error_of_torch_is_not_taken_for_a_lack_of_memory(fresh, rows, settings, tmp_path):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        finish(fresh, rows, settings, tmp_path, objective=Cramped(0, RuntimeError("shapes cannot be multiplied")))


def test_what_torch_says_when_memory_really_runs_out_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)
    with pytest.raises(MemoryError) as numpys:
        np.empty(10**15)
    assert is_out_of_memory(numpys.value)


def test_metrics_that_cannot_be_written_are_a_readable_error(fresh, rows, settings, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metrics, "append_line", full)
    with pytest.raises(TrainError, match=r"metrics\.jsonl cannot be written: No space left") as caught:
        finish(fresh, rows, settings, tmp_path)
    assert caught.value.code == "metrics_not_written"


def test_a_run_folder_that_vanishes_is_a_readable_error_and_is_not_made_again(fresh, rows, settings, tmp_path):
    def remove():
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return False

    with pytest.raises(TrainError, match="No such file"):
        finish(fresh, rows, settings, tmp_path / "run", stop_requested=remove)
    assert not (tmp_path / "run").exists()


def test_rows_read_from_disk_train_to_the_same_bytes(fresh, rows, settings, tmp_path):
    windowed = dataclasses.replace(settings, length_window=2)
    _, _, listed = finish(fresh, rows, windowed, tmp_path / "a")
    stores = [
        write_token_store(tmp_path / name, part, vocabulary_size=260, made_from="x")
        for name, part in (("train", rows[:11]), ("validation", rows[11:]))
    ]
    model, adapter = fresh()
    run = RunFolder(tmp_path / "b")
    run.path.mkdir()
    train(model, adapter, *stores, windowed, run, listener=no_listener)
    save_adapter(adapter, run.adapter, base="tiny")
    assert (run.adapter / WEIGHTS).read_bytes() == listed


def test_replayed_rows_are_mixed_in_counted_and_said_and_resumed(fresh, rows, settings, tmp_path):
    replaying = dataclasses.replace(settings, replay_share=0.25, length_window=2)
    heard = []
    model, adapter = fresh()
    run = RunFolder(tmp_path / "whole")
    run.data.mkdir(parents=True)
    progress = train(model, adapter, rows[:9], [], replaying, run, listener=heard.append, replay_rows=rows[9:])
    lines = read_lines(run.metrics)
    assert sum(line["examples"] for line in lines) == 3 * 12
    assert sum(line["replayed"] for line in lines) == progress.replayed_rows == 3 * 3
    assert any("replays 3 of 7 general rows among 9 training rows (25.0%)" in event.message for event in heard)
    whole = adapter.state()
    for stop in (_after(2), _after(3), lambda: False):
        model, adapter = fresh()
        with contextlib.suppress(Interrupted):
            parts = RunFolder(tmp_path / "parts")
            parts.path.mkdir(exist_ok=True)
            train(
                model,
                adapter,
                rows[:9],
                [],
                replaying,
                parts,
                listener=no_listener,
                replay_rows=rows[9:],
                stop_requested=stop,
            )
    assert all(torch.equal(whole[name], value) for name, value in adapter.state().items())


@pytest.mark.parametrize(("share", "count"), [(0.1, 0), (0.0, 3)])
def test_a_share_without_rows_to_replay_and_the_reverse_are_refused(fresh, rows, settings, tmp_path, share, count):
    asked = dataclasses.replace(settings, replay_share=share)
    with pytest.raises(TrainError) as caught:
        finish(fresh, rows, asked, tmp_path, replay_rows=rows[:count])
    assert caught.value.code == "nothing_to_replay"


def _after(steps: int):
    """Asks for a stop after so many steps."""
    asked = iter(range(1, 10_000))
    return lambda: next(asked) >= steps


def test_max_steps_ends_inside_an_epoch_with_a_last_validation(fresh, rows, settings, tmp_path):
    run, progress, _ = finish(fresh, rows, dataclasses.replace(settings, max_steps=2), tmp_path)
    lines = read_lines(run.metrics)
    assert progress.step == len(lines) == 2
    assert math.isfinite(lines[-1]["valid_loss"])
