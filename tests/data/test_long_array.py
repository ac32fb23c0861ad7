from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.cleaning.clean import clean_files
from luthier.data.reading.files import RawRow, RowReader
from luthier.data.reading.lines import MAX_ROW_BYTES
from luthier.data.reading.long_array import ArrayElements

pytestmark = pytest.mark.unit

Write = Callable[..., Path]
TEXT = st.text() | st.sampled_from(['"', "\\", '\\"', "[", "]}", "{,", "é", "\\\\"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


def pieces_of(text: bytes, size: int) -> list[bytes]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@given(values=st.lists(JSON, max_size=6), size=st.integers(1, 40), indent=st.sampled_from([None, 1]), raw=st.booleans())
@settings(max_examples=500, deadline=None)
def test_an_array_comes_apart_into_its_elements_however_it_is_read(
    values: list[object], size: int, indent: int | None, raw: bool
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=not raw).encode("utf-8", "surrogatepass")
    elements = ArrayElements(pieces_of(text, size), 10_000)
    found = list(elements)
    assert [json.loads(element.data.decode("utf-8", "surrogatepass")) for element in found] == values
    assert [text[element.offset : element.offset + element.size] for element in found] == [e.data for e in found]
    assert elements.closed
    assert all(element.whole and element.inside for element in found)


@given(
    text=st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b",", b'"', b"\\", b" ", b"x", b'{"a": 1}'])).map(b"".join)
)
@settings(max_examples=500, deadline=None)
def test_no_array_makes_it_fail_or_hold_more_than_it_may(text: bytes) -> None:
    results = []
    for size in (1, 3, len(text) + 3):
        elements = ArrayElements(pieces_of(b"[{" + text, size), 5)
        found = [(element.offset, element.size, element.data, element.whole, element.inside) for element in elements]
        assert all(len(data) <= 5 for _, _, data, _, _ in found)
        results.append((found, elements.closed))
    assert results[0] == results[1] == results[2]


def row(number: int, length: int = 1000) -> dict[str, object]:
    asked = {"role": "user", "content": f"question {number} " + "x" * length}
    return {"messages": [asked, {"role": "assistant", "content": f"answer {number}"}]}


def test_an_array_past_the_limit_gives_its_rows_with_their_places(write: Write) -> None:
    values = [row(number) for number in range(MAX_ROW_BYTES // 1000 + 100)]
    content = (
        b"\xef\xbb\xbf [" + ", ".join(map(json.dumps, values)).encode() + b" ]\n" + json.dumps(row(-1)).encode() + b"\n"
    )
    items = list(RowReader("rows", io.BytesIO(content)))
    rows = [item for item in items if isinstance(item, RawRow)]
    assert [item.value for item in rows] == [*values, row(-1)]
    assert {item.line for item in rows[:-1]} == {1}
    assert rows[-1].line == 2
    assert {problem.rule.code for item in rows[:-1] for problem in item.problems} == {"not-jsonl"}
    for item in rows:
        assert item.span is not None
        offset, size = item.span
        assert json.loads(content[offset : offset + size]) == item.value


def test_what_is_wrong_in_such_an_array_is_said_row_by_row(write: Write) -> None:
    good = json.dumps(row(1, 2_000_000))
    parts = [good, '{"a": 1, "a": 2}', "[1]", '{"b": tru}', f'{{"c": "{"y" * (MAX_ROW_BYTES + 10)}"}}', good]
    items = list(RowReader("rows", io.BytesIO(f"[{', '.join(parts)}".encode())))
    codes = [[problem.rule.code for problem in item.problems] for item in items if isinstance(item, RawRow)]
    assert codes == [["not-jsonl"], ["duplicate-key"], ["not-an-object"], ["not-json"], ["over-limit"], ["not-jsonl"]]
    assert [item.problem.rule.code for item in items if not isinstance(item, RawRow)] == ["truncated-row"]


def test_clean_writes_its_rows_one_a_line(write: Write, tmp_path: Path) -> None:
    values = [row(number, 100_000) for number in range(MAX_ROW_BYTES // 100_000 + 10)]
    path = write(json.dumps(values))
    assert path.stat().st_size > MAX_ROW_BYTES
    out = tmp_path / "clean.jsonl"
    clean_files([path], out)
    assert [json.loads(line) for line in out.read_text().splitlines()] == values
