from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.data.check import CheckResult, check_files
from luthier.data.findings import Finding
from luthier.data.rules.answer_form import AnswerForm, date_pattern, form_of

pytestmark = pytest.mark.unit

Row = dict[str, Any]
Rows = Callable[[int], list[Row]]
Write = Callable[..., Path]
LABELS = ["billing", "shipping", "returns", "other"]


@pytest.fixture
def answered(write: Write, rows: Rows) -> Callable[[list[str]], CheckResult]:
    """Checks rows with these answers to prompts of which no two are alike."""

    def answered(answers: list[str]) -> CheckResult:
        many = rows(len(answers))
        for row, answer in zip(many, answers, strict=True):
            row["messages"][1]["content"] = answer
        return check_files([write(many)])

    return answered


def found(result: CheckResult, code: str) -> list[Finding]:
    return [finding for finding in result.findings if finding.code == code]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ('{"a": 1}', "json"),
        ("[1, 2]", "json"),
        ('{"a": 1', "broken json"),
        ("{name} is a placeholder", "text"),
        ("2026-06-10", "date"),
        ("June 10, 2026", "date"),
        ("shipping", "label"),
        ("card_payment_wrong_exchange_rate_for_a_payment_abroad", "label"),
        ("It will be there on Monday, I should think.", "text"),
        ("two\nlines", "text"),
    ],
)
def test_the_form_of_an_answer(answer: str, kind: str) -> None:
    assert form_of(answer).kind == kind


def test_what_a_json_answer_is_made_of() -> None:
    form = form_of('{"date": "2026-06-10", "total": 3.5, "note": null}')
    assert form == AnswerForm(
        "json", '["date","note","total"]', (("date", "a date like 2026-06-10"), ("total", "a number"))
    )
    assert form_of('{"items": [], "name": ""}').empty
    assert not form_of('{"items": [1]}').empty


@pytest.mark.parametrize(
    ("text", "pattern"), [("10.06.2026", "10.06.2026"), ("3rd May 2026", "10 June 2026"), ("10-11", None)]
)
def test_dates_are_told_by_their_pattern(text: str, pattern: str | None) -> None:
    assert date_pattern(text) == pattern


def test_answers_that_are_no_json_among_json(answered: Callable[[list[str]], CheckResult]) -> None:
    answers = [json.dumps({"name": f"n{n}", "count": n}) for n in range(40)]
    answers[7], answers[9] = "I could not find an order.", '{"name": "n9", "count": 9'
    result = answered(answers)
    (finding,) = found(result, "answer-format-differs")
    assert finding.rows.lines == (8, 10)
    assert "38 of 40 answers are JSON; 1 free text, 1 broken JSON" in finding.message


def test_json_of_another_shape_and_a_date_of_another_form(answered: Callable[[list[str]], CheckResult]) -> None:
    answers = [json.dumps({"name": f"n{n}", "date": f"2026-06-{n % 28 + 1:02d}"}) for n in range(40)]
    answers[3] = json.dumps({"customer": "n3", "date": "2026-06-04"})
    answers[5] = json.dumps({"name": "n5", "date": "June 6, 2026"})
    answers[6] = json.dumps({"name": 6, "date": "2026-06-07"})
    said = {finding.rows.lines: finding.message for finding in found(answered(answers), "answer-format-differs")}
    assert said.keys() == {(4,), (6,), (7,)}
    assert 'have the keys ["date","name"], line 4 has ["customer","date"]' in said[4,]
    assert 'under "date" 39 of 40 answers have a date like 2026-06-10; 1 a date like June 10, 2026' in said[6,]
    assert 'under "name" 38 of 39 answers have a text; 1 a number' in said[7,]


def test_json_whose_keys_are_meant_to_vary_is_left_alone(answered: Callable[[list[str]], CheckResult]) -> None:
    answers = [json.dumps({f"k{n % 4}": n, "name": None if n % 2 else "x"}) for n in range(60)]
    assert found(answered(answers), "answer-format-differs") == []


def test_labels_spelt_in_two_ways_and_answers_outside_the_set(answered: Callable[[list[str]], CheckResult]) -> None:
    answers = [LABELS[n % 4] for n in range(80)]
    answers[5], answers[6], answers[8] = "Shipping", "return_s", "delivery"
    said = {finding.rows.lines: finding.message for finding in found(answered(answers), "answer-format-differs")}
    assert said.keys() == {(6, 7), (9,)}
    assert "“Shipping” beside “shipping”" in said[6, 7]
    assert "4 labels stand in nearly all rows; 1 answer stands in no other row: “delivery”" in said[9,]


def test_a_sentence_among_labels(answered: Callable[[list[str]], CheckResult]) -> None:
    answers = [LABELS[n % 4] for n in range(80)]
    answers[11] = "I believe that this is about the shipping of a parcel."
    (finding,) = found(answered(answers), "answer-format-differs")
    assert finding.rows.lines == (12,)


def test_short_answers_to_open_questions_are_no_labels(answered: Callable[[list[str]], CheckResult]) -> None:
    result = answered([f"city {n}" for n in range(80)])
    assert found(result, "answer-format-differs") == []
    assert result.summary["labels"] == {}


def test_labels_are_counted_and_rare_ones_named(answered: Callable[[list[str]], CheckResult]) -> None:
    answers = ["billing"] * 100 + ["shipping"] * 90 + ["returns"] * 3
    result = answered(answers)
    assert result.summary["labels"] == {"billing": 100, "shipping": 90, "returns": 3}
    (finding,) = found(result, "label-imbalance")
    assert finding.rows.lines == (191, 192, 193)
    assert "“returns” 3; “billing” has 100" in finding.message
    assert found(answered(["billing"] * 100 + ["shipping"] * 30), "label-imbalance") == []


def test_cases_that_the_rest_shows_will_come(answered: Callable[[list[str]], CheckResult]) -> None:
    full = [json.dumps({"name": f"n{n}"}) for n in range(40)]
    (finding,) = found(answered(full), "missing-edge-cases")
    assert (finding.severity, finding.rows.count) == ("info", 0)
    assert "nothing to extract" in finding.message
    assert found(answered([*full, '{"name": null}']), "missing-edge-cases") == []
    assert "fits none of the labels" in found(answered(LABELS[:3] * 20), "missing-edge-cases")[0].message
    assert found(answered(LABELS * 20), "missing-edge-cases") == []


def test_an_answer_in_another_language(write: Write, rows: Rows) -> None:
    many = rows(40)
    for row in many:
        row["messages"][0]["content"] = "Please tell me when the parcel with the shoes will be at my house this week."
        row["messages"][0]["content"] += " " + row["messages"][1]["content"]
        row["messages"][1]["content"] = "It was sent on Monday and should be with you by the end of the week, I think."
    german = "Es wurde am Montag verschickt und sollte bis zum Ende der Woche bei Ihnen sein, denke ich."
    many[4]["messages"][1]["content"] = german
    (finding,) = found(check_files([write(many)]), "language-mix")
    assert finding.rows.lines == (5,)
    assert "39 of 40 answers are in en; here de 1" in finding.message
    many[4]["messages"][0]["content"] = "Bitte sagen Sie mir, wann das Paket mit den Schuhen bei mir im Haus sein wird."
    assert found(check_files([write(many)]), "language-mix") == []
