"""`luthier report`: any format, one run or several, and the exit status that a CI gate rests on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints
from xml.etree import ElementTree as ET

import pytest

from luthier.cli import report as command
from luthier.report.formats import Format
from luthier.report.schema import DifferenceInterval, ModelScore, Report

pytestmark = pytest.mark.unit


def made(verdict: str) -> Report:
    return Report(
        verdict=verdict,  # type: ignore[arg-type]
        reason="A reason.",
        grader="json",
        n=40,
        base=ModelScore(name="base", score=0.1, low=0.04, high=0.23),
        fine_tuned=ModelScore(name="fine-tuned", score=0.9, low=0.77, high=0.96),
        difference=DifferenceInterval(value=0.8, low=0.6, high=0.9, method="Newcombe."),
        wins=32,
        losses=0,
        ties=8,
        p_value=1e-9,
        test="Exact McNemar test.",
        detectable_gain=0.2,
        rows_needed=10,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return written(tmp_path / "first", made("BETTER"))


def written(folder: Path, report: Report) -> Path:
    folder.mkdir()
    (folder / "report.json").write_text(report.model_dump_json())
    return folder


def luthier(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "luthier", "report", *map(str, words)], capture_output=True, text=True, check=False
    )


def test_a_run_s_report_is_printed_and_written_in_each_format(run: Path, tmp_path: Path) -> None:
    shown = luthier(run)
    assert shown.returncode == 0, shown.stderr
    assert "BETTER" in shown.stdout
    assert "<!doctype html>" in luthier(run / "report.json", "--format", "html").stdout
    out = tmp_path / "report.xml"
    result = luthier(run, "--format", "junit", "--out", out)
    assert result.returncode == 0
    assert result.stdout == ""
    assert str(out) in result.stderr
    assert [suite.get("name") for suite in ET.parse(out).getroot()] == ["first"]


def test_several_runs_stand_side_by_side(run: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "second", made("WORSE"))
    found = json.loads(luthier(run, other, "--format", "json").stdout)
    assert [each["name"] for each in found["runs"]] == ["first", "second"]
    assert "| second | ❌ WORSE |" in luthier(run, other, "--format", "md").stdout


def test_a_requirement_decides_the_exit_status(run: Path, tmp_path: Path) -> None:
    assert luthier(run, "--require", "difference.low > 0").returncode == 0
    missed = luthier(run, "--require", "difference.low > 0.7", "--format", "md")
    assert missed.returncode == 1
    assert "**requirement: does not hold.**" in missed.stdout
    other = written(tmp_path / "second", made("WORSE"))
    assert luthier(run, other, "--require", "verdict == 'BETTER'").returncode == 1
    wrong = luthier(run, "--require", "diference.low > 0")
    assert wrong.returncode == 2
    assert "Did you mean difference?" in wrong.stderr


def test_a_folder_without_a_report_is_said(tmp_path: Path) -> None:
    result = luthier(tmp_path)
    assert result.returncode == 2
    assert "there is no report to read" in result.stderr


def test_the_command_offers_the_formats_there_are() -> None:
    assert get_args(command.Formats) == get_args(Format)
    assert get_type_hints(command.report)["require"] == str | None
