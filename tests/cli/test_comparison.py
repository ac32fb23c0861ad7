"""`luthier compare` with several files, several metrics and clusters, as a person and as a program read it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit


def luthier(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "luthier", *words], check=False, capture_output=True, text=True)


def write(path: Path, share: float, **more: float) -> str:
    rng = random.Random(share)
    with path.open("w") as file:
        for row in range(120):
            scores = {name: float(rng.random() < other) for name, other in more.items()}
            line = {"id": row, "score": int(rng.random() < share), "source": f"text {row // 4}"}
            file.write(json.dumps(line | ({"scores": scores} if scores else {})) + "\n")
    return str(path)


def test_several_files_are_a_table_with_all_pairs_corrected(tmp_path: Path) -> None:
    files = [write(tmp_path / f"[b]{name}.jsonl", share) for name, share in (("a", 0.2), ("b", 0.25), ("c", 0.7))]
    person = luthier("compare", *files, "--cluster", "source")
    assert person.returncode == 0
    assert "after Holm's correction for 3 tests" in " ".join(person.stdout.split())
    assert "[b]a.jsonl → [b]c.jsonl" in person.stdout
    table = json.loads(luthier("compare", *files, "--cluster", "source", "--json").stdout)
    assert [pairing["tuned"] for pairing in table["pairings"]] == [files[1], files[2], files[2]]
    assert table["num_tests"] == 3
    first = table["pairings"][0]["comparison"]
    assert first["clusters"] == 30
    assert first["adjusted_p"] >= first["p_value"]
    assert luthier("compare", *files[:2]).returncode == 1


def test_several_metrics_in_two_files_are_corrected_too(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.jsonl", 0.3, exact=0.2), write(tmp_path / "b.jsonl", 0.8, exact=0.6)]
    result = luthier("compare", *files, "--json")
    table = json.loads(result.stdout)
    assert result.returncode == 0
    assert [pairing["metric"] for pairing in table["pairings"]] == ["score", "exact"]
    assert {pairing["comparison"]["verdict"] for pairing in table["pairings"]} == {"BETTER"}
    assert "exact" in luthier("compare", *files).stdout


def test_what_is_wrong_with_the_files_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", 0.3)
    missing = luthier("compare", file, file, "--cluster", "book")
    assert missing.returncode == 2
    assert '120 of 120 rows have no "book"' in missing.stderr
    alone = luthier("compare", file)
    assert alone.returncode == 2
    assert "Traceback" not in alone.stderr
    twice = luthier("compare", file, file, "--json")
    assert json.loads(twice.stdout)["difference"]["value"] == 0
