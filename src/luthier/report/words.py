"""What a report says in words, the same on every way out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luthier.report import numbers
from luthier.report.forgetting_schema import Forgetting
from luthier.report.requirement import requirement_values
from luthier.report.schema import (
    AnswerShape,
    Contamination,
    ModelScore,
    Overfitting,
    Pairing,
    Report,
    Requirement,
    SecondaryMetric,
)

Grade = Literal["good", "bad", "mixed", "plain"]
CLEAR_SHARE = 0.05
"""A share of answers that changes by less than this is not worth a line of its own. The choice is ours."""
CLEAR_GAP = 0.25
"""A validation loss this much above the training loss, relative, is called far above it. The choice is ours."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A secondary metric in words."""

    name: str
    base: str
    fine_tuned: str
    change: str
    note: str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing beside the verdict that a reader asks for.

    Attributes:
        name: what was looked at; also the name of its section.
        state: what came out, in a word or two.
        sentence: all of it.
        grade: whether that is good.
        worth_a_line: whether there is something to say even where room is scarce.
    """

    name: str
    state: str
    sentence: str
    grade: Grade
    worth_a_line: bool


def checks(report: Report) -> list[Check]:
    """Returns what was found beside the verdict, what decides first."""
    found = []
    if (demand := report.requirement) is not None:
        found.append(_requirement(demand))
    if report.forgetting is not None:
        found.append(_forgetting(report.forgetting))
    if report.contamination is not None:
        found.append(_contamination(report.contamination))
    if report.overfitting is not None:
        found.append(_overfitting(report.overfitting))
    if report.shape is not None:
        found.append(_shape(report.shape))
    if (curve := report.curve) is not None:
        found.append(Check("more data", curve.answer.lower(), curve.sentence, "plain", worth_a_line=True))
    return found


def _requirement(demand: Requirement) -> Check:
    told = requirement_values(demand)
    sentence = f"{demand.expression}{f' ({told})' if told else ''}."
    grade: Grade = "good" if demand.holds else "bad"
    return Check("requirement", "holds" if demand.holds else "does not hold", sentence, grade, worth_a_line=True)


def _forgetting(found: Forgetting) -> Check:
    grade: Grade = "good" if found.verdict == "OK" else "mixed" if found.verdict == "DRIFT" else "bad"
    sentence = " ".join([found.reason, *found.advice])
    return Check("forgetting", found.verdict, sentence, grade, worth_a_line=True)


def _shape(found: AnswerShape) -> Check:
    other = found.fine_tuned_share < found.trained_share - CLEAR_SHARE
    state = "not as trained" if other else f"{numbers.plural(found.cut, 'answer')} cut" if found.cut else "as trained"
    grade: Grade = "bad" if other else "mixed" if found.cut else "good"
    return Check("answer shape", state, found.sentence, grade, worth_a_line=other or bool(found.cut))


def _contamination(found: Contamination) -> Check:
    if not found.checked:
        return Check("contamination", "not checked", found.sentence, "mixed", worth_a_line=True)
    if not found.rows:
        return Check("contamination", "none found", found.sentence, "good", worth_a_line=False)
    return Check(
        "contamination", f"{numbers.plural(found.rows, 'row')} left out", found.sentence, "mixed", worth_a_line=True
    )


def _overfitting(found: Overfitting) -> Check:
    copied = found.copying is not None and found.copying.fine_tuned_share - found.copying.base_share > CLEAR_SHARE
    far = found.gap is not None and bool(found.train_loss) and found.gap > CLEAR_GAP * (found.train_loss or 0)
    past = None not in (found.best_valid_loss, found.last_valid_loss) and found.best_valid_loss != found.last_valid_loss
    seen = [
        state
        for state, holds in (
            ("answers copied", copied),
            ("validation loss far above training's", far),
            ("trained past its best", past),
            ("not measured", found.best_valid_loss is None),
        )
        if holds
    ]
    grade: Grade = "mixed" if seen else "good"
    return Check("overfitting", seen[0] if seen else "none seen", found.sentence, grade, worth_a_line=bool(seen))


def exit_status(report: Report) -> int:
    """Returns 0 where the report is a yes: its requirement holds or, without one, its verdict is BETTER; else 1."""
    yes = report.verdict == "BETTER" if report.requirement is None else report.requirement.holds
    return 0 if yes else 1


def remarks(report: Report) -> list[str]:
    """Returns what a reader must know: the notes, then whatever was counted as left out or cut."""
    found = list(report.notes)
    for score in models_of(report):
        if score.unscored:
            found.append(f"{score.name}: {numbers.plural(score.unscored, 'answer')} could not be scored.")
        if score.cut:
            found.append(
                f"{score.name}: {numbers.plural(score.cut, 'answer')} reached the length limit and stopped there."
            )
    if report.data and report.data.rejected:
        found.append(
            f"{numbers.plural(report.data.rejected, 'row')} of the data left out, listed in data/rejected.jsonl."
        )
    if report.data and report.data.overlap:
        found.append(f"{numbers.plural(report.data.overlap, 'row')} for validation or test also in the training file.")
    return found


def power(report: Report) -> list[str]:
    """Returns what a test of this size could have shown, and how many rows would do, in sentences."""
    rows = numbers.plural(report.n, "row")
    if report.detectable_gain is None:
        found = [f"With {rows}, no gain shows with 80 % power, however large it is."]
    else:
        gain = numbers.points(report.detectable_gain, unit=False).removeprefix("+")
        found = [
            f"With {rows}, a gain of {gain} percentage points shows with 80 % power; a smaller one may stay unseen."
        ]
    if report.rows_needed is not None:
        observed = report.planned_gain == report.difference.value
        gain = "the observed gain" if observed else "the smallest gain worth having"
        need = numbers.plural(report.rows_needed, "test row")
        enough = ", which this test has" if report.rows_needed <= report.n else ""
        found.append(f"To show {gain} with 80 % power takes {need}{enough}.")
    if report.power_assumption:
        found.append(report.power_assumption)
    return found


def metric_words(metric: SecondaryMetric) -> Metric:
    """Returns both values of a metric, their change, and whether it is for the better."""
    share = not metric.unit

    def written(value: float | None) -> str:
        return numbers.percent(value) if share else f"{numbers.significant(value)} {metric.unit}".strip()

    change = numbers.MISSING
    note = ""
    if metric.base is not None and metric.fine_tuned is not None:
        difference = metric.fine_tuned - metric.base
        sign = "+" if difference > 0 else ""
        change = numbers.points(difference) if share else sign + numbers.significant(difference)
        if difference:
            note = "improved" if (difference > 0) == metric.higher_is_better else "worsened"
    return Metric(metric.name, written(metric.base), written(metric.fine_tuned), change, note)


def models_of(report: Report) -> list[ModelScore]:
    """Returns all models that answered, the base first, the fine-tuned one last."""
    return report.table.models if report.table else [report.base, report.fine_tuned]


def deciding_p(pairing: Pairing) -> float:
    """Returns the p-value that a pair's verdict rests on."""
    return pairing.p_value if pairing.adjusted_p is None else pairing.adjusted_p


