"""Several runs beside each other as GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from luthier.report import numbers
from luthier.report.markdown import LONGEST_CELL, SIGNS, details, table, text
from luthier.report.side_by_side import Differing, SideBySide
from luthier.report.words import deciding_p, interval

HASH_CHARACTERS = 12
"""Enough of a hash to see that two differ."""


def render_markdown_runs(found: SideBySide) -> str:
    """Returns what came out of each run, what differs between them, and their models compared row by row."""
    return "\n".join(_lines(found)).rstrip("\n") + "\n"


def _lines(found: SideBySide) -> Iterator[str]:
    yield from (f"### {numbers.plural(len(found.runs), 'run')} side by side", "")
    yield from table(
        ["run", "verdict", "base", "fine-tuned", "difference", "rows"],
        [
            [
                text(run.name, LONGEST_CELL),
                f"{SIGNS[run.verdict]} {run.verdict}{f', forgetting: {run.forgetting}' if run.forgetting else ''}",
                _plain(numbers.percent(run.base.score)),
                _plain(numbers.percent(run.fine_tuned.score)),
                _plain(f"{numbers.points(run.difference.value)} ({interval(run.difference.low, run.difference.high)})")
                if run.n
                else numbers.MISSING,
                numbers.count(run.n),
            ]
            for run in found.runs
        ],
    )
    if found.pairings:
        rows = numbers.plural(found.common_rows, "row")
        p_value = "p, corrected" if len(found.pairings) > 1 else "p"
        yield from ("", f"The fine-tuned models on the {rows} that all runs have:", "")
        yield from table(
            ["pair", "difference", "95 % interval", p_value, "verdict"],
            [
                [
                    f"{text(pair.base, LONGEST_CELL)} → {text(pair.tuned, LONGEST_CELL)}",
                    _plain(numbers.points(pair.difference.value)),
                    _plain(interval(pair.difference.low, pair.difference.high)),
                    _plain(numbers.p_value(deciding_p(pair)).removeprefix("= ")),
                    f"{SIGNS[pair.verdict]} {pair.verdict}",
                ]
                for pair in found.pairings
            ],
        )
    if found.notes:
        yield from ("", "**Before you rely on this**", "", *(f"- {text(note)}" for note in found.notes))
    names = [run.name for run in found.runs]
    short = [
        each.model_copy(update={"values": [value[:HASH_CHARACTERS] for value in each.values]}) for each in found.hashes
    ]
    yield from details("Recipe values that differ", _differing(names, found.recipe))
    yield from details("Inputs that differ (sha256)", _differing(names, short))


def _differing(names: Sequence[str], rows: Sequence[Differing]) -> list[str]:
    if not rows:
        return []
    cells = [[text(cell, LONGEST_CELL) or numbers.MISSING for cell in (row.name, *row.values)] for row in rows]
    return table(["", *(text(name, LONGEST_CELL) for name in names)], cells)


def _plain(numeral: str) -> str:
    return numeral.replace("<", "&lt;")
