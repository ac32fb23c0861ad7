"""Files of scores: what is read, and what is refused with file, line, cause and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.errors import EvaluateError
from luthier.evaluate.compare import compare_scores
from luthier.evaluate.score_files import joined_clusters, named, read_score_file, read_scores

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
        ('{"id": "b", "score": ["1"]}', "the score is not a number"),
        ('{"id": "b", "score": [[1]]}', "the score is not a number"),
        ('{"id": "b", "score": []}', "the list of scores is empty"),
        ('{"id": "b", "score": [1, 2]}', "the score is 2"),
        ('{"id": "b", "scores": 1}', 'the "scores" are not an object of names and scores'),
        ('{"id": "b", "scores": {}}', 'the "scores" are not an object of names and scores'),
        ('{"id": "b", "scores": {"f1": "1"}}', "the score is not a number"),
        ('{"id": "b", "score": 1, "scores": {"score": 1}}', 'the metric "score" stands twice'),
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


def test_rows_answered_several_times_have_a_list(tmp_path: Path) -> None:
    path = file_of(tmp_path, '{"id": "a", "score": [1, null, true, 0.5]}\n{"id": "b", "score": [null]}')
    scores = read_scores(path)
    assert scores == {"a": [1.0, None, 1.0, 0.5], "b": [None]}
    compared = compare_scores(scores, {"a": 1, "b": 1})
    assert (compared.n, compared.base_unscored) == (1, 1)
    assert compared.base.value == pytest.approx(2.5 / 3)
    assert any("1 answer could not be scored" in note for note in compared.notes)


def test_several_metrics_are_read_by_name(tmp_path: Path) -> None:
    path = file_of(
        tmp_path, '{"id": "a", "score": 1, "scores": {"f1": 0.5, "length": null}}\n{"id": "b", "scores": {"f1": 0}}'
    )
    assert read_score_file(path).metrics == {
        "score": {"a": 1.0},
        "f1": {"a": 0.5, "b": 0.0},
        "length": {"a": None},
    }
    with pytest.raises(EvaluateError) as caught:
        read_scores(path)
    assert caught.value.code == "several_metrics"


def test_the_source_of_a_row_may_stand_in_any_file(tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    one.write_text('{"id": "a", "score": 1, "book": "x"}\n{"id": "b", "score": 1}\n')
    other.write_text('{"id": "b", "score": 0, "book": 7}\n{"id": "a", "score": 0, "book": "x"}\n')
    files = [read_score_file(path, "book") for path in (one, other)]
    assert joined_clusters(files, "book") == {"a": "x", "b": "7"}
    with pytest.raises(EvaluateError) as caught:
        joined_clusters(files[:1], "book")
    assert caught.value.code == "no_cluster"
    assert "1 of 2 rows" in caught.value.message
    assert "'b'" in caught.value.message


def test_files_that_disagree_about_a_source_are_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    one.write_text('{"id": "a", "score": 1, "book": "x"}')
    other.write_text('{"id": "a", "score": 1, "book": "y"}')
    with pytest.raises(EvaluateError) as caught:
        joined_clusters([read_score_file(path, "book") for path in (one, other)], "book")
    assert caught.value.code == "two_clusters"


@pytest.mark.parametrize("value", ["[1]", "{}"])
def test_a_source_that_is_no_name_is_refused(tmp_path: Path, value: str) -> None:
    path = file_of(tmp_path, f'{{"id": "a", "score": 1, "book": {value}}}')
    with pytest.raises(EvaluateError) as caught:
        read_score_file(path, "book")
    assert caught.value.code == "bad_score_line"
    assert f"{path}:1" in caught.value.message


def test_a_file_given_twice_is_numbered(tmp_path: Path) -> None:
    file = read_score_file(file_of(tmp_path, '{"id": "a", "score": 1}'))
    assert named([file, file]) == [str(file.path), f"{file.path} (2)"]
