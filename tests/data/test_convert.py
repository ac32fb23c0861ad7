from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from any_rows import ROW
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.rules.rules_message import message_problems
from luthier.data.shapes.convert import to_chat
from luthier.data.shapes.formats import recognise

pytestmark = pytest.mark.unit


def converted(row: dict[str, Any]) -> tuple[dict[str, Any], str]:
    made = to_chat(row)
    assert made is not None
    return made[0], "; ".join(made[1])


def turns(*texts: str, system: str | None = None) -> dict[str, Any]:
    before = [{"role": "system", "content": system}] if system is not None else []
    roles = ["user", "assistant"] * len(texts)
    spoken = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"messages": [*before, *spoken]}


@pytest.mark.parametrize(
    ("row", "chat", "words"),
    [
        ({"prompt": "q ->", "completion": " a END", "id": 7}, turns("q ->", " a END"), "left out: id"),
        ({"instruction": "q", "input": "i", "output": "a"}, turns("q\n\ni", "a"), '"instruction" and "input"'),
        ({"instruction": "q", "input": "", "output": "a", "system": "s"}, turns("q", "a", system="s"), ""),
        ({"instruction": "q", "output": "a", "history": [["q0", "a0"]]}, turns("q0", "a0", "q", "a"), '"history"'),
        ({"instruction": "q", "context": "c", "response": "a", "category": "x"}, turns("q\n\nc", "a"), "out: category"),
        ({"question": "q", "sql": "a", "id": 3}, turns("q", "a"), "left out: id"),
        ({"Assistant": "a", "User": "q", "System": "s"}, turns("q", "a", system="s"), '"User" became the user'),
        ({"user": "q", "assistant": "a", "system": None}, turns("q", "a"), ""),
        ({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]},
         turns("q", "a"), "one conversation"),
        ({"prompt": "q", "completion": "a", "label": True}, turns("q", "a"), "labelled good"),
        ({"systemInstruction": {"parts": [{"text": "s"}]}, "contents": [
            {"role": "user", "parts": [{"text": "q"}, {"text": "!"}]}, {"role": "model", "parts": [{"text": "a"}]}]},
         turns("q!", "a", system="s"), '"contents"'),
        ({"messages": [{"role": "Human", "content": "q"}, {"role": "model", "content": [{"type": "text", "value": "a"}]}]},
         turns("q", "a"), 'renamed the role "model" to "assistant"'),
        ({"system": "s", "messages": [{"role": "user", "content": [{"text": "q"}]}, {"role": "assistant", "content": "a"}]},
         turns("q", "a", system="s"), '"system" became the first message'),
        ({"system": "s", "conversations": [
            {"from": "human", "value": "q", "score": 1}, {"from": "gpt", "value": "a"}], "id": 3, "source": "web"},
         turns("q", "a", system="s"), "left out of the messages: score; left out: id, source"),
    ],
)  # fmt: skip
def test_rows_of_other_tools_become_chat_rows(row: dict[str, Any], chat: dict[str, Any], words: str) -> None:
    before = copy.deepcopy(row)
    made, said = converted(row)
    assert made == chat
    assert words in said
    assert said
    assert row == before
    assert list(message_problems(made, recognise(made))) == []
    assert to_chat(made) == (made, [])


ASKED, GOOD, BAD = (
    {"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "a"), ("assistant", "b"))
)
PREFERENCE = {"input": {"messages": [ASKED]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"question": "q", "chosen": "a", "rejected": "b"},
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"prompt": "q", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        },
    ],
)
def test_chosen_and_rejected_become_a_preference_row(row: dict[str, Any]) -> None:
    made, said = converted({**row, "score_chosen": 4})
    assert made == PREFERENCE
    assert "left out: score_chosen" in said
    assert list(message_problems(made, recognise(made))) == []


def test_a_preference_row_with_a_system_prompt_and_an_input() -> None:
    made, _ = converted({"system": "s", "instruction": "q", "input": "i", "chosen": "a", "rejected": "b"})
    assert made["input"]["messages"] == turns("q\n\ni", system="s")["messages"]


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"text": "all in one"},
        {"role": "user", "content": "q"},
        {"question": "q", "sql": "a", "answer": "3"},
        {"context": "c", "question": "q", "answer": "a"},
        {"question": "q", "label": 3},
        {"user": "q", "assistant": "a", "model": "gpt"},
        {"prompt": "q", "completion": None},
        {"prompt": "q", "completion": "a", "label": False},
        {"chosen": "a", "rejected": "b"},
        {"prompt": "other", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"chosen": [ASKED, GOOD, ASKED], "rejected": [ASKED, BAD, ASKED]},
        {"conversations": [{"from": "alien", "value": "q"}]},
        {"conversations": ["q", "a"]},
        {"conversations": [{"from": "human", "value": None}]},
        {"conversations": [{"from": "function_call", "value": "look()"}]},
        {"contents": [{"role": "user", "parts": [{"inlineData": {}}]}]},
        {"instruction": 3, "output": "a"},
        {"instruction": "q", "output": "a", "history": 5},
        {"instruction": "q", "output": "a", "history": [["only"]]},
    ],
)
def test_nothing_is_guessed(row: dict[str, Any]) -> None:
    assert to_chat(row) is None


