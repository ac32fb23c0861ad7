from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data.reading import tables
from luthier.data.reading.tables import MAX_RECORD_BYTES, Record, is_table, read_records
from luthier.errors import DataError, MissingError

pytestmark = pytest.mark.unit

Write = Callable[..., Path]


def read(path: Path) -> list[Record]:
    return list(read_records(path, param="data.train"))


def values(path: Path) -> list[tuple[int, dict[str, Any] | None]]:
    records = read(path)
    assert [record.fault for record in records] == [None] * len(records)
    return [(record.line, record.values) for record in records]


def faults(path: Path) -> list[tuple[int, str]]:
    return [(record.line, record.fault.kind if record.fault else "") for record in read(path)]


def refused(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert caught.value.param == "data.train"
    assert caught.value.hint
    return caught.value


# --- CSV -----------------------------------------------------------------------------------------------------------


def test_a_csv_is_records_with_their_lines(write: Write) -> None:
    path = write('question,answer\nWhat?,That.\n"a, ""b""",2\n', "a.csv")
    assert values(path) == [(2, {"question": "What?", "answer": "That."}), (3, {"question": 'a, "b"', "answer": "2"})]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quoted_line_breaks_keep_the_physical_lines_right(write: Write, end: str) -> None:
    text = f'q,a{end}"one{end}two{end}{end}four",x{end}5,y{end}"",""{end}'
    path = write(text, "a.csv")
    assert values(path) == [
        (2, {"q": f"one{end}two{end}{end}four", "a": "x"}),
        (6, {"q": "5", "a": "y"}),
        (7, {"q": "", "a": ""}),
    ]


def test_a_header_over_two_lines(write: Write) -> None:
    assert values(write('"q\nq",a\n1,2\n', "a.csv")) == [(3, {"q\nq": "1", "a": "2"})]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("q,a\n1,2", "a.csv"),
        ("q;a\n1;2\n", "a.csv"),
        ("q\ta\n1\t2\n", "a.csv"),
        ("q|a\n1|2\n", "a.csv"),
        ("q\ta\n1\t2", "a.tsv"),
    ],
)
def test_the_delimiter_is_found_in_the_header(write: Write, text: str, name: str) -> None:
    assert values(write(text, name)) == [(2, {"q": "1", "a": "2"})]


def test_a_delimiter_inside_quotes_does_not_count(write: Write) -> None:
    assert values(write('"q,,,,";a\n1;2\n', "a.csv")) == [(2, {"q,,,,": "1", "a": "2"})]


def test_a_tsv_is_split_at_tabs_only(write: Write) -> None:
    assert values(write("q,r,s\ta\n1,2\t3\n", "a.tsv")) == [(2, {"q,r,s": "1,2", "a": "3"})]


def test_one_column_needs_no_delimiter(write: Write) -> None:
    assert values(write("text\nhello\n", "a.csv")) == [(2, {"text": "hello"})]


def test_a_byte_order_mark_is_no_part_of_the_first_name(write: Write) -> None:
    assert values(write(b"\xef\xbb\xbfq,a\n1,2\n", "a.csv")) == [(2, {"q": "1", "a": "2"})]


def test_the_nameless_index_that_pandas_writes_is_kept(write: Write) -> None:
    assert values(write(",q\n0,x\n", "a.csv")) == [(2, {"": "0", "q": "x"})]


def test_a_packed_csv_is_read(write: Write) -> None:
    assert values(write(gzip.compress(b"q\ta,b\n1\t2\n", mtime=0), "a.tsv.gz")) == [(2, {"q": "1", "a,b": "2"})]


def test_a_cut_off_packed_csv_ends_with_its_damage(write: Write) -> None:
    text = "q,a\n" + "".join(f"{number},{number * 7919}\n" for number in range(1000))
    records = read(write(gzip.compress(text.encode())[:-20], "a.csv.gz"))
    assert records[0].values == {"q": "0", "a": "0"}
    assert records[-1].fault is not None
    assert records[-1].fault.kind == "damage"
    assert "cut off" in records[-1].fault.detail


