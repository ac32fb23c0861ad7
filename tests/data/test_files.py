from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luthier.data.reading.files import MAX_ROW_BYTES, RawRow, Remark, read_rows
from luthier.data.reading.json_value import is_surely_whole, value_problem
from luthier.errors import DataError

pytestmark = pytest.mark.unit

Write = Callable[..., Path]
ROW = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}'
VALUE = json.loads(ROW)


def read(path: Path) -> tuple[list[RawRow], list[Remark]]:
    items = list(read_rows(path))
    return [i for i in items if isinstance(i, RawRow)], [i for i in items if isinstance(i, Remark)]


def said(row: RawRow) -> list[tuple[str, str]]:
    return [(problem.rule.code, problem.rule.severity) for problem in row.problems]


def test_plain_jsonl_is_read_without_a_word(write: Write) -> None:
    rows, remarks = read(write(f"{ROW}\n{ROW}\n"))
    assert [(row.line, row.value, row.text, row.problems) for row in rows] == [(1, VALUE, ROW, ()), (2, VALUE, ROW, ())]
    assert remarks == []


@pytest.mark.parametrize("text", [f"{ROW}\r\n{ROW}\r\n", f"{ROW}\n{ROW}", f"  {ROW}  \n\t{ROW}\n"])
def test_line_ends_and_outer_spaces_are_harmless(write: Write, text: str) -> None:
    rows, remarks = read(write(text))
    assert [row.value for row in rows] == [VALUE, VALUE]
    assert [row.problems for row in rows] == [(), ()]
    assert remarks == []


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (f"[{ROW},{ROW}]", "array"),
        (f"[\n{ROW},\n{ROW}\n]\n", "array"),
        (json.dumps([VALUE, VALUE], indent=2), "array"),
        (json.dumps(VALUE, indent=2) + "\n" + json.dumps(VALUE, indent=2), "several lines"),
        (f"{ROW}{ROW}\n", "several rows on one line"),
        (f"{ROW}, {ROW}\n", "several rows on one line"),
        (f"{ROW},\n{ROW},\n", "a comma"),
    ],
)
def test_rows_in_another_wrapping_are_read_exactly_and_named(write: Write, text: str, how: str) -> None:
    rows, _ = read(write(text))
    assert [row.value for row in rows] == [VALUE, VALUE]
    for row in rows:
        assert said(row) == [("not-jsonl", "warning")]
        assert how in row.problems[0].detail


def test_pretty_printed_rows_keep_their_own_lines(write: Write) -> None:
    rows, _ = read(write(json.dumps(VALUE, indent=2) + "\n" + json.dumps(VALUE, indent=2)))
    height = len(json.dumps(VALUE, indent=2).splitlines())
    assert [row.line for row in rows] == [1, 1 + height]


def test_comments_inside_and_between_rows_are_skipped_and_named(write: Write) -> None:
    pretty = json.dumps(VALUE, indent=1).replace('"messages": [', '"messages": [ // the talk')
    rows, remarks = read(write(f"// note\n# note\n{pretty}\n{ROW} // end\n"))
    assert [row.value for row in rows] == [VALUE, VALUE]
    assert ("comment-line", "warning") in said(rows[0])
    assert [(remark.line, remark.problem.rule.code) for remark in remarks][:2] == [
        (1, "comment-line"),
        (2, "comment-line"),
    ]
    assert "comment-line" in {remark.problem.rule.code for remark in remarks if remark.line == rows[1].line}


def test_urls_and_marks_inside_strings_are_no_comments(write: Write) -> None:
    value = {"messages": [{"role": "user", "content": "see // http://x.y and # and ======= and <<<<<<< HEAD"}]}
    rows, remarks = read(write([value]))
    assert rows[0].value == value
    assert (rows[0].problems, remarks) == ((), [])


