"""Several runs beside each other."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console
from sample_reports import bare_report, full_report, rows, run_report
from test_html import Page, poisoned
from test_markdown import GITHUB

from luthier.report.formats import Format, render, show
from luthier.report.schema import Report
from luthier.report.side_by_side import SideBySide, named, side_by_side
from luthier.report.visible import columns

pytestmark = pytest.mark.unit


def with_scores(right: int, **changes: object) -> Report:
    """A run of which the fine-tuned model gets the first so many rows right."""
    made = [
        row.model_copy(update={"fine_tuned_score": float(index < right), "outcome": "tie"})
        for index, row in enumerate(rows())
    ]
    return run_report(rows=[row.model_dump() for row in made], **changes)


def test_models_are_compared_with_each_other_on_the_same_rows_all_tests_corrected() -> None:
    found = side_by_side({"a": with_scores(10), "b": with_scores(38), "c": with_scores(11)})
    assert found.comparable
    assert found.common_rows == 40
    assert [(each.base, each.tuned, each.verdict) for each in found.pairings] == [
        ("a", "b", "BETTER"),
        ("a", "c", "UNDERPOWERED"),
        ("b", "c", "WORSE"),
    ]
    first = found.pairings[0]
    assert first.difference.value == pytest.approx(28 / 40)
    assert (first.wins, first.losses) == (28, 0)
    assert first.adjusted_p == pytest.approx(3 * 2 * 0.5**28), "exact McNemar by hand, times three tests"


def test_what_differs_between_the_runs_is_named() -> None:
    other = run_report(
        recipe=run_report().recipe | {"seed": 7, "output": {"dir": "elsewhere"}},
        resolved=[each.model_dump() | {"value": "0.0002"} for each in run_report().resolved[:1]],
        hashes={"adapter": "ab" * 32, "examples/orders.jsonl": "9f" * 32},
    )
    found = side_by_side({"a": run_report(), "b": other})
    values = {each.name: each.values for each in found.recipe}
    assert values["seed"] == ["1", "7"]
    assert values["train.learning_rate"] == ["0.001", "0.0002"]
    assert "output.dir" not in values
    assert [each.name for each in found.hashes] == ["adapter"]


def test_runs_on_other_rows_are_said_not_to_be_comparable() -> None:
    fewer = run_report(rows=[row.model_dump() for row in rows(30)])
    found = side_by_side({"a": run_report(), "b": fewer})
    assert not found.comparable
    assert found.common_rows == 30
    assert "a 40, b 30 rows; they share 30 rows" in found.notes[0]
    assert found.pairings[0].n == 30


def test_the_same_id_of_another_row_is_another_row() -> None:
    changed = [row.model_copy(update={"expected": row.expected + " "}).model_dump() for row in rows()]
    found = side_by_side({"a": run_report(), "b": run_report(rows=changed)})
    assert found.common_rows == 0
    assert found.pairings == []
    assert not found.comparable
    assert "they share none" in found.notes[0]


def test_runs_that_were_scored_otherwise_are_not_compared() -> None:
    found = side_by_side({"a": run_report(), "b": run_report(grader="exact")})
    assert not found.comparable
    assert found.pairings == []
    assert "scored in different ways (exact, json)" in found.notes[0]


def test_sources_and_leaks_of_rows_count_in_the_comparison_too() -> None:
    ids = [row.id for row in rows()]
    sourced = [row.model_copy(update={"source": f"s{n // 2}"}).model_dump() for n, row in enumerate(rows())]
    found = side_by_side({"a": run_report(rows=sourced), "b": run_report()})
    assert found.pairings[0].n == len(ids)
    alone = side_by_side({"a": run_report(), "b": run_report()})
    assert "clusters" not in alone.pairings[0].difference.method
    assert found.pairings[0].difference.method != alone.pairings[0].difference.method
    leaked = [row.model_copy(update={"trained_on": "duplicate" if n == 0 else ""}) for n, row in enumerate(rows())]
    found = side_by_side({"a": run_report(rows=[row.model_dump() for row in leaked]), "b": run_report()})
    assert found.pairings[0].n == len(ids) - 1
    assert any("1 shared row also in the training data" in note for note in found.notes)


def test_runs_of_which_no_row_was_scored_in_both_are_no_error() -> None:
    unscored = [row.model_copy(update={"fine_tuned_score": None}).model_dump() for row in rows()]
    found = side_by_side({"a": run_report(), "b": run_report(rows=unscored)})
    assert found.pairings == []
    assert any("could not be compared row by row" in note for note in found.notes)
    assert side_by_side({"a": bare_report(), "b": bare_report()}).pairings == []


def test_runs_get_short_names_that_differ() -> None:
    assert named(["runs/a", "runs/b/report.json"]) == ["a", "b"]
    assert named(["x/a", "y/a", "z/b"]) == ["x/a", "y/a", "b"]
    assert named(["x/a", "x/a"]) == ["x/a", "x/a (2)"]


FORMATS: tuple[Format, ...] = ("text", "md", "html", "json", "junit")


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_takes_one_run_and_several(form: Format) -> None:
    one = render({"first": full_report()}, form)
    two = render({"first": full_report(), "second": run_report("WORSE")}, form)
    assert one != two
    assert "second" in two
    assert "WORSE" in two
    if form == "json":
        assert type(full_report()).model_validate_json(one) == full_report()
        assert SideBySide.model_validate_json(two).runs[1].name == "second"
        assert json.loads(two)["comparable"] is True


def test_the_page_of_several_runs_is_whole_and_nothing_in_it_acts() -> None:
    payload = "<script>alert(1)</script>\x1b[2J\u202e"
    runs = {f"a{payload}": poisoned(full_report(), payload), f"b{payload}": poisoned(run_report("WORSE"), payload)}
    runs = {name: run.model_copy(update={"grader": "json"}) for name, run in runs.items()}
    page = Page(render(runs, "html"))
    assert not page.all("script")
    assert page.text.count("<script>alert(1)</script>") > 5
    assert page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    source = render(runs, "md")
    assert not [token for token in GITHUB.parse(source) if token.type == "html_block" and "script" in token.content]
    assert "\x1b" not in render(runs, "text")
    assert "\u202e" not in source


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_s_table_of_runs_fits(width: int) -> None:
    stream = io.StringIO()
    runs = {"baseline-run-with-a-long-name-indeed": full_report(), "second": run_report("NO DIFFERENCE SHOWN")}
    show(runs, Console(file=stream, width=width, color_system=None))
    lines = stream.getvalue().splitlines()
    assert max(columns(line) for line in lines) <= width
    assert any(re.search(r"second +.*NO DIFFERENCE", line) for line in lines)
