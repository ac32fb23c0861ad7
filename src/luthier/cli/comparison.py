"""A table of comparisons, on a terminal and as JSON."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from luthier.evaluate.sentences import p_value, points, signed
from luthier.evaluate.table import ComparisonTable
from luthier.report.visible import visible


def table_json(table: ComparisonTable) -> dict[str, Any]:
    """Returns the table as plain JSON values."""
    return dataclasses.asdict(table)


def print_table(table: ComparisonTable) -> None:
    """Prints a line for each pair, then the reasons and the notes."""
    console = Console(highlight=False, markup=False, emoji=False)
    lines = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    several = len(table.metrics) > 1
    names = _short_names(table.models)
    for name in (["metric"] if several else []) + ["pair", "difference", "95 % interval", "p, corrected", "verdict"]:
        lines.add_column(name, overflow="fold")
    for pairing in table.pairings:
        found = pairing.comparison
        low, high = points(found.difference.low), points(found.difference.high)
        p = found.p_value if found.adjusted_p is None else found.adjusted_p
        lines.add_row(
            *([visible(pairing.metric)] if several else []),
            f"{names[pairing.base]} → {names[pairing.tuned]}",
            signed(found.difference.value),
            f"{low} to {high}",
            p_value(p).removeprefix("p ").removeprefix("= "),
            found.verdict,
        )
    console.print(lines)
    for pairing in table.pairings:
        metric = f"{visible(pairing.metric)}: " if several else ""
        console.print(f"\n{pairing.comparison.verdict}: {metric}{visible(pairing.comparison.reason)}")
    for note in table.notes:
        console.print(f"\n{visible(note)}")


def _short_names(models: list[str]) -> dict[str, str]:
    """Returns what stands for each path in a column: the file's name, where no two have the same."""
    short = [Path(name).name for name in models]
    shown = short if len(set(short)) == len(short) else models
    return {name: visible(text) for name, text in zip(models, shown, strict=True)}
