"""Several runs beside each other, as one page."""

from __future__ import annotations

from luthier.report import charts
from luthier.report.html_page import render
from luthier.report.side_by_side import SideBySide

HASH_CHARACTERS = 12
"""Enough of a hash to see that two differ."""


def render_html_runs(found: SideBySide) -> str:
    """Returns what came out of each run, what differs between them, and their models compared, as one page."""
    differences = [run.difference for run in found.runs if run.n]
    reach = charts.reach_of(differences)
    pair_reach = charts.reach_of([pair.difference for pair in found.pairings])
    return render(
        "runs.html.j2",
        found=found,
        runs=[
            (run, charts.bar(run.base), charts.bar(run.fine_tuned), charts.difference_axis(run.difference, reach))
            for run in found.runs
        ],
        reach=reach,
        pairings=[(pair, charts.difference_axis(pair.difference, pair_reach)) for pair in found.pairings],
        pair_reach=pair_reach,
        hash_characters=HASH_CHARACTERS,
    )
