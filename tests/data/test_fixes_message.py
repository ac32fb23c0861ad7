from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from any_rows import ROW
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.cleaning.fixes_message import MENDED_CODES, fix_messages
from luthier.data.rules import catalogue_message
from luthier.data.rules.rules_message import message_problems
from luthier.data.shapes.formats import recognise

pytestmark = pytest.mark.unit

USER = {"role": "user", "content": "u"}
ANSWER = {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
EMPTY = {"role": "system", "content": ""}
SILENT = {"role": "user", "content": " "}
CALL = {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}}
RESULT = {"role": "function", "name": "look", "content": "r"}


def said(*messages: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


def mended(code: str, *messages: Any, **beside: Any) -> list[dict[str, Any]]:
    row = {"messages": list(messages), **beside}
    new, changes = fix_messages(row, frozenset((code,)))
    assert all(changed == code and sentence for changed, sentence in changes)
    assert (new is row) == (not changes)
    result: list[dict[str, Any]] = new["messages"]
    return result


@pytest.mark.parametrize(
    ("code", "messages", "after"),
    [
        ("unknown-role", [{"role": "human", "content": "u"}, {"role": "Model", "content": "a"}], [USER, ANSWER]),
        ("unknown-role", [{"role": "wizard", "content": "u"}, ANSWER], None),
        ("unknown-role", [USER, CALL, RESULT, ANSWER], None),
        ("empty-content", [EMPTY, USER, ANSWER], [USER, ANSWER]),
        ("empty-content", [SYSTEM, SILENT, USER, ANSWER], [SYSTEM, USER, ANSWER]),
        ("empty-content", [USER, ANSWER, SILENT, SYSTEM, ANSWER], None),
        ("empty-content", [USER, ANSWER, SILENT, SILENT, ANSWER], [USER, ANSWER, SILENT, ANSWER]),
        ("empty-content", [SILENT, ANSWER], None),
        ("empty-content", [EMPTY, USER], None),
        ("content-parts", [{"role": "user", "content": [{"type": "text", "value": "u"}]}, ANSWER], [USER, ANSWER]),
        (
            "content-parts",
            [{"role": "user", "content": ["u", {"text": "v"}]}, ANSWER],
            [{**USER, "content": "uv"}, ANSWER],
        ),
        ("content-parts", [{"role": "user", "content": [{"type": "text", "text": "u", "weight": 1}]}, ANSWER], None),
        ("content-parts", [{"role": "user", "content": [{"type": "text", "text": "u"}]}, ANSWER], None),
        ("unknown-key", [{**USER, "id": 3, "name": 5}, {**ANSWER, "weight": 1}], [USER, {**ANSWER, "weight": 1}]),
        ("unknown-key", [USER, {"role": "assistant", "label": "a"}], None),
        ("last-not-assistant", [USER, ANSWER, USER, SYSTEM], [USER, ANSWER]),
        ("last-not-assistant", [USER], None),
        ("same-role-twice", [USER, USER, USER, ANSWER], [{**USER, "content": "u\n\nu\n\nu"}, ANSWER]),
        ("same-role-twice", [USER, ANSWER, {**ANSWER, "weight": 1}], [USER, {**ANSWER, "content": "a\n\na"}]),
        ("same-role-twice", [USER, ANSWER, {**ANSWER, "weight": 0}], None),
        ("same-role-twice", [USER, {**CALL, "content": "x"}, ANSWER], None),
        ("same-role-twice", [{**USER, "name": "ann"}, USER, ANSWER], None),
        ("several-system", [SYSTEM, USER, SYSTEM, ANSWER], [{**SYSTEM, "content": "s\n\ns"}, USER, ANSWER]),
        ("several-system", [SYSTEM, USER, ANSWER, SYSTEM, USER, ANSWER], None),
        ("several-system", [SYSTEM, {**SYSTEM, "role": "developer"}, USER, ANSWER], None),
        ("system-not-first", [USER, SYSTEM, ANSWER], [SYSTEM, USER, ANSWER]),
        ("system-not-first", [USER, ANSWER, SYSTEM, USER, ANSWER], None),
    ],
)
def test_each_repair(code: str, messages: list[Any], after: list[Any] | None) -> None:
    assert mended(code, *messages) == (messages if after is None else after)


def test_keys_beside_the_messages_are_deleted_and_named() -> None:
    row = {"messages": [USER, ANSWER], "id": 7, "tool": [], "system": "be kind"}
    new, changes = fix_messages(row, frozenset(("unknown-key",)))
    assert new == {"messages": [USER, ANSWER], "system": "be kind"}
    assert [sentence for _, sentence in changes] == [
        f'deleted the key "{key}" beside the messages' for key in ("id", "tool")
    ]
    assert fix_messages({"prompt": "q", "completion": "a", "id": 3}, MENDED_CODES)[0] == {
        "prompt": "q",
        "completion": "a",
    }
    graded = {"messages": [USER], "answer": 3}
    assert fix_messages(graded, MENDED_CODES) == (graded, [])


def test_old_functions_become_tools_with_ids_made_up() -> None:
    taken = {"id": "call_1", "type": "function", "function": {"name": "x", "arguments": "{}"}}
    row = {
        "messages": [USER, {**ANSWER, "tool_calls": [taken]}, USER, CALL, RESULT, CALL, RESULT, ANSWER],
        "functions": [{"name": "look"}],
    }
    new, changes = fix_messages(row, frozenset(("unknown-key",)))
    messages = new["messages"]
    assert [message["tool_calls"][0]["id"] for message in (messages[3], messages[5])] == ["call_2", "call_3"]
    assert [message["tool_call_id"] for message in (messages[4], messages[6])] == ["call_2", "call_3"]
    assert messages[4] == {"role": "tool", "name": "look", "content": "r", "tool_call_id": "call_2"}
    assert new["tools"] == [{"type": "function", "function": {"name": "look"}}]
    assert "functions" not in new
    assert len(changes) == 3
    assert "unknown-key" not in {problem.rule.code for problem in message_problems(new, recognise(new))}


def test_preference_rows_are_mended_in_all_three_places() -> None:
    row = {
        "input": {"messages": [USER, {"role": "System", "content": "s"}, EMPTY], "id": 3},
        "preferred_output": [{"role": "model", "content": ["a"]}],
        "non_preferred_output": [{"role": "bot", "content": "b", "score": 1}],
        "id": 3,
    }
    new, changes = fix_messages(row, MENDED_CODES)
    assert new == {
        "input": {"messages": [SYSTEM, USER]},
        "preferred_output": [ANSWER],
        "non_preferred_output": [{**ANSWER, "content": "b"}],
    }
    assert {code for code, _ in changes} == {
        "unknown-key", "unknown-role", "content-parts", "several-system", "system-not-first",
    }  # fmt: skip


def test_prompts_keep_their_last_message() -> None:
    for last in (SILENT, EMPTY):
        row = {"messages": [SYSTEM, USER, last], "answer": 3}
        assert mended("empty-content", *row["messages"], answer=3) == row["messages"]


@given(row=ROW, codes=st.sets(st.sampled_from(sorted(MENDED_CODES)), min_size=1).map(frozenset))
@settings(max_examples=500, deadline=None)
def test_what_the_check_says_can_be_mended_is_mended_once_and_for_all(
    row: dict[str, Any], codes: frozenset[str]
) -> None:
    before = copy.deepcopy(row)
    new, changes = fix_messages(row, codes)
    assert row == before
    assert (new is row) == (changes == [])
    assert {code for code, _ in changes} <= codes
    left = [
        problem for problem in message_problems(new, recognise(new)) if problem.rule.fix and problem.rule.code in codes
    ]
    assert left == []
    assert fix_messages(new, codes) == (new, [])
    json.dumps(new)


@given(row=ROW)
@settings(max_examples=300, deadline=None)
def test_a_row_is_changed_only_where_the_check_says_so(row: dict[str, Any]) -> None:
    promised = {problem.rule.code for problem in message_problems(row, recognise(row)) if problem.rule.fix}
    for code in MENDED_CODES:
        _, changes = fix_messages(row, frozenset((code,)))
        assert bool(changes) == (code in promised)
    assert fix_messages(row, frozenset(("no-user", "duplicate"))) == (row, [])


ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "human", "model"])
KEEPING = frozenset(MENDED_CODES - {"last-not-assistant", "unknown-key"})


