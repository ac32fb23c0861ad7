from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from any_rows import ROW
from hypothesis import given, settings

from luthier.data.shapes.formats import recognise

pytestmark = pytest.mark.unit

USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
OTHER = {"role": "assistant", "content": "b"}
SYSTEM = {"role": "system", "content": "s"}


def texts(messages: list[dict[str, Any]] | None) -> list[Any] | None:
    return messages and [message["content"] for message in messages]


@pytest.mark.parametrize(
    ("row", "name", "messages"),
    [
        ({"messages": [USER, ANSWER]}, "chat", ["q", "a"]),
        ({"messages": [USER, ANSWER], "id": 3}, "chat", ["q", "a"]),
        ({"messages": [USER], "tools": [], "functions": []}, "chat", ["q"]),
        ({"messages": [USER, ANSWER, {"role": "tool", "content": "r"}], "id": 3}, "chat", ["q", "a", "r"]),
        ({"messages": [USER, {"role": "wizard", "content": "x"}], "id": 3}, "chat", None),
        ({"messages": "none", "id": 3}, "chat", None),
        ({"messages": [SYSTEM, USER], "answer": 3}, "reinforcement", ["s", "q"]),
        ({"messages": [USER, ANSWER, {"role": "human", "content": "r"}], "answer": 3}, "reinforcement", ["q", "a", "r"]),
        ({"messages": [SYSTEM], "answer": 3}, "reinforcement", ["s"]),
        ({"prompt": "q", "completion": "a"}, "completion", ["q", "a"]),
        ({"prompt": 3, "completion": None}, "completion", None),
        ({"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []}, "preference", None),
        ({"input": {"messages": [SYSTEM, USER]}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]},
         "preference", ["s", "q", "a"]),
        ({"input": {"messages": [USER]}, "preferred_completion": [ANSWER], "non_preferred_completion": [OTHER]},
         "preference", ["q", "a"]),
        ({"preferred_output": 3}, "preference", None),
    ],
)  # fmt: skip
def test_what_services_train_on_is_recognised(row: dict[str, Any], name: str, messages: list[Any] | None) -> None:
    found = recognise(row)
    assert (found.name, found.is_trainable, found.is_convertible) == (name, True, False)
    assert (texts(found.messages) or None) == messages
    assert found.description
    assert found.advice


@pytest.mark.parametrize(
    ("row", "name", "messages"),
    [
        ({"instruction": "q", "input": "i", "output": "a"}, "alpaca", ["q\n\ni", "a"]),
        ({"instruction": "q", "context": "", "response": "a", "category": "x"}, "alpaca", ["q", "a"]),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "sharegpt", ["q", "a"]),
        ({"conversations": [{"from": "alien", "value": "q"}]}, "sharegpt", None),
        ({"System": "s", "User": "q", "Assistant": "a"}, "columns", ["s", "q", "a"]),
        ({"question": "q", "sql": "a"}, "columns", ["q", "a"]),
        ({"question": "q", "sql": "a", "answer": "3"}, "columns", ["q", "a"]),
        ({"question": "q", "label": 3}, "columns", None),
        ({"source": "q", "target": "a"}, "columns", ["q", "a"]),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "chosen-rejected", ["q", "a"]),
        ({"chosen": "a", "rejected": "b"}, "chosen-rejected", None),
        ({"prompt": [USER], "completion": [ANSWER]}, "messages-completion", ["q", "a"]),
        ({"prompt": "q", "completion": "a", "label": True}, "judged-completion", ["q", "a"]),
        ({"prompt": "q", "completion": "a", "label": False}, "judged-completion", None),
        ({"contents": [{"role": "user", "parts": []}]}, "gemini", [""]),
        ({"contents": [{"role": "user", "parts": [{"inlineData": {}}]}]}, "gemini", None),
        ({"role": "user", "content": "q"}, "message", None),
        ({"name": "x"}, "unknown", None),
        ({"source": "x", "answer": "a"}, "unknown", None),
        ({}, "unknown", None),
    ],
)
def test_near_misses_are_recognised(row: dict[str, Any], name: str, messages: list[Any] | None) -> None:
    found = recognise(row)
    assert (found.name, found.is_trainable) == (name, False)
    assert texts(found.messages) == messages
    assert found.description in found.said


def test_the_non_preferred_answer_is_at_hand() -> None:
    rows: list[dict[str, Any]] = [
        {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
    ]
    assert [recognise(row).non_preferred for row in rows] == [[OTHER]] * 2
    assert recognise({"messages": [USER, ANSWER]}).non_preferred is None


def test_a_conversation_is_told_in_openai_words() -> None:
    parts = [{"type": "text", "value": "Hello"}, {"type": "text", "text": " you"}]
    row = {"messages": [{"role": "Human", "content": "hi", "name": "ann"}, {"role": "model", "content": parts}]}
    before = copy.deepcopy(row)
    assert recognise(row).messages == [
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "assistant", "content": "Hello you"},
    ]
    assert row == before
    plain = {"messages": [USER, ANSWER]}
    assert recognise(plain).messages is plain["messages"]


@pytest.mark.parametrize("name", ["dpo-agreeable/train", "dpo-general/openai_format_sample_arc12"])
def test_real_preference_rows(public_data: Path, name: str) -> None:
    rows = [json.loads(line) for line in (public_data / f"{name}.jsonl").read_text().splitlines()]
    found = [recognise(row) for row in rows]
    assert {(one.name, one.is_trainable) for one in found} == {("preference", True)}
    for row, one in zip(rows, found, strict=True):
        assert one.messages == row["input"]["messages"] + row["preferred_output"]
        assert one.non_preferred == row["non_preferred_output"]


@given(row=ROW)
@settings(max_examples=300, deadline=None)
def test_any_row_has_a_shape_and_is_left_as_it_is(row: dict[str, Any]) -> None:
    before = copy.deepcopy(row)
    found = recognise(row)
    told = found.messages
    assert found.said.startswith(found.description)
    assert told is None or all(
        message["role"] in ("system", "developer", "user", "assistant", "tool") for message in told
    )
    assert not (found.is_trainable and found.is_convertible)
    assert found.non_preferred is None or "preferred" in str(row) or found.name == "chosen-rejected"
    assert row == before
