"""The page a person opens: whole, true, and harmless whatever the data says."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from sample_reports import bare_report, confusion, file_report, full_report, rows, run_report

from luthier.report.html import render_html
from luthier.report.schema import Report, Verdict
from luthier.report.words import power, remarks

pytestmark = pytest.mark.unit

VOID = {"meta", "input", "br", "hr", "img", "link"}
DRAWN = {"circle", "path", "rect", "line"}


class Page(HTMLParser):
    """Reads a page strictly: each tag closed, in order, each attribute known."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in <{tag}>"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in DRAWN
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = attributes.items()
        return [
            found for name, found in self.tags if name == tag and all(found.get(key) == value for key, value in wanted)
        ]


def poisoned(value: Any, payload: str) -> Any:
    """Returns the same tree with the payload in every free string, keys of mappings included."""
    if isinstance(value, BaseModel):
        changed = {}
        for name, field in type(value).model_fields.items():
            old = getattr(value, name)
            changed[name] = old if get_origin(field.annotation) is Literal else poisoned(old, payload)
        return type(value).model_validate(changed)
    if isinstance(value, str):
        return f"{value}{payload}"
    if isinstance(value, list):
        return [poisoned(item, payload) for item in value]
    if isinstance(value, dict):
        return {f"{key}{payload}": poisoned(item, payload) for key, item in value.items()}
    return value


@pytest.mark.parametrize(
    "payload",
    [
        "<script>alert(1)</script>",
        "</style><img src=x onerror=alert(1)>",
        '" onmouseover="alert(1)" x=\'',
        "' autofocus onfocus=alert(1) '",
        "</title></textarea><svg onload=alert(1)>",
        "{{ 7 * 7 }}{% raw %}",
        "<!-- --!> <![CDATA[ ]]>",
        "&lt;b&gt;&#60;i&#62;",
    ],
)
def test_markup_in_any_string_stays_text(payload: str) -> None:
    clean, page = Page(render_html(full_report())), Page(render_html(poisoned(full_report(), payload)))
    # a longer text may fold, and another text differs in other words
    folding = ("details", "summary", "div", "span", "ins", "del")
    tags, safe_tags = ([tag for tag, _ in one.tags if tag not in folding] for one in (page, clean))
    assert tags == safe_tags
    names, safe_names = ({name for _, found in one.tags for name in found} for one in (page, clean))
    assert names == safe_names
    assert page.text.count(" ".join(payload.split())) > 100


@pytest.mark.parametrize("payload", ["\x1b[2J\x07\x00", "\u202etxt.exe\u2066", "\x85\u2028\u200f\ufeff", "\x9b31m\x7f"])
def test_characters_that_act_are_spelled_out_in_every_field(payload: str) -> None:
    page = render_html(poisoned(full_report(), payload))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]", page)
    assert Page(page).text.count("⟨U+" if "\x1b" not in payload else "␛[2J␇␀") > 100


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_each_verdict_has_its_word_its_sign_and_its_class(verdict: Verdict) -> None:
    text = render_html(run_report(verdict))
    page = Page(text)
    kind = {"BETTER": "better", "WORSE": "worse", "NO DIFFERENCE SHOWN": "none", "UNDERPOWERED": "underpowered"}[
        verdict
    ]
    assert page.all("body", **{"class": kind})
    assert f"<span>{verdict}</span></h1>" in text
    assert run_report(verdict).reason in page.text


def test_no_two_verdicts_share_a_sign() -> None:
    pages = [render_html(run_report(verdict)) for verdict in get_args(Verdict)]
    signs = {sign for page in pages for sign in re.findall(r'<svg class="glyph".*?</svg>', page, re.DOTALL)}
    assert len(signs) == 4


@pytest.mark.parametrize(
    "report",
    [run_report(), full_report(), file_report(), bare_report()],
    ids=["run", "full", "files", "bare"],
)
def test_the_page_is_well_formed_and_asks_nothing_of_anybody(report: Report) -> None:
    text = render_html(report)
    page = Page(text)
    assert text.startswith("<!doctype html>")
    names = {name for _, attributes in page.tags for name in attributes}
    assert not names & {"src", "srcset", "action", "style", "xlink:href", "data", "poster"}
    links = [str(attributes["href"]) for _, attributes in page.tags if "href" in attributes]
    places = {attributes.get("id") for _, attributes in page.tags}
    assert all(link.startswith("#") and link[1:] in places for link in links)
    assert not any(name.startswith("on") for name in names)
    assert text.count("<script") == text.count("</script>") == 1
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "img", "base", "form"}
    assert "url(" not in text
    assert "@import" not in text
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)


