"""The loss on rows that are not trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.errors import TrainError
from luthier.model.lora import Adapter
from luthier.train.engine import Engine
from luthier.train.objective import Objective, listed
from luthier.train.parts import Budget, sum_in_parts
from luthier.train.processes import ALONE, Processes


def loss_on(
    rows: Sequence[Any],
    engine: Engine,
    adapter: Adapter,
    objective: Objective[Any],
    budget: Budget,
    processes: Processes = ALONE,
) -> float:
    """Returns the mean loss over all rows, without dropout, computed by all processes together.

    Raises:
        TrainError: it is not finite (with the rows it comes from), or a row does not fit into memory.
    """

    def measure(part: Sequence[Any]) -> Mapping[str, float]:
        return {"loss": objective.measure(engine, part)["loss"], "count": sum(map(objective.count, part))}

    adapter.train(False)
    sums = sum_in_parts(
        rows,
        objective,
        measure,
        budget,
        processes=processes,
        idle=lambda row: objective.measure(engine, [row]),
    )
    loss = sums["loss"] / sums["count"]
    if not math.isfinite(loss):
        bad = [row for row in rows if not math.isfinite(measure([row])["loss"])]
        raise TrainError(
            f"The loss on rows that are not trained on is {loss}; it comes from "
            f"{listed(objective, bad) or 'no single row'}.",
            code="loss_not_finite",
            param="train.learning_rate",
            hint="Look at these rows, or lower train.learning_rate. The last good checkpoint stands.",
        )
    adapter.train()
    return loss
