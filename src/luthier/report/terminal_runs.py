"""Several runs beside each other, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from luthier.report import numbers
from luthier.report.side_by_side import Differing, SideBySide
from luthier.report.terminal import SIGNS, encodable
from luthier.report.visible import one_line, visible
from luthier.report.words import deciding_p, interval

WIDEST = 140
WIDE = 96
"""From here on there is room for longer names."""
SHORT_NAME, LONGEST_NAME = 15, 24
LONGEST_VALUE = 28
NUMBERS = ("base → fine-tuned", "difference", "rows")
"""Columns of numbers."""
HASH_CHARACTERS = 12
"""Enough of a hash to see that two differ."""


def print_runs(found: SideBySide, console: Console) -> None:
    """Prints what came out of each run, what differs between them, and their models compared row by row."""
    with encodable(console):
        _print(found, console)


def _print(found: SideBySide, console: Console) -> None:
    width = max(40, min(console.width, WIDEST))

    def show(*parts: RenderableType) -> None:
        for part in parts:
            console.print(part, width=width, markup=False, highlight=False, emoji=False)

    show("", _runs(found, width))
    if found.pairings:
        title = f"The fine-tuned models on the {numbers.plural(found.common_rows, 'row')} that all runs have"
        show("", Text(title, "bold"), _pairs(found), *(_line(f"- {pair.reason}") for pair in found.pairings))
    names = [run.name for run in found.runs]
    if found.recipe:
        show("", Text("Recipe values that differ", "bold"), _differing(names, found.recipe))
    if found.hashes:
        short = [
            each.model_copy(update={"values": [value[:HASH_CHARACTERS] for value in each.values]})
            for each in found.hashes
        ]
        show("", Text("Inputs that differ (sha256)", "bold"), _differing(names, short))
    if found.notes:
        show("", Text("Before you rely on this", "bold"), *(_line(f"- {note}") for note in found.notes))


def _runs(found: SideBySide, width: int) -> Table:
    table = _table(["run", "verdict", "base → fine-tuned", "difference", "rows"])
    for run in found.runs:
        sign, style = SIGNS[run.verdict]
        span = f"\n{interval(run.difference.low, run.difference.high)}" if run.n else ""
        forgetting = f"\n  forgetting: {run.forgetting}" if run.forgetting else ""
        table.add_row(
            Text(one_line(run.name, LONGEST_NAME if width >= WIDE else SHORT_NAME)),
            Text(f"{sign} {run.verdict}", style) + Text(forgetting, "not bold"),
            Text(f"{numbers.percent(run.base.score)} → {numbers.percent(run.fine_tuned.score)}"),
            Text((numbers.points(run.difference.value) if run.n else numbers.MISSING) + span),
            Text(numbers.count(run.n)),
        )
    return table


def _pairs(found: SideBySide) -> Table:
    p_value = "p, corrected" if len(found.pairings) > 1 else "p"
    table = _table(["pair", "difference", "95 % interval", p_value, "verdict"])
    for pair in found.pairings:
        sign, style = SIGNS[pair.verdict]
        table.add_row(
            Text(f"{one_line(pair.base, LONGEST_NAME)} → {one_line(pair.tuned, LONGEST_NAME)}"),
            numbers.points(pair.difference.value),
            interval(pair.difference.low, pair.difference.high),
            numbers.p_value(deciding_p(pair)).removeprefix("= "),
            Text(f"{sign} {pair.verdict}", style),
        )
    return table


def _differing(names: Sequence[str], rows: Sequence[Differing]) -> Table:
    table = _table(["", *(one_line(name, LONGEST_NAME) for name in names)])
    table.columns[0].no_wrap = True
    for row in rows:
        values = (Text(one_line(value, LONGEST_VALUE) or numbers.MISSING) for value in row.values)
        table.add_row(Text(one_line(row.name, 60)), *values)
    return table


def _table(head: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in head:
        table.add_column(Text(name), overflow="fold", justify="right" if name in NUMBERS else "left")
    return table


def _line(text: str) -> Text:
    return Text(" ".join(visible(text).split()), overflow="fold")