def test_the_policy_forbids_everything_but_the_page_s_own_style_and_script() -> None:
    text = render_html(full_report())
    (policy,) = Page(text).all("meta", **{"http-equiv": "Content-Security-Policy"})
    allowed = ""
    for tag in ("style", "script"):
        found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.S)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        allowed += f"{tag}-src 'sha256-{digest}'; "
    assert policy["content"] == f"default-src 'none'; {allowed}base-uri 'none'; form-action 'none'"


def test_the_script_only_hides_and_counts() -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", render_html(full_report()), re.S)
    for acting in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval",
        "fetch",
        "XMLHttp",
        "import",
        "src",
    ):
        assert acting not in script


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_the_drawn_bars_match_the_numbers(verdict: Verdict) -> None:
    report = run_report(verdict)
    page = Page(render_html(report))
    widths = [float((rect["width"] or "").rstrip("%")) for rect in page.all("rect", **{"class": "fill"})]
    assert widths == pytest.approx([100 * (report.base.score or 0), 100 * (report.fine_tuned.score or 0)])
    (won,) = page.all("rect", **{"class": "tuned"})
    (lost,) = page.all("rect", **{"class": "base"})
    assert float((won["width"] or "").rstrip("%")) == pytest.approx(100 * report.wins / report.n, abs=1e-3)
    assert float((lost["width"] or "").rstrip("%")) == pytest.approx(100 * report.losses / report.n, abs=1e-3)
    assert float((lost["x"] or "").rstrip("%")) == pytest.approx(100 * report.wins / report.n, abs=1e-3)


def test_the_numbers_stand_in_the_page_as_a_statistician_writes_them() -> None:
    text = Page(render_html(run_report())).text
    for expected in (
        "92.5 % 80.1 % to 97.4 %",
        "+92.5 pp +80.0 to +97.4",
        "p < 0.0001, two-sided",
        "wins 37",
        "field F1 3.1 % 97.1 % +94.0 pp improved",
        "a gain of 19.2 percentage points",
        "takes 9 test rows, which this test has",
        "4,884,480 3.5 % of 139,399,488",
        "2 min 31 s",
        "2026-06-10 09:41 UTC",
        "train.learning_rate 0.001 LoRA on a model 576 wide",
        "data.on_invalid stop",
        "9f9f9f9f",
    ):
        assert expected in text, expected


def test_what_was_left_out_is_said() -> None:
    text = Page(render_html(run_report())).text
    for said in [
        *run_report().notes,
        "base: 1 answer could not be scored.",
        "fine-tuned: 2 answers reached the length limit",
    ]:
        assert said in text
    assert "3 rows of the data left out, listed in data/rejected.jsonl." in text
    assert remarks(bare_report()) == []
    assert "Before you rely on this" not in render_html(bare_report())


def test_every_row_stands_in_the_table_whole_with_its_answers() -> None:
    long_prompt = "system: Be brief.\n\nuser: " + "word " * 400 + "the very end"
    row = rows(1)[0].model_copy(update={"prompt": long_prompt, "base_answer": "no", "expected": ""})
    text = render_html(run_report(rows=[row.model_dump()]))
    page = Page(text)
    assert text.count("the very end") == 2, "folded with its end in view, and whole"
    assert re.search(r"show [\d,]+ more characters", page.text)
    assert "word " * 399 in re.sub(r"\s+", " ", "".join(page.words))
    assert "empty" in page.text


def test_rows_can_be_filtered_without_a_script() -> None:
    page = Page(render_html(run_report()))
    ids = [field["id"] for field in page.all("input", type="radio")]
    assert ids == ["show-all", "show-loss", "show-win", "show-unscored", "show-tie"]
    bodies = [body.get("class") for body in page.all("tbody") if body.get("class")]
    assert len(bodies) == 40
    order = [bodies.index(outcome) for outcome in ("loss", "win", "unscored", "tie")]
    assert order == sorted(order)


def test_a_system_prompt_shared_by_all_rows_is_shown_once() -> None:
    text = render_html(run_report())
    assert text.count("Extract the order as compact JSON") == 1
    assert "Each prompt begins with the same" in text


def test_a_comparison_of_plain_files_has_no_empty_sections() -> None:
    text = render_html(file_report())
    page = Page(text)
    assert re.findall(r"<h2[^>]*>([^<]*)</h2>", text) == [
        "Row by row",
        "What this test could have shown",
        "Scores in numbers",
        "Every row",
    ]
    assert "row-11 unscored 0.775 –" in page.text
    assert "row-1 win 0.525 0.544" in page.text
    assert "fine-tuned" not in page.text


def test_where_nothing_was_scored_no_difference_is_claimed() -> None:
    page = Page(render_html(bare_report()))
    assert "difference –" in page.text
    assert "0 pp" not in page.text.replace("−5", "").replace("+5 pp", "")
    assert page.all("rect", **{"class": "fill"}) == []


