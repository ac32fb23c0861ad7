from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from any_rows import ROW
from hypothesis import given, settings

from luthier.data.cleaning.fixes_message import fix_messages
from luthier.data.findings import Problem
from luthier.data.rules.rules_message import message_problems
from luthier.data.shapes.formats import recognise
from luthier.data.shapes.wording import MAX_KEYS

pytestmark = pytest.mark.unit

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "hello"}
SYSTEM = {"role": "system", "content": "be kind"}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def call(arguments: Any = "{}", name: str = "look", **changes: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}, **changes}


def asking(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


RESULT = {"role": "tool", "tool_call_id": "c1", "content": ""}


def problems(*messages: Any, **row: Any) -> list[Problem]:
    whole = {"messages": list(messages), **row}
    return list(message_problems(whole, recognise(whole)))


def codes(*messages: Any, **row: Any) -> list[tuple[str, str]]:
    return [(problem.rule.code, problem.rule.severity) for problem in problems(*messages, **row)]


@pytest.mark.parametrize(
    "messages",
    [
        [USER, ANSWER],
        [SYSTEM, USER, ANSWER, USER, ANSWER],
        [{"role": "developer", "content": "x"}, USER, ANSWER],
        [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}],
        [USER, {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        [USER, {"role": "assistant", "content": None, "refusal": "no"}],
        [{**USER, "name": "ann"}, ANSWER],
        [USER, {**ANSWER, "weight": None, "tool_calls": None, "name": None}],
    ],
)
def test_valid_rows_give_no_problem(messages: list[Any]) -> None:
    assert codes(*messages) == []


def test_valid_tool_rows_give_no_problem() -> None:
    two = [call(), call(id="c2")]
    results = [RESULT, {**RESULT, "tool_call_id": "c2"}]
    assert codes(USER, asking(*two), *results, ANSWER, tools=TOOLS, parallel_tool_calls=False) == []
    assert codes(USER, asking(call()), tools=TOOLS) == []


@pytest.mark.parametrize(
    ("messages", "code", "severity", "words"),
    [
        ([], "missing-messages", "error", "empty"),
        (["hi"], "missing-messages", "error", "a string"),
        ([USER, {"role": "model", "content": "x"}], "unknown-role", "error", 'write "assistant"'),
        ([{"role": "human", "content": "x"}, ANSWER], "unknown-role", "error", 'write "user"'),
        ([{"role": "System", "content": "x"}, USER, ANSWER], "unknown-role", "error", 'write "system"'),
        ([USER, {"role": "wizard", "content": "x"}], "unknown-role", "error", '"wizard"'),
        ([USER, {"content": "x"}], "unknown-role", "error", 'no "role"'),
        ([USER, {"role": ["assistant"], "content": "x"}], "unknown-role", "error", "assistant"),
        ([USER, {"role": "assistant"}], "missing-content", "error", "missing in an assistant message"),
        ([USER, {"role": "assistant", "content": None}], "missing-content", "error", "null"),
        ([{"role": "user", "content": 3}, ANSWER], "missing-content", "error", "a number"),
        ([USER, {"role": "assistant", "content": " "}], "empty-content", "error", ""),
        ([USER, {"role": "assistant", "content": "", "weight": 0}, ANSWER], "empty-content", "warning", "an assistant"),
        ([{"role": "system", "content": ""}, USER, ANSWER], "empty-content", "warning", "a system"),
        ([{"role": "user", "content": ["x"]}, ANSWER], "content-parts", "error", "a string"),
        ([{"role": "user", "content": [{"type": "image_url"}]}, ANSWER], "content-parts", "error", "image_url"),
        ([{"role": "user", "content": [{"type": "text", "value": "x"}]}, ANSWER], "content-parts", "error", '"value"'),
        ([{**USER, "loss_weight": 1}, ANSWER], "unknown-key", "warning", '"loss_weight"'),
        ([{**USER, "nmae": "x"}, ANSWER], "unknown-key", "warning", 'did you mean "name"'),
        ([USER, {"role": "assistant", "label": "x"}], "unknown-key", "error", '"label"'),
        ([USER, {"role": "assistant", "content": None, "function_call": {}}], "unknown-key", "error", "tool_calls"),
        ([USER, {"role": "assistant", "content": "", "label": "x"}], "unknown-key", "error", "what the model should"),
        ([{**USER, "name": 3}, ANSWER], "unknown-key", "warning", '"name" is a number'),
        ([{**USER, "refusal": "no"}, ANSWER], "unknown-key", "warning", '"refusal" on a user message'),
        ([USER, {**ANSWER, "refusal": True}], "unknown-key", "warning", "not a string"),
        ([USER, {"role": "assistant", "content": None, "refusal": 3}], "unknown-key", "error", '"refusal"'),
        ([USER, {"role": "assistant", "content": None, "refusal": 3}], "missing-content", "error", "null"),
        ([USER, {**ANSWER, "tool_call_id": "c1"}], "unknown-key", "warning", '"tool_call_id" on an assistant'),
        ([USER, {"role": "assistant", "content": [{"type": "image_url"}]}], "content-parts", "error", "no service"),
        ([USER, ANSWER, {"role": "user", "content": ""}, ANSWER], "empty-content", "warning", "would not be whole"),
        ([USER, {**ANSWER, "weight": 2}], "bad-weight", "error", "2"),
        ([USER, {**ANSWER, "weight": True}], "bad-weight", "error", "true"),
        ([USER, {**ANSWER, "weight": 0.5}], "bad-weight", "error", "0.5"),
        ([{**USER, "weight": 1}, ANSWER], "bad-weight", "error", "on a user message"),
        ([SYSTEM, ANSWER], "no-user", "warning", ""),
        ([SYSTEM, USER], "no-assistant", "error", "only system and user messages"),
        ([USER, {**ANSWER, "weight": 0}], "nothing-trained", "error", ""),
        ([USER, ANSWER, USER], "last-not-assistant", "warning", "a user message"),
        ([ANSWER, USER, ANSWER], "assistant-first", "warning", ""),
        ([USER, USER, ANSWER], "same-role-twice", "warning", "two user messages"),
        ([USER, ANSWER, ANSWER], "same-role-twice", "warning", "two assistant messages"),
        ([SYSTEM, SYSTEM, USER, ANSWER], "several-system", "warning", "2 of them"),
        ([SYSTEM, {"role": "developer", "content": "x"}, USER, ANSWER], "several-system", "warning", "different kinds"),
        ([SYSTEM, USER, ANSWER, SYSTEM, USER, ANSWER], "several-system", "warning", "an answer stands between"),
        ([USER, SYSTEM, ANSWER], "system-not-first", "warning", ""),
        ([USER, ANSWER, SYSTEM, USER, ANSWER], "system-not-first", "warning", "did not know it"),
        ([USER, ANSWER, {**ANSWER, "weight": 0}], "same-role-twice", "warning", "cannot be made one"),
        ([USER, asking(call()), USER, ANSWER], "bad-tool-call", "warning", "the next message is a user message"),
        ([USER, {**RESULT, "tool_call_id": None}, ANSWER], "tool-result-without-call", "error", "tool_call_id"),
        ([USER, {**RESULT, "tool_call_id": "c9"}, ANSWER], "tool-result-without-call", "error", '"c9"'),
        ([{**USER, "tool_calls": [call()]}, ANSWER], "bad-tool-call", "error", "only the assistant"),
        ([USER, asking(call())], "bad-tool-call", "warning", '"look"'),
    ],
)
def test_each_fault_is_named(messages: list[Any], code: str, severity: str, words: str) -> None:
    found = [p for p in problems(*messages) if (p.rule.code, p.rule.severity) == (code, severity)]
    assert found, codes(*messages)
    assert any(words in problem.message for problem in found)
    assert all(problem.rule.remedy for problem in found)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (call("{"), "is not JSON"),
        (call("[]"), "not an object"),
        (call({}), "must be a string"),
        (call(name="other"), '"other" is not in'),
        (call(id=""), 'no "id"'),
        (call(type="tool"), "a call is not"),
        (call("1"), "holds a number"),
        (call("{}", name=3), "names no function"),
        ("call", "a string"),
        ({"id": "c1", "type": "function", "function": {"arguments": "{}"}}, "names no function"),
    ],
)
def test_a_broken_tool_call_is_an_error(broken: Any, words: str) -> None:
    found = problems(USER, asking(broken), tools=TOOLS)
    assert [(problem.rule.code, problem.rule.severity) for problem in found] == [("bad-tool-call", "error")]
    assert words in found[0].message


