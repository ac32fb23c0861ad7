"""Schedules, weight decay, clipping and early stopping against transformers' and torch's own."""

from __future__ import annotations

import math

import hypothesis
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from transformers import EarlyStoppingCallback, LlamaConfig, LlamaForCausalLM, TrainingArguments, get_scheduler
from transformers.trainer_callback import TrainerControl, TrainerState

from luthier.model.chat_template import EncodedExample
from luthier.model.loader import LoadedModel
from luthier.model.lora import LoraConfig, attach
from luthier.runs import RunFolder, no_listener, read_lines
from luthier.train import training
from luthier.train.batch import epoch_order, steps_of_epoch
from luthier.train.loop import train
from luthier.train.schedule import learning_rate_at
from luthier.train.settings import TrainSettings

pytestmark = pytest.mark.reference
THEIR_NAMES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def their_rates(schedule: str, total: int, warmup_steps: int, peak: float) -> list[float]:
    """transformers' rates without its first, which is zero: it would be a step that learns nothing."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=peak)
    scheduler = get_scheduler(
        THEIR_NAMES[schedule], optimizer, num_warmup_steps=warmup_steps + 1, num_training_steps=total + 1
    )
    rates = []
    for _ in range(total):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    return rates


@pytest.mark.parametrize("schedule", sorted(THEIR_NAMES))
@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (7, 0.0), (20, 0.1), (100, 0.05), (33, 0.5), (9, 0.99)])
def test_the_rates_are_those_of_transformers_scheduler_one_step_on(schedule, total, warmup):
    ours = [
        learning_rate_at(step, total_steps=total, peak=3e-4, warmup_ratio=warmup, schedule=schedule)
        for step in range(total)
    ]
    assert ours == pytest.approx(their_rates(schedule, total, math.ceil(total * warmup), 3e-4), rel=1e-9)


@hypothesis.settings(max_examples=25)
@given(st.lists(st.floats(0.1, 9).map(lambda loss: round(loss, 1)), min_size=1, max_size=12), st.integers(1, 4))
def test_a_run_stops_early_where_transformers_callback_would_stop_it(tmp_path_factory, losses, patience):
    folder = tmp_path_factory.mktemp("early")
    arguments = TrainingArguments(output_dir=str(folder), metric_for_best_model="eval_loss", greater_is_better=False)
    callback, state, control = EarlyStoppingCallback(patience), TrainerState(), TrainerControl()
    theirs = len(losses)
    for epoch, loss in enumerate(losses, 1):
        callback.on_evaluate(arguments, state, control, metrics={"eval_loss": loss})
        if state.best_metric is None or loss < state.best_metric:
            state.best_metric = loss
        if control.should_training_stop:
            theirs = epoch
            break
    with pytest.MonkeyPatch.context() as patch:
        given_losses = iter([99.0, *losses])
        patch.setattr(training, "loss_on", lambda *_: next(given_losses))
        progress, _, _, _ = our_run(
            folder / "run", [4], n_epochs=len(losses), early_stopping_patience=patience, valid_rows=True
        )
    assert progress.step == theirs
    assert progress.best_valid_loss == min(losses[:theirs])
    assert progress.best_step == losses.index(min(losses[:theirs])) + 1


def tiny_network() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def some_rows(lengths: list[int]) -> list[EncodedExample]:
    rows = []
    for number, length in enumerate(lengths):
        ids = torch.randint(3, 50, (length,), generator=torch.Generator().manual_seed(number)).numpy()
        rows.append(EncodedExample(ids, torch.arange(length).numpy() >= length // 2, f"rows:{number}"))
    return rows


def our_run(path, lengths, *, valid_rows=False, **changes):
    settings = {
        "n_epochs": 3,
        "learning_rate": 0.01,
        "batch_size": 4,
        "max_batch_tokens": 4096,
        "max_activation_mb": 4096,
        "schedule": "cosine",
        "warmup_ratio": 0.2,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "early_stopping_patience": None,
        "max_steps": None,
        "checkpoint_every_s": 1e9,
        "seed": 3,
    } | changes
    network = tiny_network()
    adapter = attach(network, LoraConfig(r=2, lora_alpha=4), seed=3)
    start = adapter.state()
    model = LoadedModel(network, None, path, "float32", 64, frozenset({2}))
    rows = some_rows(lengths)
    run = RunFolder(path)
    run.path.mkdir()
    progress = train(
        model, adapter, rows, rows[:1] if valid_rows else [], TrainSettings(**settings), run, listener=no_listener
    )
    return progress, adapter, start, read_lines(run.metrics)


@pytest.mark.filterwarnings("ignore:Detected call of")  # the scheduler goes first, to leave its rate of zero behind
@pytest.mark.parametrize("schedule", sorted(THEIR_NAMES))
@pytest.mark.parametrize(("weight_decay", "max_grad_norm"), [(0.0, None), (0.3, None), (0.3, 0.05)])
def test_steps_are_those_of_a_plain_torch_loop(tmp_path, schedule, weight_decay, max_grad_norm):
    """torch's AdamW, clipping and autograd over transformers' forward and scheduler; ours are the order and the names."""
    lengths = [9, 14, 30, 11, 8, 22, 17, 12, 25, 10]
    _, adapter, start, lines = our_run(
        tmp_path / "run", lengths, schedule=schedule, weight_decay=weight_decay, max_grad_norm=max_grad_norm
    )
    network = tiny_network()
    theirs = attach(network, LoraConfig(r=2, lora_alpha=4), seed=3)
    theirs.load_state(start)
    parameters = theirs.named
    for parameter in parameters.values():
        parameter.data = parameter.data.clone()
        parameter.grad = None
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.01, weight_decay=weight_decay)
    scheduler = get_scheduler(THEIR_NAMES[schedule], optimizer, num_warmup_steps=3, num_training_steps=10)
    rows, losses, norms = some_rows(lengths), [], []
    for epoch in range(3):
        for batch in steps_of_epoch(epoch_order(len(rows), seed=3, epoch=epoch), 4):
            scheduler.step()
            total = sum(rows[i].num_trained for i in batch)
            loss = sum(
                F.cross_entropy(
                    network(input_ids=torch.from_numpy(rows[i].ids)[None]).logits[0, :-1][rows[i].trained[1:]],
                    torch.from_numpy(rows[i].ids[rows[i].trained]),
                    reduction="sum",
                )
                for i in batch
            )
            (loss / total).backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters.values(), max_grad_norm or float("inf"))
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()) / total)
            norms.append(float(norm))
    assert [line["train_loss"] for line in lines] == pytest.approx(losses, rel=1e-4)
    assert [line["grad_norm"] for line in lines] == pytest.approx(norms, rel=2e-3)
    assert len(losses) == 9
    for name, value in adapter.state().items():
        assert torch.allclose(value, parameters[name], atol=2e-4), name
