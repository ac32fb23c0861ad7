"""A training whose processes Ray starts, watches over and replaces: Ray Train runs in each what torchrun would.

The run folder is where all processes find the data and the first one leaves checkpoints, so it must lie on a disk that the
machines share. Ray's own checkpoints are not used: processes that Ray starts anew go on from the run's last one.
"""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from luthier.errors import LuthierError, MissingError, TrainError
from luthier.runs import Event, Listener, RunFolder, disk, no_listener
from luthier.stages.preparing import prepare_stage
from luthier.stages.training import train_stage
from luthier.stages.working import open_shared
from luthier.train.process_group import LONG_PATIENCE, error_of, joined

MOST_FAILURES = 5
"""So many times processes are started anew before the run ends with an error; what each time goes wrong would be lost in an
endless loop."""
_END = "end"


def train_on_ray(run: RunFolder, nodes: int, listener: Listener, *, hold_out: bool) -> None:
    """Trains the run's adapter by processes on a Ray cluster, the one that is running or one on this machine.

    Args:
        run: whose data is prepared; its folder is seen by all machines.
        nodes: how many processes, on as many machines as there are.
        listener: hears what the first process tells.
        hold_out: as in `prepare_stage`.

    Raises:
        MissingError: Ray is not installed.
        LuthierError: of the training.
        TrainError: code "ray_failed" where Ray gave up.
    """
    ray = _ray()
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    told = ray.util.queue.Queue(actor_options={"num_cpus": 0})
    errors: list[LuthierError] = []
    ear = threading.Thread(target=_listen, args=(told, listener, errors), daemon=True)
    ear.start()
    folder = run.path.absolute()
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"run": str(folder), "told": told, "hold_out": hold_out},
        scaling_config=ray.train.ScalingConfig(num_workers=nodes, placement_strategy="SPREAD"),
        torch_config=ray.train.torch.TorchConfig(backend="gloo", timeout_s=int(LONG_PATIENCE.total_seconds())),
        run_config=ray.train.RunConfig(
            name="ray",
            storage_path=str(folder),
            failure_config=ray.train.FailureConfig(max_failures=MOST_FAILURES),
        ),
    )
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        reason = str(error).strip().splitlines()[-1]
        raise TrainError(
            f"Ray has started the processes anew {MOST_FAILURES} times and gives up: {reason}",
            code="ray_failed",
            hint="The last checkpoint stands: mend what ends them, and resume the run.",
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_interrupt)  # Ray leaves its own, which aborts a training that is over
        told.put(_END)
        ear.join()
        told.shutdown()
        disk.remove(folder / "ray")
    if errors:
        raise errors[0]


def _ray() -> Any:
    """Returns Ray with what is used of it.

    Raises:
        MissingError: it is not installed.
    """
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.train.torch  # noqa: PLC0415
        import ray.util.queue  # noqa: PLC0415
    except ImportError as error:
        raise MissingError(
            f"Training on Ray needs Ray Train, which cannot be loaded: {error}.",
            code="ray_missing",
            param="engine",
            hint='pip install "luthier[ray]"',
        ) from None
    return ray


def _listen(told: Any, listener: Listener, errors: list[LuthierError]) -> None:
    """Passes on what the first process tells, until the end."""
    while (said := told.get()) != _END:
        if isinstance(said, Event):
            listener(said)
        else:
            errors.append(error_of(said))


def _work(config: dict[str, Any]) -> None:
    """Does in each of Ray's workers what a process of torchrun does."""
    told = config["told"]
    try:
        with joined() as processes:
            run, recipe = open_shared(config["run"], processes)
            prepared = prepare_stage(run, recipe, no_listener, hold_out=config["hold_out"])
            train_stage(run, recipe, prepared, told.put, processes)
    except LuthierError as error:
        if error.code in ("process_lost", "process_failed"):
            raise  # Ray starts all of them anew
        if not error.told:
            told.put(error.to_json()["error"])
