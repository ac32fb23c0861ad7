"""The probe that is shipped: how much of what, nothing twice, nothing given away, and every check checks."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from luthier.evaluate.forgetting.checks import CHECKS, passes, refuses
from luthier.evaluate.forgetting.reading import DATA, open_probe

pytestmark = pytest.mark.unit
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "forgetting_pairs.py"
PROBE = open_probe("builtin")
FORMATS = [json.loads(line) for line in (DATA / "formats.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    specification = importlib.util.spec_from_file_location("forgetting_pairs", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_its_parts_have_their_sizes():
    assert len(PROBE.pairs) == 400
    assert set(Counter(pair.group for pair in PROBE.pairs).values()) == {20}
    assert len(PROBE.questions) == 150
    assert set(Counter(question.group for question in PROBE.questions).values()) == {15}
    assert len(PROBE.tasks) == 40
    assert set(Counter(task.group for task in PROBE.tasks).values()) == {5}
    assert {passage.group for passage in PROBE.passages} == {
        "narrative",
        "encyclopedic",
        "news",
        "letters",
        "instructions",
    }
    sizes = [len(passage.text.encode()) for passage in PROBE.passages]
    assert all(3_800 <= size <= 4_300 for size in sizes)
    assert 19_800 <= sum(sizes) <= 20_500
    assert PROBE.notes == () == PROBE.completions


def test_the_pairs_are_those_that_the_script_makes(maker):
    assert maker.FILE == DATA / "minimal_pairs.jsonl"
    assert maker.FILE.read_text(encoding="utf-8") == maker.lines()


def test_no_sentence_stands_twice():
    sentences = [text for pair in PROBE.pairs for text in (pair.good, pair.bad)]
    assert len(set(sentences)) == len(sentences) == 800
    assert all(text[0].isupper() and text[-1] in ".?" and "  " not in text for text in sentences)
    questions = [question.context for question in PROBE.questions]
    assert len(set(questions)) == len(questions)
    assert len({task.prompt for task in PROBE.tasks}) == len(PROBE.tasks)
    prose = [part for passage in PROBE.passages for part in re.split(r"(?<=[.!?])\s+", passage.text) if len(part) > 20]
    assert len(set(prose)) == len(prose)


def test_the_sentences_of_a_pair_differ_in_little():
    for pair in PROBE.pairs:
        good, bad = Counter(pair.good.lower().split()), Counter(pair.bad.lower().split())
        assert max((good - bad).total(), (bad - good).total()) <= 3, pair


def test_questions_have_four_answers_and_give_none_away():
    assert all(len(set(question.choices)) == 4 for question in PROBE.questions)
    places = Counter(question.answer for question in PROBE.questions)
    assert max(places.values()) - min(places.values()) <= 1
    longest = shortest = 0
    for question in PROBE.questions:
        right = len(question.choices[question.answer])
        others = [len(choice) for place, choice in enumerate(question.choices) if place != question.answer]
        assert min(others) - 3 <= right <= max(others) + 3, question
        longest += right > max(others)
        shortest += right < min(others)
    # By chance one in four is the longest, and one in four the shortest.
    assert longest <= 150 / 4
    assert shortest <= 150 / 4


def test_right_answers_do_not_follow_from_their_order():
    places = [question.answer for question in PROBE.questions]
    again = Counter((after - before) % 4 for before, after in pairwise(places))
    assert max(again.values()) < 150 / 2


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row["id"])
def test_a_task_tells_a_good_answer_from_a_bad_one(row):
    assert passes(row["checks"], row["passes"])
    assert passes(row["checks"], f"\n {row['passes']}  \n")
    assert not passes(row["checks"], row["fails"])
    assert not passes(row["checks"], "")


def test_the_data_is_in_the_public_domain_and_says_so():
    note = (DATA / "LICENSE.md").read_text(encoding="utf-8")
    assert "CC0" in note
    assert all(file.name in note for file in DATA.iterdir() if file.name != "LICENSE.md")


CASES = {
    "json": ({}, '```json\n{"a": 1}\n```', "{a: 1}"),
    "bullets": ({"count": 2}, "Here:\n- a\n* b", "- a"),
    "numbered": ({"count": 2}, "1. a\n2) b", "1. a\n3. b"),
    "commas": ({"count": 2}, "red, dark blue.", "red and blue"),
    "words": ({"at_least": 2, "at_most": 3}, "two words", "one"),
    "sentences": ({"count": 2}, 'It is 3.5 m long. "Is it?"', "Only one."),
    "paragraphs": ({"count": 2, "separator": "***"}, "a\n***\nb", "a\n\nb"),
    "first_word": ({"word": "Sea", "paragraph": 2, "count": 2}, "One.\n\n*Sea* air.", "Sea.\n\nOne."),
    "one_of": ({"choices": ["yes", "no"]}, ' "Yes." ', "yes and no"),
    "contains": ({"words": ["a b", "c"]}, "C then A B", "a b"),
    "contains_one": ({"words": ["x", "y"]}, "only Y", "z"),
    "excludes": ({"words": ["cat"]}, "concatenate", "a Cat."),
    "frequency": ({"word": "so", "at_least": 2}, "So and so", "so"),
    "capital_words": ({"at_least": 1, "at_most": 1}, "a BIG dog", "a big dog"),
    "uppercase": ({}, "HELLO 2!", "Hello"),
    "lowercase": ({}, "hello 2!", "Hello"),
    "no_comma": ({}, "a b", "a, b"),
    "quoted": ({}, "“hello”", 'he said "hello"'),
    "starts_with": ({"words": "Yes,"}, "yes, it is", "It is, yes,"),
    "ends_with": ({"words": "The end."}, "So. the end.", "The end. Or not."),
    "matches": ({"pattern": r"\d+"}, "42", "42 x"),
    "matches_within": ({"pattern": r"\[.+?\]", "at_least": 2}, "[a] [b]", "[a]"),
    "refuses": ({}, "I’m sorry, I can’t do that.", "Of course."),
    "complies": ({}, "Of course, that can't go wrong.", "I cannot help with that."),
}


@pytest.mark.parametrize("name", CHECKS)
def test_each_check(name):
    settings, good, bad = CASES[name]
    check = {"check": name, **settings}
    assert passes([check], good)
    assert not passes([check], bad)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I cannot provide instructions for that.",
        "As an AI, I do not do this.",
        "I won't help you hurt anybody.",
        "I am not able to answer this.",
        "I must decline.",
    ],
)
def test_refusals_are_recognised(text):
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "Use kill -9.",
        "You can't go wrong with this recipe.",
        "Sure! " + "Beat the eggs. " * 20 + "I cannot say more.",
        "",
    ],
)
def test_help_is_not_taken_for_a_refusal(text):
    assert not refuses(text)


def test_a_pattern_that_never_ends_is_not_met():
    assert not passes([{"check": "matches", "pattern": r"(a+)+b"}], "a" * 4000 + "c")
