"""However a file is cut and whoever judges the pieces, the findings are those of one reader from first line to last."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fillings import Fillings, edited
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data import blocks
from luthier.data.check import CheckResult, check_files
from luthier.data.judge import Questions

pytestmark = pytest.mark.unit

Row = dict[str, Any]
ROW = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}'
PIECES = [
    ROW,
    ROW,
    ROW[:40],
    "{",
    "}",
    "[",
    "]",
    ",",
    '"',
    "\n",
    "\n",
    "\r\n",
    "// a note",
    "<<<<<<< a",
    "=======",
    ">>>>>>> b",
]
PIECES += [
    "some text",
    "{'a': 1}",
    "\ufeff",
    '{"messages":\n [\n',
    json.dumps(json.loads(ROW), indent=1),
    '{"a": 1}{"b": 2}',
]


def everything(result: CheckResult) -> Any:
    rows = [(example.line, example.row) for example in result.examples]
    rejected = [(row.line, row.codes, row.reason, row.text) for row in result.rejected]
    return result.to_json(), rows, rejected, result.rows_read


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 300)


@given(
    content=st.lists(st.sampled_from(PIECES), max_size=40).map("\n".join)
    | st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    size=st.integers(1, 400),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_where_a_file_is_cut_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, content: str, size: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "any.jsonl"
    path.write_bytes(content.encode())
    whole = everything(check_files([path]))
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", size)
        assert everything(check_files([path])) == whole


def test_the_messy_files_are_the_same_in_pieces(messy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(messy.glob("*.jsonl"))
    assert len(files) == 35
    whole = [everything(check_files([file])) for file in files]
    for size in (100, 3000, 20_000):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
        assert [everything(check_files([file])) for file in files] == whole


def test_two_processes_find_what_one_finds(
    write: Callable[..., Path], rows: Callable[[int], list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = rows(900)
    many[100]["messages"] = many[100]["messages"][:1]
    many[700] = many[20]
    many[800]["messages"][0]["role"] = "human"
    lines = [json.dumps(row) for row in many]
    lines[300] = lines[300][:50]
    lines[301:303] = [json.dumps(many[301], indent=2), "// a note"]
    path = write("\n".join(lines))
    one = everything(check_files([path], workers=1))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10_000)
    assert everything(check_files([path], workers=1)) == one
    monkeypatch.setattr(blocks, "judge_block", _refuse)  # here; the other processes have their own
    lines[300:303] = []
    plain = write("\n".join(lines), "plain.jsonl")
    assert everything(check_files([plain], workers=2))[0]["examples"] == len(lines) - 2
    monkeypatch.undo()
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10_000)
    assert everything(check_files([path], workers=2)) == one
    assert {"no-assistant", "duplicate", "unknown-role", "truncated-row", "comment-line", "not-jsonl"} <= {
        finding["code"] for finding in one[0]["findings"]
    }


@pytest.mark.usefixtures("small_blocks")
def test_a_long_array_is_read_by_one_reader(write: Callable[..., Path], rows: Callable[[int], list[Row]]) -> None:
    many = rows(200)  # far more than may be joined
    result = check_files([write(json.dumps(many, indent=2))])
    assert [example.row for example in result.examples] == many
    assert [finding.code for finding in result.findings if finding.severity == "warning"] == ["not-jsonl"]


@pytest.mark.usefixtures("small_blocks")
def test_rows_without_a_line_of_their_own_are_read_again_from_a_copy(
    write: Callable[..., Path], rows: Callable[[int], list[Row]]
) -> None:
    many = [*rows(60), rows(1)[0]]
    many[60] = {"messages": [many[0]["messages"][0], {"role": "assistant", "content": "Quite another answer."}]}
    result = check_files([write(json.dumps(many, indent=2))])
    (found,) = [finding for finding in result.findings if finding.code == "conflicting-answers"]
    assert "Quite another answer." in found.message


def test_a_worker_that_dies_loses_nothing(
    write: Callable[..., Path], rows: Callable[[int], list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(rows(300))
    one = everything(check_files([path], workers=1))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(blocks, "_judge", _die)
    assert everything(check_files([path], workers=2)) == one


def test_copies_among_fillings_are_the_same_whoever_looks_for_them(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(3)
    said = Fillings(3, num_templates=2).rows(1500)
    said += [(edited(asked, 0.03, random), edited(answer, 0.03, random)) for asked, answer in random.sample(said, 60)]
    roles = ("user", "assistant")
    rows = [
        {"messages": [{"role": role, "content": text} for role, text in zip(roles, row, strict=True)]} for row in said
    ]
    path = write(rows)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100_000)
    one = everything(check_files([path], workers=1))
    assert everything(check_files([path], workers=2)) == one
    (found,) = [finding for finding in one[0]["findings"] if finding["code"] == "near-duplicate"]
    assert found["rows"]["count"] >= 55


def test_a_worker_that_dies_in_a_search_loses_nothing() -> None:
    work = functools.partial(_squared, here=os.getpid())
    with blocks.Pool(Questions(), 2) as pool:
        assert list(pool.run(work, range(50))) == [number**2 for number in range(50)]
        assert list(pool.run(work, range(3))) == [0, 1, 4]


def _squared(number: int, here: int) -> int:
    if os.getpid() != here:
        os._exit(1)
    return number**2


def _refuse(block: blocks.Block, questions: object) -> None:
    raise AssertionError("judged in this process")


def _die(block: blocks.Block) -> None:
    os._exit(1)
