"""No input makes the check crash, hang or use unbounded memory: each is a finding or a clear error."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data.check import check_files
from luthier.data.reading.files import RawRow, RowReader
from luthier.data.reading.lines import MAX_ROW_BYTES
from luthier.errors import DataError

pytestmark = pytest.mark.unit

Write = Callable[..., Path]
ROW = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}'
PIECES = [ROW, ROW[:30], ROW[-30:], b"{", b"}", b"[", b"]", b",", b'"', b"\\", b"\n", b"\r", b"//", b"#", b"<<<<<<< a"]
PIECES += [b"=======", b">>>>>>> a", b"{'a': 1}", b"\xef\xbb\xbf", b"\x00", b"\xff", b"\xc3", b'"messages":', b"null"]
PIECES += [
    b"1e999",
    b"-",
    b"9" * 30,
    b'{"a":',
    b'{"a": "b',
    b'{"a":1,"a":2}',
    b"\\ud83d",
    b" ",
    b"\t",
    b'""',
    b"True",
    b"text",
]


@given(content=st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join) | st.binary(max_size=40))
@settings(max_examples=50_000, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_bytes_make_the_reader_fail_lose_a_row_or_pass_over_a_line(content: bytes) -> None:
    reader = RowReader("any", io.BytesIO(content))
    num_lines = content.count(b"\n") + 1
    for item in reader:
        assert 1 <= item.line <= num_lines
        if isinstance(item, RawRow):
            assert item.value is not None or any(problem.rule.severity == "error" for problem in item.problems)
            if item.span is not None:
                offset, size = item.span
                assert json.loads(content[offset : offset + size]) == item.value


LIMIT_BYTES = 700 * 2**20


def checked_in_little_memory(path: Path) -> dict[str, object]:
    """Runs `luthier check --json` with its memory limited: what would need more fails."""
    script = "import sys; from luthier.cli.app import main; sys.argv = ['luthier', *sys.argv[1:]]; main()"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES + 2**30, LIMIT_BYTES + 2**30))

    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, "check", str(path), "--json", "--only", "file,message,text"],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limit,
        env=environment,
        check=False,
    )
    assert done.returncode in (0, 1, 2), done.stderr[-2000:]
    found: dict[str, object] = json.loads(done.stdout)
    return found


def codes(found: dict[str, object]) -> list[str]:
    return [finding["code"] for finding in found["findings"]]  # type: ignore[index, attr-defined]


def test_a_line_of_100_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(ROW + b"\n" + b'{"messages": "')
        for _ in range(100):
            file.write(b"x" * 2**20)
        file.write(b'"}\n' + ROW + b"\n")
    found = checked_in_little_memory(path)
    assert "over-limit" in codes(found)
    assert found["examples"] == 2


def test_a_long_array_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "array.jsonl"
    with path.open("wb") as file:
        file.write(b"[" + ROW)
        for _ in range(200):
            file.write((b"," + ROW) * 1000)
        file.write(b"]")
    found = checked_in_little_memory(path)
    assert found["examples"] == 200_001
    assert "not-jsonl" in codes(found)


def test_a_million_keys(tmp_path: Path, write: Write) -> None:
    path = write("{" + ",".join(f'"k{n}":1' for n in range(700_000)) + "}\n" + ROW.decode() + "\n")
    assert path.stat().st_size < MAX_ROW_BYTES
    found = checked_in_little_memory(path)
    assert "unknown-format" in codes(found)
    assert found["examples"] == 1


@pytest.mark.parametrize("opening", [b'{"a":', b"[", b'{"a":[', b'{"a":[1,\n', b"{'a':("])
def test_deep_nesting(write: Write, opening: bytes) -> None:
    result = check_files([write(opening * 20_000 + b"\n" + ROW + b"\n")])
    assert result.rows_read >= 1
    assert result.has_errors
    assert result.rows_read == result.num_examples + result.num_rejected


def test_a_gzip_bomb_is_refused_with_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(100):
            file.write(b" " * 2**20)
    assert path.stat().st_size < 200_000
    with pytest.raises(DataError) as caught:
        check_files([path])
    assert caught.value.code == "too_large"


def test_many_rows_of_nothing(write: Write) -> None:
    result = check_files([write(b"{}\n" * 20_000 + b"[]\n" * 20_000 + b"\n" * 20_000)])
    assert (result.rows_read, result.num_examples) == (40_000, 0)
    assert {"unknown-format", "not-an-object", "blank-line"} <= {finding.code for finding in result.findings}


def test_an_unwritable_place_for_temporary_files_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(ROW + b"\n"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DataError) as caught:
        check_files([path])
    assert caught.value.code == "file_not_written"
