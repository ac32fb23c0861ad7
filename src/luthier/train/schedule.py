"""The learning rate of each step."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate_at(
    step: int, *, total_steps: int, peak: float, warmup_ratio: float, schedule: Literal["linear", "cosine", "constant"]
) -> float:
    """Returns the rate of a step.

    Args:
        step: 0-based.
        total_steps: steps of the whole run.
        peak: the rate after the warm-up.
        warmup_ratio: the share of steps over which the rate rises; the first step is never at zero.
        schedule: how it falls to zero afterwards, or `constant`.
    """
    warmup_steps = math.ceil(total_steps * warmup_ratio)
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    match schedule:
        case "constant":
            return peak
        case "linear":
            return peak * (1 - progress)
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * progress))
