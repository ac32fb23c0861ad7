"""Several runs beside each other: what came out, what differs between them, and their models compared row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from luthier.errors import EvaluateError
from luthier.evaluate.sentences import counted
from luthier.evaluate.table import compare_all
from luthier.report.build import pairing
from luthier.report.part import Part
from luthier.report.schema import ComparedRow, DifferenceInterval, ModelScore, Pairing, Report, Verdict

MINIMUM_GAIN = 0.1
"""Of the comparisons, where the runs' recipes name different ones or none; the recipe's own default."""
SCORE = "score"
_PLACES = ("output.dir",)
"""Recipe values that differ between any two runs and say nothing."""


class RunLine(Part):
    """What came out of one run."""

    name: str
    """As in the other parts."""
    folder: str
    """Where it is."""
    verdict: Verdict
    """Of its fine-tuned model against its base."""
    n: int
    """Test rows."""
    base: ModelScore
    """Its base."""
    fine_tuned: ModelScore
    """Its fine-tuned model."""
    difference: DifferenceInterval
    """Fine-tuned minus base."""
    p_value: float
    """Of that difference."""
    forgetting: str
    """The verdict on what the model forgot; empty where it was not measured."""
    created_at: str
    """When the report was made."""


class Differing(Part):
    """A value that is not the same in all runs."""

    name: str
    """The recipe's path, or whose hash it is."""
    values: list[str]
    """In the order of the runs; empty where a run has none."""


class SideBySide(Part):
    """Several runs compared."""

    runs: list[RunLine]
    """In the order given."""
    comparable: bool
    """Whether all were judged by the same grader on the same test rows, so that their scores can be set beside each other."""
    recipe: list[Differing]
    """Recipe values that differ; those that a rule chose, by what it chose."""
    hashes: list[Differing]
    """Inputs and adapters that differ."""
    common_rows: int
    """Test rows that all runs have, with the same prompt and the same expected answer."""
    pairings: list[Pairing]
    """The fine-tuned models of every two runs, on the common rows, corrected together."""
    notes: list[str]
    """What the reader must know."""


def named(folders: Sequence[str | Path]) -> list[str]:
    """Returns a short name for each run: its folder's, or the whole path where two have the same; given again, numbered."""
    paths = [Path(folder).parent if Path(folder).suffix == ".json" else Path(folder) for folder in folders]
    short = [path.resolve().name or str(path) for path in paths]
    names: list[str] = []
    for path, name in zip(paths, short, strict=True):
        first = chosen = name if short.count(name) == 1 else str(path)
        number = 2
        while chosen in names:
            chosen, number = f"{first} ({number})", number + 1
        names.append(chosen)
    return names


def side_by_side(reports: Mapping[str, Report]) -> SideBySide:
    """Returns two or more reports compared, by name."""
    runs = [
        RunLine(
            name=name,
            folder=report.folder,
            verdict=report.verdict,
            n=report.n,
            base=report.base,
            fine_tuned=report.fine_tuned,
            difference=report.difference,
            p_value=report.p_value,
            forgetting=report.forgetting.verdict if report.forgetting else "",
            created_at=report.created_at,
        )
        for name, report in reports.items()
    ]
    graders = {report.grader for report in reports.values()}
    common = _common(list(reports.values()))
    same_rows = all(len(report.rows) == len(common) for report in reports.values()) and bool(common)
    notes = list(_notes(reports, graders, common, same_rows=same_rows))
    pairings: list[Pairing] = []
    if len(graders) == 1 and common:
        pairings = _pairings(reports, common, notes)
    return SideBySide(
        runs=runs,
        comparable=len(graders) == 1 and same_rows,
        recipe=_differing([_recipe(report) for report in reports.values()]),
        hashes=_differing([report.hashes for report in reports.values()]),
        common_rows=len(common),
        pairings=pairings,
        notes=notes,
    )


def _common(reports: Sequence[Report]) -> set[str]:
    """Returns the ids of rows that are the same in all reports; an id alone may stand for another row in another run."""

    def known(row: ComparedRow) -> tuple[str, str, str]:
        return row.id, row.prompt, row.expected

    shared = set.intersection(*({known(row) for row in report.rows} for report in reports))
    return {key for key, _, _ in shared}


def _notes(reports: Mapping[str, Report], graders: set[str], common: set[str], *, same_rows: bool) -> Iterator[str]:
    if len(graders) > 1:
        yield f"The runs were scored in different ways ({', '.join(sorted(graders))}): their scores cannot be compared."
    if not same_rows:
        counts = ", ".join(f"{name} {len(report.rows):,}" for name, report in reports.items())
        shared = f"they share {counted(len(common), 'row')}" if common else "they share none"
        yield (
            f"The test sets differ ({counts} rows; {shared}): a higher score may come from easier rows, and the "
            "scores are not comparable."
            + (
                " The models are compared with each other on the shared rows alone."
                if common and len(graders) == 1
                else ""
            )
        )
    if not common or len(graders) > 1:
        return
    leaked = {row.id for report in reports.values() for row in report.rows if row.trained_on} & common
    if leaked:
        yield (
            f"{counted(len(leaked), 'shared row')} also in the training data of one of the runs: no part of the comparison "
            "of their models with each other."
        )


def _pairings(reports: Mapping[str, Report], common: set[str], notes: list[str]) -> list[Pairing]:
    each_row = [row for report in reports.values() for row in report.rows]
    kept = common - {row.id for row in each_row if row.trained_on}
    models = {
        name: {SCORE: {row.id: row.fine_tuned_score for row in report.rows if row.id in kept}}
        for name, report in reports.items()
    }
    sources = {row.id: row.source for row in each_row if row.source}
    clusters = {key: sources.get(key, key) for key in kept} if sources else None
    gains = {_gain(report) for report in reports.values()}
    try:
        found = compare_all(models, minimum_gain=gains.pop() if len(gains) == 1 else MINIMUM_GAIN, clusters=clusters)
    except EvaluateError as error:  # no row has a score in both of two runs
        notes.append(f"The models could not be compared row by row: {error.message}")
        return []
    notes.extend(found.notes)
    return [pairing(each.comparison, (each.base, each.tuned)) for each in found.pairings]


def _gain(report: Report) -> float:
    given = report.recipe.get("evaluate")
    gain = given.get("minimum_gain") if isinstance(given, Mapping) else None
    return gain if isinstance(gain, float) and 0 < gain < 1 else MINIMUM_GAIN


def _recipe(report: Report) -> dict[str, str]:
    """Returns the recipe's values by path; what a rule chose stands for `auto`."""
    found = dict(flat(report.recipe))
    found |= {each.path: each.value for each in report.resolved if found.get(each.path, "auto") == "auto"}
    return {path: value for path, value in found.items() if path not in _PLACES}


def flat(tree: Mapping[str, object], path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the paths of a recipe with their values as text."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{path}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield f"{path}{name}", text


def _differing(each: Sequence[Mapping[str, str]]) -> list[Differing]:
    names = dict.fromkeys(name for values in each for name in values)
    rows = [(name, [values.get(name, "") for values in each]) for name in names]
    return [Differing(name=name, values=values) for name, values in rows if len(set(values)) > 1]