def test_faults_are_told_at_their_line_and_the_rest_is_read(write: Write) -> None:
    path = write(b'q,a\n1,2\n1\n1,2,3\n\n\xe9,2\n"x"y,2\nnul\0,2\n3,4\n', "a.csv")
    assert faults(path) == [
        (2, ""),
        (3, "ragged"),
        (4, "ragged"),
        (5, "blank"),
        (6, "encoding"),
        (7, "quoting"),
        (8, "encoding"),
        (9, ""),
    ]
    records = read(path)
    assert [record.values is None for record in records] == [record.fault is not None for record in records]
    details = [record.fault.detail for record in records if record.fault]
    assert details[0] == "1 field, the header has 2"
    assert details[1] == "3 fields, the header has 2"
    assert "0xe9" in details[3]
    assert records[-1].values == {"q": "3", "a": "4"}


def test_a_bad_byte_in_a_quoted_line_break_is_the_records_fault(write: Write) -> None:
    assert faults(write(b'q,a\n"1\n\xff\n",2\n3,4\n', "a.csv")) == [(2, "encoding"), (5, "")]


def test_a_quote_that_is_never_closed_says_how_much_it_swallowed(write: Write) -> None:
    records = read(write('q,a\n1,2\n"3,4\n5,6\n7,8\n', "a.csv"))
    assert [record.line for record in records] == [2, 3]
    assert records[1].fault is not None
    assert records[1].fault.kind == "quoting"
    assert "never closed (3 lines, to line 5)" in records[1].fault.detail


def test_a_quote_that_swallows_too_much_ends_the_reading(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_RECORD_BYTES", 1000)
    records = read(write('q,a\n1,2\n"3,4\n' + "5,6\n" * 1000, "a.csv"))
    assert [record.line for record in records] == [2, 3]
    assert records[1].fault is not None
    assert records[1].fault.kind == "too-long"
    assert "lines of the file were not read" in records[1].fault.detail


def test_a_long_record_is_read_and_a_longer_one_is_not(write: Write) -> None:
    text = "x" * (MAX_RECORD_BYTES - 3)
    assert values(write(f"q,a\n{text},1\n", "a.csv")) == [(2, {"q": text, "a": "1"})]
    assert faults(write(f"q,a\n{text},12\n", "a.csv")) == [(2, "too-long")]


def test_a_lone_carriage_return_is_told(write: Write) -> None:
    records = read(write(b"q,a\n1\r2,3\n4,5\n", "a.csv"))
    assert records[0].fault is not None
    assert "carriage return" in records[0].fault.detail
    assert records[-1].values == {"q": "4", "a": "5"}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_table"),
        (b"\xef\xbb\xbf", "bad_header"),
        (b"\n1,2\n", "bad_header"),
        (b"q,q\n1,2\n", "bad_header"),
        (b",,a\n1,2,3\n", "bad_header"),
        (b"q\xff,a\n1,2\n", "bad_header"),
        ("q,a\n1,2\n".encode("utf-16"), "bad_header"),
        (b'"q,a\n1,2\n', "bad_header"),
        (b'"q"x,a\n1,2\n', "bad_header"),
    ],
)
def test_a_table_without_a_header_to_trust_is_refused(write: Write, content: bytes, code: str) -> None:
    assert refused(write(content, "a.csv")).code == code


def test_a_header_alone_is_a_table_without_rows(write: Write) -> None:
    assert values(write("q,a\n", "a.csv")) == []