@given(roles=st.lists(ROLES, min_size=1, max_size=8), empty=st.sets(st.integers(0, 7)), beside=st.booleans())
@settings(max_examples=500, deadline=None)
def test_no_text_is_lost_but_what_is_said_to_be_deleted(roles: list[str], empty: set[int], beside: bool) -> None:
    messages = [
        {"role": role, "content": "" if place in empty else f"<{place}>" if place % 3 else [f"<{place}>"]}
        for place, role in enumerate(roles)
    ]
    row = {"messages": messages, **({"answer": "x"} if beside else {})}
    texts = [f"<{place}>" for place in range(len(roles)) if place not in empty]
    new, _ = fix_messages(row, KEEPING)
    written = json.dumps(new)
    assert all(written.count(text) == 1 for text in texts)
    new, changes = fix_messages(row, MENDED_CODES)
    written = json.dumps(new)
    deleted = " ".join(sentence for _, sentence in changes if sentence.startswith("deleted"))
    assert all(text in written or text in deleted for text in texts)


def test_long_conversations_are_mended_in_a_moment() -> None:
    turns = [{"role": "user", "content": f"u{place}"} for place in range(20_000)]
    silent = [dict(SILENT) for _ in range(20_000)]
    calls = [CALL, RESULT] * 10_000
    row = {"messages": [*silent, *turns, *calls, ANSWER]}
    new, changes = fix_messages(row, MENDED_CODES)
    assert len(new["messages"]) == 20_002
    assert len(changes) == 40_001


def test_only_rules_that_can_be_mended_here_promise_it() -> None:
    promised = {rule.code for rule in catalogue_message.RULES if rule.fix}
    assert promised - MENDED_CODES == {"preference-same"}
