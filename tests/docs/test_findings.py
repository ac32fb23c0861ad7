"""The pages of the findings: one for each code, true to the catalogue, and every example is run."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import luthier
import luthier.data
from luthier.data.rules.catalogue import CODES, FIXABLE, GROUPS, RULES

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[2] / "docs"
FOLDER = DOCS / "findings"
SECTIONS = ["What it is", "Why it hurts", "Example", "Remedy", "Source"]
SEVERITIES = ("error", "warning", "info")

_HEAD = re.compile(
    r"# (?P<code>\S+)\n\nGroup `(?P<group>\w+)` · (?P<severities>[\w, ]+) · mended by `luthier clean`: (?P<mended>.+)\n"
)
_BLOCK = re.compile(r"^```(json|text|csv|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_REPORTED = re.compile(r"(error|warning|info) `([a-z-]+)` in line (\d+)")
_THRESHOLD = re.compile(r"`(_?[A-Z][A-Z_]+)` = ([\d,.]*\d)")


def page(code: str) -> str:
    return (FOLDER / f"{code}.md").read_text("utf-8")


def section(code: str, name: str) -> str:
    return page(code).split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]


def test_there_is_a_page_for_every_code_and_no_other():
    assert len(CODES) > 50
    assert {path.stem for path in FOLDER.glob("*.md")} - {"README"} == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_page_has_its_sections_and_says_what_the_catalogue_says(code):
    head = _HEAD.match(page(code))
    assert head is not None
    assert head["code"] == code
    assert head["group"] == CODES[code]
    assert head["severities"].split(", ") == [
        severity for severity in SEVERITIES if any(rule.code == code and rule.severity == severity for rule in RULES)
    ]
    assert re.findall(r"^## (.+)$", page(code), re.MULTILINE) == SECTIONS
    assert all(len(section(code, name).split()) >= 5 for name in SECTIONS)


@pytest.mark.parametrize("code", CODES)
def test_a_page_says_that_it_is_mended_where_a_rule_is(code):
    head = _HEAD.match(page(code))
    assert head is not None
    rules = [rule for rule in RULES if rule.code == code]
    assert head["mended"].startswith("yes" if code in FIXABLE else "no")
    assert ("by name" in head["mended"]) == any("by name" in (rule.fix or "") for rule in rules)
    # the command is given where it does something, and only there
    assert (
        "luthier clean rows.jsonl --out clean.jsonl" in section(code, "Remedy") and f"--only {code}" in page(code)
    ) == (code in FIXABLE)


@pytest.mark.parametrize("code", CODES)
def test_the_example_gives_the_finding(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files, more = example_files(code, Path())
    findings = luthier.check(files, only=[code], **more).findings
    assert code in {finding.code for finding in findings}
    reported = _REPORTED.findall(section(code, "Example"))
    assert {name for _, name, _ in reported} == {code}
    seen = {(finding.severity, str(finding.line)) for finding in findings if finding.code == code}
    said = {(severity, line) for severity, _, line in reported}
    # too-long is an error where the model's tokenizer is on this machine, and an info where it is not
    assert said & seen if code == "too-long" else said <= seen


@pytest.mark.parametrize("code", sorted(FIXABLE))
def test_cleaning_the_example_mends_it_where_the_page_says_so(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files, more = example_files(code, Path())
    luthier.clean(files, "clean.jsonl", only=[code], **more)
    left = {finding.code for finding in luthier.check(["clean.jsonl"], only=[code], **more).findings}
    head = _HEAD.match(page(code))
    assert head is not None
    assert code not in left or "in part" in head["mended"]


def example_files(code: str, folder: Path) -> tuple[list[Path], dict[str, Any]]:
    """Writes a page's example as `rows.jsonl` (or `rows.csv`, or with `test.jsonl`).

    Returns:
        The file to check, and what else the check is given.
    """
    block = _BLOCK.search(section(code, "Example"))
    assert block is not None
    kind, text = block.groups()
    more: dict[str, Any] = {}
    if kind == "csv":
        (folder / "rows.csv").write_text(text, "utf-8")
        return [folder / "rows.csv"], {"column_map": "user=question,assistant=answer"}
    if kind == "python":
        (folder / "example.py").write_text(text, "utf-8")
        made = runpy.run_path(str(folder / "example.py"))
        text = made["text"] if "text" in made else lines(made["rows"])
        if "against" in made:
            (folder / "test.jsonl").write_text(lines(made["against"]), "utf-8")
            more = {"against": [folder / "test.jsonl"]}
    (folder / "rows.jsonl").write_text(text, "utf-8")
    return [folder / "rows.jsonl"], more


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.mark.parametrize(
    "code", [code for code in CODES if (FOLDER / f"{code}.md").exists() and _THRESHOLD.search(page(code))]
)
def test_a_threshold_on_a_page_is_the_one_in_the_code(code):
    modules = [
        importlib.import_module(module.name) for module in pkgutil.walk_packages(luthier.data.__path__, "luthier.data.")
    ]
    for name, value in _THRESHOLD.findall(page(code)):
        values = {getattr(module, name) for module in modules if hasattr(module, name)}
        assert float(value.replace(",", "")) in values, f"{name} is {values or 'not there'}"


def test_the_index_names_every_code_under_its_group():
    index = (FOLDER / "README.md").read_text("utf-8")
    listed = {}
    for part in index.split("\n## ")[1:]:
        listed.update(dict.fromkeys(re.findall(r"\]\(([a-z-]+)\.md\)", part), part.split("\n", 1)[0].split("`")[1]))
    assert listed == CODES
    assert set(listed.values()) == set(GROUPS)


def test_the_quickstart_leads_to_the_pages():
    assert "(findings/README.md)" in (DOCS / "quickstart.md").read_text("utf-8")