@pytest.mark.parametrize(
    "tools",
    [
        {},
        ["look"],
        [{"type": "function"}],
        [{"type": "function", "function": {}}],
        [*TOOLS, *TOOLS],
        [{"type": "function", "function": {"name": "x", "parameters": "none"}}],
        [{"type": "function", "function": {"name": "x", "parameters": {"type": "string"}}}],
        [{"type": "function", "function": {"name": "x", "parameters": {"properties": {"a": {"type": "dict"}}}}}],
        [{"type": "function", "function": {"name": "x", "description": 3}}],
    ],
)
def test_broken_tools_are_an_error(tools: Any) -> None:
    assert codes(USER, ANSWER, tools=tools) == [("bad-tools", "error")]


def test_keys_beside_the_messages() -> None:
    assert codes(USER, ANSWER, id=7) == [("unknown-key", "warning")]
    assert codes(USER, ANSWER, functions=[]) == [("unknown-key", "error")]
    assert codes(USER, ANSWER, parallel_tool_calls="no") == [("bad-tools", "error")]


def test_roles_of_other_vendors_have_no_further_consequence() -> None:
    row = [{"role": "System", "content": "x"}, {"role": "User", "content": "y"}, {"role": "Chatbot", "content": "z"}]
    assert {code for code, _ in codes(*row)} == {"unknown-role"}


