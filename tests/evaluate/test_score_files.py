"""Files of scores: what is read, and what is refused with file, line, cause and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.errors import EvaluateError
from luthier.evaluate.compare import compare_scores, read_scores

pytestmark = pytest.mark.unit


def file_of(folder: Path, text: str | bytes) -> Path:
    path = folder / "scores.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_every_kind_of_score_is_read(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        '\ufeff{"id": "a", "score": 1}\r\n{"id": "b", "score": 0.25, "answer": "x"}\n\n{"id": 7, "score": true}\n'
        '{"id": "c", "score": false}\n{"id": "d", "score": null}\n{"score": 1.0, "id": "\\u2028"}',
    )
    assert read_scores(path) == {"a": 1.0, "b": 0.25, "7": 1.0, "c": 0.0, "d": None, "\u2028": 1.0}


def test_whole_and_decimal_ones_are_right_or_wrong(tmp_path: Path) -> None:
    scores = read_scores(file_of(tmp_path, '{"id":"a","score":1}\n{"id":"b","score":0.0}\n{"id":"c","score":true}'))
    assert compare_scores(scores, scores).test.startswith("exact McNemar")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("oops", "the line cannot be read as JSON: expecting value at character 1"),
        ('{"id": "b", "score": NaN}', "the line cannot be read as JSON: NaN is not a JSON number"),
        ('{"id": "b", "score": 1, "score": 0}', 'the line cannot be read as JSON: the key "score" stands twice'),
        ("[1]", "the line is not a JSON object"),
        ('{"id": "b"}', 'there is no "score"'),
        ('{"score": 1}', 'there is no "id"'),
        ('{"id": null, "score": 1}', "the id is neither a text nor a whole number"),
        ('{"id": 1.5, "score": 1}', "the id is neither a text nor a whole number"),
        ('{"id": true, "score": 1}', "the id is neither a text nor a whole number"),
        ('{"id": "b", "score": "1"}', "the score is not a number"),
        ('{"id": "b", "score": [1]}', "the score is not a number"),
        ('{"id": "b", "score": 87.5}', "the score is 87.5"),
        ('{"id": "b", "score": -0.1}', "the score is -0.1"),
        ('{"id": "b", "score": 1e400}', "the score is 1E+400"),
    ],
)
def test_a_bad_line_is_named_with_cause_and_remedy(tmp_path: Path, line: str, problem: str) -> None:
    path = file_of(tmp_path, f'{{"id": "a", "score": 1}}\n{line}\n')
    with pytest.raises(EvaluateError) as caught:
        read_scores(path)
    assert caught.value.message == f"{path}:2: {problem}."
    assert caught.value.code == "bad_score_line"
    assert caught.value.hint


def test_an_id_given_twice_names_both_lines(tmp_path: Path) -> None:
    path = file_of(tmp_path, '{"id": 1, "score": 1}\n\n{"id": "1", "score": 0}\n')
    with pytest.raises(EvaluateError) as caught:
        read_scores(path)
    assert caught.value.message == f"{path}:3: the id '1' already stands on line 1."
    assert caught.value.code == "duplicate_id"


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"", "no_scores", "holds no scores"),
        (b"\n \n", "no_scores", "holds no scores"),
        (b'{"id": "\xff", "score": 1}', "unreadable_scores", "it is not UTF-8 (byte 9)"),
    ],
)
def test_a_file_without_scores(tmp_path: Path, content: bytes, code: str, said: str) -> None:
    with pytest.raises(EvaluateError) as caught:
        read_scores(file_of(tmp_path, content))
    assert caught.value.code == code
    assert said in caught.value.message


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(EvaluateError, match="No such file") as caught:
        read_scores(tmp_path / "none.jsonl")
    assert caught.value.code == "unreadable_scores"
    with pytest.raises(EvaluateError, match="Is a directory"):
        read_scores(tmp_path)
