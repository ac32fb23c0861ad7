"""The report a person reads: one HTML file that asks nothing of anybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from luthier.evaluate.forgetting.verdict import NAMES
from luthier.report import charts, confusion, curves
from luthier.report.forgetting_schema import Forgetting, PairedItems
from luthier.report.html_page import VERDICTS, render
from luthier.report.html_rows import OUTCOMES, drawn_rows, shared_beginning
from luthier.report.schema import Contamination, DifferenceInterval, ModelScore, Pairing, Report
from luthier.report.side_by_side import flat
from luthier.report.words import checks, dependence, metric_words, models_of, power, remarks

FIELDS_IN_VIEW = 15
"""More fields of JSON answers than this are folded."""


def render_html(report: Report) -> str:
    """Returns the report as one self-contained page."""
    shared = shared_beginning([row.prompt for row in report.rows])
    rows = drawn_rows(report.rows, len(shared))
    outcomes = Counter(row.outcome for row in report.rows)
    pairings = _pairings(report)
    reach = charts.reach_of([pair.difference for pair in pairings])
    return render(
        "report.html.j2",
        report=report,
        kind=VERDICTS[report.verdict],
        models=_drawn_models(models_of(report)),
        axis=charts.difference_axis(report.difference),
        pairings=[(pair, charts.difference_axis(pair.difference, reach)) for pair in pairings],
        reach=reach,
        checks=checks(report),
        loss=curves.loss_chart(report.training) if report.training else None,
        learning=curves.learning_chart(report.curve) if report.curve else None,
        metrics=[metric_words(metric) for metric in report.metrics],
        remarks=remarks(report),
        power=power(report),
        dependence=dependence(report),
        forgotten=report.forgetting,
        forgotten_items=_forgotten_items(report.forgetting),
        leaked=_leaked(report.contamination) if report.contamination else [],
        fields=report.fields,
        fields_in_view=FIELDS_IN_VIEW,
        confused=confusion.most_confused(report.confusion) if report.confusion else [],
        labels=confusion.label_rows(report.confusion) if report.confusion else [],
        matrices=_matrices(report),
        most_pairs=confusion.MOST_PAIRS,
        few_labels=confusion.FEW_LABELS,
        shared=shared,
        rows=rows,
        outcomes=[(outcome, outcomes[outcome]) for outcome in OUTCOMES if outcomes[outcome]],
        has_texts=any(row.prompt or row.expected or row.base_answer or row.fine_tuned_answer for row in report.rows),
        has_marks=any(text.pieces for row in rows for text in (row.base, row.fine_tuned)),
        decimals=0
        if all(score in (0, 1, None) for row in report.rows for score in (row.base_score, row.fine_tuned_score))
        else 3,
        recipe=list(flat(report.recipe)),
    )


def _drawn_models(models: Sequence[ModelScore]) -> list[tuple[ModelScore, charts.Bar | None, str]]:
    last = len(models) - 1
    return [
        (model, charts.bar(model), "base" if index == 0 else "tuned" if index == last else "other")
        for index, model in enumerate(models)
    ]


def _pairings(report: Report) -> list[Pairing]:
    """Returns all pairs, those of the fine-tuned model first."""
    if report.table is None:
        return []
    tuned = report.table.models[-1].name
    return sorted(report.table.pairings, key=lambda pair: pair.tuned != tuned)


def _leaked(found: Contamination) -> list[tuple[str, Pairing]]:
    """Returns the comparison on each part of the rows, where some were trained on."""
    parts = (("with them", found.with_them), ("on them alone", found.on_them))
    return [(name, pair) for name, pair in parts if pair is not None]


def _matrices(report: Report) -> list[confusion.Matrix]:
    if (table := report.confusion) is None:
        return []
    each = ((report.fine_tuned.name, table.fine_tuned), (report.base.name, table.base))
    return [confusion.matrix(name, table.labels, counts) for name, counts in each]


def _forgotten_items(
    found: Forgetting | None,
) -> list[tuple[str, PairedItems, DifferenceInterval, charts.DifferenceAxis]]:
    """Returns the paired parts of a probe, drawn on one axis."""
    if found is None:
        return []
    differences = [
        DifferenceInterval(value=each.difference, low=each.difference_low, high=each.difference_high, method="")
        for each in found.items
    ]
    reach = charts.reach_of(differences)
    return [
        (NAMES[each.name], each, difference, charts.difference_axis(difference, reach))
        for each, difference in zip(found.items, differences, strict=True)
    ]
