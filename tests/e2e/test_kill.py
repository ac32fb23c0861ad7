"""`kill -9` at any instant: the resumed run ends with the same bytes."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ADAPTER = "adapter/adapter_model.safetensors"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "luthier", *words]


def write_rows(path: Path, count: int) -> Path:
    with path.open("w") as file:
        for n in range(count):
            user = {"role": "user", "content": f"Turn number {n * 7919} around, good colleague {n}."}
            file.write(json.dumps({"messages": [user, {"role": "assistant", "content": str(n * 7919)[::-1]}]}) + "\n")
    return path


def run_killed(words: list[str], resume: list[str], moments: list[float]) -> int:
    """Starts the command and kills it after each moment (seconds), resuming in between; then lets it finish."""
    killed = 0
    for moment in moments:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        words = resume if (Path(resume[-2]) / "manifest.json").exists() else words
    finished = subprocess.run(words, capture_output=True, text=True, check=False)
    assert finished.returncode in (0, 1), finished.stderr
    return killed


@pytest.fixture
def words(tiny_model_folder: Path, tmp_path: Path) -> list[str]:
    data = write_rows(tmp_path / "rows.jsonl", 80)
    return [
        str(data),
        f"model.base={tiny_model_folder}",
        "model.dtype=float32",
        "adapter.r=4",
        "train.n_epochs=4",
        "train.batch_size=4",
        "train.checkpoint_every_s=0",
        "evaluate.max_new_tokens=16",
    ]


def test_killed_runs_end_with_the_same_bytes(words, tmp_path):
    whole = subprocess.run(command("run", "--out", str(tmp_path / "whole"), *words), capture_output=True, check=False)
    assert whole.returncode in (0, 1), whole.stderr
    out = tmp_path / "parts"
    generator = random.Random(4)
    moments = [generator.uniform(2.0, 9.0) for _ in range(4)]
    killed = run_killed(
        command("run", "--out", str(out), *words), command("run", "--resume", str(out), "--json"), moments
    )
    assert killed >= 1
    for file in (ADAPTER, "answers/fine_tuned.jsonl", "data/test.jsonl"):
        assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))


def test_ctrl_c_leaves_a_run_that_says_how_to_resume(words, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command("run", "--out", str(out), *words, "train.n_epochs=50"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists():
        assert time.monotonic() < deadline, "training did not begin"
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"luthier run --resume {out}" in stderr
    assert "Traceback" not in stderr


@pytest.mark.proof
def test_the_embedded_model_killed_in_training_ends_with_the_same_bytes(smollm2_folder, tmp_path):
    """On SmolLM2-135M with the sample data: 40 steps, killed at four random moments."""
    sample = Path(__file__).parents[2] / "examples" / "orders.jsonl"
    words = [str(sample), "train.max_steps=24", "evaluate.max_samples=8", "train.checkpoint_every_s=5"]
    whole = subprocess.run(command("run", "--out", str(tmp_path / "whole"), *words), capture_output=True, check=False)
    assert whole.returncode in (0, 1), whole.stderr
    generator = random.Random(9)
    moments = [generator.uniform(25.0, 60.0) for _ in range(4)]
    out = tmp_path / "parts"
    killed = run_killed(
        command("run", "--out", str(out), *words), command("run", "--resume", str(out), "--json"), moments
    )
    print(f"killed {killed} times")
    assert killed >= 2
    assert (out / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()
