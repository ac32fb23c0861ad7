from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.chat import Example
from luthier.data.check import check_files
from luthier.data.findings import RejectedRow
from luthier.data.split import Split, split_examples, take, write_examples, write_rejected
from luthier.data.twins.overlap import find_overlap
from luthier.errors import DataError

pytestmark = pytest.mark.unit

Row = dict[str, Any]
Rows = Callable[[int], list[Row]]
MakeRow = Callable[..., Row]
MakeExamples = Callable[..., list[Example]]


def sides(split: Split) -> tuple[list[int], list[int], list[int]]:
    train, validation, test = ([row.line for row in side] for side in (split.train, split.validation, split.test))
    return train, validation, test


def test_shares_are_met_and_nothing_is_lost(rows: Rows, examples: MakeExamples) -> None:
    split = split_examples(examples(rows(200)), validation_share=0.1, test_share=0.2, seed=1)
    train, validation, test = sides(split)
    assert (len(train), len(validation), len(test)) == (140, 20, 40)
    assert sorted([*train, *validation, *test]) == list(range(1, 201))
    assert (split.num_groups, split.notes) == (200, ())


def test_the_seed_decides_and_the_order_does_not(rows: Rows, examples: MakeExamples) -> None:
    some = examples(rows(100))
    first = sides(split_examples(some, validation_share=0.1, test_share=0.1, seed=1))
    assert sides(split_examples(some[::-1], validation_share=0.1, test_share=0.1, seed=1)) == first
    assert sides(split_examples(some, validation_share=0.1, test_share=0.1, seed=2)) != first
    assert first[0] != sorted(first[0])


@pytest.mark.parametrize(("validation", "test", "empty"), [(0.0, 0.1, {1}), (0.1, 0.0, {2}), (0.0, 0.0, {1, 2})])
def test_a_share_of_nothing_leaves_the_side_empty(
    rows: Rows, examples: MakeExamples, validation: float, test: float, empty: set[int]
) -> None:
    split = sides(split_examples(examples(rows(30)), validation_share=validation, test_share=test, seed=1))
    assert {place for place, side in enumerate(split) if not side} == empty


def test_small_sets_get_a_row_on_every_side(rows: Rows, examples: MakeExamples) -> None:
    train, validation, test = sides(split_examples(examples(rows(3)), validation_share=0.1, test_share=0.1, seed=1))
    assert (len(train), len(validation), len(test)) == (1, 1, 1)


@pytest.mark.parametrize(("count", "validation", "test"), [(2, 0.1, 0.1), (1, 0.1, 0.0), (1, 0.0, 0.1), (0, 0.1, 0.1)])
def test_too_few_groups_are_an_error_with_a_remedy(
    rows: Rows, examples: MakeExamples, count: int, validation: float, test: float
) -> None:
    with pytest.raises(DataError) as caught:
        split_examples(examples(rows(count)), validation_share=validation, test_share=test, seed=1)
    assert caught.value.code == "too_few_groups"
    assert caught.value.param is not None
    assert caught.value.hint


def test_rows_that_all_belong_together_cannot_be_split(row: MakeRow, examples: MakeExamples) -> None:
    with pytest.raises(DataError, match="40 examples form 1 group, because rows"):
        split_examples(
            examples(row("Hello!", f"answer {n}") for n in range(40)), validation_share=0.1, test_share=0.1, seed=1
        )


def test_a_group_too_big_for_a_side_goes_to_train_and_misses_are_said(
    row: MakeRow, rows: Rows, examples: MakeExamples
) -> None:
    big = [row("Hello!", f"answer {n}") for n in range(50)]
    split = split_examples(examples([*big, *rows(50)]), validation_share=0.1, test_share=0.1, seed=1)
    assert (len(split.validation), len(split.test)) == (10, 10)
    assert sum(example.messages[0]["content"] == "Hello!" for example in split.train) == 50
    assert any("50 of 100 rows belong together" in note for note in split.notes)
    split = split_examples(examples([*big, *rows(4)]), validation_share=0.2, test_share=0.2, seed=1)
    assert any("where 11 were asked for" in note for note in split.notes)


@given(
    labels=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    shares=st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5]), st.sampled_from([0.0, 0.1, 0.3, 0.5])),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=60, deadline=None)
def test_no_group_straddles_and_no_row_is_lost(labels: list[int], shares: tuple[float, float], seed: int) -> None:
    questions = ["".join(chr(97 + (label * 11 + k * k) % 26) for k in range(9)) for label in range(13)]
    rows = [
        {"messages": [{"role": "user", "content": questions[label]}, {"role": "assistant", "content": f"{n}"}]}
        for n, label in enumerate(labels)
    ]
    examples = [Example(row, "f", line) for line, row in enumerate(rows, 1)]
    validation, test = shares
    if len(set(labels)) < 1 + (validation > 0) + (test > 0):
        with pytest.raises(DataError, match="too few for"):
            split_examples(examples, validation_share=validation, test_share=test, seed=seed)
        return
    split = split_examples(examples, validation_share=validation, test_share=test, seed=seed)
    assert sorted([*split.train, *split.validation, *split.test], key=lambda row: row.line) == examples
    assert [bool(split.validation), bool(split.test)] == [validation > 0, test > 0]
    assert split.train
    for one, two in ((split.train, split.test), (split.train, split.validation), (split.validation, split.test)):
        assert find_overlap(one, two) == []


