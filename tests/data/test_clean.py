"""Cleaning mends what it says, loses nothing, and has nothing left to do the second time."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.check import check_files
from luthier.data.cleaning.clean import DEFAULT_FIXES, CleanResult, clean_files
from luthier.data.findings import Finding
from luthier.data.rules.catalogue import FIXABLE
from luthier.data.shapes.columns import ColumnMap
from luthier.errors import DataError, RecipeError

pytestmark = pytest.mark.unit

Row = dict[str, Any]
Rows = Callable[[int], list[Row]]
MakeRow = Callable[..., Row]
Write = Callable[..., Path]


def cleaned(path: Path, **options: Any) -> tuple[CleanResult, list[Row], list[dict[str, Any]]]:
    out = path.parent / f"{path.name}.out"
    result = clean_files([path], out, **options)
    assert result.rows_read == result.rows_written + result.rows_left_out
    rows = [json.loads(line) for line in out.read_bytes().splitlines()]
    log = [json.loads(line) for line in Path(f"{out}.changes.jsonl").read_bytes().splitlines()]
    assert len(rows) == result.rows_written
    assert sum(change["action"] == "left out" for change in log) == result.rows_left_out
    assert sum(change["action"] == "changed" for change in log) == result.rows_changed
    return result, rows, log


def mendable(findings: list[Finding], codes: frozenset[str] = DEFAULT_FIXES) -> list[str]:
    return [finding.code for finding in findings if finding.fix and finding.code in codes]


def test_a_clean_file_comes_out_as_it_is(write: Write, rows: Rows) -> None:
    path = write(rows(20))
    before = path.read_bytes()
    result, _, log = cleaned(path)
    assert Path(str(result.out)).read_bytes() == before == path.read_bytes()
    assert (result.rows_changed, log) == (0, [])


def test_each_change_is_listed_with_its_place_and_reason(write: Write, rows: Rows, row: MakeRow) -> None:
    many = rows(6)
    many[1]["messages"][1]["content"] = " " + many[1]["messages"][1]["content"]
    many[3] = many[0]
    many[4]["messages"].append({"role": "user", "content": "thanks"})
    lines = [json.dumps(row) for row in many]
    lines.insert(2, "// a note")
    lines[6] = lines[6][:30]
    result, out, log = cleaned(write("\n".join(lines)))
    assert [(change["line"], change["action"], change["codes"]) for change in log] == [
        (2, "changed", ["outer-whitespace"]),
        (3, "line removed", ["comment-line"]),
        (5, "left out", ["duplicate"]),
        (6, "changed", ["last-not-assistant"]),
        (7, "left out", ["truncated-row"]),
    ]
    assert [change["output_line"] for change in log] == [2, None, None, 4, None]
    assert log[4]["text"] == lines[6]
    assert "repeats" in log[2]["reason"]
    assert "data.jsonl:1" in log[2]["reason"]
    assert (result.rows_read, result.rows_written, result.rows_changed) == (6, 4, 2)
    assert len(out) == 4
    assert out[1]["messages"][1]["content"] == rows(6)[1]["messages"][1]["content"]


def test_only_and_skip_decide(write: Write, rows: Rows) -> None:
    many = rows(5)
    many[0]["messages"][1]["content"] += "  "
    many[1]["id"] = 7
    path = write([*many, many[2]])
    assert set(cleaned(path, codes=frozenset(("duplicate",)))[0].by_code) == {"duplicate"}
    result = cleaned(path, codes=DEFAULT_FIXES - {"duplicate"}, overwrite=True)[0]
    assert set(result.by_code) == {"outer-whitespace", "unknown-key"}


def test_a_dry_run_writes_nothing(write: Write, rows: Rows, tmp_path: Path) -> None:
    path = write([*rows(5), rows(1)[0]])
    before = sorted(tmp_path.iterdir())
    result = clean_files([path], tmp_path / "out.jsonl", dry_run=True)
    assert (result.rows_left_out, result.out, result.log) == (1, None, None)
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_overwritten_unasked_and_the_input_never(write: Write, rows: Rows, tmp_path: Path) -> None:
    path = write(rows(5))
    out = tmp_path / "out.jsonl"
    clean_files([path], out)
    with pytest.raises(RecipeError) as caught:
        clean_files([path], out)
    assert caught.value.code == "out_exists"
    clean_files([path], out, overwrite=True)
    with pytest.raises(RecipeError) as caught:
        clean_files([path], path, overwrite=True)
    assert caught.value.code == "out_is_input"


def test_a_merge_conflict_is_left_to_the_person(write: Write, rows: Rows, tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in rows(4)]
    path = write("\n".join(["<<<<<<< HEAD", lines[0], "=======", lines[1], ">>>>>>> x", *lines[2:]]))
    with pytest.raises(DataError) as caught:
        clean_files([path], tmp_path / "out.jsonl")
    assert caught.value.code == "merge_conflict"
    assert not (tmp_path / "out.jsonl").exists()


def test_a_file_without_rows_and_a_folder_that_cannot_be_written(write: Write, rows: Rows, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        clean_files([write("")], tmp_path / "out.jsonl")
    assert caught.value.code == "no_rows"
    with pytest.raises(DataError) as caught:
        clean_files([write(rows(3))], tmp_path / "nowhere" / "out.jsonl")
    assert caught.value.code == "file_not_written"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl"]


def test_system_prompts_with_a_slip_become_the_common_one(write: Write, rows: Rows, row: MakeRow) -> None:
    many = [
        row(r["messages"][0]["content"], r["messages"][1]["content"], "You answer questions about guitars.")
        for r in rows(20)
    ]
    many[7]["messages"][0]["content"] = "You answer question about guitars."
    _, out, log = cleaned(write(many))
    assert {r["messages"][0]["content"] for r in out} == {"You answer questions about guitars."}
    assert [(change["line"], change["codes"]) for change in log] == [(8, ["system-prompt-differs"])]


def test_near_duplicates_leave_only_when_named(write: Write, row: MakeRow) -> None:
    text = "The parcel that I ordered three weeks ago has still not arrived, and the tracking page shows nothing new at all. "
    many = [
        row(text + "Please tell me where it is.", "We are sorry; it was lost in the depot and a new one is on its way.")
    ]
    many += [row(text.replace("parcel", "parcle") + "Please tell me where it is.", many[0]["messages"][1]["content"])]
    path = write(many)
    assert cleaned(path)[0].rows_left_out == 0
    result, out, log = cleaned(path, codes=frozenset(("near-duplicate",)), overwrite=True)
    assert (result.rows_left_out, out) == (1, many[:1])
    assert "nearly the same" in log[0]["reason"]


def test_compressed_input_and_tables(tmp_path: Path, rows: Rows) -> None:
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows(5)).encode()))
    assert cleaned(packed)[1] == rows(5)
    table = tmp_path / "rows.csv"
    table.write_text('question,answer\n"Who, then?",me\nWhen?,"now\nor never"\n')
    _, out, _ = cleaned(table, column_map=ColumnMap.parse("user=question,assistant=answer"))
    assert [[message["content"] for message in row["messages"]] for row in out] == [
        ["Who, then?", "me"],
        ["When?", "now\nor never"],
    ]
    with pytest.raises(RecipeError) as caught:
        clean_files([table], tmp_path / "again.jsonl")
    assert caught.value.code == "map_needed"
    assert "question, answer" in caught.value.message


def test_rows_with_errors_stay_unless_they_are_to_go(write: Write, rows: Rows) -> None:
    many = rows(5)
    many[2]["messages"] = many[2]["messages"][:1]
    path = write(many)
    result, out, _ = cleaned(path)
    assert out == many
    assert result.remaining is not None
    assert "no-assistant" in [finding.code for finding in result.remaining.findings]
    result, out, log = cleaned(path, drop_errors=True, overwrite=True)
    assert out == [*many[:2], *many[3:]]
    assert log[0]["codes"] == ["no-assistant"]


@pytest.mark.parametrize("convert", [False, True])
def test_every_messy_file_is_mended_and_stays_so(
    messy: Path, measured: dict[str, Any], tmp_path: Path, convert: bool
) -> None:
    num_cleaned = 0
    for file in sorted(messy.glob("*.jsonl")):
        out, again = tmp_path / file.name, tmp_path / f"again-{file.name}"
        try:
            result = clean_files([file], out, convert=convert)
        except DataError as error:
            assert error.code in {"merge_conflict", "no_rows"}  # noqa: PT017
            continue
        num_cleaned += 1
        assert result.rows_written + result.rows_left_out == result.rows_read
        kept_or_equal = result.rows_written + result.by_code.get("duplicate", {}).get("left out", 0)
        assert kept_or_equal == measured[file.name]["rows_recoverable"]
        findings = check_files([out], minimum=1).findings if result.rows_written else []
        if convert or "unknown-format" not in [finding.code for finding in findings]:
            assert mendable(findings) == [], file.name
        if result.rows_written:
            second = clean_files([out], again, convert=convert)
            assert (second.rows_changed, second.rows_left_out) == (0, 0), file.name
            assert again.read_bytes() == out.read_bytes()
    assert num_cleaned >= 32


PIECES = ["", " ", "END", " END", "yes", "Answer: no", "<|im_end|>", "naÃ¯ve", "###", "\n", "User: hi", "sk-", "a@b.co"]
TEXT = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "human", "model", "tool", "nobody"]), "content": TEXT},
    optional={"weight": st.sampled_from([0, 1, 2]), "extra": st.just(1), "name": st.just("n")},
)
ANY_ROW = st.one_of(
    st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=5)}, optional={"id": st.integers(0, 3)}),
    st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT}),
    st.fixed_dictionaries({"instruction": TEXT, "output": TEXT}, optional={"input": TEXT}),
    st.fixed_dictionaries(
        {
            "input": st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=2)}),
            "preferred_output": st.lists(MESSAGE, max_size=1),
            "non_preferred_output": st.lists(MESSAGE, max_size=1),
        }
    ),
)


@given(
    rows=st.lists(ANY_ROW, min_size=1, max_size=6),
    broken=st.lists(st.sampled_from(["{", "[]", "text", "// note", "", '{"a": 1, "a": 2}', "{'a': 1}"]), max_size=3),
    convert=st.booleans(),
    codes=st.sampled_from([DEFAULT_FIXES, FIXABLE, frozenset(("duplicate", "outer-whitespace"))]),
)
@settings(max_examples=150, deadline=None)
def test_rows_read_are_kept_or_listed_and_what_is_mended_stays_mended(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], broken: list[str], convert: bool, codes: frozenset[str]
) -> None:
    path = tmp_path_factory.mktemp("clean") / "any.jsonl"
    path.write_text("\n".join([*(json.dumps(row) for row in rows), *broken]))
    result, out, _ = cleaned(path, codes=codes, convert=convert)
    assert result.rows_read >= len(rows)
    if not out:
        return
    once = Path(str(result.out))
    found = check_files([once], minimum=1).findings
    if convert or "unknown-format" not in [finding.code for finding in found]:
        assert mendable(found, codes) == []
    again, _, log = cleaned(once, codes=codes, convert=convert)
    assert (again.rows_changed, again.rows_left_out, log) == (0, 0, [])
