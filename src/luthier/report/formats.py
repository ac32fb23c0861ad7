"""A report, or several side by side, in each of the formats that `luthier report` writes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Literal

from rich.console import Console

from luthier.report.html import render_html
from luthier.report.html_runs import render_html_runs
from luthier.report.junit import render_junit
from luthier.report.markdown import render_markdown
from luthier.report.markdown_runs import render_markdown_runs
from luthier.report.schema import Report
from luthier.report.side_by_side import side_by_side
from luthier.report.terminal import print_report
from luthier.report.terminal_runs import print_runs

Format = Literal["text", "md", "html", "json", "junit"]
PLAIN_COLUMNS = 100
"""The width of plain text that goes into a file."""


def render(reports: Mapping[str, Report], form: Format) -> str:
    """Returns one report, or several compared, as text in a format.

    Args:
        reports: by the name that each is to have.
        form: `text` as on a terminal, `md` for GitHub, `html` a page of its own, `json` for programs, `junit` for CI.
    """
    if form == "junit":
        return render_junit(reports)
    if form == "text":
        stream = io.StringIO()
        show(reports, Console(file=stream, width=PLAIN_COLUMNS, color_system=None, force_terminal=False))
        return stream.getvalue()
    if len(reports) == 1:
        (report,) = reports.values()
        if form == "json":
            return report.model_dump_json(indent=2) + "\n"
        return render_markdown(report) if form == "md" else render_html(report)
    found = side_by_side(reports)
    if form == "json":
        return found.model_dump_json(indent=2) + "\n"
    return render_markdown_runs(found) if form == "md" else render_html_runs(found)


def show(reports: Mapping[str, Report], console: Console) -> None:
    """Prints one report, or several compared, on a terminal."""
    if len(reports) == 1:
        (report,) = reports.values()
        print_report(report, console, f"{report.folder}/report.html" if report.folder else None)
    else:
        print_runs(side_by_side(reports), console)
