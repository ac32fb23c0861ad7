"""A person's own probe: every shape is recognised, and a wrong file is refused with place, cause and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.errors import EvaluateError
from luthier.evaluate.forgetting.items import LONG_TASK_TOKENS, TASK_TOKENS
from luthier.evaluate.forgetting.reading import open_probe

pytestmark = pytest.mark.unit

PAIR = {"good": "He runs.", "bad": "He run."}
QUESTION = {"context": "What barks?", "choices": ["a dog", "a cat"], "answer": 0}
COMPLETION = {"context": "He called his dog, and here came the", "target": "dog"}
TASK = {"prompt": "Say yes.", "checks": [{"check": "one_of", "choices": ["yes"]}]}
IFEVAL = {"key": 3, "prompt": "Write.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


def write(path: Path, *rows: object) -> str:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return str(path)


def test_none_is_none():
    assert open_probe("none") is None


def test_each_shape_is_recognised_and_shapes_may_be_mixed(tmp_path):
    file = write(
        tmp_path / "mine.jsonl",
        {**PAIR, "id": 7, "phenomenon": "agreement"},
        {"sentence_good": "a b", "sentence_bad": "b a", "UID": "order", "pairID": "0"},
        "",
        {**QUESTION, "source": "pets"},
        COMPLETION,
        {**TASK, "max_tokens": 9},
        IFEVAL,
        {"text": "Long ago.", "register": "tale"},
    )
    probe = open_probe(file)
    assert probe is not None
    assert [(pair.id, pair.group) for pair in probe.pairs] == [("7", "agreement"), ("order-0", "order")]
    assert (probe.questions[0].group, probe.questions[0].id) == ("pets", "mine-4")
    assert probe.completions[0].target == "dog"
    assert [(task.group, task.max_tokens) for task in probe.tasks] == [("mine", 9), ("punctuation", LONG_TASK_TOKENS)]
    assert probe.passages[0].group == "tale"
    assert probe.num_items == 7
    assert probe.notes == ()
    assert TASK_TOKENS < LONG_TASK_TOKENS


def test_blimp_counts_its_pairs_anew_in_each_phenomenon(tmp_path):
    rows = [{"sentence_good": "a", "sentence_bad": "b", "UID": name, "pairID": "0"} for name in ("one", "two")]
    assert len(open_probe(write(tmp_path / "blimp.jsonl", *rows)).pairs) == 2


def test_what_is_not_json_lines_is_prose(tmp_path):
    file = write(tmp_path / "essay.txt", "It was a dark night.", "", "[Exit.]")
    (passage,) = open_probe(file).passages
    assert (passage.group, passage.text) == ("essay", "It was a dark night.\n\n[Exit.]\n")


def test_a_folder_is_read_file_by_file_and_says_what_it_left(tmp_path):
    write(tmp_path / "a.jsonl", PAIR)
    write(tmp_path / "b.txt", "Prose.")
    write(tmp_path / "README.md", "About.")
    probe = open_probe(str(tmp_path))
    assert (len(probe.pairs), len(probe.passages)) == (1, 1)
    assert probe.notes == (f"Not read of {tmp_path}: README.md.",)


def test_an_unknown_instruction_leaves_its_row_out_and_is_counted(tmp_path):
    row = {"prompt": "Écris.", "instruction_id_list": ["language:response_language"], "kwargs": [{"language": "fr"}]}
    probe = open_probe(write(tmp_path / "ifeval.jsonl", row, row, IFEVAL))
    assert len(probe.tasks) == 1
    assert len(probe.notes) == 1
    assert probe.notes[0].startswith("2 rows of ")
    assert "language:response_language" in probe.notes[0]
    with pytest.raises(EvaluateError, match=r"Nothing of .* can be used") as caught:
        open_probe(write(tmp_path / "other.jsonl", row))
    assert caught.value.code == "empty_probe"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"good": "a"', "the line is not JSON"),
        ("[1]", "not a JSON object"),
        ({"question": "x"}, r"keys \(question\) are those of no kind of item"),
        ({}, "none"),
        ({"good": "a", "bad": "a"}, "both sentences are the same"),
        ({"good": "a", "bad": 3}, '"bad" is not a text'),
        ({"good": " ", "bad": "a"}, '"good" is not a text'),
        ({**PAIR, "id": [1]}, "the id is neither"),
        ({**QUESTION, "choices": ["one"]}, '"choices" are not a list'),
        ({**QUESTION, "choices": "ab"}, '"choices" are not a list'),
        ({**QUESTION, "answer": 2}, "from 0 to 1"),
        ({**QUESTION, "answer": True}, "from 0 to 1"),
        ({**QUESTION, "answer": "A"}, "from 0 to 1"),
        ({**QUESTION, "context": None}, '"context" is not a text'),
        ({**COMPLETION, "target": ""}, '"target" is not a text'),
        ({**TASK, "checks": []}, '"checks" are not a list'),
        ({**TASK, "checks": [{"check": "rhymes"}]}, 'no check "rhymes"'),
        ({**TASK, "checks": [{"check": "words", "exactly": 3}]}, 'knows no "exactly"'),
        ({**TASK, "checks": [{"check": "words", "at_most": -1}]}, "not a whole number"),
        ({**TASK, "checks": [{"check": "one_of"}]}, 'has no "choices"'),
        ({**TASK, "checks": [{"check": "matches", "pattern": "("}]}, "pattern"),
        ({**TASK, "checks": [{"check": "json", "type": "list"}]}, '"type"'),
        ({**TASK, "max_tokens": 0}, '"max_tokens"'),
        ({**IFEVAL, "kwargs": []}, "for each instruction"),
        ({**IFEVAL, "instruction_id_list": [1]}, "not a list of texts"),
        ({"text": 5}, '"text" is not a text'),
    ],
)
def test_a_wrong_line_is_refused_with_place_cause_and_remedy(tmp_path, line, message):
    file = write(tmp_path / "mine.jsonl", PAIR, line)
    with pytest.raises(EvaluateError, match=message) as caught:
        open_probe(file)
    assert caught.value.code == "bad_probe_line"
    assert caught.value.message.startswith(f"{file}:2: ")
    assert caught.value.param == "evaluate.probe"
    assert caught.value.hint


def test_an_id_that_stands_twice_is_refused_but_kinds_have_their_own(tmp_path):
    row = {**PAIR, "id": "x"}
    assert open_probe(write(tmp_path / "a.jsonl", row, {**QUESTION, "id": "x"})).num_items == 2
    with pytest.raises(EvaluateError, match="already stands on line 1"):
        open_probe(write(tmp_path / "b.jsonl", row, {**row, "good": "other"}))


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "empty_probe"), (b" \n\n", "empty_probe"), (b"caf\xe9", "unreadable_probe")]
)
def test_an_unreadable_file_is_refused(tmp_path, content, code):
    file = tmp_path / "probe.txt"
    file.write_bytes(content)
    with pytest.raises(EvaluateError) as caught:
        open_probe(str(file))
    assert caught.value.code == code
    assert caught.value.hint


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(EvaluateError, match="does not exist") as caught:
        open_probe(str(tmp_path / "nothing.jsonl"))
    assert caught.value.code == "no_probe"
    with pytest.raises(EvaluateError, match="holds no file"):
        open_probe(str(tmp_path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("good", "bad", "context", "choices", "answer", "target", "prompt", "checks", "id", "text", "kwargs")


def outcome(file: str) -> str:
    try:
        probe = open_probe(file)
    except EvaluateError as error:
        return error.code
    return "read" if probe is not None and probe.num_items else "nothing"


@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from((*KEYS, "instruction_id_list", "max_tokens", "source")), JSON, max_size=6),
        max_size=3,
    )
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_line_crashes_it(tmp_path, rows):
    assert outcome(write(tmp_path / "any.jsonl", *rows)) in ("read", "bad_probe_line", "empty_probe")


@given(
    checks=st.lists(st.dictionaries(st.sampled_from(("check", "count", "words", "pattern", "type")), JSON), max_size=2)
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_check_crashes_it(tmp_path, checks):
    found = outcome(write(tmp_path / "any.jsonl", {"prompt": "x", "checks": checks}))
    assert found == "bad_probe_line" or (found == "read" and checks)


def test_the_public_probe_is_read_whole(public_data):
    folder = public_data / "probe-general"
    probe = open_probe(str(folder))
    assert (len(probe.questions), len(probe.completions), len(probe.passages)) == (300, 150, 1)
    left_out = [note for note in probe.notes if "language:response_language" in note]
    assert len(probe.tasks) == 116
    assert left_out == [
        f"4 rows of {folder / 'ifeval.jsonl'} were left out: the instruction language:response_language is not checked here."
    ]
