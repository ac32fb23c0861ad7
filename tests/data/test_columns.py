from __future__ import annotations

import pickle
from typing import Any

import pytest
from any_rows import OTHER
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.findings import Problem
from luthier.data.shapes.columns import ColumnMap
from luthier.errors import DataError, RecipeError

pytestmark = pytest.mark.unit

RECORD = {
    "question": "q",
    "sql": "a",
    "instructions": "s",
    "my title": "t",
    "a, b": "c",
    "n": 3,
    "yes": True,
    "null": None,
}


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("user=question,assistant=sql", [("user", "q"), ("assistant", "a")]),
        ("assistant = sql , user = question", [("user", "q"), ("assistant", "a")]),
        ("user=question,assistant=sql,system=instructions", [("system", "s"), ("user", "q"), ("assistant", "a")]),
        ("user=my title,assistant=sql", [("user", "t"), ("assistant", "a")]),
        ('user="{a, b}",assistant=sql', [("user", "c"), ("assistant", "a")]),
        (r'user="{my title}\n\n{question}",assistant=sql', [("user", "t\n\nq"), ("assistant", "a")]),
        (r"user={my title}\n{question}, please,assistant=sql", [("user", "t\nq, please"), ("assistant", "a")]),
        (r'user=question,assistant="{{\"sql\": \"{sql}\"}}"', [("user", "q"), ("assistant", '{"sql": "a"}')]),
        ('user=question,assistant=sql,system="Be, kind=1."', [("system", "Be, kind=1."), ("user", "q"), ("assistant", "a")]),
        ("user=question,assistant=n,user=sql,assistant=yes",
         [("user", "q"), ("assistant", "3"), ("user", "a"), ("assistant", "true")]),
        ("developer=instructions,user=question,assistant=sql", [("developer", "s"), ("user", "q"), ("assistant", "a")]),
    ],
)  # fmt: skip
def test_a_map_makes_a_chat_row(text: str, messages: list[tuple[str, str]]) -> None:
    row = {"messages": [{"role": role, "content": content} for role, content in messages]}
    column_map = ColumnMap.parse(text)
    assert column_map.row(RECORD) == row
    assert column_map.mapped(RECORD) == row
    assert pickle.loads(pickle.dumps(column_map)) == column_map


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("question", "cannot be read"),
        ("user=question", "nothing about the assistant"),
        ("assistant=question", "nothing about the user"),
        ("user=question,asistant=sql", 'did you mean "assistant"'),
        ("user=,assistant=sql", "not a column or a template"),
        ('user="question,assistant=sql', "not a column or a template"),
        ('user="question",assistant=sql', "made of no column"),
        ("user=question,assistant=sql,", "in a template"),
        ("user={question,assistant=sql", "A brace is open"),
        ("user=question},assistant=sql", "A brace is open"),
        ("tool=question,user=a,assistant=b", "There is no role tool"),
    ],
)
def test_a_map_that_is_not_right_says_how_to_write_it(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ColumnMap.parse(text)
    assert (caught.value.code, caught.value.param) == ("bad_map", "--map")
    assert words in caught.value.message
    assert "user=question,assistant=answer" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"question": "q"}, 'the column "sql" is missing; there are question'),
        ({"question": "q", "sql": None}, 'the column "sql" is null'),
        ({"question": ["q"], "sql": "a"}, 'the column "question" is a list'),
        ({"question": {}, "sql": "a"}, 'the column "question" is empty'),
    ],
)
def test_a_record_without_a_text_is_a_problem(record: dict[str, Any], words: str) -> None:
    column_map = ColumnMap.parse("user=question,assistant=sql")
    problem = column_map.mapped(record)
    assert isinstance(problem, Problem)
    assert (problem.rule.code, problem.rule.severity) == ("missing-content", "error")
    assert words in problem.detail
    with pytest.raises(DataError) as caught:
        column_map.row(record)
    assert words in caught.value.message


def test_a_column_in_quotes_is_not_taken_for_a_text() -> None:
    problem = ColumnMap.parse('user=question,assistant=sql,system="instructions"').mapped(RECORD)
    assert isinstance(problem, Problem)
    assert "stands in quotes" in problem.detail


def test_what_became_text_or_was_left_out_is_said() -> None:
    notes = ColumnMap.parse("user=question,assistant=n").notes({"question": "q", "n": 3, "id": 7, "empty": None})
    assert notes == ['"n" held a number, which became text', "left out: id"]
    assert ColumnMap.parse("user=question,assistant=sql").notes({"question": "q", "sql": "a"}) == []


@pytest.mark.parametrize(
    ("row", "suggested"),
    [
        ({"question": "q", "sql": "a", "answer": "3"}, "user=question,assistant=sql"),
        ({"id": 4, "question": "q", "label": 3}, "user=question,assistant=label"),
        ({"title": "q", "body": "a"}, "user=title,assistant=body"),
        ({"prompt": "q", "reply": "a"}, "user=prompt,assistant=reply"),
        ({"context": "c", "question": "q", "answer": "a"}, r'user="{context}\n\n{question}",assistant=answer'),
        ({"context": "c", "target": "a"}, "user=context,assistant=target"),
        ({"system_prompt": "s", "query": "q", "answer": "a"}, "user=query,assistant=answer,system=system_prompt"),
        ({"the, text": "q", "label": "a"}, 'user="{the, text}",assistant=label'),
        ({"user": "q", "assistant": "a", "model": "gpt"}, "user=user,assistant=assistant"),
        ({"key": 1, "prompt": "q", "kwargs": []}, None),
        ({"a": "1", "b": "2", "c": "3"}, None),
        ({"name": "x"}, None),
        ({"{": "q", "}": "a"}, None),
        ({}, None),
    ],
)
def test_a_map_is_suggested_where_there_is_something_to_go_by(row: dict[str, Any], suggested: str | None) -> None:
    assert ColumnMap.suggestion(row) == suggested


NAMES = st.sampled_from(
    ["question", "Answer", "context", "my title", "a,b", "a=b", "x\\y", 'say "hi"', "{x}", "system", " lead"]
)
FLAT = st.dictionaries(
    NAMES | st.text(max_size=6), st.text(max_size=5) | st.integers() | st.booleans() | st.none(), max_size=4
)


@given(row=OTHER | FLAT)
@settings(max_examples=400, deadline=None)
def test_every_suggestion_works_on_its_row(row: dict[str, Any]) -> None:
    suggested = ColumnMap.suggestion(row)
    if suggested is not None:
        mapped = ColumnMap.parse(suggested).mapped(row)
        assert not isinstance(mapped, Problem)
        values = [value for value in row.values() if isinstance(value, str)]
        assert any(value in message["content"] for value in values for message in mapped["messages"]) or not values


@given(text=st.text(alphabet='user=asitn,{}" \\nq', max_size=40), record=FLAT)
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_map_or_a_clear_error(text: str, record: dict[str, Any]) -> None:
    try:
        column_map = ColumnMap.parse(text)
    except RecipeError as error:
        caught = error.code
    else:
        caught = "none" if column_map.columns and isinstance(column_map.mapped(record), dict | Problem) else "wrong"
    assert caught in ("bad_map", "none")
