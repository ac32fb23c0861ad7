"""What kind of answers there are, and which are said word for word."""

from __future__ import annotations

import pytest

from luthier.evaluate.copying import copied_share, in_other_words, is_copied, is_worded
from luthier.evaluate.samples import Sample
from luthier.evaluate.shape import shape_of

pytestmark = pytest.mark.unit

CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


@pytest.mark.parametrize(
    ("grader", "trained", "answers", "name", "share"),
    [
        ("json", ['{"a": 1, "b": 2}', '{"b": 3, "a": null}'], ['{"a": 0, "b": 0}', '{"a": 0}', "a"], "a, b", 1 / 3),
        ("json", ['{"a": 1}', '{"c": 3}'], ['{"x": 0}', "[]", "3", "{"], "a JSON object or list", 0.5),
        ("label", ["Yes", "no."], ["yes", "no", "maybe", ""], "one of the 2 labels", 0.5),
        ("tool_calls", [CALL], [CALL, "no"], "a function call", 0.5),
        ("sql", ["SELECT 1"], ["select a from b", "I cannot"], "an SQL query", 0.5),
        ("exact", ["one", "two "], ["three", "a\nb", " "], "a single line", 1 / 3),
        ("exact", ["one\ntwo"], ["three", ""], "a text", 0.5),
    ],
)
def test_a_shape_is_as_narrow_as_the_training_answers(grader, trained, answers, name, share) -> None:
    shape = shape_of(grader, trained)
    assert name in shape.name
    assert shape.trained_share == 1
    assert shape.share(answers) == share


TARGET = "The parcel left our store on Monday and will be at your door within three days from now."


def test_an_answer_is_copied_where_nearly_all_of_it_stands_there_in_one_run() -> None:
    words = TARGET.split()
    assert is_copied(TARGET, f"Certainly. {TARGET} Goodbye.")
    assert is_copied(TARGET, " ".join(words[:-1]))
    assert not is_copied(TARGET, " ".join(words[:8]) + " or " + " ".join(words[8:]))
    assert not is_copied(TARGET, "The parcel is on its way.")
    assert copied_share([TARGET, TARGET], [TARGET, "no"]) == 0.5
    assert is_worded(TARGET)
    assert not is_worded("Yes, of course.")


def test_a_question_in_other_words_asks_the_same() -> None:
    sample = Sample("a", [{"role": "user", "content": "What is it? Please explain whatever you need."}], TARGET)
    found = in_other_words(sample)
    text = found.prompt[0]["content"]
    assert "Which thing is it? Kindly describe whatever you require." in text
    assert found.id != sample.id
    assert sample.prompt[0]["content"].startswith("What is it?")
    silent = Sample("b", [{"role": "system", "content": "Go."}], TARGET)
    assert in_other_words(silent).prompt == silent.prompt