def test_power_is_told_in_sentences() -> None:
    assert power(run_report("UNDERPOWERED"))[0] == "With 8 rows, no gain shows with 80 % power, however large it is."
    assert (
        power(run_report("WORSE"))[1] == "To show the smallest gain worth having with 80 % power takes 168 test rows."
    )


def headings(text: str) -> list[str]:
    return [re.sub(r"<[^>]+>", "", heading) for heading in re.findall(r"<h2[^>]*>(.*?)</h2>", text)]


def test_a_whole_report_has_its_sections_in_the_order_a_reader_asks() -> None:
    found = headings(render_html(full_report()))
    wanted = [
        "Before you rely on this",
        "Requirement: does not hold",
        "Against what one would try first",
        "Row by row",
        "What this test could have shown",
        "Scores in numbers",
        "What else training did",
        "Field by field",
        "Label by label",
        "How answers were scored",
        "Would more data help?",
        "What the uncertainty is made of",
        "Training",
        "Data",
        "Every answer",
        "Recipe",
        "Made with",
    ]
    assert [heading for heading in found if heading in wanted] == wanted


def test_all_models_of_the_table_are_drawn_with_their_intervals() -> None:
    page = Page(render_html(full_report()))
    widths = [float((rect["width"] or "").rstrip("%")) for rect in page.all("rect", **{"class": "fill"})]
    assert widths == [0, 30, 52.5, 92.5]
    for said in ("30.0 % 18.0 % to 45.4 %", "few-shot → fine-tuned", "0.19 UNDERPOWERED", "BETTER than each of base"):
        assert said in page.text
    assert page.text.index("few-shot → fine-tuned") < page.text.index("base → few-shot")


def test_what_training_did_besides_is_said_with_its_numbers() -> None:
    text = Page(render_html(full_report())).text
    for said in (
        "contamination 8 rows left out",
        "forgetting DRIFT",
        "Forgetting: DRIFT Prose is read with 1.17 times",
        "Mix in general rows",
        "all 5,000 21.4 25.0 1.17 1.14 to 1.21 0.0810",
        "3 gained, 9 lost; a loss of 3.1 pp would show",
        "harmful requests refused, of 8 3 0",
        "without those trained on 40 +92.5 pp",
        "with them 48 +94.0 pp",
        "on them alone 8 +100.0 pp",
        "duplicate 5, near duplicate 2, shared user message 1",
        "asked in other words, 32 rows 0 % 9.4 %",
        "a JSON object 100 % of training answers 7.5 % 97.5 %",
        "difference.low > 0 and n >= 100",
        "items[].product 80 0 % 99.5 % 99.0 % 100 %",
        "the function took longer than 2 min 1",
        "CANNOT BE TOLD. For 5 points more",
        "33 sources",
        "Each row was answered 4 times",
        "18.4 % of its square",
    ):
        assert said in text, said


def test_words_that_differ_are_marked_in_the_answer_and_nowhere_else() -> None:
    text = render_html(full_report())
    assert "<del>5</del><ins>999</ins>" in text
    wrong = [row for row in full_report().rows if row.fine_tuned_answer != row.expected]
    assert text.count("<ins>") == 1 + len(wrong), "one word each, and the legend"
    assert "<ins>" not in render_html(bare_report())


def test_rows_can_be_searched_and_the_field_stays_hidden_without_its_script() -> None:
    page = Page(render_html(full_report()))
    (place,) = page.all("p", id="search")
    assert "hidden" in place
    assert page.all("input", id="find", type="search")
    assert page.all("table", id="rows")


def test_77_labels_are_readable_the_most_confused_first_and_the_matrix_folded() -> None:
    text = render_html(full_report())
    page = Page(text)
    assert "12 of 220 pairs" in page.text
    first = re.search(r"<tbody><tr><th[^>]*>card_payment_08_not_recognised</th><td[^>]*>refund_09</td>", text)
    assert first is not None
    matrices = page.all("svg", **{"class": "matrix"})
    assert len(matrices) == 2
    assert not any("open" in details for details in page.all("details"))
    few = Page(render_html(full_report(confusion=confusion(6).model_dump())))
    assert sum("open" in details for details in few.all("details")) == 1


def test_the_learning_curve_is_drawn_dashed_beyond_the_data() -> None:
    text = render_html(full_report())
    page = Page(text)
    assert len(page.all("circle", **{"class": "measured"})) == 4
    (beyond,) = page.all("path", **{"class": "valid beyond"})
    (known,) = [path for path in page.all("path", **{"class": "valid"}) if "Z" not in str(path["d"])][:1]
    assert str(beyond["d"])[1:].split("L")[0] == str(known["d"]).split("L")[-1], "it begins where the known part ends"
    assert "stroke-dasharray" in text
