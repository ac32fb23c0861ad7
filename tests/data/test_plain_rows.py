"""What the quick look calls plain is without fault: the rules say nothing about it, and decoding lost nothing of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from any_rows import ANY, ROW
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data.check import check_files
from luthier.data.reading import files
from luthier.data.reading.json_value import value_problem
from luthier.data.rules import plain_rows
from luthier.data.rules.plain_rows import plain_chat
from luthier.data.rules.rules_message import message_problems
from luthier.data.rules.rules_tools import tools_problems
from luthier.data.shapes.formats import PLAIN_CHAT, recognise

pytestmark = pytest.mark.unit

USER = {"role": "user", "content": 'Say "hi".'}
ANSWER = {"role": "assistant", "content": "hellö \\ hi"}
SYSTEM = {"role": "system", "content": "be kind"}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": ""}
LOOK = {
    "name": "look",
    "parameters": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}},
}
TOOLS = [{"type": "function", "function": LOOK}]


def call(arguments: str = "{}", **changes: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": "look", "arguments": arguments}, **changes}


def asking(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def with_tools(*turns: Any, tools: Any = TOOLS) -> dict[str, Any]:
    return {"messages": list(turns), "tools": tools}


SOUND = [
    {"messages": [USER, ANSWER]},
    {"messages": [SYSTEM, USER, ANSWER, USER, ANSWER]},
    with_tools(SYSTEM, USER, asking(call('{"a": "x"}')), RESULT, ANSWER),
    with_tools(USER, ANSWER, USER, asking(call(), call('{"b": 3}', id="c2")), {**RESULT, "tool_call_id": "c2"}, RESULT,
               ANSWER),
    with_tools(USER, {"role": "assistant", "tool_calls": [call()]}, {**RESULT, "name": "look"}, ANSWER),
    with_tools(USER, {**asking(call()), "content": ""}, RESULT, {**asking(call()), "content": "wait"}, RESULT, ANSWER),
    with_tools(USER, ANSWER, USER, asking(call(), call(id="c2"))),
    with_tools({"role": "developer", "content": "x"}, USER, ANSWER, tools=[]),
]  # fmt: skip
UNSOUND = [
    {},
    {"messages": []},
    {"messages": [SYSTEM, SYSTEM, USER, ANSWER]},
    {"messages": [USER, ANSWER], "id": 1},
    {"messages": [USER, {**ANSWER, "weight": 0}]},
    {"messages": [USER, {**ANSWER, "content": " "}]},
    {"messages": [USER, {**ANSWER, "content": None}]},
    {"messages": [USER, asking(call()), RESULT, ANSWER]},
    with_tools(USER, asking(call()), ANSWER),
    with_tools(USER, asking(), ANSWER),
    with_tools(USER, asking(call(), call()), RESULT, RESULT, ANSWER),
    with_tools(USER, asking(call('{"a": 1}')), RESULT, ANSWER),
    with_tools(USER, asking(call("[]")), RESULT, ANSWER),
    with_tools(USER, asking(call("{")), RESULT, ANSWER),
    with_tools(USER, asking(call(f'{{"c": {"[" * 980}{"]" * 980}}}')), RESULT, ANSWER),
    with_tools(USER, asking(call(type="custom")), RESULT, ANSWER),
    with_tools(USER, asking(call(id="")), {**RESULT, "tool_call_id": ""}, ANSWER),
    with_tools(USER, {**asking(call()), "name": "x"}, RESULT, ANSWER),
    with_tools(USER, asking(call()), {**RESULT, "weight": 1}, ANSWER),
    with_tools(USER, asking(call()), {**RESULT, "content": None}, ANSWER),
    with_tools({**USER, "tool_calls": [call()]}, RESULT, ANSWER),
    with_tools(USER, ANSWER, tools=[*TOOLS, *TOOLS]),
    with_tools(USER, ANSWER, tools=None),
    with_tools(USER, ANSWER, tools=[{"type": "function", "function": {**LOOK, "parameters": {"x": 2**70}}}]),
]


def without_fault(text: str, value: dict[str, Any]) -> None:
    """Asserts of a row found plain that the whole rules, which take their time, say the same."""
    whole = orjson.loads(text)
    assert orjson.dumps(value) == orjson.dumps(whole)
    assert value_problem(text, whole) is None
    found = recognise(whole)
    assert list(message_problems(whole, found)) == []
    assert (found.name, found.description) == (PLAIN_CHAT.name, PLAIN_CHAT.description)
    assert found.messages is whole["messages"]


@pytest.mark.parametrize("row", SOUND)
@pytest.mark.parametrize("layout", [{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])
def test_plain_rows_are_known_in_every_layout(row: dict[str, Any], layout: dict[str, Any]) -> None:
    for order in itertools.permutations(row.items()):
        text = json.dumps(dict(order), **layout)
        value = plain_chat(text.encode())
        assert value is not None
        assert value == plain_chat(f"{text}\n".encode()) == row
        without_fault(text, value)


@pytest.mark.parametrize("row", UNSOUND)
def test_other_rows_are_left_to_the_rules(row: dict[str, Any]) -> None:
    assert plain_chat(json.dumps(row).encode()) is None


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ('"role": "user"', '"role": "tool", "role": "user"'),
        ('"role": "user"', '"role": "user", "x": 1'),
        ('"id": "c1"', '"id": "c1", "index": 0'),
        ('"name": "look"', '"name": "look", "name": "look"'),
        ('"tools": [', '"tools": [], "tools": ['),
        ('"type": "object"', '"type": "object", "type": "object"'),
        ('"messages"', '"messages": [], "messages"'),
        ("hi\\\".", 'hi\\u0022.'),
        ('"be kind"', '"be kind", "content": "be kind"'),
        ('{"messages"', '{"x": 1, "messages"'),
        ('{"messages"', '[{"messages"'),
        ("be kind", "be \xff kind"),
        ("be kind", "be \\ud800 kind"),
        ("be kind", "be \x01 kind"),
        ('"be kind"', '"be kind\\u0022\\u0022", "\\u0078": 1'),
    ],
)  # fmt: skip
def test_what_decoding_would_lose_is_seen(there: str, instead: str) -> None:
    text = json.dumps(SOUND[2])
    assert plain_chat(text.encode("latin-1")) is not None
    assert there in text
    changed = text.replace(there, instead, 1)
    assert plain_chat(changed.encode("latin-1")) is None
    assert plain_chat(f"{text}\n".encode("latin-1")) is not None  # from here on the end of the line is known
    assert plain_chat(f"{changed}\n".encode("latin-1")) is None


@given(
    roles=st.lists(st.sampled_from(["system", "developer", "user", "assistant", "tool", "x"]), max_size=6),
    empty=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_plain_rows_without_tools_are_all_those_without_a_word_to_say(roles: list[str], empty: bool) -> None:
    row = {"messages": [{"role": role, "content": " " if empty else "x"} for role in roles]}
    is_sound = not list(message_problems(row, recognise(row))) and recognise(row).name == "chat"
    assert (plain_chat(orjson.dumps(row)) is not None) == is_sound


_TURNS = st.sampled_from([
    SYSTEM, USER, ANSWER, RESULT, {**RESULT, "name": "look"}, {**RESULT, "tool_call_id": "c2"}, {**RESULT, "content": None},
    asking(call()), asking(call(), call(id="c2")), asking(call(), call()), asking(call("{")), asking(call("[]")), asking(),
    asking(call('{"a": 1}')), {**asking(call()), "content": ""}, {**asking(call()), "weight": 0},
    {"role": "assistant", "tool_calls": [call()]}, {"role": "user", "content": None, "tool_calls": [call()]},
])  # fmt: skip
_DECLARED = st.sampled_from([TOOLS, [], [*TOOLS, *TOOLS], [{"function": {"name": "look"}}],
                             [{"type": "function", "function": {"name": "look"}}]])  # fmt: skip


@given(turns=st.lists(_TURNS, max_size=5), first=st.sampled_from([[], [USER], [SYSTEM, USER]]), tools=_DECLARED)
@settings(max_examples=1000, deadline=None)
def test_plain_rows_with_tools_are_without_a_word_to_say(turns: list[Any], first: list[Any], tools: list[Any]) -> None:
    text = json.dumps(with_tools(*first, *turns, tools=tools))
    value = plain_chat(text.encode())
    assert value is None or value["messages"] == [*first, *turns]
    if value is not None:
        without_fault(text, value)


@given(row=ROW)
@settings(max_examples=400, deadline=None)
def test_no_row_breaks_the_quick_look(row: dict[str, Any]) -> None:
    text = json.dumps(row)
    value = plain_chat(text.encode())
    assert value is None or value == row
    if value is not None:
        without_fault(text, value)


SNIPPETS = [
    '"', '\\"', "\\u0022", "\\", "{", "}", "[", "]", ",", ":", " ", "\t", "é", "\\u00e9", "\x01", "1e999", "9" * 25, "null",
    '"role": "user", ', '"content": "x", ', '"x": 1, ', '"\\u0022\\u0022": 1, ', '"id": "c1", ', ', "type": "function"',
    '"tools": [], ', '"messages": [], ', '"parallel_tool_calls": false, ', '"name": "look", ', '"weight": 1, ',
    '{"role": "user", "content": "x"}, ', '{"role": "tool", "tool_call_id": "c1", "content": "x"}, ',
]  # fmt: skip


@st.composite
def rewritten(draw: st.DrawFn) -> str:
    """Draws a row in which a value or two stand in the place of others, then its text with a few places changed."""
    row = json.loads(json.dumps(draw(st.sampled_from(SOUND))))
    for _ in range(draw(st.integers(0, 2))):
        places = list(_places(row))
        holder, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "remove", "copy"]))
        if change == "replace":
            holder[key] = draw(ANY)
        elif change == "remove":
            del holder[key]
        else:
            other, from_key = draw(st.sampled_from(places))
            holder[key] = json.loads(json.dumps(other[from_key])) if _has(other, from_key) else 0
        if not row:
            break
    text = json.dumps(row, ensure_ascii=draw(st.booleans()))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(st.sampled_from(SNIPPETS)) + text[start + draw(st.integers(0, 2)) :]
    return text


def _places(value: Any) -> Any:
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


@given(text=rewritten(), before=st.sampled_from(SOUND))
@settings(max_examples=3000, deadline=None)
def test_a_changed_row_found_plain_is_without_fault(text: str, before: dict[str, Any]) -> None:
    assert plain_chat(f"{json.dumps(before)}\n".encode()) == before
    for raw in (text.encode(), f"{text}\n".encode()):
        value = plain_chat(raw)
        if value is not None:
            without_fault(text, value)


@given(texts=st.lists(rewritten(), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_quick_look_changes_no_finding(texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*texts, *(json.dumps(row) for row in SOUND)]), encoding="utf-8")
    quick = check_files([path])
    with monkeypatch.context() as patched:
        patched.setattr(files, "plain_chat", lambda raw: None)
        slow = check_files([path])
    assert quick.to_json() == slow.to_json()
    assert quick.examples == slow.examples
    assert quick.rejected == slow.rejected


def test_tools_are_judged_once_for_each_text_and_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Any] = []

    def watched(row: dict[str, Any]) -> Any:
        judged.append(row["tools"])
        return tools_problems(row)

    monkeypatch.setattr(plain_rows, "tools_problems", watched)
    monkeypatch.setattr(plain_rows, "_MAX_REMEMBERED_BYTES", 10_000)
    monkeypatch.setattr(plain_rows, "_KNOWN_TOOLS", plain_rows._KnownTools())
    known = plain_rows._KNOWN_TOOLS
    one, other = ([{"type": "function", "function": {**LOOK, "name": name}}] for name in ("look", "find"))
    for tools in (one, one, other, one, other):
        assert plain_chat(json.dumps(with_tools(USER, ANSWER, tools=tools)).encode()) is not None
    assert judged == [one, other]
    for number in range(500):
        described = [{"type": "function", "function": {**LOOK, "description": f"{number}"}}]
        assert plain_chat(json.dumps(with_tools(USER, ANSWER, tools=described)).encode()) is not None
        assert sum(map(len, known)) == known.num_bytes <= 10_000
    huge = [{"type": "function", "function": {**LOOK, "description": "x" * 20_000}}]
    assert plain_chat(json.dumps(with_tools(USER, ANSWER, tools=huge)).encode()) is not None
    assert known.num_bytes <= 10_000


def test_real_clean_rows_are_plain(public_data: Path) -> None:
    lines = (public_data / "banking77-intent" / "train.jsonl").read_bytes().splitlines()
    assert all(plain_chat(line) is not None for line in lines)
