"""Markdown for a pull request, read by a parser that is not ours."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from sample_reports import bare_report, file_report, full_report, rows, run_report
from test_html import poisoned

from luthier.report.markdown import block, render_markdown, text
from luthier.report.schema import Report
from luthier.report.visible import one_line, visible

pytestmark = pytest.mark.unit

GITHUB = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def inline(source: str) -> list[Token]:
    return [child for token in GITHUB.parse(source) for child in token.children or []]


def words(source: str) -> str:
    return "".join(child.content if child.type in ("text", "text_special") else " " for child in inline(source))


def test_the_verdict_the_table_and_what_was_found_stand_in_it() -> None:
    source = render_markdown(full_report())
    assert source.startswith("### ✅ BETTER\n\nThe fine-tuned model is right on 92.5 % of the test rows")
    assert "| base | 0 % (0 % to 8.8 %) |  |  | 1 |" in source
    assert "| retrieved | 52.5 % (37.5 % to 67.0 %) | +52.5 pp (+41.5 to +62.5) | 0.0024 | 2 |" in source
    assert "**requirement: does not hold.**" in source
    assert "**contamination: 8 rows left out.**" in source
    assert "The fine-tuned model is BETTER than each of base, few-shot and retrieved." in source
    assert "<details><summary>Wins: 3 of 34</summary>" in source
    assert "<details><summary>Losses: 1 of 1</summary>" in source
    assert "fine-tuned: as expected" in source


@pytest.mark.parametrize("report", [run_report(), full_report(), file_report(), bare_report()])
def test_it_is_markdown_with_its_tables_and_folds_whole(report: Report) -> None:
    source = render_markdown(report)
    tokens = GITHUB.parse(source)
    assert tokens[0].type == "heading_open"
    assert [token.type for token in tokens].count("table_open") >= 1
    assert source.count("<details>") == source.count("</details>")
    html = [token.content for token in tokens if token.type == "html_block"]
    assert all(re.fullmatch(r"</?details>(<summary>[^<]*</summary>)?\n?", each) for each in html)


@pytest.mark.parametrize(
    "payload",
    [
        "<script>alert(1)</script>",
        "</details><img src=x>",
        "```\n</details>\n# heading\n```",
        "| a | b |",
        "**bold** _it_ ~~gone~~ `code` [link](http://x.y) ![img](http://x.y/z.png)",
        "<http://x.y> https://x.y www.x.y @octocat #12 org/repo#3 :smile: $x$",
        "- item\n1. one\n> quote\n---\n===",
        "&lt;&#60;\\*",
    ],
)
def test_nothing_in_the_data_acts(payload: str) -> None:
    source = render_markdown(poisoned(full_report(), payload))
    tokens = GITHUB.parse(source)
    html = "".join(token.content for token in tokens if token.type == "html_block")
    assert not re.search(r"<(?!/?(details|summary)>)", html)
    kinds = {child.type for child in inline(source)}
    assert not kinds & {"html_inline", "link_open", "image", "code_inline", "em_open", "s_open"}
    clean = [token.type for token in GITHUB.parse(render_markdown(full_report()))]
    assert [token.type for token in tokens].count("table_open") == clean.count("table_open")
    assert [token.type for token in tokens].count("heading_open") == 1
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", source, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"@octocat|(?<!&)#12|:smile:|https?://|www\.|\$x\$", outside)


@given(st.text(st.characters(exclude_categories=[]), max_size=80))
def test_a_text_reads_as_it_was(value: str) -> None:
    source = f"- {text(value)}" if text(value) else ""
    kinds = {child.type for child in inline(source)}
    assert kinds <= {"text", "text_special"}
    told = re.sub("(?<=[@#])\u200b", "", "".join(child.content for child in inline(source)))
    assert told == one_line(value, 1_500).strip()


@given(st.text("`a~\n", max_size=40))
def test_a_block_holds_its_text_whatever_fences_it_has(value: str) -> None:
    (fence,) = GITHUB.parse("\n".join(block(value)))
    assert fence.type == "fence"
    assert fence.content.rstrip("\n") == visible(value).rstrip("\n")


def test_it_fits_a_comment_however_long_the_data() -> None:
    long = [
        row.model_copy(update={"prompt": "p" * 100_000, "base_answer": "b" * 100_000, "id": "i" * 500})
        for row in rows()
    ]
    source = render_markdown(run_report(rows=[row.model_dump() for row in long], notes=["n" * 5_000] * 300))
    assert len(source) < 65_536
    assert "98,800 more characters" in source
    assert "more, in report.html" in source
