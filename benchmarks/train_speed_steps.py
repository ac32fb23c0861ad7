"""What all contenders of `benchmarks/train_speed.py` share: rows, steps, the clock. Nothing is imported that takes time."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

LEARNING_RATE = 2e-4
IGNORED = -100
Row = dict[str, list[int]]
Steps = list[list[Row]]


class Clock:
    """Notes when steps end, what their losses were, and how busy other programs kept the processors meanwhile.

    Args:
        began: when the process was started, in seconds since the epoch.
    """

    def __init__(self, began: float) -> None:
        self._before_s = time.time() - began
        self._start = time.perf_counter()
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.others: list[float] = []
        self.first_step_s = 0.0
        self.about = ""
        self.starts()

    def starts(self) -> None:
        self._step_start, self._others_start = time.perf_counter(), _others_s()

    def ends(self) -> None:
        now, others_s = time.perf_counter(), _others_s()
        self.seconds.append(now - self._step_start)
        share = (others_s - self._others_start) / self.seconds[-1] / (os.cpu_count() or 1)
        self.others.append(max(0.0, share))  # ticks are 10 ms long
        self.first_step_s = self.first_step_s or self._before_s + now - self._start
        self._step_start, self._others_start = now, others_s

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """What is done in this block does not count as time before the first step."""
        start = time.perf_counter()
        yield
        self._before_s -= time.perf_counter() - start


def _others_s() -> float:
    """Returns the processor seconds that everything but this process has taken since the machine started (Linux)."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    with open("/proc/stat", encoding="ascii") as file:
        ticks = dict(zip(names, map(int, file.readline().split()[1:9]), strict=True))
    busy = sum(count for name, count in ticks.items() if name not in ("idle", "iowait"))
    used = os.times()
    return busy / os.sysconf("SC_CLK_TCK") - used.user - used.system


Contender = Callable[[argparse.Namespace, Steps, Clock], str]
"""Takes the steps; returns what was set in a few words."""


def padded(batch: Sequence[Row], pad: int) -> dict[str, Any]:
    """Returns a step's rows as transformers takes them, padded to the longest."""
    import torch

    longest = max(len(row["ids"]) for row in batch)
    ids = torch.full((len(batch), longest), pad)
    labels = torch.full_like(ids, IGNORED)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(batch):
        row_ids, length = torch.tensor(row["ids"]), len(row["ids"])
        ids[place, :length], mask[place, :length] = row_ids, 1
        labels[place, :length] = torch.where(torch.tensor(row["trained"], dtype=torch.bool), row_ids, IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def watch(clock: Clock) -> Any:
    """Returns a callback of transformers' Trainer that tells the clock of steps, losses and what was set.

    The Trainer has to log every step.
    """
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, *_: Any, model: Any = None, **__: Any) -> None:
            clock.about = _about(model, args)
            clock.starts()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.ends()

        def on_log(self, _: Any, __: Any, ___: Any, logs: dict[str, float] | None = None, **____: Any) -> None:
            if logs and "loss" in logs:
                clock.losses.append(logs["loss"])

    return Watch()


def _about(network: Any, config: Any) -> str:
    base, adapter = (
        next(p.dtype for p in network.parameters() if p.requires_grad == trained) for trained in (False, True)
    )
    return (
        f"base {base}, adapter {adapter}, bf16 autocast {'on' if config.bf16 else 'off'}, gradient checkpointing "
        f"{'on' if getattr(network, 'is_gradient_checkpointing', False) else 'off'}, optimizer {config.optim.value}, "
        f"attention {network.config._attn_implementation}"
    ).replace("torch.", "")
