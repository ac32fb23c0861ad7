"""`kill -9` at any instant: the resumed run ends with the same bytes."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


STEPS_ALOUD = """
import sys
from luthier import sdk

def say(event):
    if event.kind == "step":
        print(event.data["step"], flush=True)

out, resume, data, *settings = sys.argv[1:]
where = {"resume": out} if resume == "resume" else {"data": data, "out": out, "overrides": settings}
sdk.finetune(**where, listener=say)
"""


def train_aloud(out: Path, data: Path, settings: list[str]) -> subprocess.Popen[str]:
    """Starts a training, or goes on with it, in a process that prints the number of each step."""
    resume = "resume" if (out / "manifest.json").exists() else "new"
    words = [sys.executable, "-c", STEPS_ALOUD, str(out), resume, str(data), *settings]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_at_random_moments(start: Callable[[], subprocess.Popen[str]], num_kills: int, seed: int) -> list[int]:
    """Kills a training again and again, every other time before its first step, else after some steps and a random part
    of the next one. Then lets it finish. Returns the steps seen in each life."""
    draw = random.Random(seed)
    seen = []
    start_s, step_s = 3.0, 0.05
    for kill in range(num_kills):
        began = time.monotonic()
        with start() as process:
            assert process.stdout is not None
            steps, marks = draw.randrange(1, 4), []
            if kill % 2:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=draw.uniform(0, start_s))
            else:
                while len(marks) < steps and process.stdout.readline():
                    marks.append(time.monotonic())
                if len(marks) > 1:
                    start_s, step_s = marks[0] - began, marks[1] - marks[0]
                time.sleep(draw.uniform(0, step_s))
            process.kill()
            process.communicate()
            assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
            seen.append(len(marks))
    with start() as process:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
    return [*seen, len(output.split())]


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
        "evaluate.baselines=[]",
        "evaluate.probe=none",
    ]


def test_killed_runs_end_with_the_same_bytes(words, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = command("run", "--out", str(whole), *words)
    assert subprocess.run(uninterrupted, capture_output=True, check=False).returncode in (0, 1)
    data, *settings = words
    seen = kill_at_random_moments(lambda: train_aloud(parts, Path(data), settings), num_kills=6, seed=4)
    assert sum(seen[:-1]) >= 3
    for file in (ADAPTER, "answers/fine_tuned.jsonl", "data/test.jsonl"):
        assert (parts / file).read_bytes() == (whole / file).read_bytes(), file
    steps = [json.loads(line)["step"] for line in (parts / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    assert not list((parts / "checkpoints").glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_saved_and_says_how_to_resume(words, tmp_path, number):
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
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"luthier run --resume {out}" in stderr
    assert "Traceback" not in stderr
    taken = len((out / "metrics.jsonl").read_text().splitlines())
    assert [path.name for path in (out / "checkpoints").glob("step-*")] == [f"step-{taken:06d}"]


@pytest.mark.proof
@pytest.mark.parametrize(("model", "every_s"), [("tiny", "0"), ("embedded", "0"), ("embedded", "2")])
def test_killed_at_30_random_moments_of_60_steps_it_ends_with_the_same_bytes(model, every_s, words, tmp_path, request):
    """`kill -9` before the first step and in the middle of later ones, which fall into checkpoints, too."""
    if model == "embedded":
        request.getfixturevalue("smollm2_folder")
        words = [str(Path(__file__).parents[2] / "examples" / "orders.jsonl"), "train.batch_size=4"]
    data, *settings = words
    settings = [
        *(setting for setting in settings if "checkpoint" not in setting),
        "train.max_steps=60",
        "evaluate.max_samples=4",
        f"train.checkpoint_every_s={every_s}",
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with train_aloud(whole, Path(data), settings) as process:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
    assert len(output.split()) == 60
    seen = kill_at_random_moments(lambda: train_aloud(parts, Path(data), settings), num_kills=30, seed=9)
    print(f"{model}: steps seen in each of 30 lives that were killed, and in the last: {seen}")
    assert (parts / ADAPTER).read_bytes() == (whole / ADAPTER).read_bytes()
    steps = [json.loads(line)["step"] for line in (parts / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 61))
