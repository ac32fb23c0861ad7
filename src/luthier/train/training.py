"""The state of a training: what is trained, how far it has come, and what happens around each step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from luthier.errors import TrainError
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter
from luthier.runs import Event, Listener, RunFolder
from luthier.train.checkpoint import (
    Progress,
    load_best,
    load_checkpoint,
    load_optimizer_state,
    optimizer_state,
    save_best,
    save_checkpoint,
)
from luthier.train.engine import open_engine
from luthier.train.exactness import check_against_transformers
from luthier.train.gradient_check import check_quantized_gradient
from luthier.train.metrics import Metrics
from luthier.train.neftune import NoisyEngine
from luthier.train.objective import Objective
from luthier.train.optimizer import adamw
from luthier.train.order import Course
from luthier.train.parts import Budget
from luthier.train.processes import ALONE, Processes
from luthier.train.schedule import learning_rate_at
from luthier.train.settings import TrainSettings
from luthier.train.step import Stepper
from luthier.train.validation import loss_on

EXPLODED = 2.0
EXPLODED_STEPS = 3
"""A training has exploded when this many steps in a row have a loss of more than so many times that of guessing every
token of the vocabulary alike, ln V, or of the first step where that was worse. A healthy training never comes near it;
single rows may. Source: `docs/measurements/exploding.md`."""
MEGABYTE = 1_000_000


class Training:
    """A training: its parts, and how far it has come.

    Attributes:
        progress: where it stands.
        total_steps: steps of the whole run.
    """

    def __init__(
        self,
        model: LoadedModel,
        adapter: Adapter,
        train_rows: Sequence[Any],
        valid_rows: Sequence[Any],
        replay_rows: Sequence[Any],
        settings: TrainSettings,
        run: RunFolder,
        listener: Listener,
        objective: Objective[Any],
        processes: Processes = ALONE,
    ) -> None:
        if bool(settings.replay_share) != bool(replay_rows):
            raise TrainError(
                f"{len(replay_rows)} rows are given to replay, and a share of {settings.replay_share} is asked for.",
                code="nothing_to_replay",
                param="train.replay",
                hint="Give a file with examples, or leave train.replay out.",
            )
        self._model, self._adapter, self._objective = model, adapter, objective
        self._rows, self._valid_rows, self._replay_rows = train_rows, valid_rows, replay_rows
        self._settings, self._listener, self._processes = settings, listener, processes
        self._checkpoints, self._metrics = run.checkpoints, Metrics(run.metrics)
        lengths = np.concatenate([_lengths(train_rows, objective), _lengths(replay_rows, objective)])
        self._course = Course(settings, lengths, len(train_rows))
        self.total_steps = settings.total_steps(len(train_rows))
        self._guessing = math.log(len(model.network.get_output_embeddings().weight))
        optimizer = adamw(adapter, rate=settings.learning_rate, weight_decay=settings.weight_decay)
        saved = load_checkpoint(run.checkpoints, adapter, optimizer, listener) if processes.is_first else None
        if processes.size > 1:
            saved = _as_the_first(saved, adapter, optimizer, processes)
        self.progress = saved or Progress()
        self._is_new = saved is None
        engine = self._engine = open_engine(model, adapter, max_tape_bytes=settings.max_activation_mb * MEGABYTE)
        listener(Event("message", f"Training engine: {engine.name} ({engine.reason})", {"engine": engine.name}))
        if settings.neftune_noise_alpha:
            engine = NoisyEngine(engine, model.network, settings.neftune_noise_alpha)
            listener(Event("message", f"Noise on embeddings (NEFTune), alpha {settings.neftune_noise_alpha:g}"))
        budget = Budget(self.progress.max_batch_tokens or settings.max_batch_tokens, listener)
        self._stepper = Stepper(engine, adapter, optimizer, objective, settings, budget, processes)
        self._started = self._last_save = time.perf_counter()
        self._seconds_before, self._steps_before = self.progress.seconds, self.progress.step
        self._saved_step = self.progress.step
        self._save_is_due = False

    def begin(self) -> None:
        """Checks and measures what has to be known before the first step, or takes back what follows the checkpoint."""
        progress, listener = self.progress, self._listener
        if self._is_new:
            shortest = np.argsort(self._course.lengths[: len(self._rows)], kind="stable")[:2]
            examples = [example for place in shortest for example in self._objective.examples(self._rows[int(place)])]
            check_against_transformers(self._model, self._engine, examples)
            if self._model.quantization != "none":
                check_quantized_gradient(self._model, self._engine, self._adapter, examples)
        else:
            listener(Event("message", f"Resuming after step {progress.step}."))
        if self._processes.is_first:
            self._metrics.forget_after(progress.step)
        if replayed := self._settings.num_replayed(len(self._rows)):
            text = (
                f"Each epoch replays {replayed:,} of {len(self._replay_rows):,} general rows among {len(self._rows):,} "
                f"training rows ({replayed / (replayed + len(self._rows)):.1%})."
            )
            listener(Event("message", text, {"replayed_rows_an_epoch": replayed}))
        self._adapter.train()
        if self._valid_rows and progress.base_valid_loss is None:
            loss = progress.base_valid_loss = self._validation_loss()
            text = f"Before training: validation loss {loss:.4f}"
            listener(Event("epoch", text, {"epoch": 0, "valid_loss": loss}))

    def rest_of_epoch(self) -> Iterator[NDArray[np.int32]]:
        """Yields the rows of each step that is left of the present epoch, as the course numbers them."""
        epoch, done = divmod(self.progress.step, self._course.steps_an_epoch)
        return self._course.steps(epoch, first=done)

    def step(self, places: NDArray[np.int32]) -> None:
        """Takes a step, and at the end of an epoch measures the validation loss.

        A checkpoint that is due is written when its adapter has computed a loss that is finite and has not exploded, which
        is after the gradient of the next step and before its update: so the last checkpoint is always a good one.
        """
        progress, settings = self.progress, self._settings
        started = time.perf_counter()
        rows = [self._row(place) for place in places.tolist()]
        numbers = self._stepper.gradient(rows, step=progress.step)
        self._watch(rows, numbers["train_loss"])
        if self._due() and not progress.steps_exploded:
            saving = time.perf_counter()
            self.save()
            started += time.perf_counter() - saving
        rate = learning_rate_at(
            progress.step,
            total_steps=self.total_steps,
            peak=settings.learning_rate,
            warmup_ratio=settings.warmup_ratio,
            schedule=settings.schedule,
        )
        self._stepper.update(rate)
        progress.step += 1
        progress.trained_tokens += int(numbers["trained_tokens"])
        progress.finished = progress.step >= self.total_steps
        epochs = progress.step / self._course.steps_an_epoch
        record = {"step": progress.step, "epoch": round(epochs, 4), "learning_rate": rate, **numbers}
        if settings.replay_share:
            replayed = int((places >= len(self._rows)).sum())
            record["replayed"] = replayed
            progress.replayed_rows += replayed
        record["seconds"] = round(time.perf_counter() - started, 4)
        if progress.step % self._course.steps_an_epoch == 0 or progress.finished:
            record |= self._judge()
            self._save_is_due = True
        progress.seconds = self._seconds_before + time.perf_counter() - self._started
        if self._processes.is_first:
            self._metrics.append(record)
        self._tell(record)

    def save(self) -> None:
        """Writes a checkpoint, in the first process."""
        self.progress.max_batch_tokens = self._stepper.budget.max_tokens
        if self._processes.is_first:
            save_checkpoint(self._checkpoints, self._adapter, self._stepper.optimizer, self.progress)
        self._last_save, self._saved_step, self._save_is_due = time.perf_counter(), self.progress.step, False

    def take_best(self) -> None:
        """Leaves the adapter as it was at its best, in all processes."""
        if self._processes.is_first:
            load_best(self._checkpoints, self._adapter, self.progress.best_step)
        _copy_adapter(self._adapter, self._processes)
        self._adapter.train(False)

    def _row(self, place: int) -> Any:
        return self._rows[place] if place < len(self._rows) else self._replay_rows[place - len(self._rows)]

    def _due(self) -> bool:
        late = time.perf_counter() - self._last_save >= self._settings.checkpoint_every_s
        return self.progress.step > self._saved_step and (self._save_is_due or late)

    def _watch(self, rows: Sequence[Any], loss: float) -> None:
        """Stops a training whose loss has exploded."""
        progress = self.progress
        if progress.first_loss is None:
            progress.first_loss = loss
        limit = EXPLODED * max(self._guessing, progress.first_loss)
        progress.steps_exploded = progress.steps_exploded + 1 if loss > limit else 0
        if progress.steps_exploded < EXPLODED_STEPS:
            return
        fault = self._stepper.at_fault(rows, progress.step, lambda own_loss, _: own_loss > limit)
        raise TrainError(
            f"The loss has exploded: it is {loss:.2f} at step {progress.step + 1}, and was above {limit:.2f} for "
            f"{EXPLODED_STEPS} steps, where guessing gives {self._guessing:.2f}; {fault}.",
            code="loss_exploded",
            param="train.learning_rate",
            hint="Lower train.learning_rate, or look at these rows. The last good checkpoint stands.",
        )

    def _validation_loss(self) -> float:
        stepper = self._stepper
        return loss_on(
            self._valid_rows, stepper.engine, self._adapter, self._objective, stepper.budget, self._processes
        )

    def _judge(self) -> dict[str, float]:
        """Measures the validation loss, keeps the adapter if it is the best so far, and decides about stopping early."""
        progress = self.progress
        if not self._valid_rows:
            progress.best_step = progress.step
            self._keep_best()
            return {}
        loss = self._validation_loss()
        if progress.best_valid_loss is None or loss < progress.best_valid_loss:
            progress.best_valid_loss, progress.best_step, progress.epochs_without_gain = loss, progress.step, 0
            self._keep_best()
            verdict = "the best so far"
        else:
            progress.epochs_without_gain += 1
            verdict = f"not better than {progress.best_valid_loss:.4f} at step {progress.best_step}"
        patience = self._settings.early_stopping_patience
        if patience is not None and progress.epochs_without_gain >= patience and not progress.finished:
            progress.finished = progress.stopped_early = True
            verdict += "; stopping early"
        text = f"After step {progress.step}: validation loss {loss:.4f}, {verdict}"
        epoch = progress.step // self._course.steps_an_epoch
        self._listener(Event("epoch", text, {"epoch": epoch, "step": progress.step, "valid_loss": loss}))
        return {"valid_loss": loss}

    def _keep_best(self) -> None:
        if self._processes.is_first:
            save_best(self._checkpoints, self._adapter, self.progress.step)

    def _tell(self, record: dict[str, float]) -> None:
        spent = time.perf_counter() - self._started
        steps_left = self.total_steps - self.progress.step
        seconds_left = spent / (self.progress.step - self._steps_before) * steps_left
        tokens_per_s = record["tokens"] / max(record["seconds"], 1e-9)
        text = (
            f"step {record['step']}/{self.total_steps}  loss {record['train_loss']:.4f}  {tokens_per_s:,.0f} tokens/s"
        )
        more = {"total_steps": self.total_steps, "tokens_per_s": tokens_per_s, "seconds_left": seconds_left}
        self._listener(Event("step", text, {**record, **more}))


def _as_the_first(
    saved: Progress | None, adapter: Adapter, optimizer: torch.optim.Optimizer, processes: Processes
) -> Progress | None:
    """Returns where the training stands, and sets adapter and optimizer, as the first process found them on its disk."""
    state = processes.from_first(lambda: asdict(saved) if saved else None)
    _copy_adapter(adapter, processes)
    remembered = processes.copy(optimizer_state(optimizer) if processes.is_first else None)
    if not processes.is_first:
        load_optimizer_state(optimizer, remembered)
    return Progress(**state) if state else None


def _copy_adapter(adapter: Adapter, processes: Processes) -> None:
    """Sets the adapter to that of the first process."""
    values_P = processes.copy({"adapter": adapter.flat.data} if processes.is_first else None)
    if not processes.is_first:
        adapter.flat.data.copy_(values_P["adapter"])
        adapter.refresh()


def _lengths(rows: Sequence[Any], objective: Objective[Any]) -> NDArray[np.uint32]:
    known: NDArray[np.uint32] | None = getattr(rows, "lengths", None)
    if known is not None:
        return known
    return np.fromiter(map(objective.num_tokens, rows), np.uint32, len(rows))
