"""The report in short as GitHub's Markdown, for a pull request or a job's summary."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from luthier.report import numbers
from luthier.report.schema import ComparedRow, Report, Verdict
from luthier.report.visible import one_line, visible
from luthier.report.words import checks, deciding_p, interval, metric_words, models_of, power, remarks

EXAMPLES = 3
"""Wins and losses shown of each."""
LONGEST_TEXT = 1_200
"""Characters of a prompt or an answer: GitHub takes 65,536 in a comment."""
LONGEST_SENTENCE = 1_500
LONGEST_CELL = 80
MOST_REMARKS = 20
MOST_FIELDS = 10
SIGNS: dict[Verdict, str] = {"BETTER": "✅", "WORSE": "❌", "NO DIFFERENCE SHOWN": "➖", "UNDERPOWERED": "❔"}

_ENTITIES = re.compile(r"[\\|<>&@#$]|:(?=\S)|(?<=www)\.")
_ESCAPES = re.compile(r"[`*_\[\]~]|^[-+](?=\s|$)|(?<=^\d)[.)](?=\s|$)|(?<=^\d\d)[.)](?=\s|$)")
"""What means something to Markdown, to HTML, or to GitHub (a mention, the number of an issue, an address, a formula)."""
_PULLED = "@#"
"""After these, an invisible space keeps GitHub from making a mention or a link of what follows."""


def render_markdown(report: Report) -> str:
    """Returns the verdict, the table of models, what else was found, and a few wins and losses, folded.

    Texts of the data stand in code blocks or have each character that could act written as an entity.
    """
    return "\n".join(_lines(report)).rstrip("\n") + "\n"


def text(value: str, longest: int = LONGEST_SENTENCE) -> str:
    """Returns a text for a line or a table's cell: on one line, and nothing in it acts."""
    line = one_line(value[: 4 * longest], longest)
    return _ESCAPES.sub(r"\\\g<0>", _ENTITIES.sub(_entity, line))


def block(value: str) -> list[str]:
    """Returns a text as a fenced block; what was cut is counted."""
    hidden = len(value) - LONGEST_TEXT
    shown = visible(value[:LONGEST_TEXT])
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    lines = [f"{fence}text", shown, fence]
    return [*lines, f"… {numbers.plural(hidden, 'more character')}"] if hidden > 0 else lines


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns a table of cells that are Markdown already; all but the first column stand to the right."""
    marks = [":--", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)]


def details(title: str, lines: Sequence[str]) -> Iterator[str]:
    """Yields lines folded under a title; nothing where there are none."""
    if lines:
        yield from ("", f"<details><summary>{title}</summary>", "", *lines, "", "</details>")


def _lines(report: Report) -> Iterator[str]:
    yield f"### {SIGNS[report.verdict]} {report.verdict}"
    yield from ("", text(report.reason), "")
    for check in checks(report):
        if check.worth_a_line:
            yield f"- **{check.name}: {text(check.state)}.** {text(check.sentence)}"
    yield ""
    yield from _models(report)
    yield ""
    scored = f"Scored by {text(report.grader, LONGEST_CELL)} on {numbers.plural(report.n, 'row')}"
    yield f"{scored}; 95 % intervals; pp: percentage points. {text(report.test)}"
    if report.table:
        yield from ("", text(report.table.conclusion))
    if found := remarks(report):
        yield from ("", "**Before you rely on this**", "")
        yield from (f"- {text(remark)}" for remark in found[:MOST_REMARKS])
        if len(found) > MOST_REMARKS:
            yield f"- … and {len(found) - MOST_REMARKS:,} more, in report.html"
    yield from details("Further numbers", list(_numbers(report)))
    for title, outcome in (("Wins", "win"), ("Losses", "loss")):
        yield from _examples(title, [row for row in report.rows if row.outcome == outcome], report)


def _models(report: Report) -> list[str]:
    against = (
        {pair.tuned: pair for pair in report.table.pairings if pair.base == report.base.name} if report.table else {}
    )
    rows = []
    for index, model in enumerate(models_of(report)):
        span = f" ({numbers.percent(model.low)} to {numbers.percent(model.high)})" if model.low is not None else ""
        cells = [text(model.name, LONGEST_CELL), numbers.percent(model.score) + span]
        pair = against.get(model.name)
        if index == 0 or not report.n:
            cells += ["", ""]
        elif pair is not None:
            found = pair.difference
            cells.append(f"{numbers.points(found.value)} ({interval(found.low, found.high)})")
            cells.append(numbers.p_value(deciding_p(pair)).removeprefix("= "))
        else:
            found = report.difference
            cells.append(f"{numbers.points(found.value)} ({interval(found.low, found.high)})")
            cells.append(numbers.p_value(report.p_value).removeprefix("= "))
        rows.append([*cells, numbers.count(model.unscored)])
    p_value = "p, corrected" if report.table and report.table.num_tests > 1 else "p"
    head = ["model", "score", f"against {text(report.base.name, LONGEST_CELL)}", p_value, "not scored"]
    return table(head, [[cell.replace("<", "&lt;") for cell in row] for row in rows])


def _numbers(report: Report) -> Iterator[str]:
    yield from (f"- {text(sentence)}" for sentence in power(report))
    if report.metrics:
        yield ""
        head = [
            "without a verdict",
            text(report.base.name, LONGEST_CELL),
            text(report.fine_tuned.name, LONGEST_CELL),
            "change",
        ]
        words = [metric_words(metric) for metric in report.metrics]
        yield from table(
            head, [[text(w, LONGEST_CELL) for w in (m.name, m.base, m.fine_tuned, m.change)] for m in words]
        )
    if report.fields:
        yield ""
        head = [
            "field, F1",
            "expected",
            text(report.base.name, LONGEST_CELL),
            text(report.fine_tuned.name, LONGEST_CELL),
        ]
        yield from table(
            head,
            [
                [text(row.field, LONGEST_CELL), numbers.count(row.expected)]
                + [numbers.percent(share).replace("<", "&lt;") for share in (row.base_f1, row.fine_tuned_f1)]
                for row in report.fields[:MOST_FIELDS]
            ],
        )
        if len(report.fields) > MOST_FIELDS:
            yield f"\n… {numbers.plural(len(report.fields) - MOST_FIELDS, 'more field')}, in report.html"


def _examples(title: str, rows: Sequence[ComparedRow], report: Report) -> Iterator[str]:
    shown = [row for row in rows if row.prompt or row.expected or row.base_answer or row.fine_tuned_answer][:EXAMPLES]
    if not shown:
        return
    lines: list[str] = []
    for index, row in enumerate(shown):
        reason = f" · {text(row.reason, 300)}" if row.reason else ""
        lines += [*([""] if index else []), f"**{text(row.id, LONGEST_CELL)}**{reason}"]
        asked = row.prompt.rstrip().rsplit("\n\n", 1)[-1]
        answers = ((report.base.name, row.base_answer), (report.fine_tuned.name, row.fine_tuned_answer))
        for name, value in (("asked", asked), ("expected", row.expected), *answers):
            same = value == row.expected and name != "expected"
            lines += ["", f"{text(name, LONGEST_CELL)}: as expected" if same else f"{text(name, LONGEST_CELL)}:"]
            lines += [] if same else block(value)
    yield from details(f"{title}: {len(shown)} of {numbers.count(len(rows))}", lines)


def _entity(match: re.Match[str]) -> str:
    character = match[0]
    return f"&#{ord(character)};" + ("&#8203;" if character in _PULLED else "")
