"""The product promise on data that nobody here wrote: real runs of the embedded model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.model]
ORDERS = Path(__file__).parents[2] / "examples" / "orders.jsonl"


def luthier(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "luthier", *words], capture_output=True, text=True, check=False)


def test_the_quick_preset_goes_the_whole_road(smollm2_folder, tmp_path):
    out = tmp_path / "quick"
    result = luthier("run", str(ORDERS), "--preset", "quick", "--out", str(out), "evaluate.max_new_tokens=48", "--json")
    report = json.loads(result.stdout)
    assert result.returncode == (0 if report["verdict"] == "BETTER" else 1), result.stderr
    assert report["n"] == 20
    assert report["training"]["trainable_parameters"] == 4_884_480
    assert report["metrics"][-1]["name"] == "test loss"
    assert report["metrics"][-1]["fine_tuned"] < report["metrics"][-1]["base"] / 2
    valid_json = next(m for m in report["metrics"] if m["name"] == "valid json")
    assert valid_json["fine_tuned"] >= valid_json["base"]
    assert sum(note.startswith("Shortened") for note in report["notes"]) == 2
    said = luthier("chat", str(out), "-m", "Two lutes for Ada Pelc, 900 euros in all.", "--max-tokens", "60", "--json")
    assert said.returncode == 0, said.stderr
    assert "customer" in json.loads(said.stdout)["answer"]


@pytest.mark.proof
@pytest.mark.parametrize("name", ["snips-json", "nba-sql-exec"])
def test_three_hundred_real_rows_beat_the_base(smollm2_folder, public_data, tmp_path, name):
    out = tmp_path / name
    result = luthier("run", str(public_data / name / "train.jsonl"), "data.max_train=300", "--out", str(out), "--json")
    report = json.loads(result.stdout)
    print(name, report["reason"], report["seconds"])
    assert result.returncode == 0, result.stderr
    assert report["verdict"] == "BETTER"
    assert report["difference"]["low"] > 0


@pytest.mark.proof
def test_the_demo_is_better(smollm2_folder, tmp_path):
    result = luthier("run", str(ORDERS), "--out", str(tmp_path / "demo"), "--json")
    report = json.loads(result.stdout)
    print("orders", report["reason"], report["seconds"])
    assert result.returncode == 0, result.stderr
    assert report["verdict"] == "BETTER"
    assert report["fine_tuned"]["score"] > 0.5