def test_what_is_in_the_format_stays_as_it_is() -> None:
    for row in (turns("q", "a"), {**turns("q"), "answer": 3}, PREFERENCE, {"messages": "none"}, {"messages": [3]}):
        made = to_chat(row)
        assert made == (row, [])


def test_calls_of_sharegpt_become_tool_calls() -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "weather?"},
            {"from": "function_call", "value": '{"name": "look", "arguments": {"city": "Oslo"}}'},
            {"from": "observation", "value": "rain"},
            {"from": "gpt", "value": "It rains."},
        ],
        "tools": '[{"name": "look", "description": "", "parameters": {"type": "object", "required": ["city"]}}]',
    }
    made, said = converted(row)
    assert "tool calls" in said
    assert made["messages"][1]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"city": "Oslo"}'}
    assert made["tools"][0]["function"]["name"] == "look"
    assert list(message_problems(made, recognise(made))) == []


WORDS = st.uuids().map(str)
ALPACA = st.fixed_dictionaries(
    {"instruction": WORDS, "output": WORDS},
    optional={
        "input": WORDS,
        "system": WORDS,
        "history": st.lists(st.lists(WORDS, min_size=2, max_size=2), max_size=2),
    },
)
SHAREGPT = st.builds(
    lambda turns, rest: {"conversations": turns, **rest},
    st.lists(
        st.builds(lambda role, text: {"from": role, "value": text}, st.sampled_from(["human", "gpt", "system"]), WORDS),
        min_size=1,
        max_size=5,
    ),
    st.fixed_dictionaries({}, optional={"system": WORDS}),
)
COLUMNS = st.builds(
    lambda asked, answer, one, two: {asked: one, answer: two},
    st.sampled_from(["question", "prompt", "query", "text"]),
    st.sampled_from(["sql", "answer", "label"]),
    WORDS,
    WORDS,
)
CHOSEN = st.builds(
    lambda shared, one, two: {
        "chosen": [*shared, {"role": "assistant", "content": one}],
        "rejected": [*shared, {"role": "assistant", "content": two}],
    },
    st.lists(st.builds(lambda text: {"role": "user", "content": text}, WORDS), min_size=1, max_size=3),
    WORDS,
    WORDS,
)
GEMINI = st.builds(
    lambda parts: {"contents": [{"role": "user", "parts": [{"text": text} for text in parts]}]},
    st.lists(WORDS, min_size=1, max_size=3),
)


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in inner for text in strings(item)]


@given(row=ALPACA | SHAREGPT | COLUMNS | CHOSEN | GEMINI, extra=st.dictionaries(st.sampled_from(["id", "url"]), WORDS))
@settings(max_examples=300, deadline=None)
def test_every_text_stands_in_the_result_or_is_said_to_be_left_out(row: dict[str, Any], extra: dict[str, str]) -> None:
    made, said = converted({**row, **extra})
    written = json.dumps(made)
    assert all(text in written for text in strings(row) if len(text) == 36)
    assert all(f"{key}" in said.split("left out: ")[1] for key in extra)
    assert recognise(made).is_trainable


@given(row=ROW)
@settings(max_examples=300, deadline=None)
def test_any_row_is_converted_or_not_and_never_changed(row: dict[str, Any]) -> None:
    before = copy.deepcopy(row)
    found = recognise(row)
    made = to_chat(row)
    assert row == before
    if found.name != "completion":
        assert found.is_convertible == (made is not None and not found.is_trainable)
    if made is not None:
        assert recognise(made[0]).is_trainable
        assert bool(made[1]) == (made[0] != row)
        assert to_chat(made[0]) == (made[0], [])


def test_real_rows_of_other_shapes(messy: Path) -> None:
    def rows(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in next(messy.glob(f"{name}_*")).read_text().splitlines() if line.strip()]

    for name in ("12", "13", "18", "19", "21", "22", "20"):
        for row in rows(name):
            made, said = converted(row)
            assert said
            assert all(text in strings(made) for text in strings(list(row.values())) if len(text) > 20)
            assert {p.rule.code for p in message_problems(made, recognise(made))} <= {"empty-content", "unknown-key"}
    assert [to_chat(row) is None for row in rows("30")].count(True) == 40  # those with both "sql" and "answer"
