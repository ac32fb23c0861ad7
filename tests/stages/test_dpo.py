"""Preference rows from file to report on a tiny random model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from stage_rows import PLACES, write

import luthier
from luthier import sdk
from luthier.errors import DataError, Interrupted, RecipeError
from luthier.runs import read_lines
from luthier.stages import training
from luthier.train.preference import REFERENCE

pytestmark = pytest.mark.unit
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]


def pair(place: str, *answers: str) -> dict[str, object]:
    asked = {"messages": [{"role": "user", "content": f"Would you like to live in {place}, please?"}]}
    preferred, other = ([{"role": "assistant", "content": answer}] for answer in answers)
    return {"input": asked, "preferred_output": preferred, "non_preferred_output": other}


def pairs() -> list[dict[str, object]]:
    """The polite answer is the preferred one."""
    return [pair(place, f"Yes, {place} is fine.", f"Oh, {place} is awful.") for place in PLACES]


def labels() -> list[dict[str, object]]:
    return [pair(place, *(("Yes", "No") if n % 2 else ("No", "Yes"))) for n, place in enumerate(PLACES)]


def chats() -> list[dict[str, object]]:
    return [{"messages": [*row["input"]["messages"], *row["preferred_output"]]} for row in pairs()]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "pairs.jsonl", pairs())


@pytest.fixture
def settings(settings: dict[str, object]) -> dict[str, object]:
    return settings | {"train.n_epochs": 3, "evaluate.max_new_tokens": 8}


def test_preference_rows_become_a_run_with_a_verdict(data, settings, tmp_path):
    heard = []
    report = luthier.finetune(data, out=tmp_path / "run", overrides=settings, listener=heard.append)
    assert any(event.data.get("path") == "train.method" and event.data["value"] == "dpo" for event in heard)
    assert any(event.data.get("what") == "reference" for event in heard)
    sizes = {name: len(read_lines(tmp_path / f"run/data/{name}.jsonl")) for name in ("train", "validation", "test")}
    assert sum(sizes.values()) == len(PLACES)
    assert report.n == sizes["test"]
    assert report.grader == "preference"
    assert report.fine_tuned.score == 1.0
    assert report.training is not None
    assert report.training.loss_curve[0].valid_loss == pytest.approx(math.log(2), abs=1e-6)
    assert report.training.best_valid_loss < 0.6
    metrics = {metric.name: metric for metric in report.metrics}
    assert metrics["reward accuracy"].base == 0.5
    assert metrics["reward accuracy"].fine_tuned == 1.0
    assert "Wilson" in report.grader_reason
    assert not any("own answers" in name for name in metrics)
    row = report.rows[0]
    assert row.expected.startswith("Yes")
    assert row.fine_tuned_answer == row.expected
    assert row.base_answer in (row.expected, row.expected.replace("Yes", "Oh").replace("fine", "awful"))
    assert (tmp_path / "run/report.html").exists()


def test_where_answers_are_labels_the_models_own_are_graded_beside(settings, tmp_path):
    data = write(tmp_path / "labels.jsonl", labels())
    report = luthier.finetune(data, out=tmp_path / "run", overrides=settings | {"train.max_steps": 2})
    own = [metric for metric in report.metrics if metric.name.startswith("own answers")]
    assert len(own) == 1
    assert own[0].base is not None
    assert report.grader == "preference"
    assert {row.base_answer for row in report.rows} <= {"Yes", "No"}


def test_the_models_own_answers_are_graded_where_a_grader_is_asked_for(data, settings, tmp_path):
    given = settings | {"train.max_steps": 1, "evaluate.grader": "contains"}
    report = luthier.finetune(data, out=tmp_path / "run", overrides=given)
    assert any("contains" in metric.name for metric in report.metrics)


def test_a_method_that_does_not_suit_the_rows_is_refused(data, settings, tmp_path):
    chat = write(tmp_path / "chat.jsonl", chats())
    for file, method in ((data, "supervised"), (chat, "dpo")):
        with pytest.raises(RecipeError, match=r"train\.method") as caught:
            luthier.finetune(file, out=tmp_path / method, overrides=settings | {"train.method": method})
        assert (caught.value.code, caught.value.param) == ("other_method", "train.method")
    with pytest.raises(RecipeError) as caught:
        luthier.finetune(data, out=tmp_path / "c", overrides=settings | {"data.validation": str(chat)})
    assert (caught.value.code, caught.value.param) == ("other_method", "data.validation")


def test_a_few_rows_of_the_other_kind_are_errors_with_their_places(settings, tmp_path):
    mixed = write(tmp_path / "mixed.jsonl", [*pairs()[:30], *chats()[30:]])
    with pytest.raises(DataError, match=r"mixed\.jsonl:31"):
        luthier.finetune(mixed, out=tmp_path / "a", overrides=settings)


@pytest.mark.parametrize("stop_after", [0, 2])
def test_a_stopped_run_resumes_to_the_same_bytes(data, settings, tmp_path, monkeypatch, stop_after):
    whole = luthier.finetune(data, out=tmp_path / "whole", overrides=settings)
    with monkeypatch.context() as patched:
        real = training.train if stop_after else training.refer

        def stopped(*args, **kwargs):
            asked = iter(range(1, 100))
            return real(*args, **kwargs | {"stop_requested": lambda: next(asked) >= stop_after})

        patched.setattr(training, "train" if stop_after else "refer", stopped)
        with pytest.raises(Interrupted) as caught:
            luthier.finetune(data, out=tmp_path / "parts", overrides=settings)
    assert "--resume" in str(caught.value.hint)
    parts = luthier.finetune(resume=tmp_path / "parts")
    for name in ("adapter/adapter_model.safetensors", f"data/{REFERENCE}"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert parts.rows == whole.rows
    assert parts.metrics == whole.metrics


def test_evaluating_again_gives_the_same_rows_and_other_rows_can_be_judged(data, settings, tmp_path):
    first = luthier.finetune(data, out=tmp_path / "run", overrides=settings)
    assert sdk.evaluate(tmp_path / "run").rows == first.rows
    chat = write(tmp_path / "chat.jsonl", chats())
    answered = sdk.evaluate(tmp_path / "run", data=chat, overrides={"evaluate.max_samples": 3})
    assert answered.grader != "preference"
    assert answered.contamination is not None
    assert answered.n + answered.contamination.rows == 3  # some ask what a trained pair asks


def test_tools_and_earlier_answers_stand_in_the_prompt_and_are_not_trained(settings, tmp_path):
    rows = pairs()
    for row, place in zip(rows, reversed(PLACES), strict=True):
        hello = f"Good day to all of {place[::-1]}"
        before = [{"role": "user", "content": f"{hello}!"}, {"role": "assistant", "content": f"{hello}, too."}]
        row["input"] = {"messages": [*before, *row["input"]["messages"]]}
    data = write(tmp_path / "long.jsonl", rows)
    run = tmp_path / "run"
    luthier.finetune(data, out=run, overrides=settings | {"train.max_steps": 1})
    step = read_lines(run / "metrics.jsonl")[0]
    # a token a byte and one for the end of the turn: two answers of 27 at most, and nothing of the greeting
    assert step["trained_tokens"] <= step["examples"] * 2 * 28
    for row in rows:
        row["input"]["tools"] = TOOLS
    with pytest.raises(DataError, match="leaves out the functions") as caught:
        luthier.finetune(write(data, rows), out=tmp_path / "tools", overrides=settings)
    assert caught.value.code == "template_drops_content"


def test_the_older_names_of_the_answers_train_too(settings, tmp_path):
    names = {"preferred_output": "preferred_completion", "non_preferred_output": "non_preferred_completion"}
    rows = [{names.get(key, key): value for key, value in row.items()} for row in pairs()]
    report = luthier.finetune(write(tmp_path / "old.jsonl", rows), out=tmp_path / "run", overrides=settings)
    assert report.grader == "preference"


def test_a_pair_too_long_by_its_other_answer_alone_is_counted(data, settings, tmp_path):
    rows = [*pairs(), pair("Nowhere", "Yes.", "never " * 40)]
    limited = settings | {"model.max_length": 150, "train.max_steps": 1}
    with pytest.raises(DataError, match=r"pairs\.jsonl:37") as caught:
        luthier.finetune(write(data, rows), out=tmp_path / "a", overrides=limited)
    assert caught.value.code == "too_long"
    report = luthier.finetune(data, out=tmp_path / "b", overrides=limited | {"data.on_too_long": "drop"})
    assert any("1 rows longer" in note for note in report.notes)


def test_splitting_keeps_pairs_with_one_prompt_together(settings, tmp_path):
    rows = [row for place in PLACES for row in (pair(place, "Yes", "No"), pair(place, "Yes, please", "Never"))]
    split = sdk.split(write(tmp_path / "two.jsonl", rows), tmp_path / "out")
    prompts = [{str(example.row["input"]) for example in side} for side in (split.train, split.validation, split.test)]
    assert not prompts[0] & prompts[1]
    assert not (prompts[0] | prompts[1]) & prompts[2]
    assert sum(map(len, prompts)) == len(PLACES)


def test_whole_models_and_earlier_adapters_learn_preferences(data, settings, tmp_path):
    more = {key: value for key, value in settings.items() if key != "adapter.r"}
    whole = luthier.finetune(data, out=tmp_path / "full", overrides=more | {"adapter.method": "full"})
    assert whole.training is not None
    assert whole.training.loss_curve[0].valid_loss == pytest.approx(math.log(2), abs=1e-6)
    assert whole.fine_tuned.score == 1.0
    sdk.train(write(tmp_path / "chat.jsonl", chats()), out=tmp_path / "sft", overrides=settings)
    given = settings | {"adapter.start_from": str(tmp_path / "sft/adapter")}
    started = luthier.finetune(data, out=tmp_path / "dpo", overrides=given)
    assert started.training is not None
    assert started.training.loss_curve[0].valid_loss == pytest.approx(math.log(2), abs=1e-6)
