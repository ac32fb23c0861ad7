"""`luthier report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

# the formats of luthier.report.formats, which is imported late, for `--help` not to wait for it
Formats = Literal["text", "md", "html", "json", "junit"]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("report")(report)


def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Run folders, or report.json files; several are compared."),
    ],
    form: Annotated[
        Formats,
        typer.Option("--format", help="text; md for a pull request; html one page; json; junit for CI."),
    ] = "text",
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Where to write it. Default: here.")] = None,
    require: Annotated[
        str | None,
        typer.Option("--require", metavar="CONDITION", help='As evaluate.require, such as "difference.low > 0".'),
    ] = None,
) -> None:
    """Show the report of a run again, in any format, or several runs side by side.

    Exit status: 0; with --require, 1 where a run does not meet it.
    """
    from rich.console import Console

    from luthier.report.files import read_report
    from luthier.report.formats import render, show
    from luthier.report.requirement import evaluate_requirement
    from luthier.report.side_by_side import named
    from luthier.runs import write_atomically

    reports = dict(zip(named(runs), map(read_report, runs), strict=True))
    if require is not None:
        reports = {
            name: each.model_copy(update={"requirement": evaluate_requirement(require, each)})
            for name, each in reports.items()
        }
    if out is not None:
        write_atomically(Path(out), render(reports, form).encode("utf-8", "backslashreplace"))
        sys.stderr.write(f"Wrote {out}.\n")
    elif form == "text":
        show(reports, Console(highlight=False))
    else:
        sys.stdout.buffer.write(render(reports, form).encode("utf-8", "backslashreplace"))
    sys.stdout.flush()
    met = all(each.requirement is not None and each.requirement.holds for each in reports.values())
    raise typer.Exit(0 if require is None or met else 1)