def interval(low: float, high: float) -> str:
    """Returns the interval of a difference in percentage points, without their unit."""
    return f"{numbers.points(low, unit=False)} to {numbers.points(high, unit=False)}"


def dependence(report: Report) -> list[str]:
    """Returns what makes rows count for less than they are, in sentences: shared sources, answers drawn by chance."""
    found = []
    if report.clusters is not None:
        key = f" ({report.cluster_key})" if report.cluster_key else ""
        sentence = f"The rows come from {numbers.plural(report.clusters, 'source')}{key}"
        if report.correlation is not None and report.design_effect is not None:
            sentence += (
                f"; the differences of one source's rows are alike by {report.correlation:.2f} (0: not at all, 1: the same), "
                f"so that {numbers.short(report.design_effect)} rows are worth one independent row"
            )
        found.append(sentence + ".")
    if (noise := report.noise) is not None:
        drawn = noise.sampling_error**2 / noise.error**2 if noise.error else 0.0
        found.append(
            f"Each row was answered {report.samples:,} times by each model. The standard error of the difference is "
            f"{numbers.points(noise.error, unit=False).removeprefix('+')} percentage points; {numbers.percent(drawn)} of its "
            "square comes from answers that differ from one try to the next, the rest from the rows. More answers a row "
            f"bring it to {numbers.points(noise.row_error, unit=False).removeprefix('+')} at best; below that, only more "
            "rows do."
        )
    return found
