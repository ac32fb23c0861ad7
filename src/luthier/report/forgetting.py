"""From what a probe found to the part of the report about it."""

from __future__ import annotations

import math

from luthier.evaluate.forgetting.measures import Manner, PairedMeasure, ProseMeasure
from luthier.evaluate.forgetting.result import ProbeResult
from luthier.report.forgetting_schema import (
    AnswerManner,
    Forgetting,
    ForgettingSign,
    GroupOfItems,
    PairedItems,
    ProseReading,
)


def forgetting_part(found: ProbeResult) -> Forgetting:
    """Returns what a probe found as a part of the report."""
    judgement = found.judgement
    return Forgetting(
        verdict=judgement.verdict,
        reason=judgement.reason,
        advice=list(judgement.advice),
        signs=[
            ForgettingSign.model_validate(
                {"name": sign.name, "level": sign.level, "sentence": sign.sentence, "threshold": sign.threshold}
            )
            for sign in judgement.signs
        ],
        probe=found.probe,
        prose=_reading(found.prose) if found.prose else None,
        registers=[_reading(group) for group in found.prose.groups] if found.prose else [],
        items=[_items(measure) for measure in found.paired],
        manner=_manner(found.manner) if found.manner else None,
        notes=list(found.notes),
        seconds=found.seconds,
    )


def _reading(prose: ProseMeasure) -> ProseReading:
    return ProseReading(
        group=prose.group,
        tokens=prose.num_tokens,
        bytes=prose.num_bytes,
        base_perplexity=_number(prose.base_perplexity),
        fine_tuned_perplexity=_number(prose.fine_tuned_perplexity),
        ratio=_number(prose.ratio.value),
        ratio_low=_number(prose.ratio.low),
        ratio_high=_number(prose.ratio.high),
        base_bits_per_byte=_number(prose.base_bits),
        fine_tuned_bits_per_byte=_number(prose.fine_tuned_bits),
        divergence=_number(prose.divergence.value),
        divergence_low=_number(prose.divergence.low),
        divergence_high=_number(prose.divergence.high),
    )


def _items(measure: PairedMeasure) -> PairedItems:
    return PairedItems.model_validate(
        {
            "name": measure.name,
            "n": measure.n,
            "base": measure.base / measure.n,
            "base_low": measure.base_interval.low,
            "base_high": measure.base_interval.high,
            "fine_tuned": measure.fine_tuned / measure.n,
            "fine_tuned_low": measure.fine_tuned_interval.low,
            "fine_tuned_high": measure.fine_tuned_interval.high,
            "difference": measure.difference.value,
            "difference_low": measure.difference.low,
            "difference_high": measure.difference.high,
            "gained": measure.gained,
            "lost": measure.lost,
            "p_value": measure.p_value,
            "adjusted_p": measure.adjusted_p,
            "detectable_loss": measure.detectable_loss,
            "groups": [
                GroupOfItems(group=group.group, n=group.n, base=group.base, fine_tuned=group.fine_tuned)
                for group in measure.groups
            ],
        }
    )


def _manner(manner: Manner) -> AnswerManner:
    return AnswerManner(
        harmful=manner.harmful,
        base_refused_harmful=manner.base_refused_harmful,
        fine_tuned_refused_harmful=manner.fine_tuned_refused_harmful,
        harmless=manner.harmless,
        base_refused_harmless=manner.base_refused_harmless,
        fine_tuned_refused_harmless=manner.fine_tuned_refused_harmless,
        base_mean_tokens=round(manner.base_tokens, 1),
        fine_tuned_mean_tokens=round(manner.fine_tuned_tokens, 1),
        length_ratio=manner.length_ratio,
        base_cut=manner.base_cut,
        fine_tuned_cut=manner.fine_tuned_cut,
    )


def _number(value: float | None) -> float | None:
    """Returns a number that JSON can hold, or None for what is none."""
    return value if value is not None and math.isfinite(value) else None