def row_codes(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(problem.rule.code, problem.rule.severity) for problem in message_problems(row, recognise(row))]


def test_a_system_prompt_beside_the_messages_is_lost_and_that_is_an_error() -> None:
    assert codes(USER, ANSWER, system="be kind") == [("unknown-key", "error")]
    assert codes(USER, ANSWER, system=[{"type": "text", "text": "be kind"}]) == [("unknown-key", "error")]
    assert codes(SYSTEM, USER, ANSWER, system="be kind") == [("unknown-key", "warning")]
    assert codes(USER, ANSWER, system="") == [("unknown-key", "warning")]


OLD = {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}}
OLD_RESULT = {"role": "function", "name": "look", "content": "[]"}


def test_the_old_way_to_call_functions_is_judged_as_the_new_one_that_clean_writes() -> None:
    found = problems(USER, OLD, OLD_RESULT, ANSWER, functions=[{"name": "look"}])
    assert [(problem.rule.code, problem.rule.severity, bool(problem.rule.fix)) for problem in found] == [
        ("unknown-key", "error", True)
    ] * 3
    assert {word for p in found for word in ("tools", "tool_calls", "tool") if f'now "{word}"' in p.detail} == {
        "tools", "tool_calls", "tool"
    }  # fmt: skip
    broken = {**OLD, "function_call": {"name": "look", "arguments": "{"}}
    assert ("bad-tool-call", "error") in codes(USER, broken, functions=[{"name": "look"}])
    told_nothing = [p for p in problems(USER, OLD_RESULT, ANSWER) if p.rule.code == "unknown-key"]
    assert [(problem.rule.severity, problem.rule.fix) for problem in told_nothing] == [("error", None)]


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([RESULT, RESULT], "has its result already"),
        ([RESULT, ANSWER, USER, asking(call(id="c2")), RESULT], "another turn came between"),
    ],
)
def test_results_stand_behind_their_calls_one_for_each(results: list[Any], words: str) -> None:
    found = [p for p in problems(USER, asking(call()), *results, ANSWER, tools=TOOLS) if p.rule.severity == "error"]
    assert [problem.rule.code for problem in found] == ["tool-result-without-call"]
    assert words in found[0].message


def test_results_may_come_in_any_order_and_ids_again_in_a_later_turn() -> None:
    two = asking(call(), call(id="c2"))
    results = [{**RESULT, "tool_call_id": "c2"}, RESULT]
    assert codes(USER, two, *results, ANSWER, USER, asking(call()), RESULT, ANSWER, tools=TOOLS) == []
    assert ("bad-tool-call", "error") in codes(USER, asking(call(), call()), RESULT, ANSWER, tools=TOOLS)


