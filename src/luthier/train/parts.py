"""Rows in parts that fit into memory: where it runs out, the parts become smaller and the result stays the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from luthier.errors import TrainError
from luthier.runs import Event, Listener
from luthier.train.objective import Objective
from luthier.train.processes import ALONE, Abandoned, Processes, out_of_step
from luthier.train.shares import rounds

_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
"""What torch's allocators and CUDA's libraries write into a RuntimeError. Source: c10/core/impl/alloc_cpu.cpp (the first
two: Linux and Windows), and the names of the status codes of cuBLAS and cuDNN."""


@dataclass(slots=True)
class Budget:
    """How many tokens are computed at once.

    Attributes:
        max_tokens: halved where memory runs out, and never raised again, so that a resumed run computes the same parts.
        listener: is told of it.
    """

    max_tokens: int
    listener: Listener

    def shrink(self, tokens: int) -> None:
        """Halves what is computed at once, after so many tokens did not fit."""
        self.max_tokens = max(1, min(self.max_tokens, tokens) // 2)
        message = (
            f"Memory ran out with {tokens:,} tokens at once. From here on {self.max_tokens:,} are computed at once; "
            "the rows of each step stay the same."
        )
        self.listener(Event("warning", message, {"max_batch_tokens": self.max_tokens}))


def sum_in_parts(
    rows: Sequence[Any],
    objective: Objective[Any],
    compute: Callable[[Sequence[Any]], Mapping[str, float]],
    budget: Budget,
    restart: Callable[[], None] = lambda: None,
    *,
    processes: Processes = ALONE,
    idle: Callable[[Any], object] | None = None,
) -> dict[str, float]:
    """Returns the sums of what is computed for parts of the rows, by all processes together.

    Where memory runs out, all of it is computed again in smaller parts, so that the result never depends on when it did.
    Several processes compute a part each at the same time, and tell each other what came of it before the next.

    Args:
        rows: of any number; they are taken one part at a time.
        objective: tells a row's tokens and place.
        compute: gives numbers for a part.
        budget: how many tokens a part may have.
        restart: called before the first part, each time.
        processes: who compute; each is given the same rows.
        idle: where a pass needs all of them, this is called for any row by one that has no part left.

    Raises:
        TrainError: a single row does not fit into memory.
        LuthierError: of another process.
    """

    def outcome(part: Sequence[Any]) -> dict[str, Any]:
        try:
            if part:
                return {"sums": dict(compute(part))}
            if processes.in_step and idle is not None:
                idle(rows[0])
            return {"sums": {}}
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(part) < 2:
                row = part[0] if part else rows[0]
                raise _does_not_fit(objective.place(row), objective.num_tokens(row)) from error
            return {"too_large": sum(map(objective.num_tokens, part))}

    while True:
        restart()
        sums: dict[str, float] = defaultdict(float)
        too_large: list[int] = []
        for parts in rounds(rows, budget.max_tokens, objective, processes.size):
            try:
                outcomes = processes.exchange(outcome(parts[processes.rank]))
            except Abandoned as abandoned:
                outcomes = abandoned.values
            too_large = [found["too_large"] for found in outcomes if found and "too_large" in found]
            if too_large:
                break
            for found in outcomes:
                if found is None:
                    raise out_of_step()
                for name, value in found["sums"].items():
                    sums[name] += value
        if not too_large:
            return sums
        # Outside the `except`: its traceback held the tensors of the part that did not fit.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        budget.shrink(min(too_large))


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory ran out: Python's, numpy's, or torch's on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def _does_not_fit(place: str, tokens: int) -> TrainError:
    return TrainError(
        f"Memory ran out on a single row: {place}, {tokens:,} tokens.",
        code="out_of_memory",
        param="model.max_length",
        hint="Leave out longer rows with model.max_length and data.on_too_long=drop, choose a smaller model, or free "
        "memory and resume.",
    )
