"""The report in short, on a terminal, in a pipe, and in a log file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from luthier.report import numbers
from luthier.report.schema import ComparedRow, ModelScore, Report, Verdict
from luthier.report.visible import columns, one_line, visible
from luthier.report.words import Check, Grade, checks, dependence, metric_words, models_of, power, remarks

WIDEST = 100
"""Columns used at most, however wide the terminal is; at 80 everything fits."""
BAR_COLUMNS = 32
NAME_COLUMNS = 14
EXAMPLES = 3
"""Wins and losses shown of each."""

SIGNS: dict[Verdict, tuple[str, str]] = {
    "BETTER": ("▲", "bold green"),
    "WORSE": ("▼", "bold red"),
    "NO DIFFERENCE SHOWN": ("=", "bold blue"),
    "UNDERPOWERED": ("?", "bold yellow"),
}
STYLES: dict[Grade, str] = {"good": "bold green", "bad": "bold red", "mixed": "bold yellow", "plain": "bold"}
PLAIN = str.maketrans(
    {"▲": "+", "▼": "-", "█": "#", "▓": "=", "░": "-", "·": ".", "−": "-", "–": "-", "…": "~", "→": "->"}
)
"""What stands for our own signs where the terminal's encoding has none of them."""


def print_report(report: Report, console: Console, path: str | Path | None = None) -> None:
    """Prints the verdict, the scores, a few wins and losses, and where the whole report is.

    Control characters, terminal escapes and markup in the data are spelled out, never obeyed; characters that the
    terminal's encoding lacks are written as escapes.

    Args:
        report: what to print.
        console: where to; its width, colours and encoding are respected.
        path: the HTML report, named in the last line.
    """
    with encodable(console):
        _print(report, console, path)


@contextlib.contextmanager
def encodable(console: Console) -> Iterator[None]:
    """Writes what is printed meanwhile in the console's encoding, with escapes for what that lacks."""
    if console.encoding.lower().startswith("utf"):
        yield
        return
    with console.capture() as captured:
        yield
    text = captured.get().translate(PLAIN)
    console.file.write(text.encode(console.encoding, "backslashreplace").decode(console.encoding))


def _print(report: Report, console: Console, path: str | Path | None) -> None:
    width = max(40, min(console.width, WIDEST))

    def show(*parts: RenderableType) -> None:
        for part in parts:
            console.print(part, width=width, markup=False, highlight=False, emoji=False)

    sign, style = SIGNS[report.verdict]
    show("", Text(f"{sign} {report.verdict}", style), _paragraph(report.reason), "")
    models = models_of(report)
    show(*(_bar(model) for model in models))
    if any(model.low is not None for model in models):
        show(Text(f"{'':{NAME_COLUMNS + 2}}▓░ spans the 95 % interval; the score lies between", "dim"))
    if report.table:
        show("", _paragraph(report.table.conclusion))
    show("", _figures(report), "", *(_paragraph(sentence) for sentence in [*power(report), *dependence(report)]))
    if found := [check for check in checks(report) if check.worth_a_line]:
        show("", Text("Beside the verdict", "bold"), _checks(found))
    if report.metrics:
        show("", Text("Further numbers, without a verdict", "bold"), _metrics(report))
    for title, outcome in (("Wins", "win"), ("Losses", "loss")):
        show(*_examples(title, [row for row in report.rows if row.outcome == outcome], report, width))
    if said := remarks(report):
        show("", Text("Before you rely on this", "bold"), _list(said))
    if path is not None:
        show("", Text("Report: ", "bold") + Text(visible(str(path)), overflow="fold"))


def _paragraph(text: str, style: str = "") -> Text:
    """Returns text from anywhere, safe and on one line before it is wrapped."""
    return Text(" ".join(visible(text).split()), style, overflow="fold")


def _name(text: str, width: int = NAME_COLUMNS) -> str:
    line = one_line(text, width)
    return line + " " * (width - columns(line))


