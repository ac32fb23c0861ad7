"""Graders: what scores 1, what scores 0 and why, and what cannot be scored."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import EvaluateError
from luthier.evaluate.graders import GRADERS, find_grader, infer_grader, label_of, parse_json, summarise

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
