"""The report on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_reports import bare_report, file_report, run_report
from test_html import Page

from luthier.errors import EvaluateError
from luthier.report import files
from luthier.report.schema import Report

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("report", [run_report(), file_report(), bare_report()], ids=["run", "files", "bare"])
def test_a_report_comes_back_as_it_was_written(report: Report, tmp_path: Path) -> None:
    json_path, html_path = files.write_report(report, tmp_path / "new" / "run")
    assert (json_path.name, html_path.name) == ("report.json", "report.html")
    assert files.read_report(json_path) == report
    assert files.read_report(json_path.parent) == report
    assert Page(html_path.read_text(encoding="utf-8")).text.count(report.verdict) >= 2
    assert sorted(path.name for path in json_path.parent.iterdir()) == ["report.html", "report.json"]


def test_the_names_that_programs_rely_on_stand_at_the_top(tmp_path: Path) -> None:
    path, _ = files.write_report(run_report(reason="Zoë’s"), tmp_path)
    text = path.read_text(encoding="utf-8")
    read = json.loads(text)
    assert "Zoë’s" in text
    assert text.startswith('{\n  "')
    for name in ("verdict", "grader", "n", "wins", "losses", "ties", "p_value", "detectable_gain", "rows_needed"):
        assert read[name] == getattr(run_report(), name)
    assert read["base"]["score"] == 0
    assert read["fine_tuned"]["score"] == 0.925
    assert [read["difference"][end] for end in ("value", "low", "high")] == [0.925, 0.8, 0.974]


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_report(run_report("WORSE"), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_report(run_report("BETTER"), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_missing_report_is_said_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(EvaluateError) as caught:
        files.read_report(tmp_path)
    assert caught.value.code == "report_not_found"
    assert str(tmp_path / "report.json") in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "place"),
    [("{", "the file"), ('{"verdict": "GREAT"}', "verdict"), ("[]", "the file"), ("\udcff", "the file")],
)
def test_a_file_that_is_no_report_is_said(text: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(EvaluateError) as caught:
        files.read_report(path)
    assert caught.value.code == "report_invalid"
    assert f": {place}: " in caught.value.message