def _grid(*widths: int | None) -> Table:
    """Returns a table without lines whose columns are as wide as told, or as their content."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in widths:
        table.add_column(width=width, overflow="fold")
    return table


def _bar(score: ModelScore) -> Text:
    line = Text(f"{_name(score.name)}  ", no_wrap=True)
    if score.score is None:
        return line.append("no row scored", "dim")
    value = round(score.score * BAR_COLUMNS)
    low = value if score.low is None else min(value, round(score.low * BAR_COLUMNS))
    high = value if score.high is None else max(value, round(score.high * BAR_COLUMNS))
    line.append("█" * low + "▓" * (value - low) + "░" * (high - value) + " " * (BAR_COLUMNS - high))
    line.append(f"{numbers.percent(score.score):>9}", "bold")
    if score.low is not None and score.high is not None:
        interval = f"{numbers.percent(score.low)} to {numbers.percent(score.high)}"
        line.append(f"  {interval}", "dim")
    return line


def _figures(report: Report) -> Table:
    table = _grid(NAME_COLUMNS, None)
    difference = report.difference
    if report.n:
        interval = f"{numbers.points(difference.low, unit=False)} to {numbers.points(difference.high, unit=False)}"
        value = f"{numbers.points(difference.value)} (percentage points), 95 % interval {interval}"
        table.add_row("difference", Text(value))
    count = numbers.count
    table.add_row("rows", Text(f"{count(report.wins)} won, {count(report.losses)} lost, {count(report.ties)} tied"))
    table.add_row("p-value", _paragraph(f"{numbers.p_value(report.p_value).removeprefix('= ')}. {report.test}"))
    rows = numbers.plural(report.n, "row")
    table.add_row("scored by", _paragraph(f"{report.grader}, on {rows}. {report.grader_reason}"))
    return table


def _checks(found: Sequence[Check]) -> Table:
    table = _grid(NAME_COLUMNS, None)
    for check in found:
        state = Text(f"{visible(check.state)}. ", STYLES[check.grade])
        table.add_row(_paragraph(check.name), state + _paragraph(check.sentence))
    return table


def _metrics(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", overflow="fold", max_width=30)
    for name in (report.base.name, report.fine_tuned.name):
        table.add_column(Text(one_line(name, NAME_COLUMNS)), justify="right")
    table.add_column("change", justify="right")
    table.add_column("")
    for metric in (metric_words(metric) for metric in report.metrics):
        cells = (metric.name, metric.base, metric.fine_tuned, metric.change, metric.note)
        table.add_row(*(_paragraph(cell) for cell in cells))
    return table


def _examples(title: str, rows: Sequence[ComparedRow], report: Report, width: int) -> list[RenderableType]:
    """Returns a few rows with both answers, each text on one line; an ellipsis marks what was cut."""
    shown = [row for row in rows if row.prompt or row.expected or row.base_answer or row.fine_tuned_answer][:EXAMPLES]
    if not shown:
        return []
    parts: list[RenderableType] = ["", Text(f"{title}: {len(shown)} of {numbers.count(len(rows))}", "bold")]
    room = width - NAME_COLUMNS - 4
    for row in shown:
        for name, text in _four_texts(row, report, room):
            line = Text(f"  {_name(name)}", "dim", no_wrap=True)
            parts.append(line.append(one_line(text, room) or "(empty)", "not dim"))
        parts.append("")
    return parts[:-1]


def _four_texts(row: ComparedRow, report: Report, room: int) -> list[tuple[str, str]]:
    """Returns the end of the prompt, the expected answer and both given; where they part late, from shortly before."""
    answers = [(report.base.name, row.base_answer), (report.fine_tuned.name, row.fine_tuned_answer)]
    parting = min((_first_difference(text, row.expected) for _, text in answers if text != row.expected), default=0)
    start = parting - room // 4 if parting > room * 2 // 3 else 0

    def cut(text: str) -> str:
        return "…" + text[start:] if start else text

    given = [(name, "as expected" if text == row.expected else cut(text)) for name, text in answers]
    return [("asked", row.prompt.rstrip().rsplit("\n\n", 1)[-1]), ("expected", cut(row.expected)), *given]


def _first_difference(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _list(items: Sequence[str]) -> Padding:
    table = _grid(1, None)
    for item in items:
        table.add_row("-", _paragraph(item))
    return Padding(table, (0, 0, 0, 1))