def test_python_literals_are_refused_but_their_values_kept(write: Write) -> None:
    rows, _ = read(write(f"{VALUE}\n" + str({"messages": [{"weight": True, "content": None}]}) + "\n"))
    assert [said(row) for row in rows] == [[("not-jsonl", "error")]] * 2
    assert rows[0].value == VALUE
    assert rows[1].value == {"messages": [{"weight": True, "content": None}]}


@pytest.mark.parametrize(
    "text", ["{'a': __import__('os').system('true')}", "{'a': open('/etc/passwd')}", "{'a': 2**99}"]
)
def test_python_expressions_are_never_evaluated(write: Write, text: str) -> None:
    rows, _ = read(write(text + "\n"))
    assert [row.value for row in rows] == [None]
    assert said(rows[0]) == [("not-json", "error")]


def test_python_source_is_recognised(write: Write) -> None:
    rows, _ = read(write("import json\n\nrows = [{'messages': []}]\nprint(json.dumps(rows))\n"))
    assert [said(row) for row in rows] == [[("not-jsonl", "error")]]
    assert "Python source" in rows[0].problems[0].message


def test_a_syntax_error_names_its_column_and_spares_the_next_row(write: Write) -> None:
    broken = '{"messages": [{"role": "user", "content": "she said "hi" to me"}]}'
    rows, _ = read(write(f"{ROW}\n{broken}\n{ROW}\n"))
    assert [row.value for row in rows] == [VALUE, None, VALUE]
    problem = rows[1].problems[0]
    assert problem.rule.code == "not-json"
    assert f"column {broken.index('hi') + 1}:" in problem.detail
    assert "unescaped" in problem.detail
    excerpt, column = problem.shown()
    assert excerpt is not None
    assert excerpt[column:].startswith("hi")


@pytest.mark.parametrize("length", [3, 20, 46, len(ROW) - 1])
def test_a_row_cut_off_is_named_and_swallows_no_other(write: Write, length: int) -> None:
    for text in (f"{ROW}\n{ROW[:length]}", f"{ROW}\n{ROW[:length]}\n{ROW}\n{ROW}\n"):
        rows, _ = read(write(text))
        assert [row.value for row in rows] == [VALUE, None, VALUE, VALUE][: len(rows)]
        assert len(rows) == text.count("\n") + (not text.endswith("\n"))
        assert said(rows[1]) == [("truncated-row", "error")]


def test_an_array_cut_off_is_named(write: Write) -> None:
    rows, remarks = read(write(f"[\n{ROW},\n{ROW},\n"))
    assert [row.value for row in rows] == [VALUE, VALUE]
    assert [(remark.problem.rule.code, remark.problem.rule.severity) for remark in remarks] == [
        ("truncated-row", "error")
    ]


def test_a_line_break_inside_a_string_is_named(write: Write) -> None:
    rows, _ = read(write('{"messages": [{"role": "user", "content": "one\ntwo"}]}\n' + ROW + "\n"))
    assert [row.value for row in rows] == [None, VALUE]
    assert "line break inside a string" in rows[0].problems[0].detail


def test_what_follows_a_row_on_its_line_is_not_dropped(write: Write) -> None:
    rows, _ = read(write(ROW + "}\n" + ROW + ' "tools": []\n' + ROW + "\n"))
    assert [row.value for row in rows] == [None, None, VALUE]


def test_prose_is_a_row_with_an_error(write: Write) -> None:
    rows, _ = read(write(f"Here are 200 examples:\n{ROW}\n"))
    assert [(row.line, row.value) for row in rows] == [(1, None), (2, VALUE)]
    assert said(rows[0]) == [("not-json", "error")]


def test_a_merge_conflict_is_named_by_its_markers(write: Write) -> None:
    rows, remarks = read(write(f"<<<<<<< HEAD\n{ROW}\n=======\n{ROW}\n>>>>>>> abc\n"))
    assert len(rows) == 2
    assert [(remark.line, remark.problem.rule.code) for remark in remarks] == [(n, "merge-conflict") for n in (1, 3, 5)]