def test_taking_is_seeded_nested_and_free_of_order(rows: Rows, examples: MakeExamples) -> None:
    some = examples(rows(50))
    chosen = take(some, 10, 1)
    assert take(some[::-1], 10, 1) == chosen
    assert take(some, 20, 1)[:10] == chosen
    assert take(some, 10, 2) != chosen
    assert len(take(some, 99, 1)) == 50


def test_rows_are_written_as_they_were_read(tmp_path: Path, rows: Rows, examples: MakeExamples) -> None:
    odd = {**rows(1)[0], "meta": {"é": [1, 2.5, None, True, 2**63]}, "tools": None}
    path = tmp_path / "out.jsonl"
    write_examples(path, examples([odd, *rows(3)]))
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [odd, *rows(3)]
    assert "é" in path.read_text("utf-8")
    again = check_files([path], minimum=1).examples
    assert [row.row for row in again] == [odd, *rows(3)]
    write_examples(path, [])
    assert path.read_bytes() == b""
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]


def test_rejected_rows_are_written_with_their_reason_and_added_to(tmp_path: Path) -> None:
    path = tmp_path / "rejected.jsonl"
    row = RejectedRow("a.jsonl", 3, ("not-json",), "it is not", "{")
    write_rejected(path, [row])
    write_rejected(path, [row], append=True)
    expected = {"file": "a.jsonl", "line": 3, "codes": ["not-json"], "reason": "it is not", "text": "{"}
    assert [json.loads(line) for line in path.read_text().splitlines()] == [expected, expected]


def test_a_failed_write_keeps_the_old_file_and_is_an_error(tmp_path: Path, rows: Rows, examples: MakeExamples) -> None:
    with pytest.raises(DataError) as caught:
        write_examples(tmp_path / "none" / "out.jsonl", examples(rows(1)))
    assert caught.value.code == "file_not_written"
    path = tmp_path / "out.jsonl"
    write_examples(path, examples(rows(1)))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_examples(path, [Example({"messages": object()}, "f", 1)])
    assert path.read_bytes() == before


def labelled(rows: list[Row], counts: dict[str, int]) -> list[Row]:
    labels = [label for label, count in counts.items() for _ in range(count)]
    for row, label in zip(rows, labels, strict=True):
        row["messages"][1]["content"] = label
    return rows


def labels_of(side: list[Example]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for example in side:
        label = example.messages[1]["content"]
        counts[label] = counts.get(label, 0) + 1
    return counts


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_side_has_its_share_of_every_label(rows: Rows, examples: MakeExamples, seed: int) -> None:
    counts = {"billing": 100, "shipping": 60, "returns": 30, "other": 10}
    split = split_examples(examples(labelled(rows(200), counts)), validation_share=0.1, test_share=0.2, seed=seed)
    assert split.num_labels == 4
    assert labels_of(split.test) == {"billing": 20, "shipping": 12, "returns": 6, "other": 2}
    assert labels_of(split.validation) == {"billing": 10, "shipping": 6, "returns": 3, "other": 1}
    assert labels_of(split.train) == {"billing": 70, "shipping": 42, "returns": 21, "other": 7}


def test_answers_that_are_no_labels_are_not_stratified(rows: Rows, examples: MakeExamples) -> None:
    split = split_examples(examples(rows(100)), validation_share=0.1, test_share=0.1, seed=1)
    assert split.num_labels == 0


@given(
    sizes=st.lists(st.integers(1, 4), min_size=8, max_size=25),
    labels=st.lists(st.sampled_from(["yes", "no", "maybe"]), min_size=25, max_size=25),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_stratified_groups_do_not_straddle_and_nothing_is_lost(sizes: list[int], labels: list[str], seed: int) -> None:
    words = ["".join(chr(97 + (label * 11 + k * k) % 26) for k in range(9)) for label in range(25)]
    rows = [
        {"messages": [{"role": "user", "content": words[group]}, {"role": "assistant", "content": labels[group]}]}
        for group, size in enumerate(sizes)
        for _ in range(size)
    ]
    examples = [Example(row, "f", line) for line, row in enumerate(rows, 1)]
    split = split_examples(examples, validation_share=0.2, test_share=0.2, seed=seed)
    assert sorted([*split.train, *split.validation, *split.test], key=lambda row: row.line) == examples
    asked = [{row.messages[0]["content"] for row in side} for side in (split.train, split.validation, split.test)]
    assert all(asked)
    assert sum(map(len, asked)) == len(set().union(*asked))
