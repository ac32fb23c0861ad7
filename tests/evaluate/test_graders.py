"""Graders: what scores 1, what scores 0 and why, and what cannot be scored."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import EvaluateError
from luthier.evaluate.graders import (
    GRADERS,
    choose_grader,
    confusion_matrix,
    field_scores,
    find_grader,
    infer_grader,
    label_of,
    open_grader,
    parse_json,
    summarise,
)
from luthier.recipe import EvaluateRecipe

pytestmark = pytest.mark.unit

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def graded(name: str, target: str, answer: str) -> tuple[float | None, str | None]:
    grade = GRADERS[name].grade(target, answer)
    return grade.score, grade.reason


@pytest.mark.parametrize(
    ("target", "answer", "score", "reason"),
    [
        ("Paris", " Paris\n", 1.0, None),
        ("", "", 1.0, None),
        ("Paris", "", 0.0, "the answer is empty"),
        ("a b", "a  b", 0.0, "differs in whitespace only"),
        ("Paris", "paris", 0.0, "differs in upper and lower case only"),
        ("Paris", "Paris, of course", 0.0, "right, but more text follows"),
        ("Paris", "London", 0.0, "differs from the expected answer"),
    ],
)
def test_exact(target: str, answer: str, score: float, reason: str | None) -> None:
    assert graded("exact", target, answer) == (score, reason)


@pytest.mark.parametrize(
    ("target", "answer", "score"),
    [(" Paris ", "It is Paris.", 1.0), ("Paris", "It is paris.", 0.0), ("Paris", "", 0.0), (" ", "anything", None)],
)
def test_contains(target: str, answer: str, score: float | None) -> None:
    given_score, reason = graded("contains", target, answer)
    assert given_score == score
    assert (reason is None) == (score == 1.0)


@pytest.mark.parametrize(
    ("target", "answer", "score", "reason"),
    [
        ("positive", '  "Positive." ', 1.0, None),
        ("positive", "“POSITIVE”.", 1.0, None),
        ("Straße", "STRASSE", 1.0, None),
        ("positive", "The answer: positive", 0.0, "the label stands among other text"),
        ("no", "unknown", 0.0, "a different label"),
        ("no", " . ", 0.0, "the answer is empty"),
        ('""', "x", None, "the expected label is empty"),
    ],
)
def test_label(target: str, answer: str, score: float | None, reason: str | None) -> None:
    assert graded("label", target, answer) == (score, reason)


@given(st.text())
def test_a_label_is_trimmed_once_and_for_all(text: str) -> None:
    assert label_of(label_of(text)) == label_of(text)


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"b":[1.0,2e0],"a":1}'),
        ("-0", "0"),
        ("0.1", "1e-1"),
        ('"é"', '"\\u00e9"'),
        (f'{{"a": 1{"0" * 6000}}}', f'{{"a": 1{"0" * 6000}}}'),
        ("{}", " {} "),
    ],
)
def test_equal_json(target: str, answer: str) -> None:
    grade = GRADERS["json"].grade(target, answer)
    assert grade.score == 1.0
    assert grade.reason is None
    assert grade.details["field_f1"] == 1.0


@pytest.mark.parametrize(
    ("target", "answer", "reason"),
    [
        ('{"a":1}', '{"a":true}', "a is true, expected 1"),
        ('{"a":0.1}', '{"a":0.10000000000000001}', "a is 0.10000000000000001, expected 0.1"),
        ("[1,2]", "[2,1]", "[0] is 2, expected 1 (and 1 more)"),
        ('{"a":[{"b":"x"}]}', '{"a":[{}]}', "a[0].b is missing (and 1 more)"),
        ('{"a":1}', '{"a":1,"b":null}', "b is not expected"),
        ('{"a":{}}', '{"a":[]}', "a is [], expected {}"),
        ("1", '"1"', 'the value is "1", expected 1'),
    ],
)
def test_unequal_json_names_the_first_difference(target: str, answer: str, reason: str) -> None:
    assert graded("json", target, answer) == (0.0, reason)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "it is empty"),
        ('```json\n{"a": 1}\n```', "it stands in a ``` fence, on which an application's parser would fail"),
        ('Sure: {"a": 1}', "text stands before the JSON value"),
        ('\ufeff{"a": 1}', "text stands before the JSON value"),
        ('{"a": 1} I hope this helps', "more text follows the JSON value"),
        ('{"a": 1', "it breaks off before its end"),
        ('{"a": "x', "it breaks off before its end"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": 1, "a": 1}', 'the key "a" stands twice'),
        ("[" * 200_000, "nested too deeply to be read"),
        ('{"a": 1e99999999999999999999999}', "a number is out of every range"),
        ("{'a': 1}", "expecting property name enclosed in double quotes at character 2"),
    ],
)
def test_an_answer_that_is_not_json_scores_zero_and_says_why(answer: str, reason: str) -> None:
    grade = GRADERS["json"].grade('{"a": 1}', answer)
    assert grade.score == 0.0
    assert grade.reason == f"cannot be read as JSON: {reason}"
    assert grade.details["valid_json"] == 0.0
    assert grade.details["field_recall"] == 0.0


def test_an_expected_answer_that_is_not_json_cannot_be_scored() -> None:
    grade = GRADERS["json"].grade("not json", '{"a": 1}')
    assert grade.score is None
    assert grade.reason is not None
    assert grade.reason.startswith("the expected answer cannot be read as JSON")


def test_fields_are_leaves_with_their_path() -> None:
    grade = GRADERS["json"].grade('{"a": 1, "b": [1, 2], "c": {}}', '{"a": 1, "b": [1, 3, 4]}')
    # expected: a, b[0], b[1], c; given: a, b[0], b[1], b[2]; equal: a, b[0]
    assert grade.details["field_precision"] == 2 / 4
    assert grade.details["field_recall"] == 2 / 4
    assert grade.details["field_f1"] == 0.5


@given(JSON_VALUES)
def test_any_json_value_equals_itself_however_written(value: object) -> None:
    answer = json.dumps(value, indent=2, sort_keys=True)
    assert GRADERS["json"].grade(json.dumps(value, ensure_ascii=False), answer).score == 1.0


@given(JSON_VALUES, JSON_VALUES)
def test_json_equality_is_that_of_python_but_for_booleans(one: object, other: object) -> None:
    def kinds(value: object) -> object:
        if isinstance(value, dict):
            return {key: kinds(member) for key, member in value.items()}
        if isinstance(value, list):
            return [kinds(member) for member in value]
        return (isinstance(value, bool), value)

    equal = GRADERS["json"].grade(json.dumps(one), json.dumps(other)).score == 1.0
    assert equal == (kinds(one) == kinds(other))


def test_json_parser_refuses_what_python_takes() -> None:
    assert json.loads('{"a": 1, "a": NaN}') != {}
    with pytest.raises(ValueError, match="NaN"):
        parse_json('{"a": 1, "a": NaN}')


def summary(name: str, rows: list[tuple[str, str]]) -> dict[str, float]:
    grader = GRADERS[name]
    targets, answers = [target for target, _ in rows], [answer for _, answer in rows]
    return summarise(grader, targets, answers, [grader.grade(*row) for row in rows])


def test_label_summary_counts_strange_answers_as_misses() -> None:
    rows = [("a", "a"), ("a", "b"), ("b", "B."), ("b", "what?"), ("c", "a"), ('""', "unscored")]
    # a: 1 right of 2, answered twice: F1 1/2; b: 1 right of 2, answered twice: 1/2; c: 0
    assert summary("label", rows) == {"accuracy": 2 / 5, "macro_f1": pytest.approx(1 / 3), "known_label": 4 / 5}


def test_json_summary_adds_fields_over_rows() -> None:
    rows = [('{"a":1,"b":2,"c":3}', '{"a":1,"b":2,"c":3}'), ('{"a":1}', "oops"), ('{"a":1}', '{"a":2}'), ("bad", "{}")]
    assert summary("json", rows) == {
        "valid_json": pytest.approx(2 / 3),
        "field_f1": pytest.approx(2 * 3 / (5 + 4)),
        "field_precision": 3 / 4,
        "field_recall": 3 / 5,
    }


def test_no_summary_where_there_is_nothing_to_add() -> None:
    assert summary("exact", [("a", "a")]) == {}
    assert summary("json", [("bad", "{}")]) == {}


def test_summary_refuses_rows_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="shorter"):
        summarise(GRADERS["label"], ["a", "b"], ["a"], [GRADERS["label"].grade("a", "a")])


@pytest.mark.parametrize(
    ("targets", "name", "said"),
    [
        (['{"a": 1}', "[]"], "json", "each of the 2 training answers"),
        (["yes", "no"] * 10, "label", "one of 2 short texts"),
        (["yes"] * 10, "label", "is the same"),
        ([str(number) for number in range(50)], "exact", "all training answers are short single lines"),
        (
            ["SELECT a FROM b WHERE c = 'a long condition of more than twelve words in one line' LIMIT 1;"],
            "exact",
            "short",
        ),
        ([], "exact", "no training answer"),
        (["true", "1", "2", '"x"'], "exact", "short single lines"),
    ],
)
def test_the_grader_is_inferred_and_explained(targets: list[str], name: str, said: str) -> None:
    chosen, reason = infer_grader(targets)
    assert chosen == name
    assert said in reason


def test_a_sentence_is_no_label_however_often_it_comes() -> None:
    chosen, reason = infer_grader(["I am sorry to hear that; let me look into it and come back to you today."] * 3)
    assert chosen == "exact"
    assert "free text" in reason


def test_free_text_gets_a_warning_with_the_setting_to_change() -> None:
    chosen, reason = infer_grader([f"First line of {number}.\nSecond line." for number in range(30)])
    assert chosen == "exact"
    assert "can hardly show anything" in reason
    assert "evaluate.grader=" in reason


def test_a_few_answers_that_are_not_json_are_pointed_out() -> None:
    chosen, reason = infer_grader([f'{{"a": {number}}}' for number in range(30)] + ["oops"])
    assert chosen == "exact"
    assert "30 of 31 are JSON" in reason
    assert "evaluate.grader=json" in reason


def test_an_unknown_grader_gets_the_nearest_name() -> None:
    assert find_grader("json") is GRADERS["json"]
    with pytest.raises(EvaluateError, match="Did you mean 'json'") as caught:
        find_grader("jsn")
    assert caught.value.code == "unknown_grader"
    assert caught.value.param == "evaluate.grader"


# Definitions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "answer", "score"),
    [
        ({"text": "{{item.city}}"}, "It is Paris.", 1.0),
        ({"text": "paris"}, "It is Paris.", 0.0),
        ({"text": "paris", "ignore_case": True}, "It is PARIS.", 1.0),
        ({"text": "{{item.town}}"}, "It is Paris.", None),
        ({"text": "{{sample.output_json.a}}"}, "It is Paris.", 0.0),
        ({"text": " "}, "It is Paris.", None),
    ],
)
def test_contains_takes_a_text_of_its_own(definition: dict[str, object], answer: str, score: float | None) -> None:
    grade = open_grader({"type": "contains", **definition}).grade("target", answer, {"city": "Paris"})
    assert grade.score == score
    assert score == 1.0 or grade.reason


@pytest.mark.parametrize(
    ("definition", "target", "answer", "score"),
    [
        ({"pattern": r"\d+"}, "", "It costs 5 euros.", 1.0),
        ({"pattern": r"\d+", "match": "full"}, "", "It costs 5 euros.", 0.0),
        ({"pattern": r"\d+", "match": "full"}, "", " 5\n", 1.0),
        ({"pattern": "PARIS", "ignore_case": True}, "", "Paris", 1.0),
        ({}, "^Par.s$", "Paris", 1.0),
        ({}, "(", "Paris", None),
        ({}, "", "Paris", None),
    ],
)
def test_regex(definition: dict[str, object], target: str, answer: str, score: float | None) -> None:
    assert open_grader({"type": "regex", **definition}).grade(target, answer).score == score


def test_an_expression_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.evaluate.graders.text.MATCH_SECONDS", 0.05)
    grade = open_grader({"type": "regex", "pattern": "(.*a){25}b"}).grade("", "a" * 5_000)
    assert grade.score is None
    assert "took longer" in str(grade.reason)


SCHEMA = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]}


@pytest.mark.parametrize(
    ("measure", "target", "answer", "score", "valid"),
    [
        ("equal", '{"age": 5}', '{"age": 5.0}', 1.0, 1.0),
        ("equal", '{"age": 5}', '{"age": -1}', 0.0, 0.0),
        ("field_f1", '{"age": 5, "name": "x"}', '{"age": 5, "name": "y"}', 0.5, 1.0),
        ("valid", '{"age": 5}', '{"age": 6}', 1.0, 1.0),
        ("valid", "not needed", '{"age": 6}', 1.0, 1.0),
        ("valid", "not needed", '{"age": "6"}', 0.0, 0.0),
        ("valid", "not needed", "{", 0.0, 0.0),
        ("field_f1", "not json", '{"age": 6}', None, None),
        ("valid", '{"age": 5}', '{"age": 1' + "0" * 5_000 + "}", 0.0, 0.0),
    ],
)
def test_json_has_other_measures_and_a_schema(
    measure: str, target: str, answer: str, score: float | None, valid: float | None
) -> None:
    grade = open_grader({"type": "json", "measure": measure, "json_schema": SCHEMA}).grade(target, answer)
    assert grade.score == score
    assert grade.details.get("valid_schema") == valid
    assert score == 1.0 or grade.reason


def test_a_schema_that_cannot_be_used_is_refused_when_opened() -> None:
    with pytest.raises(EvaluateError) as caught:
        open_grader({"type": "json", "json_schema": {"type": "objekt"}})
    assert caught.value.code == "bad_json_schema"


def test_json_summary_with_a_schema() -> None:
    grader = open_grader({"type": "json", "measure": "valid", "json_schema": SCHEMA})
    targets, answers = ['{"age": 1}', '{"age": 2}'], ['{"age": 1}', '{"age": "x"}']
    grades = [grader.grade(*row) for row in zip(targets, answers, strict=True)]
    found = summarise(grader, targets, answers, grades)
    assert found["valid_schema"] == 0.5
    assert found["equal"] == 0.5
    assert found["valid_json"] == 1.0


def test_fields_are_scored_one_by_one() -> None:
    targets = ['{"a": 1, "list": [{"b": 2}, {"b": 3}]}', '{"a": 1}', "not json"]
    answers = ['{"a": 1, "list": [{"b": 2}, {"b": 4}], "c": 0}', "oops", '{"a": 1}']
    found = {score.field: score for score in field_scores(targets, answers)}
    assert list(found) == ["a", "list[].b", "c"]
    assert (found["a"].precision, found["a"].recall, found["a"].expected) == (1.0, 0.5, 2)
    assert (found["list[].b"].precision, found["list[].b"].recall, found["list[].b"].f1) == (0.5, 0.5, 0.5)
    assert (found["c"].precision, found["c"].f1, found["c"].given) == (0.0, 0.0, 1)


def test_confusion_counts_what_was_taken_for_what() -> None:
    found = confusion_matrix(["yes", "Yes.", "no", "no", ""], ["yes", "no", '"no"', "maybe", "yes"])
    assert found.labels == ["no", "yes"]
    assert found.counts == [[1, 0, 1], [1, 1, 0]]


def test_a_definitions_name_is_the_graders() -> None:
    assert open_grader({"type": "exact", "name": "the same"}).name == "the same"
    assert open_grader({"type": "exact"}).name == find_grader("exact").name == "exact"


def test_the_recipes_grader_is_taken_else_one_is_inferred() -> None:
    grader, reason = choose_grader(EvaluateRecipe(), ['{"a": 1}'])
    assert (grader.name, reason) == ("json", "each of the 1 training answers is a JSON object or list")
    grader, reason = choose_grader(EvaluateRecipe(grader="contains"), ['{"a": 1}'])
    assert (grader.name, reason) == ("contains", "as given")
    grader, _ = choose_grader(EvaluateRecipe(grader={"type": "regex", "name": "digits", "pattern": "[0-9]"}), [])
    assert grader.name == "digits"
    assert grader.grade("", "7").score == 1.0


@given(st.text(), st.text())
def test_no_text_breaks_a_named_grader(target: str, answer: str) -> None:
    for grader in GRADERS.values():
        grade = grader.grade(target, answer)
        assert grade.score in (None, 0.0, 1.0)
        assert grade.score == 1.0 or grade.reason


@given(st.lists(st.text(max_size=30), max_size=8))
def test_some_grader_is_inferred_for_any_answers(targets: list[str]) -> None:
    name, reason = infer_grader(targets)
    assert name in GRADERS
    assert reason
