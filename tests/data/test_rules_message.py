from __future__ import annotations

from typing import Any

import pytest

from luthier.data.findings import Problem
from luthier.data.formats import recognise
from luthier.data.rules_message import message_problems

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
        ([USER, SYSTEM, ANSWER], "system-not-first", "warning", ""),
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


@pytest.mark.parametrize(
    ("row", "name", "messages"),
    [
        ({"prompt": "q", "completion": "a"}, "completion", ["q", "a"]),
        ({"instruction": "q", "input": "i", "output": "a"}, "alpaca", ["q\n\ni", "a"]),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "sharegpt", ["q", "a"]),
        ({"System": "s", "User": "q", "Assistant": "a"}, "columns", ["s", "q", "a"]),
        ({"question": "q", "sql": "a"}, "columns", ["q", "a"]),
        ({"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []}, "preference", None),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference", None),
        ({"contents": [{"role": "user", "parts": []}]}, "gemini", None),
        ({"role": "user", "content": "q"}, "message", None),
        ({"prompt": 3, "completion": None}, "completion", None),
        ({"name": "x"}, "unknown", None),
        ({}, "unknown", None),
    ],
)
def test_other_shapes_are_recognised_and_refused(row: dict[str, Any], name: str, messages: list[str] | None) -> None:
    found = recognise(row)
    assert found.name == name
    assert (found.messages and [message["content"] for message in found.messages]) == messages
    first = next(message_problems(row, found))
    assert (first.rule.code, first.rule.severity) == ("unknown-format", "error")
    assert found.description in first.message
