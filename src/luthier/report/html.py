"""The report a person reads: one HTML file that asks nothing of anybody, not even a script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from luthier.report import charts, numbers
from luthier.report.schema import ComparedRow, ModelScore, Report, SecondaryMetric, Verdict
from luthier.report.visible import shortened, visible

Outcome = Literal["win", "loss", "tie", "unscored"]
OUTCOMES: tuple[Outcome, ...] = ("loss", "win", "unscored", "tie")
"""The order of the table: what one wants to look at first."""
LONGEST_TEXT = 420
MOST_LINES = 9
FEWEST_HIDDEN = 80
"""Hiding fewer characters than this is not worth a fold."""
SHORTEST_SHARED = 24
"""Prompts that begin alike for at least this many characters have that shown once."""

VERDICTS: Mapping[Verdict, str] = {
    "BETTER": "better",
    "WORSE": "worse",
    "NO DIFFERENCE SHOWN": "none",
    "UNDERPOWERED": "underpowered",
}


class Text(NamedTuple):
    """A text from the data, with the part to show first where it is long."""

    full: str
    first: str | None
    hidden: int
    end: bool
    """Whether the part shown first is the end of the text."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table, ready to draw."""

    source: ComparedRow
    prompt: Text
    expected: Text
    base: Text
    fine_tuned: Text


@dataclass(frozen=True, slots=True)
class Metric:
    """A secondary metric in words."""

    name: str
    base: str
    fine_tuned: str
    change: str
    note: str


def render_html(report: Report) -> str:
    """Returns the report as one self-contained page.

    Nothing from the data can act: each value is escaped where it is put in, control and direction-changing characters
    are spelled out, there is no script, and the page's own policy forbids any and every request.
    """
    shared = _shared_beginning([row.prompt for row in report.rows])
    rows = sorted(report.rows, key=lambda row: OUTCOMES.index(row.outcome))
    outcomes = Counter(row.outcome for row in report.rows)
    template = _environment().get_template("report.html.j2")
    return template.render(
        report=report,
        kind=VERDICTS[report.verdict],
        style=Markup(_style()),
        style_hash=base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode(),
        models=[
            (report.base, charts.bar(report.base), "base"),
            (report.fine_tuned, charts.bar(report.fine_tuned), "tuned"),
        ],
        axis=charts.difference_axis(report),
        loss=charts.loss_chart(report.training) if report.training else None,
        metrics=[metric_words(metric) for metric in report.metrics],
        remarks=remarks(report),
        power=power(report),
        shared=shared,
        rows=[_row(row, len(shared)) for row in rows],
        outcomes=[(outcome, outcomes[outcome]) for outcome in OUTCOMES if outcomes[outcome]],
        has_texts=any(row.prompt or row.expected or row.base_answer or row.fine_tuned_answer for row in rows),
        decimals=0
        if all(score in (0, 1, None) for row in rows for score in (row.base_score, row.fine_tuned_score))
        else 3,
        recipe=list(_flat(report.recipe)),
    )


def remarks(report: Report) -> list[str]:
    """Returns what a reader must know: the notes, then whatever was counted as left out or cut."""
    found = list(report.notes)
    for score in (report.base, report.fine_tuned):
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


def _row(row: ComparedRow, shared: int) -> Row:
    prompt = row.prompt[shared:]
    return Row(row, _text(prompt, "end"), _text(row.expected), _text(row.base_answer), _text(row.fine_tuned_answer))


def _text(text: str, keep: Literal["start", "end"] = "start") -> Text:
    first = shortened(text, LONGEST_TEXT, MOST_LINES, keep)
    if first and len(text) - len(first) < FEWEST_HIDDEN:
        first = None
    return Text(text, first, len(text) - len(first or text), keep == "end")


def _shared_beginning(prompts: Sequence[str]) -> str:
    """Returns the lines that all prompts begin with, such as a system prompt; empty where it is not worth a mention."""
    if len(prompts) < 2:
        return ""
    first, last = min(prompts), max(prompts)  # what these two share, all between them share
    same = next((index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    shared = first[: first.rfind("\n", 0, same) + 1]
    return shared if len(shared) >= SHORTEST_SHARED and all(prompt != shared for prompt in prompts) else ""


def _flat(tree: Mapping[str, object], path: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}{name}.")
        else:
            yield (
                f"{path}{name}",
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str),
            )


def _name(score: ModelScore) -> str:
    return score.name or "unnamed"


@cache
def _style() -> str:
    return files("luthier.report").joinpath("templates/report.css").read_text(encoding="utf-8")


def _finalize(value: Any) -> Any:
    """Every expression of the template passes here before it is escaped."""
    if value is None:
        return numbers.MISSING
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("luthier.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=numbers.percent,
        points=numbers.points,
        p_value=numbers.p_value,
        count=numbers.count,
        significant=numbers.significant,
        short=numbers.short,
        fixed=numbers.fixed,
        moment=numbers.moment,
        duration=numbers.duration,
        label=_name,
    )
    return environment
