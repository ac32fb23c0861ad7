"""The training loop: batches → loss → step → metrics → checkpoint.

`examples/finetune_by_hand.py` is the same loop in one flat file, for reading. Tensor legend: T tokens of a flat row,
N trained positions, D width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson
import torch
import torch.nn.functional as F

from luthier.errors import Interrupted, ModelError, TrainError
from luthier.model.chat_template import EncodedExample
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter
from luthier.recipe import TrainRecipe
from luthier.runs import Event, Listener, RunFolder, append_line, read_lines, write_atomically
from luthier.train.attention import flat_attention_in
from luthier.train.batch import FlatBatch, epoch_order, flatten, parts_of_step, steps_of_epoch
from luthier.train.checkpoint import Progress, load_best, load_checkpoint, save_best, save_checkpoint
from luthier.train.loss import head_loss
from luthier.train.schedule import learning_rate_at

CHECK_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
"""How far our loss may be from transformers' own, relative, before training is refused. bfloat16 keeps eight bits."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """`TrainRecipe` with every `auto` resolved."""

    n_epochs: int
    learning_rate: float
    batch_size: int
    max_batch_tokens: int
    schedule: Literal["linear", "cosine", "constant"]
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float | None
    early_stopping_patience: int | None
    max_steps: int | None
    checkpoint_every_s: float
    seed: int

    @classmethod
    def from_recipe(cls, recipe: TrainRecipe, *, seed: int) -> TrainSettings:
        """Returns the settings of a resolved recipe.

        Raises:
            TrainError: an `auto` is left.
        """
        values = recipe.model_dump()
        left = [key for key, value in values.items() if value == "auto"]
        if left:
            raise TrainError(f"train.{left[0]} is still auto.", code="unresolved_recipe", param=f"train.{left[0]}")
        return cls(**values, seed=seed)

    def total_steps(self, num_examples: int) -> int:
        """Steps of the whole run."""
        steps = self.n_epochs * math.ceil(num_examples / self.batch_size)
        return min(steps, self.max_steps) if self.max_steps else steps


