"""JUnit XML as CI systems read it."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from lxml import etree
from sample_reports import bare_report, file_report, full_report, run_report
from test_html import poisoned

from luthier.report.junit import render_junit
from luthier.report.requirement import evaluate_requirement
from luthier.report.schema import Report

pytestmark = pytest.mark.unit


def cases(report: Report) -> dict[str, ET.Element]:
    root = ET.fromstring(render_junit({"run": report}))
    return {case.attrib["name"]: case for case in root.iter("testcase")}


def outcome(case: ET.Element) -> str:
    return case[0].tag if len(case) else "passed"


@pytest.mark.parametrize("report", [run_report("WORSE"), full_report(), file_report(), bare_report()])
def test_the_counts_are_those_of_the_cases(report: Report) -> None:
    root = ET.fromstring(render_junit({"one": report, "two": run_report()}))
    suites = root.findall("testsuite")
    assert [suite.attrib["name"] for suite in suites] == ["one", "two"]
    for suite in suites:
        found = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(found)
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
        assert suite.attrib["errors"] == "0"
        assert re.fullmatch(r"[0-9]+\.[0-9]{3}", suite.attrib["time"])
        assert len({case.attrib["name"] for case in found}) == len(found)
    for key in ("tests", "failures"):
        assert int(root.attrib[key]) == sum(int(suite.attrib[key]) for suite in suites)


def test_a_row_fails_where_it_lost_or_is_wrong_and_is_skipped_where_it_was_not_scored() -> None:
    found = cases(run_report())
    for row in run_report().rows:
        wanted = {"loss": "failure", "unscored": "skipped", "tie": "failure", "win": "passed"}[row.outcome]
        assert outcome(found[row.id]) == wanted, row.id
    lost = found["orders.jsonl:6"][0]
    assert lost.attrib == {"message": "loss, score 0, base 1: total differs", "type": "loss"}
    assert lost.text is not None
    assert "expected:\n{" in lost.text
    assert '"quantity":999' in lost.text


def test_the_verdict_fails_where_the_command_does() -> None:
    assert outcome(cases(run_report("BETTER"))["verdict"]) == "passed"
    assert outcome(cases(run_report("WORSE"))["verdict"]) == "failure"
    assert "requirement" not in cases(run_report())


@pytest.mark.parametrize(("expression", "wanted"), [("n > 1", "passed"), ("n > 1000", "failure")])
def test_where_a_requirement_decides_the_verdict_is_told_and_fails_nothing(expression: str, wanted: str) -> None:
    report = run_report("WORSE")
    report = report.model_copy(update={"requirement": evaluate_requirement(expression, report)})
    found = cases(report)
    assert outcome(found["requirement"]) == wanted
    assert outcome(found["verdict"]) == "skipped"
    assert "WORSE" in found["verdict"][0].attrib["message"]


@pytest.mark.parametrize(
    "payload",
    ["\x00\x08\x0b\x1b[31m\x1f\x7f", "\ud800x\udfff", "\ufffe\uffff", "]]>&<a b='c'\">", "\r\n\t x", "\u202e"],
)
def test_whatever_stands_in_the_data_it_is_xml_1_0(payload: str) -> None:
    text = render_junit({f"run{payload}": poisoned_rows(payload)})
    strict = etree.fromstring(text.encode(), etree.XMLParser(recover=False, huge_tree=False))
    assert len(strict.findall(".//testcase")) == 41
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", text)


def poisoned_rows(payload: str) -> Report:
    changed = run_report().model_copy(update={"reason": payload, "grader": payload})
    keys = ("id", "prompt", "expected", "base_answer", "fine_tuned_answer", "reason")
    rows = [row.model_copy(update={key: getattr(row, key) + payload for key in keys}) for row in changed.rows]
    return changed.model_copy(update={"rows": rows})


def test_a_long_text_is_cut_and_counted() -> None:
    row = run_report().rows[5].model_copy(update={"fine_tuned_answer": "y" * 10_000})
    (fault,) = cases(run_report(rows=[row.model_dump()]))[row.id]
    assert fault.text is not None
    assert "(6,000 more characters)" in fault.text


def test_each_string_of_a_whole_report_may_hold_markup() -> None:
    root = ET.fromstring(render_junit({"a": poisoned(full_report(), "<&>\"'")}))
    assert len(root.findall(".//testcase")) == 42
