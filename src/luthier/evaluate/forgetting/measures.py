"""From what was computed to numbers with their uncertainty: base against fine-tuned model on each part of a probe."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from luthier.evaluate.findings import PLANNED_REGRESS_RATE
from luthier.evaluate.forgetting.checks import passes, refuses
from luthier.evaluate.forgetting.items import Task
from luthier.evaluate.samples import Answer
from luthier.evaluate.statistics import (
    ALPHA,
    Floats,
    Interval,
    bootstrap_interval,
    detectable_gain,
    holm,
    mcnemar_p,
    newcombe_interval,
    wilson_interval,
)

SHARE_METHOD = "Wilson 1927"
DIFFERENCE_METHOD = "Newcombe 1998, method 10"
PROSE_METHOD = "BCa bootstrap of whole windows of text, Efron 1987"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of prose as both models read it.

    Attributes:
        group: its register.
        num_bytes: of its text in UTF-8.
        base, fine_tuned: the log-probability of each token, in nats.
        divergence: KL(base ‖ fine-tuned) at each token, in nats.
    """

    group: str
    num_bytes: int
    base: Floats
    fine_tuned: Floats
    divergence: Floats


@dataclass(frozen=True, slots=True)
class Spread:
    """A number with its 95 % interval, where there is enough text for one.

    Attributes:
        value: the number.
        low, high: the interval's ends; None for a single window, which says nothing of others.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class ProseMeasure:
    """How both models read prose.

    Attributes:
        group: the register, or `all`.
        num_tokens, num_bytes: read.
        base_perplexity, fine_tuned_perplexity: per token.
        base_bits, fine_tuned_bits: per byte, which models with other tokenizers can be compared by.
        ratio: of the perplexities, fine-tuned over base.
        divergence: the mean of KL(base ‖ fine-tuned) a token, in nats.
        groups: the same of each register.
    """

    group: str
    num_tokens: int
    num_bytes: int
    base_perplexity: float
    fine_tuned_perplexity: float
    base_bits: float
    fine_tuned_bits: float
    ratio: Spread
    divergence: Spread
    groups: tuple[ProseMeasure, ...] = ()


@dataclass(frozen=True, slots=True)
class SharesOfGroup:
    """How many items of a group each model has right."""

    group: str
    n: int
    base: int
    fine_tuned: int


@dataclass(frozen=True, slots=True)
class PairedMeasure:
    """Right and wrong of both models on the same items.

    Attributes:
        name: `pairs`, `questions`, `completions` or `tasks`.
        n: items.
        base, fine_tuned: how many each has right.
        base_interval, fine_tuned_interval: of the shares.
        gained, lost: items that only the fine-tuned model, and only the base, has right.
        difference: of the shares, fine-tuned minus base, with its interval.
        p_value: exact McNemar, two-sided.
        adjusted_p: corrected for all such measures of the probe (Holm).
        detectable_loss: the smallest true loss that so many items show with 80 % power; None where none is.
        groups: by phenomenon, topic or kind.
    """

    name: str
    n: int
    base: int
    fine_tuned: int
    base_interval: Interval
    fine_tuned_interval: Interval
    gained: int
    lost: int
    difference: Spread
    p_value: float
    adjusted_p: float
    detectable_loss: float | None
    groups: tuple[SharesOfGroup, ...]


@dataclass(frozen=True, slots=True)
class Manner:
    """How both models answer the tasks, right or wrong.

    Attributes:
        harmful, harmless: requests that should be refused, and that should not.
        base_refused_harmful, fine_tuned_refused_harmful: refused as they should be.
        base_refused_harmless, fine_tuned_refused_harmless: refused without need.
        base_tokens, fine_tuned_tokens: the mean length of an answer.
        base_cut, fine_tuned_cut: answers that reached the limit.
        length_ratio: of the mean lengths, fine-tuned over base.
    """

    harmful: int
    harmless: int
    base_refused_harmful: int
    fine_tuned_refused_harmful: int
    base_refused_harmless: int
    fine_tuned_refused_harmless: int
    base_tokens: float
    fine_tuned_tokens: float
    base_cut: int
    fine_tuned_cut: int
    length_ratio: float


def measure_prose(windows: Sequence[Window], group: str = "all") -> ProseMeasure:
    """Returns how both models read these windows, and those of each register."""
    base = np.concatenate([window.base for window in windows])
    tuned = np.concatenate([window.fine_tuned for window in windows])
    divergence = np.concatenate([window.divergence for window in windows])
    places = np.repeat(np.arange(len(windows)), [len(window.base) for window in windows])
    num_bytes = sum(window.num_bytes for window in windows)
    change = _spread(base - tuned, places)
    kinds: dict[str, list[Window]] = defaultdict(list)
    for window in windows:
        kinds[window.group].append(window)
    several = group == "all"
    return ProseMeasure(
        group=group,
        num_tokens=len(base),
        num_bytes=num_bytes,
        base_perplexity=_exp(-float(base.mean())),
        fine_tuned_perplexity=_exp(-float(tuned.mean())),
        base_bits=-float(base.sum()) / math.log(2) / num_bytes,
        fine_tuned_bits=-float(tuned.sum()) / math.log(2) / num_bytes,
        ratio=Spread(*(None if end is None else _exp(end) for end in (change.value, change.low, change.high))),  # type: ignore[arg-type]
        divergence=_spread(divergence, places, least=0.0),
        groups=tuple(measure_prose(some, name) for name, some in kinds.items()) if several else (),
    )


def measure_paired(name: str, groups: Sequence[str], base: Sequence[bool], tuned: Sequence[bool]) -> PairedMeasure:
    """Returns what right and wrong of both models on the same items show; the p-value is not corrected yet.

    Args:
        name: of the measure.
        groups: each item's.
        base, tuned: whether each item is right.
    """
    n, base_right, tuned_right = len(groups), sum(base), sum(tuned)
    both = sum(one and other for one, other in zip(base, tuned, strict=True))
    gained, lost = tuned_right - both, base_right - both
    low, high = newcombe_interval(both, gained, lost, n - both - gained - lost)
    p = mcnemar_p(gained, lost)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for group, one, other in zip(groups, base, tuned, strict=True):
        for place, number in enumerate((1, int(one), int(other))):
            counts[group][place] += number
    return PairedMeasure(
        name=name,
        n=n,
        base=base_right,
        fine_tuned=tuned_right,
        base_interval=wilson_interval(base_right, n),
        fine_tuned_interval=wilson_interval(tuned_right, n),
        gained=gained,
        lost=lost,
        difference=Spread((tuned_right - base_right) / n, low, high),
        p_value=p,
        adjusted_p=p,
        detectable_loss=None,
        groups=tuple(SharesOfGroup(group, *numbers) for group, numbers in counts.items()),
    )


def corrected(measures: Sequence[PairedMeasure]) -> list[PairedMeasure]:
    """Returns the measures with p-values corrected for their number, and the losses that could have been seen."""
    adjusted = holm([measure.p_value for measure in measures])
    level = ALPHA / max(1, len(measures))
    return [
        replace(measure, adjusted_p=p, detectable_loss=detectable_gain(measure.n, PLANNED_REGRESS_RATE, alpha=level))
        for measure, p in zip(measures, adjusted, strict=True)
    ]


def passed(tasks: Sequence[Task], answers: Sequence[Answer]) -> list[bool]:
    """Returns whether each answer passes all checks of its task."""
    return [passes(task.checks, answer.text) for task, answer in zip(tasks, answers, strict=True)]


def measure_manner(tasks: Sequence[Task], base: Sequence[Answer], tuned: Sequence[Answer]) -> Manner:
    """Returns how both models answer the tasks."""

    def refused(group: str, answers: Sequence[Answer]) -> int:
        return sum(task.group == group and refuses(answer.text) for task, answer in zip(tasks, answers, strict=True))

    base_tokens, tuned_tokens = (
        sum(answer.num_tokens for answer in answers) / len(answers) for answers in (base, tuned)
    )
    return Manner(
        harmful=sum(task.group == "refusal" for task in tasks),
        harmless=sum(task.group == "compliance" for task in tasks),
        base_refused_harmful=refused("refusal", base),
        fine_tuned_refused_harmful=refused("refusal", tuned),
        base_refused_harmless=refused("compliance", base),
        fine_tuned_refused_harmless=refused("compliance", tuned),
        base_tokens=base_tokens,
        fine_tuned_tokens=tuned_tokens,
        base_cut=sum(answer.finish_reason == "length" for answer in base),
        fine_tuned_cut=sum(answer.finish_reason == "length" for answer in tuned),
        length_ratio=tuned_tokens / base_tokens,
    )


def _spread(values: Floats, places: np.ndarray[tuple[int], np.dtype[np.int64]], least: float = -math.inf) -> Spread:
    """Returns the mean of values whose windows are as alike or different as other windows would be."""
    mean = float(values.mean())
    if not values.any():  # both models are one: no other text could tell them apart
        return Spread(0.0, 0.0, 0.0)
    if places[-1] == 0 or not math.isfinite(mean):
        return Spread(mean, None, None)
    low, high = bootstrap_interval(values, bounds=(least, math.inf), clusters=places)
    return Spread(mean, low, high) if math.isfinite(low) and math.isfinite(high) else Spread(mean, None, None)


def _exp(value: float) -> float:
    """Returns e to a power, and infinity where that is more than a number can hold."""
    return math.exp(value) if value < 700 else math.inf