def train(
    model: LoadedModel,
    adapter: Adapter,
    train_rows: Sequence[EncodedExample],
    valid_rows: Sequence[EncodedExample],
    settings: TrainSettings,
    run: RunFolder,
    *,
    listener: Listener,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Progress:
    """Trains the adapter in place and leaves it at its best validation loss (at the last step without validation rows).

    Goes on from the run's newest checkpoint where there is one; the result is then bit for bit that of a run that was
    never interrupted, on the same machine with the same number of threads.

    Raises:
        Interrupted: a stop was requested; a checkpoint was written.
        TrainError: the loss is not finite, memory or disk ran out.
        ModelError: the model computes something that this loop would not (found before the first step).
    """
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    progress = load_checkpoint(run.checkpoints, adapter, optimizer, listener)
    if progress is None:
        progress = Progress()
        check_against_transformers(model, train_rows)
    else:
        listener(Event("message", f"Resuming after step {progress.step}."))
    _forget_metrics_after(run, progress.step)

    total_steps = settings.total_steps(len(train_rows))
    started = last_checkpoint = time.perf_counter()
    seconds_before, steps_before = progress.seconds, progress.step
    adapter.train()
    with flat_attention_in(model.network):
        if valid_rows and progress.base_valid_loss is None:
            progress.base_valid_loss = mean_loss(model, adapter, valid_rows, settings.max_batch_tokens)
            listener(
                Event(
                    "epoch",
                    f"Before training: validation loss {progress.base_valid_loss:.4f}",
                    {"epoch": 0, "valid_loss": progress.base_valid_loss},
                )
            )
        while not progress.finished:
            epoch = progress.epochs_done
            order = epoch_order(len(train_rows), seed=settings.seed, epoch=epoch)
            steps = steps_of_epoch(order, settings.batch_size)
            for index, examples in enumerate(steps):
                if progress.step >= epoch * len(steps) + index + 1:
                    continue  # done before the interruption
                step_started = time.perf_counter()
                rate = learning_rate_at(
                    progress.step,
                    total_steps=total_steps,
                    peak=settings.learning_rate,
                    warmup_ratio=settings.warmup_ratio,
                    schedule=settings.schedule,
                )
                metrics = _step(
                    model, adapter, optimizer, [train_rows[i] for i in examples], settings, progress.step, rate
                )
                progress.step += 1
                progress.trained_tokens += int(metrics["trained_tokens"])
                epoch_ends = index == len(steps) - 1
                progress.finished = progress.step >= total_steps
                progress.epochs_done += epoch_ends
                record = {"step": progress.step, "epoch": round(epoch + (index + 1) / len(steps), 4), **metrics}
                record["seconds"] = round(time.perf_counter() - step_started, 4)
                if epoch_ends or progress.finished:
                    record |= _judge_epoch(model, adapter, valid_rows, settings, run, progress, listener)
                progress.seconds = seconds_before + time.perf_counter() - started
                append_line(run.metrics, record)
                _tell_step(listener, record, progress, total_steps, started, steps_before)

                stopping = stop_requested() and not progress.finished
                due = time.perf_counter() - last_checkpoint >= settings.checkpoint_every_s
                if epoch_ends or progress.finished or stopping or due:
                    save_checkpoint(run.checkpoints, adapter, optimizer, progress)
                    last_checkpoint = time.perf_counter()
                if stopping:
                    raise Interrupted(
                        f"Stopped after step {progress.step} of {total_steps}; everything so far is saved in {run.path}.",
                        code="interrupted",
                        hint=f"Go on with `luthier run --resume {run.path}`.",
                    )
                if progress.finished:
                    break
    load_best(run.checkpoints, adapter)
    adapter.train(False)
    return progress


def check_against_transformers(model: LoadedModel, rows: Sequence[EncodedExample]) -> float:
    """Compares our loss on two rows with that of transformers' own forward and attention, before the first step.

    What an architecture computes beside the plain decoder (scaled or capped logits, an attention of its own) would
    otherwise be left out in silence.

    Returns:
        The relative difference.

    Raises:
        ModelError: the two differ by more than the type's rounding.
    """
    shortest = sorted(rows, key=len)[:2]
    with torch.inference_mode():
        expected = 0.0
        for row in shortest:
            ids = torch.from_numpy(row.ids)
            logits_TV = model.network(input_ids=ids[None], use_cache=False).logits[0].float()
            trained = torch.from_numpy(row.trained).nonzero()[:, 0]
            expected += float(F.cross_entropy(logits_TV[trained - 1], ids[trained], reduction="sum"))
        with flat_attention_in(model.network):
            ours = float(loss_sum(model, flatten(shortest)))
    difference = abs(ours - expected) / max(abs(expected), 1e-6)
    if not difference <= CHECK_TOLERANCE[model.dtype]:
        raise ModelError(
            f"Luthier's loss on two rows is {ours:.6f}, transformers' own forward gives {expected:.6f}: this architecture "
            f"({type(model.network).__name__}) computes something that Luthier does not yet.",
            code="exactness_check_failed",
            param="model.base",
            hint="Nothing was trained. Choose another base model.",
        )
    return difference


def loss_sum(model: LoadedModel, batch: FlatBatch) -> torch.Tensor:
    """Returns the summed loss of a flat row's trained tokens; to be called inside `flat_attention_in`."""
    output = model.network.base_model(
        input_ids=batch.ids_T[None], position_ids=batch.positions_T[None], use_cache=False, layout=batch
    )
    hidden_ND = output.last_hidden_state[0].index_select(0, batch.predict_N)
    return head_loss(hidden_ND, model.network.get_output_embeddings().weight, batch.targets_N)


def mean_loss(model: LoadedModel, adapter: Adapter, rows: Sequence[EncodedExample], max_batch_tokens: int) -> float:
    """Returns the mean loss per trained token over all rows; to be called inside `flat_attention_in`."""
    adapter.train(False)
    with torch.inference_mode():
        total = sum(float(loss_sum(model, flatten(part))) for part in parts_of_step(rows, max_batch_tokens))
    adapter.train()
    return total / sum(row.num_trained for row in rows)


def _step(
    model: LoadedModel,
    adapter: Adapter,
    optimizer: torch.optim.Optimizer,
    rows: Sequence[EncodedExample],
    settings: TrainSettings,
    step: int,
    rate: float,
) -> dict[str, float]:
    """Takes one optimizer step on the rows and returns its numbers.

    The loss is the sum over the step's trained tokens divided by their number, however the rows are parted.
    """
    torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout's, so that a resumed run draws the same
    trained_tokens = sum(row.num_trained for row in rows)
    total = 0.0
    try:
        for part in parts_of_step(rows, settings.max_batch_tokens):
            loss = loss_sum(model, flatten(part))
            (loss / trained_tokens).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    except RuntimeError as error:
        if "alloc" not in str(error):
            raise
        raise TrainError(
            f"Out of memory at step {step + 1}, with {sum(len(row) for row in rows):,} tokens in the step.",
            code="out_of_memory",
            param="train.max_batch_tokens",
            hint=f"Lower train.max_batch_tokens (now {settings.max_batch_tokens}); the result stays the same.",
        ) from error
    mean = total / trained_tokens
    limit = settings.max_grad_norm or math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(adapter.parameters(), limit))
    if not (math.isfinite(mean) and math.isfinite(norm)):
        raise TrainError(
            f"The loss at step {step + 1} is {mean}, its gradient's norm {norm}; the rows of that step are "
            f"{', '.join(row.place for row in rows)}.",
            code="loss_not_finite",
            param="train.learning_rate",
            hint="Look at these rows, or lower train.learning_rate. The last checkpoint stands.",
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {
        "train_loss": mean,
        "learning_rate": rate,
        "grad_norm": norm,
        "examples": len(rows),
        "tokens": sum(len(row) for row in rows),
        "trained_tokens": trained_tokens,
    }


def _judge_epoch(
    model: LoadedModel,
    adapter: Adapter,
    valid_rows: Sequence[EncodedExample],
    settings: TrainSettings,
    run: RunFolder,
    progress: Progress,
    listener: Listener,
) -> dict[str, float]:
    """Measures the validation loss, keeps the adapter if it is the best so far, and decides about stopping early."""
    if not valid_rows:
        progress.best_step = progress.step
        save_best(run.checkpoints, adapter)
        return {}
    loss = mean_loss(model, adapter, valid_rows, settings.max_batch_tokens)
    if progress.best_valid_loss is None or loss < progress.best_valid_loss:
        progress.best_valid_loss, progress.best_step, progress.epochs_without_gain = loss, progress.step, 0
        save_best(run.checkpoints, adapter)
        verdict = "the best so far"
    else:
        progress.epochs_without_gain += 1
        verdict = f"not better than {progress.best_valid_loss:.4f} at step {progress.best_step}"
    patience = settings.early_stopping_patience
    if patience is not None and progress.epochs_without_gain >= patience and not progress.finished:
        progress.finished = progress.stopped_early = True
        verdict += "; stopping early"
    listener(
        Event(
            "epoch",
            f"After step {progress.step}: validation loss {loss:.4f}, {verdict}",
            {"epoch": progress.epochs_done, "step": progress.step, "valid_loss": loss},
        )
    )
    return {"valid_loss": loss}


def _tell_step(
    listener: Listener,
    record: dict[str, float],
    progress: Progress,
    total_steps: int,
    started: float,
    steps_before: int,
) -> None:
    spent = time.perf_counter() - started
    seconds_left = spent / (progress.step - steps_before) * (total_steps - progress.step)
    tokens_per_s = record["tokens"] / max(record["seconds"], 1e-9)
    listener(
        Event(
            "step",
            f"step {progress.step}/{total_steps}  loss {record['train_loss']:.4f}  {tokens_per_s:,.0f} tokens/s",
            {**record, "total_steps": total_steps, "tokens_per_s": tokens_per_s, "seconds_left": seconds_left},
        )
    )


def _forget_metrics_after(run: RunFolder, step: int) -> None:
    """Takes back the lines of steps that will be taken again, and a line torn by a crash."""
    kept = [line for line in read_lines(run.metrics) if line["step"] <= step]
    run.metrics.unlink(missing_ok=True)
    if kept:
        write_atomically(run.metrics, b"".join(orjson.dumps(line) + b"\n" for line in kept))