def declared(schema: Any, name: str = "look") -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name, "parameters": schema}}]


def test_arguments_are_compared_with_the_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"days": {"type": "array", "items": {"type": "integer"}}, "city": {"enum": ["Rome", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    for arguments, words in (
        ('{"city": "Rome", "days": [1, 2]}', None),
        ("{}", '"city" is a required property'),
        ('{"city": "Rome", "days": [1, "two"]}', 'at days[1], the value is not of type "integer"'),
        ('{"city": "Paris"}', "at city, the value is not one of"),
        ('{"city": "Rome", "town": 1}', "'town' was unexpected"),
        ('{"city": 3, "days": 4}', "(and 1 more)"),
        ('{"city": "\\ud800"}', "cannot be checked"),
    ):
        found = problems(USER, asking(call(arguments)), tools=declared(schema))
        if words is None:
            assert found == []
        else:
            ((rule, detail),) = [(problem.rule, problem.detail) for problem in found]
            assert (rule.code, rule.severity) == ("bad-tool-call", "warning")
            assert words in detail
            assert "Paris" not in detail


def test_names_that_services_refuse_are_a_warning() -> None:
    assert codes(USER, ANSWER, tools=declared({}, "look up")) == [("bad-tools", "warning")]
    assert codes(USER, ANSWER, tools=declared({}, "look-up_2")) == []


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "q", "completion": "a"}, []),
        ({"prompt": "q", "completion": " "}, [("empty-content", "error")]),
        ({"prompt": "", "completion": "a"}, [("empty-content", "warning")]),
        ({"prompt": 3, "completion": None}, [("missing-content", "error")] * 2),
        ({"prompt": "q", "completion": "a", "id": 1}, [("unknown-key", "warning")]),
    ],
)
def test_completion_rows_are_judged_by_their_two_texts(row: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert row_codes(row) == expected


def preference(
    preferred: Any = (ANSWER,), other: Any = ({"role": "assistant", "content": "go away"},), **changes: Any
) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    asked = {"messages": [SYSTEM, USER]}
    return {"input": asked, "preferred_output": plain(preferred), "non_preferred_output": plain(other), **changes}


@pytest.mark.parametrize(
    ("row", "expected", "words"),
    [
        (preference(), [], ""),
        ({"input": {"messages": [USER]}, "preferred_completion": [ANSWER], "non_preferred_completion": [OLD]},
         [("unknown-key", "error")], "function_call"),
        (preference(other=[ANSWER]), [("preference-same", "error")], ""),
        (preference(other=[{"role": "assistant", "content": " hello\n"}]), [("preference-same", "error")], ""),
        (preference(preferred=[]), [("preference-shape", "error")], '"preferred_output" is empty'),
        (preference(other="no"), [("preference-shape", "error")], '"non_preferred_output" is a string'),
        (preference(other=[USER]), [("preference-shape", "error")], "holds a user message"),
        (preference(other=[3]), [("preference-shape", "error")], "a number"),
        (preference(input=[USER]), [("preference-shape", "error")], '"input" is a list'),
        (preference(input={"messages": []}), [("preference-shape", "error")], '"messages" of "input" is empty'),
        ({"input": {"messages": [USER]}, "preferred_output": [ANSWER]}, [("preference-shape", "error")], "is missing"),
        (preference(input={"messages": [USER, ANSWER]}), [("preference-shape", "error")], "ends with an assistant"),
        (preference(input={"messages": [{"role": "human", "content": "x"}]}), [("unknown-role", "error")], '"human"'),
        (preference(input={"messages": [SYSTEM]}), [("no-user", "warning")], ""),
        (preference(input={"messages": [USER], "tool": 1}), [("unknown-key", "warning")], 'did you mean "tools"'),
        (preference(preferred=[{"role": "assistant", "content": ""}]), [("empty-content", "error")], ""),
        (preference(score=3), [("unknown-key", "warning")], '"score" beside "input"'),
    ],
)  # fmt: skip
def test_preference_rows(row: dict[str, Any], expected: list[tuple[str, str]], words: str) -> None:
    found = list(message_problems(row, recognise(row)))
    assert [(problem.rule.code, problem.rule.severity) for problem in found] == expected
    assert all(words in problem.message for problem in found)


def test_two_calls_that_differ_are_two_answers() -> None:
    one, two = asking(call('{"a": 1}')), asking(call('{"a": 2}', id="c2"))
    row = preference([one], [two], input={"messages": [USER], "tools": TOOLS})
    assert row_codes(row) == []
    again = preference([one], [asking(call('{"a": 1}', id="c9"))], input={"messages": [USER], "tools": TOOLS})
    assert row_codes(again) == [("preference-same", "error")]
    assert row_codes(preference([one, RESULT, ANSWER], input={"messages": [USER], "tools": TOOLS})) == []


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([SYSTEM, USER], []),
        ([USER, ANSWER, USER], []),
        ([SYSTEM], [("reinforcement-shape", "error"), ("no-user", "warning")]),
        ([USER, USER], [("same-role-twice", "warning")]),
        ([SYSTEM, SYSTEM, USER], [("several-system", "warning")]),
        ([{"role": "human", "content": "x"}], [("unknown-role", "error")]),
    ],
)
def test_reinforcement_rows(messages: list[Any], expected: list[tuple[str, str]]) -> None:
    row = {"messages": messages, "reference_answer": "Rome"}
    assert recognise(row).name == "reinforcement"
    assert row_codes(row) == expected


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "clean --convert"),
        ({"question": "q", "sql": "a"}, "clean --convert"),
        ({"question": "q", "sql": "a", "answer": "3"}, "--map 'user=question,assistant=sql'"),
        ({"title": "q", "body": "a"}, "--map 'user=title,assistant=body'"),
        ({"role": "user", "content": "q"}, "put all messages"),
        ({}, "empty object"),
    ],
)
def test_other_shapes_are_refused_with_what_to_do(row: dict[str, Any], words: str) -> None:
    found = recognise(row)
    (problem,) = message_problems(row, found)
    assert (problem.rule.code, problem.rule.severity) == ("unknown-format", "error")
    assert found.description in problem.message
    assert words in problem.message


