"""OpenAI's graders: what they give, and what could not be scored."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import EvaluateError, Interrupted, RemoteError
from luthier.evaluate.graders import Case, grade_all, open_grader, summarise, unscored_reasons
from luthier.evaluate.judge import JudgeReply, JudgeRequest

pytestmark = pytest.mark.unit

ITEM = {"label": "Paris", "name": "John Doe", "email": "john@example.com", "empty": "", "reference_answer": 1.0}


def check(operation="eq", **changed):
    definition = {"type": "string_check", "input": "{{sample.output_text}}", "reference": "{{item.label}}"}
    return definition | {"operation": operation} | changed


def similar(metric="fuzzy_match", **changed):
    definition = {"type": "text_similarity", "input": "{{sample.output_text}}", "reference": "{{item.label}}"}
    return definition | {"evaluation_metric": metric} | changed


def grade(definition, answer, item=ITEM, target="Paris", **tools):
    return open_grader(definition, **tools).grade(target, answer, item)


# string_check --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "answer", "score"),
    [
        ("eq", "Paris", 1.0),
        ("eq", " Paris", 0.0),
        ("eq", "paris", 0.0),
        ("ne", "Paris", 0.0),
        ("neq", "London", 1.0),
        ("like", "It is Paris.", 1.0),
        ("like", "It is paris.", 0.0),
        ("ilike", "It is PARIS.", 1.0),
        ("ilike", "Par", 0.0),
    ],
)
def test_string_check(operation, answer, score):
    found = grade(check(operation), answer)
    assert found.score == score
    assert (found.reason is None) == (score == 1.0)


def test_a_row_without_the_variable_cannot_be_scored_and_an_answer_without_it_is_wrong():
    no_row = grade(check(reference="{{item.labl}}"), "Paris")
    assert no_row.score is None
    assert "there is no item.labl; item has target, label" in str(no_row.reason)
    no_json = grade(check(input="{{sample.output_json.city}}"), "Paris, of course")
    assert no_json.score == 0.0
    assert "there is no sample.output_json.city" in str(no_json.reason)
    assert grade(check("ne", input="{{sample.output_json.city}}"), "no JSON").score == 0.0
    assert grade(check(input="{{sample.output_json.city}}"), '{"city": "Paris"}').score == 1.0


def test_the_expected_answer_is_an_item_variable_unless_the_row_has_one_of_that_name():
    assert grade(check(reference="{{item.target}}"), "Paris", item={}).score == 1.0
    assert grade(check(reference="{{item.target}}"), "Rome", item={"target": "Rome"}).score == 1.0


def test_the_tool_calls_of_the_guides_example():
    definition = {
        "type": "multi",
        "graders": {
            "function_name": check(input="get_acceptors", reference="{{sample.output_tools[0].function.name}}"),
            "arguments": check(
                input='{"smiles": "{{item.smiles}}"}', reference="{{sample.output_tools[0].function.arguments}}"
            ),
        },
        "calculate_output": "0.5 * function_name + 0.5 * arguments",
    }
    answer = '<tool_call>\n{"name": "get_acceptors", "arguments": {"smiles": "CCO"}}\n</tool_call>'
    right, half, none = (
        grade(definition, text, {"smiles": "CCO"}) for text in (answer, answer.replace("CCO", "CC"), "CCO has one.")
    )
    assert (right.score, half.score, none.score) == (1.0, 0.5, 0.0)
    assert half.details == {"function_name": 1.0, "arguments": 0.0}


# text_similarity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric",
    ["fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"],
)
def test_every_measure_tells_like_from_unlike(metric):
    reference = "the cat sat on the mat today"
    same, near, far = (
        grade(similar(metric), text, {"label": reference}).score
        for text in (reference, "the cat sat on the mat yesterday", "quite another story")
    )
    assert same == pytest.approx(1.0, abs=0.01)
    assert same > near > far


def test_likeness_to_nothing_cannot_be_scored():
    assert grade(similar(reference="{{item.empty}}"), "x").score is None
    assert grade(similar("rouge_1"), "x", {"label": "日本語"}).score is None
    assert grade(similar("fuzzy_match"), "日本語", {"label": "日本語"}).score == 1.0


def test_the_share_that_passes_is_reported():
    grader = open_grader(similar(pass_threshold=0.9))
    grades = grade_all(grader, ["Paris"] * 2, ["Paris", "Rome"], [ITEM] * 2)
    assert [found.details["passed"] for found in grades] == [1.0, 0.0]
    assert summarise(grader, ["Paris"] * 2, ["Paris", "Rome"], grades) == {"passed": 0.5}


def test_cosine_needs_embeddings_and_takes_them():
    with pytest.raises(EvaluateError) as caught:
        open_grader(similar("cosine"))
    assert caught.value.code == "no_embeddings"
    vectors = {"Paris": [1.0, 0.0], "Rome": [3.0, 4.0], "none": [0.0, 0.0], "opposite": [-1.0, 0.0]}
    scores = [
        grade(similar("cosine"), answer, embed=lambda texts: [vectors[text] for text in texts]).score
        for answer in ("Paris", "Rome", "none", "opposite")
    ]
    assert scores == [1.0, pytest.approx(0.6), None, 0.0]


# multi ---------------------------------------------------------------------------------------------------------------


def multi(formula, **graders):
    return {"type": "multi", "graders": graders, "calculate_output": formula}


def test_the_json_fields_of_the_guides_example():
    definition = multi(
        "(name + email) / 2",
        name=similar(input="{{sample.output_json.name}}", reference="{{item.name}}", pass_threshold=0.9),
        email=check(input="{{sample.output_json.email}}", reference="{{item.email}}"),
    )
    answer = {"name": "John Do", "email": "john@example.com"}
    found = grade(definition, json.dumps(answer))
    assert 0.9 < found.score < 1.0
    assert found.details["email"] == 1.0
    assert grade(definition, json.dumps(answer | {"email": "x"})).score < 0.5
    assert grade(definition, "no json").score == 0.0


def test_what_a_part_cannot_score_the_whole_cannot():
    found = grade(multi("a + b", a=check(), b=check(reference="{{item.no}}")), "Paris")
    assert found.score is None
    assert str(found.reason).startswith("b: of the row, there is no item.no")
    assert found.details == {"a": 1.0}


def test_a_formula_without_a_value_and_a_score_off_the_scale_cannot_be_scored():
    by_zero = grade(multi("1 / a", a=check()), "Rome")
    assert by_zero.score is None
    assert by_zero.reason == "the formula cannot be computed at a = 0: it divides by zero"
    large = grade(multi("2 * a", a=check()), "Paris")
    assert large.score is None
    assert large.reason == "the score is 2, which is not between 0 and 1"
    assert grade(multi("0.1 * a + 0.2 * a + 0.7 * a", a=check()), "Paris").score == 1.0  # 0.1 + 0.2 is not 0.3


def test_luthiers_graders_stand_in_a_formula_too():
    assert grade(multi("min(a, b)", a={"type": "exact"}, b={"type": "contains", "text": "ari"}), "Paris").score == 1.0


# Models that judge ---------------------------------------------------------------------------------------------------


class Says:
    """A judge that says what it is told to say, and keeps what it was asked."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.asked: list[JudgeRequest] = []

    def ask(self, request):
        self.asked.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, JudgeReply) else JudgeReply(reply)


