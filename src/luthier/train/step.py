"""One step: the gradient of its rows, checked, and then the update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from luthier.errors import TrainError
from luthier.model.lora import Adapter
from luthier.train.batch import flatten
from luthier.train.engine import Engine
from luthier.train.objective import Objective, listed
from luthier.train.parts import Budget, sum_in_parts
from luthier.train.processes import ALONE, Processes
from luthier.train.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Stepper:
    """What takes a step.

    Attributes:
        optimizer: of the adapter's one vector.
        budget: how many tokens are computed at once.
        processes: who take the step together.
    """

    engine: Engine
    adapter: Adapter
    optimizer: torch.optim.Optimizer
    objective: Objective[Any]
    settings: TrainSettings
    budget: Budget
    processes: Processes = ALONE

    def gradient(self, rows: Sequence[Any], *, step: int) -> dict[str, float]:
        """Leaves the gradient of the rows' mean loss in the adapter, clipped, and returns the step's numbers.

        Args:
            rows: of the step, the same in all processes.
            step: its number, 0-based.

        Raises:
            TrainError: `loss_not_finite` with the rows it comes from; or a row that does not fit into memory. The adapter
                is as it was.
        """
        objective = self.objective
        count = sum(map(objective.count, rows))
        sums = sum_in_parts(
            rows,
            objective,
            lambda part: objective.accumulate(self.engine, part, count),
            self.budget,
            restart=lambda: self._start(step),
            processes=self.processes,
            idle=self._idle,
        )
        loss = sums.pop("loss") / count
        assert self.adapter.flat.grad is not None
        self.processes.sum(self.adapter.flat.grad)
        norm = float(torch.nn.utils.clip_grad_norm_([self.adapter.flat], self.settings.max_grad_norm or math.inf))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._not_finite(rows, step, loss, norm)
        return {
            "train_loss": loss,
            "grad_norm": norm,
            "examples": len(rows),
            "tokens": sum(map(objective.num_tokens, rows)),
            "trained_tokens": sum(example.num_trained for row in rows for example in objective.examples(row)),
            **{name: value / count for name, value in sums.items()},
        }

    def update(self, rate: float) -> None:
        """Moves the adapter along the gradient that it holds."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.engine.refresh()

    def at_fault(self, rows: Sequence[Any], step: int, is_bad: Callable[[float, float], bool]) -> str:
        """Returns the places of the rows whose own mean loss and gradient's norm are bad, as a clause of a sentence.

        Each process looks at all of them, and finds the same.
        """
        bad = []
        for row in rows:
            self.adapter.zero_grad()
            torch.manual_seed(self._seed(step, rank=0))
            count = self.objective.count(row)
            loss = self.objective.accumulate(self.engine, [row], count)["loss"] / count
            assert self.adapter.flat.grad is not None
            if is_bad(loss, float(self.adapter.flat.grad.norm())):
                bad.append(row)
        self.adapter.zero_grad()
        places = listed(self.objective, bad or rows)
        if not bad:
            return f"no row of that step gives this on its own; its rows are {places}"
        if len(bad) == len(rows):
            return f"every row of that step gives this on its own, so the adapter has left its course: {places}"
        return f"it comes from {places}"

    def _start(self, step: int) -> None:
        self.adapter.zero_grad()
        # Dropout's, so that a resumed run, or a step taken again in smaller parts, draws what it would have drawn.
        torch.manual_seed(self._seed(step, rank=self.processes.rank))

    def _seed(self, step: int, *, rank: int) -> int:
        """Returns what a process draws from in a step: the rank stands above the bits of any seed and step."""
        return self.settings.seed * 1_000_003 + step + (rank << 52)

    def _idle(self, row: Any) -> None:
        """Takes part in a pass, for weights that are gathered from all, and adds nothing to the gradient."""
        batch = flatten(self.objective.examples(row))
        self.engine.accumulate(batch, torch.zeros(batch.num_trained))

    def _not_finite(self, rows: Sequence[Any], step: int, loss: float, norm: float) -> TrainError:
        fault = self.at_fault(rows, step, lambda loss, norm: not (math.isfinite(loss) and math.isfinite(norm)))
        return TrainError(
            f"The loss at step {step + 1} is {loss}, its gradient's norm {norm}; {fault}.",
            code="loss_not_finite",
            param="train.learning_rate",
            hint="Look at these rows, or lower train.learning_rate. The last good checkpoint stands.",
        )