def test_an_empty_answer_of_another_shape_is_said_beside_its_shape() -> None:
    assert row_codes({"question": "q", "sql": ""}) == [("unknown-format", "error"), ("empty-content", "error")]


@given(row=ROW)
@settings(max_examples=400, deadline=None)
def test_no_row_breaks_a_rule(row: dict[str, Any]) -> None:
    before = copy.deepcopy(row)
    found = list(message_problems(row, recognise(row)))
    assert row == before
    assert all(len(problem.detail) < 400 for problem in found if problem.rule.code != "unknown-format")


def row_end(row: dict[str, Any]) -> dict[str, Any]:
    last: dict[str, Any] = row.get("messages", [{}])[-1]
    return last


def test_a_huge_row_is_judged_and_mended_in_a_moment() -> None:
    many = {f"key {number}": number for number in range(100_000)}
    part = {"type": "text", "text": "x", **many}
    rows: list[dict[str, Any]] = [
        {"messages": [USER, ANSWER], **many},
        {"messages": [USER, {**ANSWER, **many}]},
        {"messages": [{"role": "user", "content": [part]}, ANSWER]},
        {"messages": [{"role": "user", "content": ["x"] * 100_000}, ANSWER]},
        {"messages": [USER, asking(*[call(id=f"c{number}") for number in range(50_000)])], "tools": TOOLS},
        {"messages": [USER, ANSWER], "tools": [*TOOLS] * 50_000},
        {"prompt": "q", "completion": "a", **many},
        {"question": "q", "sql": "a", **many},
    ]
    start = time.perf_counter()
    for row in rows:
        found = recognise(row)
        details = [problem.detail for problem in message_problems(row, found)]
        assert sum("key " in detail for detail in details) <= MAX_KEYS + 2
        mended, changes = fix_messages(row, frozenset(("unknown-key",)))
        assert (mended is row) == (not changes)
        assert len(changes) == (len(many) if found.is_trainable and ("key 3" in row or "key 3" in row_end(row)) else 0)
    assert time.perf_counter() - start < 30
    assert any("99,980 more keys" in problem.detail for problem in message_problems(rows[0], recognise(rows[0])))
