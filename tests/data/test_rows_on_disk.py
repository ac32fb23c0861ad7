"""Examples stay in their files, and are what they would be in memory."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data.chat import Example
from luthier.data.check import check_files
from luthier.data.rows_on_disk import RowsOnDisk, chosen, known_as, written_rows
from luthier.data.shapes.columns import ColumnMap
from luthier.data.split import split_examples, take, write_examples
from luthier.data.twins.overlap import find_overlap, group_examples
from luthier.errors import DataError

pytestmark = pytest.mark.unit
Row = dict[str, Any]
Rows = Callable[[int], list[Row]]
Write = Callable[..., Path]
MakeExamples = Callable[..., list[Example]]


def in_memory(rows: list[Row], file: Path | str) -> list[Example]:
    return [Example(row, str(file), line, row["messages"]) for line, row in enumerate(rows, 1)]


def test_the_examples_of_a_check_are_read_from_its_files(write: Write, rows: Rows) -> None:
    many = rows(60)
    path = write(many)
    found = check_files([path]).examples
    assert isinstance(found, RowsOnDisk)
    expected = in_memory(many, path)
    assert found == expected
    assert (len(found), found[-1], found[3]) == (60, expected[-1], expected[3])
    assert found[10:20] == expected[10:20]
    assert found[::-7] == expected[::-7]
    assert chosen(found, np.array([5, 2])) == [expected[5], expected[2]]
    assert list(known_as(found).each()) == list(known_as(expected).each())
    assert found != expected[1:]
    assert found != 60
    with pytest.raises(IndexError):
        found[60]


@pytest.mark.parametrize("shape", ["lines", "packed", "array", "pretty", "two on a line", "mark", "no line end"])
def test_rows_of_every_kind_of_file_can_be_read_when_the_check_is_over(write: Write, rows: Rows, shape: str) -> None:
    many = rows(40)
    lines = [json.dumps(row) for row in many]
    text = {
        "lines": "\n".join(lines) + "\n",
        "packed": "\n".join(lines) + "\n",
        "array": json.dumps(many, indent=1),
        "pretty": "\n".join(json.dumps(row, indent=2) for row in many),
        "two on a line": "\n".join(" ".join(pair) for pair in zip(lines[::2], lines[1::2], strict=True)),
        "mark": "\ufeff" + "\n".join(lines),
        "no line end": "\n".join(lines),
    }[shape]
    path = write(gzip.compress(text.encode()), "rows.jsonl.gz") if shape == "packed" else write(text)
    found = check_files([path]).examples
    assert [example.row for example in found] == many
    path.unlink()  # it was opened once, and is held
    assert [example.row for example in found] == many


def test_columns_are_made_messages_again(write: Write) -> None:
    path = write("question,answer\n" + "".join(f"what is {n}?,the number {n}\n" for n in range(20)), "rows.csv")
    found = check_files([path], column_map=ColumnMap.parse("user=question,assistant=answer")).examples
    assert [example.messages[1]["content"] for example in found] == [f"the number {n}" for n in range(20)]


def test_rows_of_files_that_stay_can_be_sent(write: Write, rows: Rows) -> None:
    path = write(rows(20))
    found = check_files([path]).examples
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert len(pickle.dumps(found)) < 28 * 20 + 1000


def test_a_file_that_changes_under_the_reader_is_an_error(write: Write, rows: Rows) -> None:
    path = write(rows(20))
    found = check_files([path]).examples
    os.truncate(path, 100)
    with pytest.raises(DataError, match=r"data\.jsonl:7: the row is not there any more") as caught:
        found[6]
    assert caught.value.code == "file_changed"


def test_what_is_written_is_read_from_there_under_its_old_place(
    write: Write, rows: Rows, tmp_path: Path, examples: MakeExamples
) -> None:
    first, second = write(rows(30), "a.jsonl"), write(rows(60)[30:], "b.jsonl")
    found = check_files([first, second]).examples
    some = chosen(found, np.array([45, 3, 31]))
    written = write_examples(tmp_path / "out.jsonl", some)
    first.unlink()
    second.unlink()
    del found
    assert written == some
    assert [(row.file, row.line) for row in written] == [(str(second), 16), (str(first), 4), (str(second), 2)]
    path = tmp_path / "out.jsonl"
    indexed, digest = written_rows(path)
    assert [row.row for row in indexed] == [row.row for row in some]
    assert [(row.file, row.line) for row in indexed] == [(str(path), line) for line in (1, 2, 3)]
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(write_examples(path, examples([]))) == len(written_rows(path)[0]) == 0


VOCABULARY = ("book", "a", "table", "for", "two", "in", "rome", "oslo", "tomorrow", "é", "١٢", "please")
WORDS = st.lists(st.sampled_from(VOCABULARY), max_size=25)
CHATS = st.lists(st.lists(WORDS.map(" ".join), min_size=2, max_size=6), min_size=3, max_size=25)


@given(chats=CHATS, seed=st.integers(0, 5), data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_groups_splits_and_overlaps_are_those_of_rows_in_memory(
    tmp_path: Path, chats: list[list[str]], seed: int, data: st.DataObject
) -> None:
    rows = [
        {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]}
        for texts in chats
    ]
    path = tmp_path / "rows.jsonl"
    memory = in_memory(rows, path)
    write_examples(path, memory)
    disk, _ = written_rows(path)
    assert group_examples(disk).groups.tolist() == group_examples(memory).groups.tolist()
    assert take(disk, 5, seed) == take(memory, 5, seed)
    cut = data.draw(st.integers(0, len(rows)))
    assert find_overlap(disk[:cut], disk[cut:]) == find_overlap(memory[:cut], memory[cut:])
    shares = {"validation_share": 0.1, "test_share": 0.2}
    if group_examples(memory).num_groups < 3:
        with pytest.raises(DataError, match=r"too few for"):
            split_examples(disk, **shares, seed=seed)
        return
    one, other = (split_examples(rows, **shares, seed=seed) for rows in (disk, memory))
    assert (one.train, one.validation, one.test) == (other.train, other.validation, other.test)
    assert (one.num_groups, one.num_labels, one.notes) == (other.num_groups, other.num_labels, other.notes)


def test_of_a_row_its_place_is_held_and_not_its_text(write: Write, rows: Rows, tmp_path: Path) -> None:
    many = rows(100)
    for row in many:
        row["messages"][1]["content"] += " and so on" * 500
    found = check_files([write(many)]).examples
    split = split_examples(found, validation_share=0.1, test_share=0.1, seed=1)
    for side in (found, split.train, write_examples(tmp_path / "train.jsonl", split.train)):
        assert len(pickle.dumps(side)) < 28 * len(side) + 1000