@pytest.mark.parametrize("text", ["", "\n\n", "// only a note\n", "\ufeff"])
def test_a_file_without_rows_says_so(write: Write, text: str) -> None:
    rows, remarks = read(write(text))
    assert rows == []
    assert "empty-file" in {remark.problem.rule.code for remark in remarks}


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b'{"a": "caf\xe9"}\n', "byte 0xe9"),
        (b'{"a": "\x00"}\n', "NUL"),
        (b'{"a": "\\ud83d alone"}\n', "\\ud83d"),
        (ROW.encode("utf-16"), "UTF-16"),
        (b"PAR1abc", "Parquet"),
    ],
)
def test_text_that_is_not_utf8_is_refused(write: Write, content: bytes, detail: str) -> None:
    rows, _ = read(write(content))
    assert [(row.value, said(row)) for row in rows] == [(None, [("encoding", "error")])]
    assert detail in rows[0].problems[0].detail


def test_a_byte_order_mark_is_skipped_and_named(write: Write) -> None:
    rows, remarks = read(write("\ufeff" + ROW + "\n"))
    assert rows[0].value == VALUE
    assert [(remark.line, remark.problem.rule.code) for remark in remarks] == [(1, "encoding")]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"a": 1, "a": 2}', "a"),
        ('{"m": [{"role": "user", "content": "x", "content": "y"}]}', "content"),
        ('{"a": 1, "\\u0061": 2}', "a"),
    ],
)
def test_a_duplicate_key_is_an_error(write: Write, text: str, key: str) -> None:
    rows, _ = read(write(text + "\n"))
    assert said(rows[0]) == [("duplicate-key", "error")]
    assert rows[0].problems[0].detail == f'"{key}"'


def test_quotes_and_colons_in_strings_are_no_duplicate_keys(write: Write) -> None:
    value = {"a": ': "a": "a": ', "b": {"a": '{"a": 1, "a": 2}'}}
    rows, _ = read(write([value]))
    assert (rows[0].value, rows[0].problems) == (value, ())


@pytest.mark.parametrize(
    "text", ['{"a": ' + "[" * 70 + "]" * 70 + "}", '{"a": ' + "[" * 100_000, '{"n": 123456789012345678901234567890}']
)
def test_what_cannot_be_written_again_is_refused(write: Write, text: str) -> None:
    rows, _ = read(write(text + "\n" + ROW + "\n"))
    assert [row.value for row in rows] == [None, VALUE]
    assert rows[0].problems[0].rule.code in {"over-limit", "truncated-row", "not-json"}


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63), 10**18])
def test_large_numbers_that_fit_are_kept_exactly(write: Write, number: int) -> None:
    rows, _ = read(write([{"n": number}]))
    assert rows[0].value == {"n": number}


def test_a_line_past_the_limit_is_refused_unread(write: Write) -> None:
    rows, _ = read(write(f'{{"a": "{"x" * (MAX_ROW_BYTES + 10)}"}}\n{ROW}\n'))
    assert [(row.line, row.value) for row in rows] == [(1, None), (2, VALUE)]
    assert said(rows[0]) == [("over-limit", "error")]
    assert len(rows[0].text) < 2000


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ('[{"role": "user", "content": "x"}]', "a list of messages"),
        ('"text"', "a string"),
        ("3", "a number"),
        ("[]", "list"),
    ],
)
def test_json_that_is_no_object_is_named(write: Write, text: str, detail: str) -> None:
    rows, _ = read(write(text + "\n"))
    assert said(rows[0]) == [("not-an-object", "error")]
    assert detail in rows[0].problems[0].detail


