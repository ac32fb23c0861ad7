"""The main job from file to report on a tiny random model: stages, folder, resumption, refusals."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest
from stage_rows import PLACES, write

import luthier
from luthier import sdk
from luthier.errors import DataError, Interrupted, ModelError, RecipeError
from luthier.runs import Event, RunFolder, read_lines
from luthier.stages import stopping, training

pytestmark = pytest.mark.unit
SYSTEM = "Answer with the capital."


def row_of(place: str) -> dict[str, object]:
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"What is the capital of {place}, please?"},
            {"role": "assistant", "content": place[::-1].title()},
        ]
    }


def rows(count: int = len(PLACES)) -> list[dict[str, object]]:
    return [row_of(place) for place in PLACES[:count]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "capitals.jsonl", rows())


@pytest.fixture
def heard() -> list[Event]:
    return []


def test_a_file_becomes_a_run_with_a_verdict(data, settings, tmp_path, heard):
    out = tmp_path / "run"
    report = luthier.finetune(data, out=out, overrides=settings, listener=heard.append)
    assert report.verdict in {"BETTER", "WORSE", "NO DIFFERENCE SHOWN", "UNDERPOWERED"}
    sizes = {name: len(read_lines(out / f"data/{name}.jsonl")) for name in ("train", "validation", "test")}
    assert sum(sizes.values()) == len(PLACES)
    assert report.n == sizes["test"] == len(report.rows) == report.wins + report.losses + report.ties
    assert report.data is not None
    assert (report.data.train, report.data.validation, report.data.test) == tuple(sizes.values())
    stored = json.loads((out / "report.json").read_text())
    assert stored["verdict"] == report.verdict
    assert {"base", "fine_tuned", "difference", "wins", "p_value", "detectable_gain", "rows_needed"} <= set(stored)
    assert "<html" in (out / "report.html").read_text()
    assert (out / "adapter/adapter_model.safetensors").exists()
    recipe = luthier.load_recipe(file=out / "recipe.yaml").recipe
    left = [
        key
        for section in recipe.model_dump().values()
        if isinstance(section, dict)
        for key in section
        if section[key] == "auto"
    ]
    assert left == ["grader"]  # chosen by what the training answers look like, and said in the report
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["stages"]) == {"data", "train", "evaluate"}
    assert len(manifest["inputs"]["data.train"]["sha256"]) == 64
    assert next(e.message for e in heard if e.kind == "stage").startswith("Checking")
    assert any("trainable params:" in e.message for e in heard)


def test_the_same_inputs_give_the_same_adapter_and_answers(data, settings, tmp_path):
    for name in ("a", "b"):
        luthier.finetune(data, out=tmp_path / name, overrides=settings)
    for file in (
        "adapter/adapter_model.safetensors",
        "data/test.jsonl",
        "answers/base.jsonl",
        "answers/fine_tuned.jsonl",
    ):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_the_order_of_rows_decides_nothing(data, settings, tmp_path):
    backwards = write(tmp_path / "backwards.jsonl", rows()[::-1])
    short = settings | {"train.max_steps": 2}
    luthier.finetune(data, out=tmp_path / "a", overrides=short)
    luthier.finetune(backwards, out=tmp_path / "b", overrides=short)
    assert (tmp_path / "a/data/test.jsonl").read_bytes() == (tmp_path / "b/data/test.jsonl").read_bytes()
    adapter = "adapter/adapter_model.safetensors"
    assert (tmp_path / "a" / adapter).read_bytes() == (tmp_path / "b" / adapter).read_bytes()


@pytest.mark.parametrize("moment", ["data", "step", "progress"])
def test_a_run_stopped_at_any_stage_is_resumed_to_the_same_result(data, settings, tmp_path, moment):
    whole = luthier.finetune(data, out=tmp_path / "whole", overrides=settings)
    seen: list[str] = []

    def stop(event: Event) -> None:
        at = {"data": "rows; " in event.message, "step": event.kind == "step", "progress": event.kind == "progress"}
        if at[moment] and not seen:
            seen.append(event.message)
            os.kill(os.getpid(), signal.SIGINT)

    small = settings | {"evaluate.batch_size": 2}
    with pytest.raises((Interrupted, KeyboardInterrupt)) as caught:
        luthier.finetune(data, out=tmp_path / "parts", overrides=small, listener=stop)
    assert caught.type is Interrupted
    assert "--resume" in str(caught.value.hint)
    resumed = luthier.finetune(resume=tmp_path / "parts")
    adapter = "adapter/adapter_model.safetensors"
    assert (tmp_path / "whole" / adapter).read_bytes() == (tmp_path / "parts" / adapter).read_bytes()
    assert [r.fine_tuned_answer for r in resumed.rows] == [r.fine_tuned_answer for r in whole.rows]


def test_a_finished_run_resumed_gives_its_report_again(data, settings, tmp_path):
    first = luthier.finetune(data, out=tmp_path / "run", overrides=settings)
    again = luthier.finetune(resume=tmp_path / "run")
    assert again.model_copy(update={"created_at": "", "seconds": {}}) == first.model_copy(
        update={"created_at": "", "seconds": {}}
    )


def test_a_resumed_run_keeps_its_recipe(data, settings, tmp_path):
    luthier.finetune(data, out=tmp_path / "run", overrides=settings | {"train.max_steps": 1})
    with pytest.raises(RecipeError, match="keeps its recipe") as caught:
        luthier.finetune(resume=tmp_path / "run", overrides=["train.n_epochs=9"])
    assert caught.value.code == "recipe_is_fixed"
    with pytest.raises(RecipeError, match="keeps its data"):
        luthier.finetune(data, resume=tmp_path / "run")
    with pytest.raises(RecipeError, match="`luthier run`, not `luthier train`"):
        sdk.train(resume=tmp_path / "run")


def test_broken_rows_stop_the_run_before_training_unless_they_are_to_be_dropped(settings, tmp_path):
    broken = rows()
    broken[4] = {"messages": [{"role": "user", "content": "no answer"}]}
    file = write(tmp_path / "broken.jsonl", broken)
    with pytest.raises(DataError, match=r"broken\.jsonl:5") as caught:
        luthier.finetune(file, out=tmp_path / "a", overrides=settings)
    assert "on_invalid=drop" in str(caught.value.hint)
    assert not (tmp_path / "a/adapter").exists()
    dropping = settings | {"data.on_invalid": "drop", "train.max_steps": 1}
    report = luthier.finetune(file, out=tmp_path / "b", overrides=dropping)
    rejected = read_lines(tmp_path / "b/data/rejected.jsonl")
    assert [(r["line"], r["codes"]) for r in rejected] == [(5, ["no-assistant"])]
    assert report.data is not None
    assert report.data.rejected == 1
    assert report.data.train + report.data.validation + report.data.test == len(PLACES) - 1


def test_fewer_than_ten_examples_are_refused_in_openais_words(settings, tmp_path):
    with pytest.raises(DataError, match=r"9 example\(s\), but must have at least 10") as caught:
        luthier.finetune(write(tmp_path / "few.jsonl", rows(9)), out=tmp_path / "a", overrides=settings)
    assert caught.value.code == "too_few_examples"


def test_a_row_that_is_too_long_is_an_error_with_its_length_or_dropped_and_counted_never_cut(settings, tmp_path):
    records = rows()
    records[2]["messages"][1]["content"] = "why " * 100  # type: ignore[index]
    file = write(tmp_path / "long.jsonl", records)
    limited = settings | {"model.max_length": 200, "train.max_steps": 1}
    with pytest.raises(DataError, match=r"long\.jsonl:3 has 464 tokens") as caught:
        luthier.finetune(file, out=tmp_path / "a", overrides=limited)
    assert caught.value.code == "too_long"
    report = luthier.finetune(file, out=tmp_path / "b", overrides=limited | {"data.on_too_long": "drop"})
    assert [r["line"] for r in read_lines(tmp_path / "b/data/rejected.jsonl")] == [3]
    assert any("1 rows longer" in note for note in report.notes)


def test_shortened_runs_say_so(data, settings, tmp_path):
    short = settings | {"data.max_train": 12, "train.max_steps": 2, "evaluate.max_samples": 2}
    report = luthier.finetune(data, out=tmp_path / "run", overrides=short)
    assert [note.partition(":")[0] for note in report.notes] == ["Shortened"] * 3
    for key in ("data.max_train", "train.max_steps", "evaluate.max_samples"):
        assert any(key in note for note in report.notes)
    assert report.n == 2
    assert report.training is not None
    assert report.training.steps == 2


def test_separate_files_are_honoured_and_overlap_leaves_training(settings, tmp_path):
    train_file = write(tmp_path / "train.jsonl", rows()[:30])
    test_file = write(tmp_path / "test.jsonl", rows()[28:])
    given = settings | {"data.test": str(test_file), "train.max_steps": 1}
    report = luthier.finetune(train_file, out=tmp_path / "a", overrides=given)
    assert report.n == len(PLACES) - 28
    assert report.data is not None
    assert report.data.overlap == 2
    assert report.data.train + report.data.validation == 28
    assert {r["codes"][0] for r in read_lines(tmp_path / "a/data/rejected.jsonl")} == {"contamination"}
    with pytest.raises(DataError) as caught:
        luthier.finetune(train_file, out=tmp_path / "b", overrides=given | {"data.on_overlap": "stop"})
    assert caught.value.code == "contamination"
    kept = luthier.finetune(train_file, out=tmp_path / "c", overrides=given | {"data.on_overlap": "keep"})
    assert any("cannot be trusted" in note for note in kept.notes)


def test_wrong_inputs_are_refused_before_a_folder_is_made(settings, tmp_path):
    for path, code in ((tmp_path / "none.jsonl", "no_such_file"), (tmp_path, "no_such_file")):
        with pytest.raises(RecipeError) as caught:
            luthier.finetune(path, out=tmp_path / "run", overrides=settings)
        assert caught.value.code == code
    with pytest.raises(RecipeError) as caught:
        luthier.finetune(out=tmp_path / "run", overrides=settings)
    assert caught.value.code == "no_data"
    assert not (tmp_path / "run").exists()


def test_train_alone_uses_every_row_and_evaluate_judges_what_it_made(data, settings, tmp_path):
    summary = sdk.train(data, out=tmp_path / "run", overrides=settings)
    assert len(read_lines(tmp_path / "run/data/train.jsonl")) == len(PLACES)
    assert summary.best_valid_loss is None
    assert math.isfinite(summary.loss_curve[-1].train_loss or math.nan)
    with pytest.raises(RecipeError) as caught:
        sdk.evaluate(tmp_path / "run")
    assert caught.value.code == "no_test_rows"
    others = [place[::-1].title() for place in PLACES[:12]]
    unseen = write(tmp_path / "unseen.jsonl", [row_of(place) for place in others])
    report = sdk.evaluate(tmp_path / "run", data=unseen, out=tmp_path / "judged")
    assert report.n == len(others)
    assert (tmp_path / "judged/report.json").exists()
    same = {"evaluate.max_new_tokens": 16, "model.dtype": "float32"}
    by_folder = sdk.evaluate(tmp_path / "run/adapter", data=unseen, out=tmp_path / "again", overrides=same)
    assert [r.fine_tuned_answer for r in by_folder.rows] == [r.fine_tuned_answer for r in report.rows]


def test_evaluating_a_run_again_gives_the_same_rows(data, settings, tmp_path):
    first = luthier.finetune(data, out=tmp_path / "run", overrides=settings)
    again = sdk.evaluate(tmp_path / "run")
    assert again.rows == first.rows
    assert again.data == first.data
    assert again.training == first.training
    other = sdk.evaluate(tmp_path / "run", overrides=["evaluate.grader=contains"])
    assert other.grader == "contains"


def test_a_base_model_has_nothing_to_be_compared_with(tiny_model_folder, data):
    with pytest.raises(RecipeError) as caught:
        sdk.evaluate(tiny_model_folder, data=data)
    assert caught.value.code == "not_fine_tuned"


def test_an_unfinished_run_says_how_to_finish_it(data, settings, tmp_path):
    with pytest.raises(ModelError):
        luthier.finetune(data, out=tmp_path / "run", overrides=settings | {"adapter.target_modules": ["nothing"]})
    with pytest.raises(RecipeError, match="no finished adapter") as caught:
        luthier.chat(tmp_path / "run")
    assert "luthier run --resume" in str(caught.value.hint)


def test_chat_speaks_with_the_runs_own_system_prompt(data, settings, tmp_path):
    luthier.finetune(data, out=tmp_path / "run", overrides=settings | {"train.max_steps": 1})
    conversation = luthier.chat(tmp_path / "run")
    assert conversation.system == SYSTEM
    pieces = list(conversation.say("What is the capital of Borania, please?", max_new_tokens=12))
    assert conversation.messages[-1] == {"role": "assistant", "content": "".join(pieces)}
    assert [m["role"] for m in conversation.messages] == ["system", "user", "assistant"]
    conversation.reset()
    assert [m["role"] for m in conversation.messages] == ["system"]


def test_two_runs_in_one_folder_are_refused(data, settings, tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.write_manifest({"kind": "run", "stages": {}})
    run.recipe.write_text("seed: 1\n")
    with run.lock(), pytest.raises(RecipeError) as caught:
        luthier.finetune(resume=tmp_path / "run")
    assert caught.value.code == "run_in_use"


def test_a_second_ctrl_c_stops_at_once(heard):
    with stopping.stop_switch(heard.append) as requested:
        assert not requested()
        signal.raise_signal(signal.SIGINT)
        assert requested()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert "again" in heard[0].message


def test_a_run_from_an_earlier_adapter_that_died_before_its_first_checkpoint_starts_from_it_again(
    data, settings, tmp_path, monkeypatch
):
    sdk.train(data, out=tmp_path / "earlier", overrides=settings)
    given = settings | {"adapter.start_from": str(tmp_path / "earlier/adapter"), "seed": 2}
    luthier.finetune(data, out=tmp_path / "whole", overrides=given)

    def die(*_args: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("luthier.train.training.save_checkpoint", die)
        with pytest.raises(RuntimeError, match="killed"):
            luthier.finetune(data, out=tmp_path / "parts", overrides=given)
    assert [folder.name[:4] for folder in (tmp_path / "parts/checkpoints").iterdir()] == ["best"]
    luthier.finetune(resume=tmp_path / "parts")
    name = "adapter/adapter_model.safetensors"
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_with_a_checkpoint_no_longer_needs_the_adapter_it_started_from(data, settings, tmp_path, monkeypatch):
    import shutil

    sdk.train(data, out=tmp_path / "earlier", overrides=settings)
    given = settings | {"adapter.start_from": str(tmp_path / "earlier/adapter"), "train.checkpoint_every_s": 0}
    luthier.finetune(data, out=tmp_path / "whole", overrides=given)
    real = training.train

    def stopped(*args, **kwargs):
        asked = iter(range(1, 100))
        return real(*args, **kwargs | {"stop_requested": lambda: next(asked) >= 2})

    with monkeypatch.context() as patched:
        patched.setattr(training, "train", stopped)
        with pytest.raises(Interrupted):
            luthier.finetune(data, out=tmp_path / "parts", overrides=given)
    shutil.rmtree(tmp_path / "earlier")
    luthier.finetune(resume=tmp_path / "parts")
    name = "adapter/adapter_model.safetensors"
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_run_whose_checkpoints_are_damaged_never_begins_at_a_new_adapter_where_its_own_is_gone(
    data, settings, tmp_path, monkeypatch, change
):
    sdk.train(data, out=tmp_path / "earlier", overrides=settings)
    adapter = tmp_path / "earlier/adapter"
    weights = adapter / "adapter_model.safetensors"
    before = weights.read_bytes()
    given = settings | {"adapter.start_from": str(adapter), "train.checkpoint_every_s": 0}
    sdk.train(data, out=tmp_path / "whole", overrides=given)
    real = training.train

    def stopped(*args, **kwargs):
        asked = iter(range(1, 100))
        return real(*args, **kwargs | {"stop_requested": lambda: next(asked) >= 2})

    with monkeypatch.context() as patched:
        patched.setattr(training, "train", stopped)
        with pytest.raises(Interrupted):
            sdk.train(data, out=tmp_path / "parts", overrides=given)
    for checkpoint in (tmp_path / "parts/checkpoints").glob("step-*"):
        (checkpoint / "adapter.safetensors").write_bytes(b"torn")
    weights.unlink() if change == "gone" else weights.write_bytes(before[:-4] + b"\0\0\0\0")
    with pytest.raises(
        ModelError, match=r"earlier/adapter, is (gone|another one now), and no checkpoint in .* is whole"
    ) as caught:
        sdk.train(resume=tmp_path / "parts")
    assert (caught.value.code, caught.value.param) == ("start_lost", "adapter.start_from")
    assert "Put the adapter back" in str(caught.value.hint)
    weights.write_bytes(before)
    sdk.train(resume=tmp_path / "parts")
    name = "adapter/adapter_model.safetensors"
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_noise_on_embeddings_is_a_recipe_key_and_said(data, settings, tmp_path, heard):
    given = settings | {"train.neftune_noise_alpha": 5.0, "train.max_steps": 2}
    luthier.finetune(data, out=tmp_path / "noisy", overrides=given, listener=heard.append)
    luthier.finetune(data, out=tmp_path / "plain", overrides=settings | {"train.max_steps": 2})
    losses = [
        [line["train_loss"] for line in read_lines(tmp_path / run / "metrics.jsonl")] for run in ("noisy", "plain")
    ]
    assert losses[0][0] != losses[1][0]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.2)
    assert any("noise" in event.message.lower() for event in heard)
