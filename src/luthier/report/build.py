"""Builds a report from what an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from luthier.data.chat import content_text
from luthier.evaluate.compare import Comparison, Estimate
from luthier.evaluate.pairing import mean_score
from luthier.evaluate.samples import Answer, Sample
from luthier.recipe import Recipe
from luthier.report.judged import Judged
from luthier.report.schema import (
    ComparedRow,
    DataSummary,
    DifferenceInterval,
    ModelScore,
    Pairing,
    Report,
    ResolvedValue,
    SamplingNoise,
    SecondaryMetric,
    TrainingSummary,
)
from luthier.runs import utc_now


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a report says about the run it belongs to.

    Attributes:
        losses: mean loss on the test rows' own answers in nats per token, by `base` and `fine_tuned`.
        resolved: what each `auto` became, as in the manifest.
        seconds: wall time by stage.
    """

    recipe: Recipe
    folder: str
    losses: Mapping[str, float]
    data: DataSummary | None = None
    training: TrainingSummary | None = None
    resolved: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def build_report(
    comparison: Comparison,
    *,
    samples: Sequence[Sample],
    base: Judged,
    fine_tuned: Judged,
    grader: tuple[str, str],
    facts: RunFacts,
    notes: Sequence[str],
    sources: Mapping[str, str] | None = None,
    trained_on: Mapping[str, str] | None = None,
    **sections: Any,
) -> Report:
    """Returns the report of an evaluation of a base and a fine-tuned model.

    Args:
        comparison: of their scores.
        samples: the test rows, in the order of the answers.
        base: the base model, judged.
        fine_tuned: the fine-tuned model, judged.
        grader: its name, and why it was chosen.
        facts: of the run.
        notes: what the reader must know.
        sources: sample id → what the row comes from, where rows share a source.
        trained_on: sample id → how the row is like one that was trained on, of those that are.
        sections: further parts of the report by the names of its fields (`luthier.report.sections` makes them).
    """
    metrics = [
        SecondaryMetric(
            name=name.replace("_", " "), base=base.metrics.get(name), fine_tuned=fine_tuned.metrics.get(name)
        )
        for name in dict.fromkeys([*base.metrics, *fine_tuned.metrics])
    ]
    metrics.append(
        SecondaryMetric(
            name="test loss",
            base=facts.losses["base"],
            fine_tuned=facts.losses["fine_tuned"],
            unit="nats per token",
            higher_is_better=False,
        )
    )
    return _report(
        comparison,
        base=model_score("base", comparison.base, comparison.base_unscored, base.answers),
        fine_tuned=model_score("fine-tuned", comparison.tuned, comparison.tuned_unscored, fine_tuned.answers),
        samples=fine_tuned.draws,
        notes=notes,
        grader=grader[0],
        grader_reason=_sentence(grader[1]),
        metrics=metrics,
        data=facts.data,
        training=facts.training,
        resolved=[ResolvedValue(path=c["path"], value=str(c["value"]), rule=c["rule"]) for c in facts.resolved],
        recipe=facts.recipe.model_dump(mode="json"),
        versions=dict(facts.versions),
        hashes=dict(facts.hashes),
        seconds=dict(facts.seconds),
        folder=facts.folder,
        rows=[
            ComparedRow(
                id=sample.id,
                prompt=readable(sample.prompt),
                expected=sample.target,
                base_answer=one.text,
                fine_tuned_answer=other.text,
                base_score=(one_score := mean_score(base.scores[sample.id])),
                fine_tuned_score=(other_score := mean_score(fine_tuned.scores[sample.id])),
                outcome=_outcome(one_score, other_score),
                reason=grade.reason or "",
                source=(sources or {}).get(sample.id, ""),
                trained_on=(trained_on or {}).get(sample.id, ""),
            )
            for sample, one, other, grade in zip(
                samples,
                base.first(base.answers),
                fine_tuned.first(fine_tuned.answers),
                fine_tuned.first(fine_tuned.grades),
                strict=True,
            )
        ],
        **sections,
    )