def test_the_name_in_errors_can_be_given(write: Write) -> None:
    with pytest.raises(DataError, match=r"rows\.csv"):
        list(read_records(write("", "copy.csv"), param="FILE", name="rows.csv"))


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.lists(CELLS.filter(bool), min_size=2, max_size=4, unique=True),
    rows=st.lists(st.lists(CELLS, min_size=4, max_size=4), max_size=6),
)
def test_what_pythons_writer_writes_is_read_back_exactly(
    tmp_path: Path, header: list[str], rows: list[list[str]]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
    starts = []
    for row in [header, *(row[: len(header)] for row in rows)]:
        starts.append(text.getvalue().count("\n") + 1)
        writer.writerow(row)
    path = tmp_path / "a.tsv"
    path.write_bytes(text.getvalue().encode())
    expected = [dict(zip(header, row, strict=False)) for row in rows]
    assert values(path) == list(zip(starts[1:], expected, strict=True))


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b'"', b",", b"\n", b"\r", b"a", b"\xe9", b"\xc3\xa9", b"\0", b" "]), max_size=40))
def test_no_bytes_crash_the_reader_or_lose_a_line(tmp_path: Path, pieces: list[bytes]) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"q,a\n" + b"".join(pieces))
    records = read(path)
    lines = [record.line for record in records]
    assert lines == sorted(set(lines))
    num_lines = path.read_bytes().count(b"\n") + (not path.read_bytes().endswith(b"\n"))
    assert (lines[:1] == [2]) == (num_lines > 1)
    for record in records:
        assert (record.values is None) == (record.fault is not None)
        json.dumps(record.values).encode()


def test_pandas_reads_the_same(write: Write) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas comes with statsmodels")
    rows = [{"q": f'{number} "x", \n\n y', "a": "é" * number, "c": ""} for number in range(50)]
    path = write("", "a.csv")
    pandas.DataFrame(rows).to_csv(path, index=False)
    assert [record for _, record in values(path)] == rows
    assert pandas.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") == rows


# --- Parquet -------------------------------------------------------------------------------------------------------


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[..., Path]:
    arrow = pytest.importorskip("pyarrow", reason='the extra "tables" is not installed')
    from pyarrow import parquet

    def parquet_file(columns: dict[str, Any] | Any, **options: Any) -> Path:
        table = arrow.table(columns) if isinstance(columns, dict) else columns
        parquet.write_table(table, tmp_path / "a.parquet", **options)
        return tmp_path / "a.parquet"

    return parquet_file


def test_a_parquet_table_is_records_with_their_numbers(parquet: Callable[..., Path]) -> None:
    path = parquet({"q": ["a", None], "n": [1, 2], "messages": [[{"role": "user", "content": "x"}], []]})
    assert values(path) == [
        (1, {"q": "a", "n": 1, "messages": [{"role": "user", "content": "x"}]}),
        (2, {"q": None, "n": 2, "messages": []}),
    ]


def test_row_groups_and_batches_count_on(parquet: Callable[..., Path]) -> None:
    path = parquet({"n": list(range(1000))}, row_group_size=300)
    assert values(path) == [(number + 1, {"n": number}) for number in range(1000)]


def test_every_value_is_one_that_json_has(parquet: Callable[..., Path]) -> None:
    import pyarrow as arrow

    moment = datetime.datetime.fromisoformat("2020-01-02T03:04:05")
    path = parquet(
        {
            "nanoseconds": arrow.array([1_600_000_000_000_000_001], arrow.timestamp("ns")),
            "moment": arrow.array([moment], arrow.timestamp("us")),
            "zoned": arrow.array([moment], arrow.timestamp("us", "UTC")),
            "date": [moment.date()],
            "time": [moment.time()],
            "took": arrow.array([5], arrow.duration("s")),
            "price": [decimal.Decimal("1.10")],
            "bytes": [b"abc"],
            "not a number": [float("nan")],
            "infinite": [float("inf")],
            "map": arrow.array([[("a", 1)]], arrow.map_(arrow.string(), arrow.int64())),
            "nested": [{"when": [moment]}],
            "kind": arrow.array(["x"]).dictionary_encode(),
        }
    )
    [(_, record)] = values(path)
    assert record is not None
    json.dumps(record, allow_nan=False)
    assert record["nanoseconds"].endswith("000000001")
    assert record["moment"].startswith("2020-01-02 03:04:05")
    assert (record["date"], record["price"], record["bytes"], record["kind"]) == ("2020-01-02", "1.10", "abc", "x")
    assert (record["not a number"], record["infinite"]) == (None, "inf")
    assert (record["map"], record["nested"]) == ([["a", 1]], {"when": ["2020-01-02T03:04:05"]})
    assert record["took"] == "0:00:05"