def test_a_missing_file_a_folder_and_a_locked_file(tmp_path: Path) -> None:
    for path, code in (
        (tmp_path / "none.jsonl", "file_not_found"),
        (tmp_path, "not_a_file"),
        ("a\0b", "file_not_found"),
    ):
        with pytest.raises(DataError) as caught:
            list(read_rows(path, param="data.test"))
        assert (caught.value.code, caught.value.param) == (code, "data.test")
        assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(write: Write) -> None:
    path = write(ROW)
    path.chmod(0)
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    assert caught.value.code == "file_not_readable"


PIECES = st.sampled_from(
    [
        ROW,
        ROW,
        ROW[:30],
        "{",
        "}",
        "[",
        "]",
        ",",
        '"',
        "\\",
        "\n",
        "\r\n",
        "//",
        "<<<<<<< a",
        "=======",
        "text",
        "{'a': 1}",
        "\ufeff",
        "\x00",
        "é",
        '"messages":',
        "null",
        "1e999",
        '{"a":',
        '{"a": "b',
        "\ud7ff",
        " ",
        "\t",
    ]
)


@given(content=st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=30).map(lambda p: "".join(p).encode())))
@example(content=b'{"a":' * 3000)
@example(content=b"1+" * 50_000)
@example(content=b"{'a': " + b"[" * 50_000)
@example(content=b"-" * 50_000 + b"1")
@example(content=b"[" * 3000 + b"\n{}")
@example(content=b'{"a": [1,\n' * 500)
@example(content=(b'{"k":\n' + b'{"x":1}, "k":\n' * 300))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_the_reader_fail_or_pass_over_a_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "any.jsonl"
    path.write_bytes(content)
    rows, remarks = read(path)
    assert rows or remarks
    num_lines = content.count(b"\n") + 1
    for item in (*rows, *remarks):
        assert 1 <= item.line <= num_lines
    for row in rows:
        assert row.value is not None or any(severity == "error" for _, severity in said(row))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    values=st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=3), min_size=1, max_size=5),
    wrapping=st.sampled_from(["lines", "array", "pretty array", "pretty", "one line", "commas"]),
)
@settings(max_examples=200, deadline=None)
def test_every_wrapping_gives_back_every_row(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, object]], wrapping: str
) -> None:
    compact = [json.dumps(value) for value in values]
    text = {
        "lines": "\n".join(compact),
        "array": "[" + ", ".join(compact) + "]",
        "pretty array": json.dumps(values, indent=2),
        "pretty": "\n".join(json.dumps(value, indent=2) for value in values),
        "one line": " ".join(compact),
        "commas": ",\n".join(compact),
    }[wrapping]
    path = tmp_path_factory.mktemp("wrapped") / "wrapped.jsonl"
    path.write_text(text)
    rows, remarks = read(path)
    if wrapping == "array" and any("role" in value for value in values):
        assert len(rows) == 1
        return
    assert [row.value for row in rows] == values
    assert remarks == []


_VALUES = [
    '"x"',
    '"\\""',
    '"\\u0022"',
    "1",
    "1.5",
    "1e999",
    "123456789012345678901",
    "null",
    '{"a": 1, "a": 2}',
    "[[]]",
]
_MEMBER = st.tuples(st.sampled_from(["a", "b", '\\"', "\\u0022", "c\\\\"]), st.sampled_from(_VALUES))


@given(members=st.lists(_MEMBER, max_size=5), depth=st.sampled_from([0, 3, 70]))
@settings(max_examples=500, deadline=None)
def test_what_is_surely_whole_lost_nothing(members: list[tuple[str, str]], depth: int) -> None:
    text = "{" + ", ".join(f'"{key}": {value}' for key, value in members) + "}"
    text = '{"d": ' * depth + text + "}" * depth
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        assert "e999" in text
        return
    if is_surely_whole(text.encode(), value):
        assert value_problem(text, value) is None


def test_most_rows_are_surely_whole() -> None:
    for text in ('{"messages": [{"role": "user", "content": "say \\"hi\\""}], "tools": [1, 2.5, null]}', "{}"):
        assert is_surely_whole(text.encode(), orjson.loads(text))
