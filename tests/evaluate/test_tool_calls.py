"""Function calls in answers: how they are read, and when they are the expected ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.evaluate.graders import infer_grader, open_grader, summarise
from luthier.evaluate.graders.calls import read_calls

pytestmark = pytest.mark.unit


def call(name="weather", **arguments):
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


WEATHER = call(city="Paris", days=3)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>',
        'I look it up. <tool_call>\n{"arguments": {"a": 1.0}, "name": "f"}\n</tool_call>\n',
        '<tool_call>{"name": "f", "arguments": {"a": 1}}',
        '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]',
        '[TOOL_CALLS] [{"name": "f", "arguments": "{\\"a\\": 1}", "id": "x"}]',
        '<|python_tag|>{"name": "f", "parameters": {"a": 1}}',
        '{"name": "f", "parameters": {"a": 1}}',
        '[{"name": "f", "arguments": {"a": 1}}]',
        '{"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}]}',
        '{"function": {"name": "f", "arguments": {"a": 1}}}',
        '{"type": "function", "name": "f", "parameters": {"a": 1}}',
    ],
)
def test_calls_are_read_in_the_ways_templates_write_them(text):
    found = read_calls(text)
    assert found.fault is None
    assert [one.name for one in found.calls] == ["f"]
    assert found.calls[0].is_like(read_calls('{"name": "f", "arguments": {"a": 1}}').calls[0])


@pytest.mark.parametrize("text", ["", "Paris.", '{"city": "Paris"}', "[1, 2]", '{"name": "Bob"}', "{", '{"name": 1}'])
def test_other_answers_call_nothing(text):
    assert read_calls(text) == read_calls("no call")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>', "breaks off"),
        ("<tool_call>f(a=1)</tool_call>", "cannot be read as JSON"),
        ('<tool_call>{"arguments": {}}</tool_call>', "has no name"),
        ('<tool_call>{"name": "f"}</tool_call>', "has no arguments"),
        ('<tool_call>{"name": "f", "arguments": [1]}</tool_call>', "are no object"),
        ('<tool_call>{"name": "f", "arguments": "a=1"}</tool_call>', "arguments cannot be read as JSON"),
        ('[TOOL_CALLS]{"name"', "breaks off"),
    ],
)
def test_a_broken_call_is_a_fault_that_is_named(text, said):
    found = read_calls(text)
    assert found.calls == []
    assert said in str(found.fault)


@pytest.mark.parametrize(
    ("answer", "score", "reason"),
    [
        (call(days=3.0, city="Paris"), 1.0, None),
        ("Let me see.\n" + WEATHER, 1.0, None),
        (call(city="Rome", days=3), 0.0, 'in the call of weather, city is "Rome", expected "Paris"'),
        (call(city="Paris"), 0.0, "in the call of weather, days is missing"),
        (call("forecast", city="Paris", days=3), 0.0, "calls forecast, expected weather"),
        (WEATHER + WEATHER, 0.0, "calls weather, weather, expected weather"),
        ("It is sunny.", 0.0, "no function is called"),
        ("<tool_call>{", 0.0, "a call cannot be read as JSON: it breaks off before its end"),
    ],
)
def test_names_and_arguments_have_to_be_right(answer, score, reason):
    found = open_grader("tool_calls").grade(WEATHER, answer)
    assert (found.score, found.reason) == (score, reason)


def test_several_calls_may_come_in_any_order_unless_asked_otherwise():
    one, other = call("a", x=1), call("b", y=2)
    assert open_grader("tool_calls").grade(one + other, other + one).score == 1.0
    ordered = open_grader({"type": "tool_calls", "ordered": True}).grade(one + other, other + one)
    assert (ordered.score, ordered.reason) == (0.0, "calls b, a, expected a, b")
    same_name = open_grader({"type": "tool_calls", "ordered": True}).grade(
        call("a", x=1) + call("a", x=2), call("a", x=2) + call("a", x=1)
    )
    assert same_name.reason == "the calls come in another order"


def test_names_alone_can_be_the_measure():
    found = open_grader({"type": "tool_calls", "measure": "names"}).grade(WEATHER, call(city="Rome"))
    assert found.score == 1.0
    assert found.details == {"calls": 0.0, "names": 1.0, "arguments": 0.0}


def test_where_no_call_is_expected_none_may_be_made():
    grader = open_grader("tool_calls")
    assert grader.grade("It is sunny.", "It rains.").score == 1.0
    assert grader.grade("It is sunny.", WEATHER).reason == "calls a function where none is expected"
    assert grader.grade("It is sunny.", "<tool_call>{").score == 0.0


def test_calls_that_a_template_hides_cannot_be_scored():
    row = {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}
    grader = open_grader("tool_calls")
    found = grader.grade("[weather(city='Paris')]", "anything", row)
    assert found.score is None
    assert "chat template" in str(found.reason)
    assert grader.grade(call("f"), call("f"), row).score == 1.0
    assert grader.grade("It is sunny.", "It rains.", {"messages": [{"role": "assistant", "content": "x"}]}).score == 1.0
    assert grader.grade("<tool_call>{", WEATHER).score is None


def test_summary_tells_rows_with_calls_from_rows_without():
    grader = open_grader("tool_calls")
    rows = [
        (WEATHER, WEATHER),
        (WEATHER, call(city="Paris", days=4)),
        (WEATHER, "no"),
        ("text", "text"),
        ("text", WEATHER),
    ]
    targets, answers = zip(*rows, strict=True)
    found = summarise(grader, targets, answers, [grader.grade(*row) for row in rows])
    assert found == {
        "calls_right": pytest.approx(1 / 3),
        "names_right": pytest.approx(2 / 3),
        "argument_f1": pytest.approx((1 + 0.5 + 0) / 3),
        "rightly_no_call": 0.5,
        "rows_with_calls": 3 / 5,
    }


def test_calls_are_inferred_and_mixed_answers_are_told():
    assert infer_grader([WEATHER, call("f")]) == ("tool_calls", "each of the 2 training answers calls a function")
    name, reason = infer_grader([WEATHER] + [f"Line {number}.\nAnother one." for number in range(20)])
    assert name == "exact"
    assert "1 of 21 call a function, which evaluate.grader=tool_calls compares" in reason


JSON_OBJECTS = st.dictionaries(
    st.text(max_size=6),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@given(st.text(min_size=1, max_size=10).filter(lambda name: "</tool_call>" not in name), JSON_OBJECTS)
def test_any_call_equals_itself_however_written(name, arguments):
    one = json.dumps({"name": name, "arguments": arguments})
    other = json.dumps({"arguments": json.dumps(arguments, indent=1), "name": name}, ensure_ascii=False)
    found = open_grader("tool_calls").grade(f"<tool_call>{one}</tool_call>", other)
    assert (found.score, found.details["arguments"]) == (1.0, 1.0)


@given(st.text(alphabet='<tool_call>/{}[]":,name arguments1', max_size=80), st.text(max_size=30))
def test_no_text_breaks_the_reader(target, answer):
    found = open_grader("tool_calls").grade(target, answer)
    assert found.score in (None, 0.0, 1.0)
    assert found.score == 1.0 or found.reason