def test_a_value_that_is_not_text_is_its_rows_fault_alone(parquet: Callable[..., Path]) -> None:
    path = parquet({"b": [b"good", b"\xff\xfe", b"good"]})
    assert faults(path) == [(1, ""), (2, "encoding"), (3, "")]


def test_text_that_is_not_utf8_is_its_rows_fault_alone(parquet: Callable[..., Path]) -> None:
    import pyarrow as arrow

    offsets = arrow.py_buffer(b"".join(place.to_bytes(4, "little") for place in (0, 1, 2, 3)))
    column = arrow.Array.from_buffers(arrow.string(), 3, [None, offsets, arrow.py_buffer(b"a\xffb")])
    path = parquet(arrow.Table.from_arrays([column], names=["q"]))
    assert faults(path) == [(1, ""), (2, "encoding"), (3, "")]


def test_a_parquet_column_name_that_stands_twice(parquet: Callable[..., Path]) -> None:
    import pyarrow as arrow

    table = arrow.Table.from_arrays([arrow.array([1]), arrow.array([2])], names=["q", "q"])
    assert refused(parquet(table)).code == "bad_header"


def test_a_damaged_parquet_file_is_refused(parquet: Callable[..., Path]) -> None:
    path = parquet({"n": list(range(10_000)), "t": [str(number) for number in range(10_000)]})
    whole = path.read_bytes()
    for content in (b"PAR1", whole[:-1], whole[:1000], whole[:-9] + b"\xff" + whole[-8:]):
        path.write_bytes(content)
        assert refused(path).code == "not_a_table"


def test_a_parquet_name_with_something_else_inside(write: Write) -> None:
    assert refused(write("q,a\n1,2\n", "a.parquet")).code == "not_a_table"


def test_a_packed_parquet_table_is_read(parquet: Callable[..., Path], write: Write) -> None:
    path = parquet({"n": [1]})
    assert values(write(gzip.compress(path.read_bytes()), "b.parquet.gz")) == [(1, {"n": 1})]


def test_without_the_extra_the_install_line_is_said(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingError) as caught:
        list(read_records(write(b"PAR1....PAR1", "a.parquet"), param="data.train"))
    assert caught.value.code == "missing_tables"
    assert caught.value.hint == 'pip install "luthier[tables]"'


def test_a_csv_loads_no_parquet_library(write: Write) -> None:
    code = (
        "import sys; from luthier.data.reading.tables import read_records\n"
        "print(len(list(read_records(sys.argv[1], param='FILE'))), [name for name in sys.modules if 'arrow' in name])"
    )
    path = write("q,a\n1,2\n", "a.csv")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout == "1 []\n"


# --- what is a table -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"q,a\n", "a.csv", True),
        (b"q,a\n", "a.CSV", True),
        (b"q\ta\n", "a.tsv", True),
        (b"q,a\n", "a.txt", False),
        (b"PAR1xxxx", "a", True),
        (b"whatever", "a.parquet", True),
        (b"", "a.csv", True),
        (b"", "a.jsonl", False),
        (b'{"messages": []}\n', "a.csv", False),
        (b'\xef\xbb\xbf [{"messages": []}]', "a.csv", False),
        (gzip.compress(b"q,a\n", mtime=0), "a.csv.gz", True),
        (gzip.compress(b"{}", mtime=0), "a.jsonl.gz", False),
    ],
)
def test_a_table_is_known_by_its_bytes_and_name(write: Write, content: bytes, name: str, expected: bool) -> None:
    assert is_table(write(content, name)) is expected


@pytest.mark.parametrize(
    ("name", "expected"), [("nothing.csv", True), ("nothing", False), ("-", False), ("nul\0.csv", True)]
)
def test_a_file_that_is_not_there_goes_by_its_name(tmp_path: Path, name: str, expected: bool) -> None:
    assert is_table(f"{tmp_path}/{name}") is expected


def test_no_real_file_of_examples_is_a_table(public_data: Path) -> None:
    paths = sorted(public_data.glob("*/*.jsonl"))
    assert len(paths) > 30
    assert not [path.name for path in paths if is_table(path)]
