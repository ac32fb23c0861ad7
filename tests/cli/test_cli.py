"""The command line: words in, exit status and readable text out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROW = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


def luthier(*words: str, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "luthier", *words], capture_output=True, text=True, check=False, cwd=cwd, input=stdin
    )


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def dialogue(n: int) -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": f"Where is the number {n * 7919} house, dear neighbour {n}?"},
            {"role": "assistant", "content": f"Turn {n} times left."},
        ]
    }


@pytest.fixture
def good(tmp_path):
    return write(tmp_path / "good.jsonl", *(dialogue(n) for n in range(20)))


def test_without_words_it_helps_and_it_knows_its_version():
    assert "run" in luthier().stdout
    assert luthier("--version").stdout.startswith("luthier 0.")


def test_check_says_where_and_exits_by_what_it_found(good, tmp_path):
    fine = luthier("check", str(good))
    assert fine.returncode == 0
    assert "20 examples" in fine.stdout
    broken = write(tmp_path / "broken.jsonl", *(dialogue(n) for n in range(12)), {"messages": []})
    result = luthier("check", str(broken))
    assert result.returncode == 1
    assert f"{broken}:13" in result.stdout.replace("\n", "")
    assert "missing-messages" in result.stdout
    as_json = luthier("check", str(broken), "--json")
    assert as_json.returncode == 1
    report = json.loads(as_json.stdout)
    assert set(report) == {"examples", "findings", "summary"}
    assert report["examples"] == 12
    finding = next(f for f in report["findings"] if f["code"] == "missing-messages")
    assert (finding["line"], finding["severity"], finding["rows"]["count"]) == (13, "error", 1)


def test_split_writes_three_sides_and_never_overwrites(good, tmp_path):
    out = tmp_path / "sides"
    result = luthier("split", str(good), "--out", str(out), "--json")
    assert result.returncode == 0, result.stderr
    sizes = json.loads(result.stdout)
    for name in ("train", "validation", "test"):
        assert len((out / f"{name}.jsonl").read_text().splitlines()) == sizes[name] >= 1
    assert sizes["train"] + sizes["validation"] + sizes["test"] == 20
    again = luthier("split", str(good), "--out", str(out))
    assert again.returncode == 2
    assert "nothing was overwritten" in again.stderr


def test_compare_takes_any_two_files_of_scores(tmp_path):
    base = write(tmp_path / "base.jsonl", *({"id": str(n), "score": 0} for n in range(40)))
    tuned = write(tmp_path / "tuned.jsonl", *({"id": str(n), "score": int(n < 30)} for n in range(40)))
    result = luthier("compare", str(base), str(tuned), "--json")
    report = json.loads(result.stdout)
    assert result.returncode == 0
    assert (report["verdict"], report["n"], report["wins"], report["losses"], report["ties"]) == (
        "BETTER",
        40,
        30,
        0,
        10,
    )
    assert report["difference"]["value"] == 0.75
    swapped = luthier("compare", str(tuned), str(base), "--json")
    assert swapped.returncode == 1
    assert json.loads(swapped.stdout)["verdict"] == "WORSE"
    person = luthier("compare", str(base), str(tuned))
    assert "BETTER" in person.stdout


def test_a_bad_line_of_scores_is_named(tmp_path):
    base = write(tmp_path / "base.jsonl", {"id": "1", "score": 1})
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "1", "score": 1}\n{"id": "2", "score": 7}\n')
    result = luthier("compare", str(base), str(bad))
    assert result.returncode == 2
    assert f"{bad}:2" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("words", "status", "needle"),
    [
        (["run"], 2, "No examples were given"),
        (["run", "none.jsonl"], 2, "none.jsonl does not exist"),
        (["run", "."], 2, "is a folder"),
        (["run", "a.jsonl", "b.jsonl"], 2, "Two files were given"),
        (["run", "--resume", "nowhere"], 2, "does not exist"),
        (["run", "x.jsonl", "train.epochs=3"], 2, "train.n_epochs"),
        (["run", "x.jsonl", "train.n_epochs=zero"], 2, "train.n_epochs"),
        (["run", "x.jsonl", "--preset", "fast"], 2, "quick"),
        (["check", "none.jsonl"], 2, "none.jsonl"),
        (["chat", "no-such-model"], 2, "no such name, no such folder"),
        (["models", "path", "no-such-model"], 2, "smollm2-135m"),
        (["evaluate", "nowhere"], 2, "nowhere"),
        (["frobnicate"], 2, "frobnicate"),
        (["run", "--epochs", "3"], 2, "--epochs"),
    ],
)
def test_a_wrong_word_gets_one_readable_message(words, status, needle, tmp_path):
    result = luthier(*words, cwd=tmp_path)
    assert result.returncode == status, result.stderr
    assert needle in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_errors_are_json_for_programs(tmp_path):
    result = luthier("run", "none.jsonl", "--json", cwd=tmp_path)
    error = json.loads(result.stdout)["error"]
    assert result.returncode == 2
    assert (error["type"], error["code"], error["param"]) == ("RecipeError", "no_such_file", "data.train")


def test_recipe_show_tells_value_origin_and_meaning():
    text = luthier("recipe", "show", "train.n_epochs=7").stdout
    assert "train.n_epochs = 7    (command line)" in text
    assert "Passes over the training examples" in text
    loaded = json.loads(luthier("recipe", "show", "--preset", "quick", "--json").stdout)
    assert loaded["origins"]["data.max_train"] == "preset quick"
    assert "n_epochs: auto" in luthier("recipe", "show", "--yaml").stdout


def test_models_list_names_the_embedded_model():
    listed = json.loads(luthier("models", "list", "--json").stdout)
    assert [m["name"] for m in listed] == ["smollm2-135m"]


@pytest.fixture
def tiny(tiny_model_folder):
    return [
        f"model.base={tiny_model_folder}",
        "model.dtype=float32",
        "adapter.r=4",
        "train.max_steps=3",
        "train.batch_size=4",
    ]


def test_run_from_file_to_report_and_chat(good, tiny, tmp_path):
    out = tmp_path / "run"
    result = luthier("run", str(good), "--out", str(out), *tiny, "--json")
    report = json.loads(result.stdout)
    assert result.returncode == (0 if report["verdict"] == "BETTER" else 1), result.stderr
    assert report["n"] == len(report["rows"]) > 0
    assert "trainable params" in result.stderr
    assert "step 3/3" in result.stderr
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    said = luthier("chat", str(out), "-m", "Hello", "--max-tokens", "5", "--json")
    assert said.returncode == 0, said.stderr
    assert set(json.loads(said.stdout)) == {"model", "system", "message", "answer"}
    piped = luthier("chat", str(out), "--max-tokens", "5", stdin="Hello\n")
    assert piped.stdout.strip() == json.loads(said.stdout)["answer"].strip()
    again = luthier("run", str(good), "--out", str(out), *tiny)
    assert again.returncode == 2
    assert f"--resume {out}" in again.stderr
    judged = luthier("evaluate", str(out), "--json")
    assert json.loads(judged.stdout)["rows"] == report["rows"]


def test_train_leaves_an_adapter(good, tiny, tmp_path):
    result = luthier("train", str(good), "--out", str(tmp_path / "t"), *tiny, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["steps"] == 3
    assert {p.name for p in (tmp_path / "t/adapter").iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}


def test_text_of_the_data_cannot_command_the_terminal(tmp_path):
    evil = {"messages": [{"role": "\u001b[2J[bold]wizard", "content": "q"}, {"role": "assistant", "content": "a"}]}
    result = luthier("check", str(write(tmp_path / "evil.jsonl", *[evil] * 10)))
    assert "\u001b[2J" not in result.stdout + result.stderr
    assert "unknown-role" in result.stdout
