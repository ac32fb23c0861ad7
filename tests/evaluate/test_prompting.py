"""Examples in a prompt, and which of them are alike."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest

from luthier.data.chat import Example
from luthier.evaluate.prompting import answer_of, asked_of, fitted, question_of, with_examples
from luthier.evaluate.retrieval import Index
from luthier.evaluate.samples import Sample

pytestmark = pytest.mark.unit


def example(asked: str, answer: str, system: str | None = "Be brief.", **last: object) -> Example:
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer, **last}]
    return Example({"messages": messages}, "rows.jsonl", 1)


SAMPLE = Sample("a", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Three?"}], "3")


def test_examples_stand_between_the_instructions_and_the_question() -> None:
    shown = with_examples(SAMPLE, [example("One?", "1", weight=1), example("Two?", "2")])
    assert [(m["role"], m["content"]) for m in shown.prompt] == [
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", "1"),
        ("user", "Two?"),
        ("assistant", "2"),
        ("user", "Three?"),
    ]
    assert all("weight" not in message for message in shown.prompt)
    assert (shown.id, shown.target) == (SAMPLE.id, SAMPLE.target)


def test_other_instructions_of_an_example_are_said_before_its_first_turn() -> None:
    shown = with_examples(SAMPLE, [example("One?", "1", system="Use the table of prices.")])
    assert shown.prompt[1]["content"] == "Use the table of prices.\n\nOne?"


def test_a_later_untrained_turn_is_not_shown() -> None:
    row = example("One?", "1")
    row.row["messages"] += [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "no", "weight": 0}]
    assert [m["content"] for m in with_examples(SAMPLE, [row]).prompt] == ["Be brief.", "One?", "1", "Three?"]
    assert answer_of(row)["content"] == "1"
    assert [m["content"] for m in asked_of(row)] == ["Be brief.", "One?"]
    assert question_of(asked_of(row)) == "One?"


def test_of_examples_that_do_not_fit_the_last_ones_stay() -> None:
    rows = [example(f"{n}?", str(n)) for n in range(4)]
    shown, count = fitted(SAMPLE, rows, lambda sample: len(sample.prompt) <= 6)
    assert (count, [m["content"] for m in shown.prompt]) == (2, ["Be brief.", "2?", "2", "3?", "3", "Three?"])
    assert fitted(SAMPLE, rows, lambda sample: len(sample.prompt) < 4) == (SAMPLE, 0)


TEXTS = [
    "play the new song by the band",
    "book a table for four in the evening",
    "play a song",
    "what is the weather in the evening",
    "add this song to the list",
]


@pytest.mark.parametrize("question", ["play song", "table this evening", "the the weather", "song list evening"])
def test_the_order_is_that_of_the_formula(question: str) -> None:
    """Okapi BM25 written out, with the idf of Lucene."""
    words = [re.findall(r"\b\w\w+\b", text) for text in TEXTS]
    mean = np.mean([len(row) for row in words])
    scores = []
    for row in words:
        count, score = Counter(row), 0.0
        for word in re.findall(r"\b\w\w+\b", question):
            having = sum(word in other for other in words)
            idf = math.log(1 + (len(words) - having + 0.5) / (having + 0.5))
            score += idf * count[word] / (count[word] + 1.5 * (1 - 0.75 + 0.75 * len(row) / mean))
        scores.append(score)
    wanted = sorted(range(len(TEXTS)), key=lambda n: (-round(scores[n], 5), n))
    assert Index(TEXTS).nearest(question, 5) == wanted


@pytest.mark.parametrize("question", ["", "!?", "unknown words"])
def test_a_question_that_shares_no_word_gets_the_first_texts(question: str) -> None:
    assert Index(TEXTS).nearest(question, 2) == [0, 1]
    assert Index(["", "?"]).nearest(question, 2) == [0, 1]
