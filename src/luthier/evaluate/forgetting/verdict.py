"""OK, DRIFT or FORGOTTEN: a rule that can be checked from the numbers beside it.

A sign of forgetting needs size and certainty: a change of the size named below, whose interval (prose) or corrected p-value
(right and wrong) says that it is no accident of these items. The verdict is that of the worst sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luthier.evaluate.forgetting.measures import Manner, PairedMeasure, ProseMeasure
from luthier.evaluate.sentences import p_value, points
from luthier.evaluate.statistics import ALPHA

Verdict = Literal["OK", "DRIFT", "FORGOTTEN"]

PERPLEXITY_DRIFT, PERPLEXITY_FORGOTTEN = 1.10, 1.25
"""Ratios of perplexities on prose, a convention. For its size: where loss falls as N^-0.076 with the parameters N (Kaplan et
al. 2020, arXiv 2001.08361) and is 2.5 nats, 1.10 is what a model of 0.6 times the parameters has, and 1.25 one of a third."""
LOSS_DRIFT, LOSS_FORGOTTEN = 0.02, 0.10
"""Shares of items lost. A convention: ten points are what a report calls worth having (`evaluate.minimum_gain`), two points
are about the least that 400 items can show."""
FORM_DRIFT = 0.10
"""The share of tasks lost. It is never more than DRIFT: to answer in one form only may be just what was trained."""

SOURCES = {
    "prose": f"drift above {PERPLEXITY_DRIFT:.2f} times the base's perplexity, forgotten above {PERPLEXITY_FORGOTTEN:.2f}, "
    "where the interval of the ratio leaves out 1: a convention. At a loss of 2.5 nats 1.10 is what a model of 0.6 times the "
    "parameters has, 1.25 one of a third (loss as in Kaplan et al. 2020, arXiv 2001.08361)",
    "items": f"drift from {points(LOSS_DRIFT)} points lost, forgotten from {points(LOSS_FORGOTTEN)}, where the exact McNemar "
    f"test, corrected by Holm's method, has p below {ALPHA}: a convention, ten points being the usual smallest change worth "
    "having",
    "tasks": f"drift from {points(FORM_DRIFT)} points lost, where the exact McNemar test, corrected by Holm's method, has p "
    f"below {ALPHA}; never forgotten, since to answer in one form only may be just what was trained",
}
"""Each threshold and where it comes from, for a person."""

NAMES = {
    "pairs": "grammatical sentences told from others",
    "questions": "questions answered rightly",
    "completions": "last words found",
    "tasks": "tasks answered in the form asked for",
}


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that could show forgetting.

    Attributes:
        name: `prose`, `pairs`, `questions`, `completions` or `tasks`.
        level: what it says by itself.
        sentence: its numbers, as a clause.
        threshold: from where on it is drift or forgotten, and the source of that.
    """

    name: str
    level: Verdict
    sentence: str
    threshold: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the signs say together.

    Attributes:
        verdict: that of the worst.
        reason: the numbers behind it, in one sentence.
        advice: what to do, the first thing first; nothing where all is well.
        signs: each of them.
    """

    verdict: Verdict
    reason: str
    advice: tuple[str, ...]
    signs: tuple[Sign, ...]


def judge(prose: ProseMeasure | None, paired: Sequence[PairedMeasure], manner: Manner | None) -> Judgement:
    """Returns the verdict on what was measured; at least one of the measures must be there.

    Args:
        prose: perplexities.
        paired: right and wrong, with corrected p-values.
        manner: of the answers to tasks, where there are any.
    """
    signs = ([_prose_sign(prose)] if prose else []) + [_paired_sign(measure) for measure in paired]
    order: list[Verdict] = ["OK", "DRIFT", "FORGOTTEN"]
    verdict = max((sign.level for sign in signs), key=order.index)
    if verdict == "OK":
        reason = "Nothing general was lost that this probe could show: " + "; ".join(sign.sentence for sign in signs)
    else:
        shown = sorted((sign for sign in signs if sign.level != "OK"), key=lambda s: -order.index(s.level))
        reason = "The fine-tuned model lost something general: " + "; ".join(sign.sentence for sign in shown)
    return Judgement(verdict, reason + ".", _advice(verdict, signs, manner), tuple(signs))


def _prose_sign(prose: ProseMeasure) -> Sign:
    ratio = prose.ratio
    shown = ratio.low is None or ratio.low > 1
    level: Verdict = "OK"
    # a perplexity that is no number is worse than any
    if math.isnan(ratio.value) or (ratio.value > PERPLEXITY_FORGOTTEN and shown):
        level = "FORGOTTEN"
    elif ratio.value > PERPLEXITY_DRIFT and shown:
        level = "DRIFT"
    interval = (
        "" if ratio.low is None or ratio.high is None else f" (95 % interval {ratio.low:.3f} to {ratio.high:.3f})"
    )
    sentence = (
        f"perplexity on prose {prose.base_perplexity:.2f} → {prose.fine_tuned_perplexity:.2f}, "
        f"{ratio.value:.3f} times{interval}"
    )
    return Sign("prose", level, sentence, SOURCES["prose"])


def _paired_sign(measure: PairedMeasure) -> Sign:
    lost = -measure.difference.value
    shown = measure.adjusted_p < ALPHA
    form = measure.name == "tasks"
    level: Verdict = "OK"
    if shown and not form and lost >= LOSS_FORGOTTEN:
        level = "FORGOTTEN"
    elif shown and lost >= (FORM_DRIFT if form else LOSS_DRIFT):
        level = "DRIFT"
    sentence = (
        f"{NAMES[measure.name]} {_percent(measure.base, measure.n)} → {_percent(measure.fine_tuned, measure.n)} % of "
        f"{measure.n:,} ({p_value(measure.adjusted_p)})"
    )
    return Sign(measure.name, level, sentence, SOURCES["tasks" if form else "items"])


def _percent(right: int, n: int) -> str:
    return f"{100 * right / n:.1f}".removesuffix(".0")


def _advice(verdict: Verdict, signs: Sequence[Sign], manner: Manner | None) -> tuple[str, ...]:
    if verdict == "OK":
        return ()
    form_only = all(sign.name == "tasks" for sign in signs if sign.level != "OK")
    mix = (
        "Mix general chat examples in: train.replay=FILE, with train.replay_share=0.1 to begin with. This report shows what "
        "it costs on the test rows and what it brings here."
    )
    advice = [mix] if form_only else []
    if form_only:
        advice.append("If the model is only ever asked for this one form of answer, nothing needs to be done.")
    else:
        advice += [
            "Train for fewer epochs (train.n_epochs).",
            "Lower train.learning_rate, by half or more.",
            "Make the adapter smaller (adapter.r, adapter.target_modules).",
            mix,
        ]
    if manner and manner.fine_tuned_refused_harmful < manner.base_refused_harmful:
        advice.append(
            f"It refuses {manner.fine_tuned_refused_harmful} of {manner.harmful} harmful requests, the base "
            f"{manner.base_refused_harmful}: put refusals among the examples if that matters where it is used."
        )
    return tuple(advice)
