"""`luthier check` and `luthier clean` as a person runs them."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.unit
Row = dict[str, Any]


def luthier(*words: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "luthier", *map(str, words)], capture_output=True, check=False, input=stdin
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def dialogue(n: int) -> Row:
    question = f"Where is the number {n * 7919} house, dear neighbour {n}?"
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": f"{n} left, {n % 7} {'abcd'[n % 4]}"},
        ]
    }


def lines(rows: list[Row]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.jsonl"
    path.write_bytes(lines([dialogue(n) for n in range(60)]))
    return path


def test_groups_plots_and_what_the_test_will_show(good: Path) -> None:
    shown = luthier("check", good).stdout
    for words in (
        "What the examples are",
        "o200k_base",
        "would be billed",
        "about 6 test rows",
        "████",
        "60 rows read: 60 examples",
    ):
        assert words in shown
    assert max(len(line) for line in shown.splitlines() if "█" in line) < 60


def test_the_first_offending_line_is_quoted_with_a_mark_under_the_place(tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(
        lines([dialogue(n) for n in range(20)]) + b'{"messages": [{"role": "user", "content": "she said "hi""}]}\n'
    )
    shown = luthier("check", path).stdout.splitlines()
    assert "The file · 1 error, 1 info" in shown
    (quoted,) = [line for line in shown if "she said" in line]
    mark = shown[shown.index(quoted) + 1]
    assert quoted[mark.index("^") :].startswith("hi")


def test_standard_input_compressed_or_not(good: Path) -> None:
    plain = luthier("check", "-", "--json", stdin=good.read_bytes())
    packed = luthier("check", "-", "--json", stdin=gzip.compress(good.read_bytes(), mtime=0))
    assert plain.returncode == packed.returncode == 0
    assert json.loads(plain.stdout) == json.loads(packed.stdout)
    assert json.loads(plain.stdout)["examples"] == 60


def test_only_what_was_asked_for(tmp_path: Path) -> None:
    rows = [dialogue(n) for n in range(60)]
    rows[3]["messages"][1]["content"] += " "
    rows.append(rows[5])
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(rows))

    def codes(*words: str) -> list[str]:
        return [finding["code"] for finding in json.loads(luthier("check", path, "--json", *words).stdout)["findings"]]

    assert codes("--only", "text") == ["outer-whitespace"]
    assert codes("--only", "duplicate,leak") == ["duplicate"]
    assert codes("--only", "file", "--only", "message") == []
    wrong = luthier("check", path, "--only", "duplicats")
    assert wrong.returncode == 2
    assert "Did you mean duplicate?" in wrong.stderr


def test_against_held_out_rows(good: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.jsonl"
    test.write_bytes(
        lines([dialogue(7), dialogue(600), {"question": dialogue(9)["messages"][0]["content"], "answer": "?"}])
    )
    result = luthier("check", good, "--against", test, "--json", "--only", "leak")
    assert result.returncode == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert (finding["code"], finding["rows"]["lines"]) == ("contamination", [8, 10])
    cleaned = luthier("clean", good, "--out", tmp_path / "out.jsonl", "--against", test)
    assert cleaned.returncode == 0, cleaned.stderr
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 58
    assert luthier("check", tmp_path / "out.jsonl", "--against", test, "--only", "contamination").returncode == 0


def test_a_table_needs_a_map_and_takes_one(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("frage,sql\n" + "".join(f"How many of {n * 7919}?,SELECT {n}\n" for n in range(12)))
    refused = luthier("check", table)
    assert refused.returncode == 2
    assert "frage, sql" in refused.stderr
    assert "--map" in refused.stderr
    taken = luthier("check", table, "--map", "user=frage,assistant=sql", "--json")
    assert taken.returncode == 0
    assert json.loads(taken.stdout)["examples"] == 12


def test_a_format_asked_for(good: Path) -> None:
    assert luthier("check", good, "--format", "chat").returncode == 0
    refused = luthier("check", good, "--format", "preference", "--json")
    assert refused.returncode == 1
    assert "unknown-format" in [finding["code"] for finding in json.loads(refused.stdout)["findings"]]


def test_clean_says_what_it_did_and_what_is_left(tmp_path: Path) -> None:
    rows = [dialogue(n) for n in range(20)]
    rows[3]["messages"][1]["content"] += " "
    rows[4]["messages"][1]["role"] = "model"
    rows[6]["messages"] = rows[6]["messages"][:1]
    path, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(lines([*rows, rows[5]]))
    before = path.read_bytes()
    dry = luthier("clean", path, "--out", out, "--dry-run")
    assert "Dry run: nothing was written." in dry.stdout
    assert not out.exists()
    result = luthier("clean", path, "--out", out)
    assert result.returncode == 0
    for words in (
        "unknown-role",
        "outer-whitespace",
        "1 left out",
        "21 rows read: 20 kept (18 as they were, 2 changed)",
        "no-assistant",
    ):
        assert words in result.stdout
    assert path.read_bytes() == before
    again = luthier("clean", path, "--out", out)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    as_json = json.loads(luthier("clean", path, "--out", out, "--overwrite", "--json").stdout)
    assert as_json["rows_read"] == as_json["rows_written"] + as_json["rows_left_out"] == 21
    assert as_json["by_code"]["duplicate"] == {"left out": 1}


def test_ctrl_c_stops_a_check_with_no_traceback_and_nothing_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_bytes(lines([dialogue(n) for n in range(2000)]) * 60)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "luthier", "check", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(scratch)},
        preexec_fn=_hear_interrupts,  # noqa: PLW1509 - no threads here
    )
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert list(scratch.glob("*luthier*")) == []


def _hear_interrupts() -> None:
    """A job in a shell's background, and all that it starts, is born deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
