"""The report as JUnit XML, which CI systems show as tests: one for the verdict, one for the requirement, one a row."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from xml.etree import ElementTree as ET

from luthier.report import numbers
from luthier.report.requirement import requirement_sentence
from luthier.report.schema import ComparedRow, Report
from luthier.report.visible import one_line, visible
from luthier.report.words import exit_status

LONGEST_TEXT = 4_000
"""Characters of a prompt or an answer; what was cut is counted. CI systems keep such files in memory."""
_FORBIDDEN = re.compile("[\ufffe\uffff]")
"""What XML 1.0 forbids besides the controls and halves of pairs that `visible` spells out."""


def render_junit(reports: Mapping[str, Report]) -> str:
    """Returns a suite of tests for each report, by name.

    A row fails where the fine-tuned model scored lower than the base, or 0; it is skipped where it could not be scored or was
    trained on. The verdict fails where `luthier run` would exit with 1; where a requirement decides instead, a verdict that
    is not BETTER is skipped.
    """
    root = ET.Element("testsuites", name="luthier")
    totals = [_suite(root, name, report) for name, report in reports.items()]
    for key, values in zip(("tests", "failures"), zip(*totals, strict=True), strict=True):
        root.set(key, str(sum(values)))
    root.set("errors", "0")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, name: str, report: Report) -> tuple[int, int]:
    suite = ET.SubElement(root, "testsuite", name=_text(name))
    properties = ET.SubElement(suite, "properties")
    for key, value in _properties(report).items():
        ET.SubElement(properties, "property", name=_text(key), value=_text(value))
    _verdict(suite, report)
    if report.requirement is not None:
        case = ET.SubElement(suite, "testcase", classname="luthier", name="requirement", time="0")
        if not report.requirement.holds:
            _fault(
                case, "failure", report.requirement.expression, requirement_sentence(report.requirement), "requirement"
            )
    for row in report.rows:
        _row(suite, row, report)
    counts = len(suite.findall("testcase")), len(suite.findall("*/failure")), len(suite.findall("*/skipped"))
    for key, number in zip(("tests", "failures", "skipped"), counts, strict=True):
        suite.set(key, str(number))
    suite.set("errors", "0")
    spent = [seconds for seconds in report.seconds.values() if math.isfinite(seconds)]
    suite.set("time", f"{sum(spent):.3f}")
    if moment := _moment(report.created_at):
        suite.set("timestamp", moment)
    return counts[:2]


def _properties(report: Report) -> dict[str, str]:
    found = {
        "verdict": report.verdict,
        "grader": report.grader,
        "rows": str(report.n),
        "base": numbers.percent(report.base.score),
        "fine_tuned": numbers.percent(report.fine_tuned.score),
        "p_value": f"{report.p_value:.6g}",
    }
    if report.n:
        difference = report.difference
        found["difference"] = f"{difference.value:.6g} ({difference.low:.6g} to {difference.high:.6g})"
    return found | {f"sha256 of {name}": digest for name, digest in report.hashes.items()}


def _verdict(suite: ET.Element, report: Report) -> None:
    case = ET.SubElement(suite, "testcase", classname="luthier", name="verdict", time="0")
    if report.verdict == "BETTER":
        return
    if report.requirement is not None:
        ET.SubElement(case, "skipped", message=_text(f"{report.verdict}; the requirement decides. {report.reason}"))
    elif exit_status(report):
        _fault(case, "failure", report.verdict, report.reason, report.verdict)


def _row(suite: ET.Element, row: ComparedRow, report: Report) -> None:
    case = ET.SubElement(
        suite, "testcase", classname="luthier.rows", name=_text(one_line(row.id, 200) or "(no id)"), time="0"
    )
    reason = f": {row.reason}" if row.reason else ""
    if row.trained_on:
        message = f"a {row.trained_on} of a row that was trained on: no part of the verdict"
        ET.SubElement(case, "skipped", message=_text(message))
    elif row.outcome == "unscored":
        ET.SubElement(case, "skipped", message=_text(f"could not be scored{reason}"))
    elif row.outcome == "loss" or row.fine_tuned_score == 0:
        kind = "loss" if row.outcome == "loss" else "wrong"
        scores = f"{numbers.short(row.fine_tuned_score)}, base {numbers.short(row.base_score)}"
        texts = {
            "prompt": row.prompt,
            "expected": row.expected,
            report.base.name: row.base_answer,
            report.fine_tuned.name: row.fine_tuned_answer,
        }
        told = "\n\n".join(f"{name}:\n{_cut(text)}" for name, text in texts.items() if text)
        _fault(case, "failure", f"{kind}, score {scores}{reason}", told, kind)


def _fault(case: ET.Element, tag: str, message: str, text: str, kind: str) -> None:
    fault = ET.SubElement(case, tag, message=_text(message), type=_text(kind))
    fault.text = _text(text)


def _cut(text: str) -> str:
    hidden = len(text) - LONGEST_TEXT
    return text if hidden <= 0 else f"{text[:LONGEST_TEXT]} … ({numbers.plural(hidden, 'more character')})"


def _text(text: str) -> str:
    return _FORBIDDEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", visible(text))


def _moment(text: str) -> str:
    """Returns a time without its zone, as JUnit's schema wants it; empty where it is none."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return ""