SCORE = {
    "type": "score_model",
    "name": "helpful",
    "model": "judge-1",
    "input": [
        {"role": "system", "content": "Score from 0 to 10."},
        {"role": "user", "content": "Reference: {{ item.label }}. Answer: {{ sample.output_text }}"},
    ],
    "range": [0, 10],
    "pass_threshold": 7,
    "sampling_params": {"temperature": 0, "seed": 3},
}
LABEL = {
    "type": "label_model",
    "name": "tone",
    "model": "judge-1",
    "input": [{"role": "user", "content": "Tone of: {{sample.output_text}}"}],
    "labels": ["positive", "neutral", "negative"],
    "passing_labels": ["positive", "neutral"],
}


@pytest.mark.parametrize("definition", [SCORE, LABEL, multi("a", a=SCORE)])
def test_a_model_grader_without_a_model_is_refused_at_once(definition):
    with pytest.raises(EvaluateError) as caught:
        open_grader(definition)
    assert caught.value.code == "no_judge"
    assert caught.value.hint


def test_a_judge_is_asked_what_the_definition_says():
    judge = Says('{"steps": [], "result": 5}')
    assert grade(SCORE, "Rome", judge=judge).score == 0.5
    (asked,) = judge.asked
    assert [message["role"] for message in asked.messages] == ["system", "user"]
    assert asked.messages[1]["content"] == "Reference: Paris. Answer: Rome"
    assert (asked.model, asked.sampling) == ("judge-1", {"temperature": 0.0, "seed": 3})
    assert list(asked.response_schema["properties"]) == ["steps", "result"]