def compare_report(
    comparison: Comparison, base: Mapping[str, float | None], tuned: Mapping[str, float | None], names: tuple[str, str]
) -> Report:
    """Returns the report of a comparison of two files of scores, named in `names`."""
    return _report(
        comparison,
        base=model_score(names[0], comparison.base, comparison.base_unscored),
        fine_tuned=model_score(names[1], comparison.tuned, comparison.tuned_unscored),
        notes=[],
        grader="given scores",
        rows=[
            ComparedRow(id=i, base_score=base[i], fine_tuned_score=tuned[i], outcome=_outcome(base[i], tuned[i]))
            for i in sorted(base.keys() & tuned.keys())
        ],
    )


def readable(messages: Sequence[Mapping[str, Any]]) -> str:
    """Returns a conversation as paragraphs of `role: text`."""
    parts = []
    for message in messages:
        calls = [f"{c['function']['name']}({c['function']['arguments']})" for c in message.get("tool_calls") or []]
        text = " ".join(part for part in (content_text(dict(message)), *calls) if part)
        parts.append(f"{message['role']}: {text}")
    return "\n\n".join(parts)


def pairing(comparison: Comparison, names: tuple[str, str]) -> Pairing:
    """Returns a comparison of two of several models as a part of the report."""
    return Pairing(
        base=names[0],
        tuned=names[1],
        n=comparison.n,
        difference=_interval(comparison.difference),
        wins=comparison.wins,
        losses=comparison.losses,
        ties=comparison.ties,
        p_value=comparison.p_value,
        adjusted_p=comparison.adjusted_p,
        verdict=comparison.verdict,
        reason=comparison.reason,
    )


def _interval(difference: Estimate) -> DifferenceInterval:
    return DifferenceInterval(
        value=difference.value, low=difference.low, high=difference.high, method=_sentence(difference.method)
    )


def _report(comparison: Comparison, *, notes: Sequence[str], **parts: Any) -> Report:
    unpaired = comparison.base_only + comparison.tuned_only
    more = [f"{unpaired:,} ids stand in one file only and were left out of the comparison."] if unpaired else []
    return Report(
        verdict=comparison.verdict,
        reason=comparison.reason,
        n=comparison.n,
        difference=_interval(comparison.difference),
        wins=comparison.wins,
        losses=comparison.losses,
        ties=comparison.ties,
        p_value=comparison.p_value,
        test=_sentence(comparison.test),
        mid_p=comparison.mid_p,
        clusters=comparison.clusters,
        correlation=comparison.correlation,
        design_effect=comparison.design_effect,
        noise=SamplingNoise(
            error=comparison.noise.error,
            sampling_error=comparison.noise.sampling_error,
            row_error=comparison.noise.row_error,
        )
        if comparison.noise
        else None,
        detectable_gain=comparison.detectable_gain,
        rows_needed=comparison.rows_needed,
        planned_gain=comparison.planned_gain,
        power_assumption=comparison.power_assumption,
        notes=[*notes, *comparison.notes, *more],
        created_at=utc_now(),
        **parts,
    )


def _sentence(text: str) -> str:
    """Returns a clause as a sentence: these texts are printed as they stand."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def model_score(name: str, estimate: Estimate, unscored: int, answers: Sequence[Answer] = ()) -> ModelScore:
    """Returns how one model did."""
    return ModelScore(
        name=name,
        score=estimate.value,
        low=estimate.low,
        high=estimate.high,
        unscored=unscored,
        cut=sum(answer.finish_reason == "length" for answer in answers),
        mean_answer_tokens=round(sum(a.num_tokens for a in answers) / len(answers), 1) if answers else None,
    )


def _outcome(base: float | None, tuned: float | None) -> Literal["win", "loss", "tie", "unscored"]:
    if base is None or tuned is None:
        return "unscored"
    return "win" if tuned > base else "loss" if tuned < base else "tie"
