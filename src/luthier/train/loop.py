"""The training loop: batches → loss → step → metrics → checkpoint.

`examples/finetune_by_hand.py` is the same loop in one flat file, for reading. The state of a training, and what one of its
steps does, is `luthier.train.training`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from luthier.errors import Interrupted
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter
from luthier.runs import Listener, RunFolder
from luthier.train.checkpoint import Progress
from luthier.train.objective import ANSWERS, Objective
from luthier.train.processes import ALONE, Processes
from luthier.train.settings import TrainSettings
from luthier.train.training import Training


def train(
    model: LoadedModel,
    adapter: Adapter,
    train_rows: Sequence[Any],
    valid_rows: Sequence[Any],
    settings: TrainSettings,
    run: RunFolder,
    *,
    listener: Listener,
    objective: Objective[Any] = ANSWERS,
    replay_rows: Sequence[Any] = (),
    stop_requested: Callable[[], bool] = lambda: False,
    processes: Processes = ALONE,
) -> Progress:
    """Trains the adapter in place and leaves it at its best validation loss (at the last step without validation rows).

    Goes on from the run's newest checkpoint where there is one; the result is then bit for bit that of a run that was
    never interrupted, on the same machine with the same number of threads and processes.

    Several processes call this alike, each with a model and an adapter of its own and the same rows; they take each step
    together and end with the same adapter. The loss and the adapter are those of one process within float32 rounding, but
    with dropout, whose masks depend on the process that draws them.

    Args:
        model, adapter: the frozen base, and what is trained.
        train_rows, valid_rows: lists, or stores on disk (`luthier.train.token_store`).
        settings: what decides the training.
        run: where metrics and checkpoints go.
        listener: is told what happens.
        objective: what is made smaller.
        replay_rows: general examples to mix in, where `settings.replay_share` says so.
        stop_requested: asked after each step; where it holds in one process, all stop.
        processes: who train together.

    Raises:
        Interrupted: a stop was requested; a checkpoint was written.
        TrainError: the loss is not finite or exploded, a row does not fit into memory, the disk is full.
        ModelError: the model computes something that this loop would not (found before the first step).
    """
    training = Training(
        model, adapter, train_rows, valid_rows, replay_rows, settings, run, listener, objective, processes
    )
    training.begin()
    progress = training.progress
    while not progress.finished:
        for places in training.rest_of_epoch():
            training.step(places)
            if progress.finished:
                training.save()
                break
            if processes.any(stop_requested()):
                training.save()
                raise Interrupted(
                    f"Stopped after step {progress.step} of {training.total_steps}; everything so far is saved in "
                    f"{run.path}.",
                    code="interrupted",
                    hint=f"Go on with `luthier run --resume {run.path}`.",
                )
    training.take_best()
    return progress