@pytest.mark.parametrize(
    ("reply", "score", "passed"),
    [
        ('{"result": 10, "steps": []}', 1.0, 1.0),
        ('{"result": 7.0}', 0.7, 1.0),
        ("3", 0.3, 0.0),
        ('```json\n{"result": 3}\n```', 0.3, 0.0),
        ('{"result": "4.5"}', 0.45, 0.0),
        ('{"result": 99}', 1.0, 1.0),
        ('{"result": -1}', 0.0, 0.0),
        ('{"result": "good"}', None, None),
        ('{"result": true}', None, None),
        ('{"result": NaN}', None, None),
        ('{"score": 5}', None, None),
        ("I would give it a 7", None, None),
        ("", None, None),
        ("[" * 100_000, None, None),
    ],
)
def test_score_model_reads_a_number_and_nothing_else(reply, score, passed):
    found = grade(SCORE, "x", judge=Says(reply))
    assert found.score == (None if score is None else pytest.approx(score))
    assert found.details.get("passed") == passed
    assert found.reason or score == 1.0


def test_in_a_formula_a_score_stays_on_its_own_scale():
    found = grade(multi("(10 - abs(8 - s)) / 10", s=SCORE), "x", judge=Says('{"result": 6}'))
    assert found.score == pytest.approx(0.8)
    assert found.details == {"s": 6.0}


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"steps": [], "result": "positive"}', 1.0),
        ('"Neutral."', 1.0),
        ("negative", 0.0),
        ("quite positive", None),
        ('{"result": "happy"}', None),
        ('{"result": ["positive"]}', None),
    ],
)
def test_label_model_takes_its_labels_alone(reply, score):
    assert grade(LABEL, "x", judge=Says(reply)).score == score


def test_what_a_judge_does_not_say_is_counted_by_reason():
    judge = Says(
        RemoteError("503 from the service.", code="unavailable"),
        JudgeReply("", refusal="I cannot judge this"),
        "nonsense",
        "positive",
    )
    grader = open_grader(LABEL, judge=judge)
    grades = grade_all(grader, ["x"] * 4, ["y"] * 4)
    assert [found.score for found in grades] == [None, None, None, 1.0]
    assert unscored_reasons(grades) == {
        "the judge did not answer: 503 from the service.": 1,
        "the judge refused: I cannot judge this": 1,
        "the judge gave none of its labels: 'nonsense'": 1,
    }


def test_a_judge_that_is_interrupted_ends_the_evaluation():
    with pytest.raises(Interrupted):
        grade(LABEL, "x", judge=Says(Interrupted("Stopped.", code="interrupted")))


def test_a_judges_confidence_is_kept():
    found = grade(LABEL, "x", judge=Says(JudgeReply("positive", logprobs=[-0.5, -0.5])))
    assert found.details["judge_confidence"] == pytest.approx(0.36787944)


# All -----------------------------------------------------------------------------------------------------------------


def test_rewards_keep_openais_words_for_what_failed():
    def fault(definition, answer="x", **tools):
        return open_grader(definition, **tools).reward(Case("t", answer, ITEM)).fault

    assert fault(check(reference="{{item.no}}")) == "invalid_variable_error"
    assert fault(check(input="{{sample.output_json.a}}")) == "sample_parse_error"
    assert fault(multi("1 / a", a=check())) == "formula_parse_error"
    assert fault(SCORE, judge=Says("?")) == "model_grader_parse_error"
    assert fault(SCORE, judge=Says(JudgeReply("", refusal="no"))) == "model_grader_refusal_error"
    assert fault(SCORE, judge=Says(RemoteError("no.", code="x"))) == "model_grader_server_error"
    assert fault(check()) is None


def test_a_wrong_definition_is_refused_with_its_field():
    with pytest.raises(EvaluateError, match="operation") as caught:
        open_grader(check("is"))
    assert (caught.value.code, caught.value.param) == ("bad_grader", "evaluate.grader")


def test_rows_are_graded_in_order_by_several_threads():
    grader = open_grader(check())
    answers = ["Paris" if number % 3 else "Rome" for number in range(50)]
    grades = grade_all(grader, ["Paris"] * 50, answers, [ITEM] * 50, workers=4)
    assert [found.score for found in grades] == [float(answer == "Paris") for answer in answers]
    with pytest.raises(ValueError, match="shorter"):
        grade_all(grader, ["a", "b"], ["a"])


ROWS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4),
    max_size=4,
)


@given(st.text(max_size=40), st.text(max_size=40), ROWS)
def test_no_text_and_no_row_breaks_a_grader(target, answer, row):
    for definition in (check(), similar("bleu"), similar("rouge_l"), multi("a + b", a=check(), b={"type": "json"})):
        found = open_grader(definition).grade(target, answer, row)
        assert found.score is None or 0 <= found.score <= 1
        assert found.score == 1 or found.reason
