"""The report in short: fits 80 columns, survives any encoding, obeys nothing in the data."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console
from sample_reports import bare_report, file_report, full_report, rows, run_report
from test_html import poisoned

from luthier.report.schema import Report, Verdict
from luthier.report.terminal import print_report
from luthier.report.visible import columns
from luthier.report.words import checks

pytestmark = pytest.mark.unit


def printed(report: Report, *, width: int = 80, path: str | Path | None = None, terminal: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system="standard" if terminal else None)
    print_report(report, console, path)
    return stream.getvalue()


def squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_the_verdict_and_its_reason_come_first(verdict: Verdict) -> None:
    report = run_report(verdict)
    lines = printed(report).splitlines()
    assert lines[1].endswith(verdict)
    assert squeezed(printed(report)).startswith(f"{lines[1]} {report.reason}")


def test_the_numbers_are_those_of_the_report() -> None:
    text = squeezed(printed(run_report(), path="runs/first/report.html"))
    for expected in (
        "92.5 % 80.1 % to 97.4 %",
        "+92.5 pp (percentage points), 95 % interval +80.0 to +97.4",
        "37 won, 0 lost, 3 tied",
        "p-value < 0.0001. Exact McNemar",
        "scored by json, on 40 rows.",
        "takes 9 test rows, which this test has.",
        "field F1 3.1 % 97.1 % +94.0 pp improved",
        "Judged on 40 of 52 test rows",
        "3 rows of the data left out",
        "Report: runs/first/report.html",
    ):
        assert expected in text, expected


def test_the_bars_are_as_long_as_the_scores() -> None:
    lines = printed(run_report("WORSE")).splitlines()
    base, tuned = (next(line for line in lines if line.startswith(name)) for name in ("base ", "fine-tuned "))
    assert len(re.findall("[█▓]", base)) == round(0.65 * 32)
    assert len(re.findall("[█▓]", tuned)) == round(0.25 * 32)
    assert base.count("█") == round(0.54 * 32)
    assert len(re.findall("[█▓░]", base)) == round((0.65 + 0.0876) * 32)


def test_at_most_three_wins_and_losses_are_shown_and_counted() -> None:
    text = printed(run_report())
    assert "Wins: 3 of 34" in text
    assert "Losses: 1 of 1" in text
    assert len(re.findall("^  asked ", text, re.MULTILINE)) == 4
    assert "as expected" in text


def test_answers_that_part_late_are_shown_from_where_they_part() -> None:
    text = printed(run_report())
    expected, given = re.findall(r'^  (?:expected|fine-tuned) +(….*"quantity":\d.*)$', text, re.MULTILINE)[-2:]
    assert expected[:12] == given[:12]
    assert '"quantity":999' in given
    assert '"quantity":999' not in expected


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_wider_than_the_console(width: int) -> None:
    wide = [row.model_copy(update={"expected": "日本語" * 90, "base_answer": "x" * 999}).model_dump() for row in rows()]
    text = printed(run_report(rows=wide, reason="y" * 300, notes=["z" * 200]), width=width, path="p" * 50)
    assert max(columns(line) for line in text.splitlines()) <= width
    assert "z" * 200 in "".join(text.split()).replace("-", "")


@pytest.mark.parametrize("terminal", [False, True])
def test_escapes_and_markup_in_the_data_are_not_obeyed(terminal: bool) -> None:
    payload = "\x1b[2J\x1b]0;title\x07[bold red]x[/bold red]\r\u202e:smile:"
    text = printed(poisoned(run_report(), payload), terminal=terminal, path=f"out{payload}")
    unstyled = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", unstyled)
    assert "␛[2J" in unstyled
    assert "[bold red]" in unstyled
    assert ":smile:" in unstyled
    assert ("\x1b" in text) == terminal


def test_an_ascii_terminal_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    print_report(run_report(), Console(file=stream, width=80))
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "+ BETTER" in text
    assert "###" in text
    assert "+92.5 pp" in text


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    print_report(run_report(), Console(file=stream, width=80, force_terminal=True))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", stream.getvalue())


def test_files_and_bare_reports_leave_out_what_they_lack() -> None:
    files, bare = printed(file_report()), printed(bare_report())
    assert "Wins" not in files
    assert "prompted.jsonl" in files
    assert bare.count("no row scored") == 2
    assert "difference" not in bare
    assert "Report:" not in bare


def test_all_models_and_what_else_was_found_stand_in_it_one_line_each() -> None:
    text = squeezed(printed(full_report()))
    for expected in (
        "few-shot ██████▓▓▓▓░░░░░ 30.0 % 18.0 % to 45.4 %",
        "The fine-tuned model is BETTER than each of base, few-shot and retrieved.",
        "requirement does not hold. difference.low > 0 and n >= 100 (difference.low = 0.8, n = 40).",
        "forgetting DRIFT. Prose is read with 1.17 times",
        "contamination 8 rows left out. 8 test rows also stand",
        "overfitting answers copied. The validation loss",
        "answer shape 2 answers cut. 97.5 %",
        "more data cannot be told. For 5 points more",
        "The rows come from 33 sources",
        "retrieved: 2 answers could not be scored.",
    ):
        assert expected in text, expected


def test_what_is_well_takes_no_line() -> None:
    found = full_report().model_dump()
    fine = {
        "contamination": found["contamination"] | {"rows": 0, "with_them": None, "on_them": None, "sentence": "None."},
        "overfitting": found["overfitting"] | {"last_valid_loss": 0.202, "gap": 0.01, "copying": None},
        "shape": found["shape"] | {"cut": 0},
        "requirement": None,
        "curve": None,
    }
    assert [check.state for check in checks(full_report(**fine))] == ["DRIFT", "none found", "none seen", "as trained"]
    text = printed(full_report(**fine))
    assert "forgetting" in text
    assert not re.search("^(contamination|overfitting|answer shape|requirement)", text, re.MULTILINE)


@pytest.mark.parametrize("width", [80, 120])
def test_a_whole_report_fits(width: int) -> None:
    assert max(columns(line) for line in printed(full_report(), width=width).splitlines()) <= width
