"""Training by torchrun and by Ray, as a person starts it: one adapter, and what happens when a process is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from luthier import sdk
from luthier.errors import DataError, Interrupted, MissingError, RecipeError
from luthier.model.adapter import WEIGHTS
from luthier.runs import RunFolder, read_lines

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]  # Ray's own
STEPS = 40
ROUNDING = 5e-5
"""How far float32 sums in another order drift apart in 40 steps, relative to the largest number."""


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        for n in range(60):
            user = {"role": "user", "content": f"Turn number {n * 7919} around, good colleague {n}."}
            file.write(json.dumps({"messages": [user, {"role": "assistant", "content": str(n * 7919)[::-1]}]}) + "\n")
    return path


@pytest.fixture
def settings(tiny_model_folder):
    return [
        f"model.base={tiny_model_folder}",
        "model.dtype=float32",
        "train.n_epochs=3",
        f"train.max_steps={STEPS}",
        "train.checkpoint_every_s=0",
        "train.batch_size=4",
        "train.learning_rate=0.005",
    ]


def assert_same_adapter(one, other):
    one, other = (load_file(RunFolder(folder).adapter / WEIGHTS) for folder in (one, other))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert float((value - other[name]).abs().max()) <= ROUNDING * max(1.0, float(value.abs().max())), name


def torchrun_command(*options):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port, *options]


def torchrun(*words, launcher=()):
    command = torchrun_command(*launcher, "-m", "luthier", *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_steps(out, count):
    for _ in range(2000):
        if len(read_lines(out / "metrics.jsonl")) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("no steps")


def members(process):
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "luthier" in child.cmdline()]


@pytest.mark.parametrize("shard", ["false", "true"])
def test_torchrun_trains_the_adapter_of_one_process(data, settings, tmp_path, shard):
    sdk.train(data, out=tmp_path / "one", overrides=settings)
    process = torchrun("train", str(data), *settings, f"train.shard={shard}", "--out", str(tmp_path / "two"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("Trained 40 steps") == 1
    assert ("split over 2 processes" in err) == (shard == "true")
    assert_same_adapter(tmp_path / "one", tmp_path / "two")


def test_a_verdict_by_two_processes(data, settings, tmp_path):
    words = [*settings, "train.shard=true", "evaluate.max_new_tokens=4", "evaluate.probe=none"]
    process = torchrun("run", str(data), *words, "--out", str(tmp_path / "two"), "--json")
    out, err = process.communicate(timeout=180)
    report = json.loads(out)
    assert process.returncode == (0 if report["verdict"] == "BETTER" else 1), err
    assert report["training"]["steps"] == 36  # a fifth of the rows is held out


@pytest.mark.parametrize("kind", ["ctrl-c", "one is killed"])
def test_torchrun_is_stopped_and_one_process_goes_on(data, settings, tmp_path, kind):
    sdk.train(data, out=tmp_path / "one", overrides=settings)
    out = tmp_path / "two"
    process = torchrun("train", str(data), *settings, "train.schedule=linear", "--out", str(out))
    wait_for_steps(out, 5)
    if kind == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to torchrun and to all that it started
    else:
        members(process)[1].kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert err.count("TrainError: Process 0 of 2 has lost another one") == (kind == "one is killed")
    assert err.count("Interrupted: Stopped after step") == (kind == "ctrl-c")
    assert read_lines(out / "metrics.jsonl")[-1]["step"] < STEPS
    sdk.train(resume=out)
    assert_same_adapter(tmp_path / "one", out)


def test_torchrun_starts_processes_anew_and_they_go_on(data, settings, tmp_path):
    sdk.train(data, out=tmp_path / "one", overrides=settings)
    out = tmp_path / "two"

    def stop_early(event):
        if event.kind == "step" and event.data["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        sdk.train(data, out=out, overrides=settings, listener=stop_early)
    process = torchrun("train", "--resume", str(out), launcher=("--max-restarts", "1"))
    wait_for_steps(out, 8)
    members(process)[0].kill()
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert err.count("Resuming after step") == 2
    assert_same_adapter(tmp_path / "one", out)


TWICE = """
import sys
from luthier import sdk
data, out, *settings = sys.argv[1:]
for name in ("a", "b"):
    print(sdk.train(data, out=f"{out}-{name}", overrides=settings).steps, flush=True)
"""


def test_the_same_processes_train_one_run_after_another(data, settings, tmp_path):
    script = tmp_path / "twice.py"
    script.write_text(TWICE)
    command = torchrun_command(str(script), str(data), str(tmp_path / "run"), *settings)
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == [str(STEPS)] * 4  # each process returns the same
    one, other = (tmp_path / f"run-{name}" / "adapter" / WEIGHTS for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()


def test_an_error_is_told_once(data, settings, tmp_path):
    process = torchrun("train", str(data), *settings, "model.max_length=9", "--out", str(tmp_path / "two"))
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert err.count("DataError: 60 rows are too long") == 1
    assert 'Traceback (most recent call last):\n  File "' + sys.executable not in err


# Ray.


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    pytest.importorskip("ray.train.torch", reason="Ray Train is not installed")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def workers():
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "RayTrainWorker" in child.name() + " ".join(child.cmdline())]


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_killed_is_replaced_and_the_run_goes_on(data, settings, tmp_path):
    torch.set_num_threads(1)
    sdk.train(data, out=tmp_path / "one", overrides=settings)
    killed, heard = [], []
    on_interrupt = signal.getsignal(signal.SIGINT)

    def listener(event):
        heard.append(event)
        if event.kind == "step" and event.data["step"] >= 8 and not killed:
            killed.extend(workers()[1:2])
            for process in killed:
                process.kill()

    summary = sdk.train(data, out=tmp_path / "ray", overrides=settings, ray_nodes=2, listener=listener)
    assert len(killed) == 1
    assert summary.steps == STEPS
    assert any(event.message.startswith("Resuming after step") for event in heard)
    assert [line["step"] for line in read_lines(tmp_path / "ray" / "metrics.jsonl")] == list(range(1, STEPS + 1))
    assert_same_adapter(tmp_path / "one", tmp_path / "ray")
    assert not (tmp_path / "ray" / "ray").exists()
    assert signal.getsignal(signal.SIGINT) == on_interrupt


@pytest.mark.usefixtures("cluster")
def test_an_error_under_ray_is_the_error_of_the_training(data, settings, tmp_path):
    with pytest.raises(DataError, match="rows are too long") as caught:
        sdk.train(data, out=tmp_path / "ray", overrides=[*settings, "model.max_length=9"], ray_nodes=2)
    assert caught.value.code == "too_long"


def test_without_ray_the_error_says_how_to_install_it(data, settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingError) as caught:
        sdk.train(data, out=tmp_path / "ray", overrides=settings, ray_nodes=2)
    assert caught.value.hint == 'pip install "luthier[ray]"'


@pytest.mark.parametrize(("engine", "nodes"), [("ray", None), ("local", 2)])
def test_nodes_and_engine_belong_together(engine, nodes):
    from luthier.cli.work import _ray_nodes

    with pytest.raises(RecipeError):
        _ray_nodes(engine, nodes)
