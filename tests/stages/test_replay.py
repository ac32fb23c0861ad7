"""General rows mixed in: read like training rows, kept away from held-out ones, said, hashed, resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stage_rows import PLACES, write

import luthier
from luthier import sdk
from luthier.errors import DataError, Interrupted, RecipeError
from luthier.runs import read_lines
from luthier.stages import training

pytestmark = pytest.mark.unit
ADAPTER = "adapter/adapter_model.safetensors"
CRAFTS = [
    "carver",
    "joiner",
    "turner",
    "cooper",
    "wright",
    "mason",
    "smith",
    "tanner",
    "dyer",
    "baker",
    "miller",
    "weaver",
]


def chat(question: str, answer: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def rows() -> list[dict[str, object]]:
    return [chat(f"What is the capital of {place}, please?", place[::-1].title()) for place in PLACES]


def general() -> list[dict[str, object]]:
    return [
        chat(f"Tell me something about the daily work of a {craft}.", f"A {craft} gets up early.") for craft in CRAFTS
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "capitals.jsonl", rows())


@pytest.fixture
def settings(settings: dict[str, object], tmp_path: Path) -> dict[str, object]:
    replay = write(tmp_path / "general.jsonl", general())
    return settings | {"train.replay": str(replay), "train.replay_share": 0.25, "evaluate.max_new_tokens": 4}


def test_general_rows_are_mixed_in_counted_said_and_hashed(data, settings, tmp_path):
    run = tmp_path / "run"
    report = luthier.finetune(data, out=run, overrides=settings)
    assert report.data is not None
    num_train = report.data.train
    replayed = round(num_train / 3)
    lines = read_lines(run / "metrics.jsonl")
    assert sum(line["examples"] for line in lines) == 2 * (num_train + replayed)
    assert sum(line["replayed"] for line in lines) == 2 * replayed
    (note,) = [note for note in report.notes if "train.replay" in note]
    share = replayed / (replayed + num_train)
    assert note == (
        f"Each epoch mixed in {replayed} of the {len(CRAFTS)} general rows of {tmp_path}/general.jsonl, {share:.1%} of its "
        "rows (train.replay)."
    )
    assert [row["messages"] for row in read_lines(run / "data/replay.jsonl")] == [row["messages"] for row in general()]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["inputs"]["train.replay"]["file"] == str(tmp_path / "general.jsonl")
    assert len(manifest["inputs"]["train.replay"]["sha256"]) == 64
    assert (run / "tokens/replay/store.json").exists()
    plain = tmp_path / "plain"
    luthier.finetune(data, out=plain, overrides=settings | {"train.replay": None})
    assert (plain / ADAPTER).read_bytes() != (run / ADAPTER).read_bytes()
    assert not (plain / "data/replay.jsonl").exists()  # a share of nothing does nothing


def test_a_resumed_run_replays_the_same_rows_and_needs_the_file_no_more(data, settings, tmp_path, monkeypatch):
    luthier.finetune(data, out=tmp_path / "whole", overrides=settings)
    real = training.train

    def stopped(*args, **kwargs):
        asked = iter(range(1, 100))
        return real(*args, **kwargs | {"stop_requested": lambda: next(asked) >= 3})

    with monkeypatch.context() as patched:
        patched.setattr(training, "train", stopped)
        with pytest.raises(Interrupted):
            luthier.finetune(data, out=tmp_path / "parts", overrides=settings)
    (tmp_path / "general.jsonl").unlink()
    luthier.finetune(resume=tmp_path / "parts")
    assert (tmp_path / "whole" / ADAPTER).read_bytes() == (tmp_path / "parts" / ADAPTER).read_bytes()
    copied = tmp_path / "parts/data/replay.jsonl"
    copied.write_bytes(copied.read_bytes()[:-5] + b"\n")
    with pytest.raises(DataError) as caught:
        luthier.finetune(resume=tmp_path / "parts")
    assert caught.value.code == "split_changed"


def test_a_replay_file_that_changed_before_it_was_taken_over_is_refused(data, settings, tmp_path, monkeypatch):
    def die(*_: object, **__: object) -> None:
        raise KeyError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("luthier.stages.preparing.prepare", die)
        with pytest.raises(KeyError):
            sdk.train(data, out=tmp_path / "run", overrides=settings)
    write(tmp_path / "general.jsonl", general()[1:])
    with pytest.raises(RecipeError, match=r"general\.jsonl is not what it was when this run began") as caught:
        sdk.train(resume=tmp_path / "run")
    assert (caught.value.code, caught.value.param) == ("input_changed", "train.replay")


def test_broken_rows_are_errors_with_their_places_or_left_out_and_listed(data, settings, tmp_path):
    broken = general()
    broken[4] = {"messages": [{"role": "user", "content": "no answer"}]}
    write(tmp_path / "general.jsonl", broken)
    with pytest.raises(DataError, match=r"general\.jsonl:5") as caught:
        sdk.train(data, out=tmp_path / "a", overrides=settings)
    assert caught.value.param == "train.replay"
    heard = []
    dropping = settings | {"data.on_invalid": "drop", "train.max_steps": 1}
    sdk.train(data, out=tmp_path / "b", overrides=dropping, listener=heard.append)
    (rejected,) = read_lines(tmp_path / "b/data/rejected.jsonl")
    assert (rejected["file"], rejected["line"]) == (str(tmp_path / "general.jsonl"), 5)
    assert any("1 rows of" in event.message and "general.jsonl" in event.message for event in heard)
    assert len(read_lines(tmp_path / "b/data/replay.jsonl")) == len(CRAFTS) - 1


def test_rows_too_long_are_errors_with_their_places_or_left_out_and_listed(data, settings, tmp_path):
    long = general()
    long[2]["messages"][0]["content"] = "why " * 100  # type: ignore[index]
    write(tmp_path / "general.jsonl", long)
    limited = settings | {"model.max_length": 200, "train.max_steps": 1}
    with pytest.raises(DataError, match=r"1 row is too long: .*general\.jsonl:3 has \d+ tokens"):
        sdk.train(data, out=tmp_path / "a", overrides=limited)
    sdk.train(data, out=tmp_path / "b", overrides=limited | {"data.on_too_long": "drop"})
    (rejected,) = read_lines(tmp_path / "b/data/rejected.jsonl")
    assert (rejected["file"], rejected["line"]) == (str(tmp_path / "general.jsonl"), 3)
    write(tmp_path / "general.jsonl", [long[2]])
    with pytest.raises(DataError, match=r"No row of train\.replay has at most 200 tokens"):
        sdk.train(data, out=tmp_path / "c", overrides=limited | {"data.on_too_long": "drop"})


def test_what_validation_or_test_hold_is_not_replayed(data, settings, tmp_path):
    test = write(tmp_path / "test.jsonl", general()[3:5])
    given = settings | {"data.test": str(test), "train.max_steps": 1}
    report = luthier.finetune(data, out=tmp_path / "a", overrides=given)
    assert len(read_lines(tmp_path / "a/data/replay.jsonl")) == len(CRAFTS) - 2
    rejected = read_lines(tmp_path / "a/data/rejected.jsonl")
    assert [(r["line"], r["codes"]) for r in rejected] == [(4, ["contamination"]), (5, ["contamination"])]
    assert any("2 rows of" in note and "stand in the test rows too" in note for note in report.notes)
    assert report.data is not None
    assert (report.data.rejected, report.data.overlap) == (2, 0)
    kept = luthier.finetune(data, out=tmp_path / "b", overrides=given | {"data.on_overlap": "keep"})
    assert any("cannot be trusted" in note for note in kept.notes)
    with pytest.raises(DataError) as caught:
        luthier.finetune(data, out=tmp_path / "c", overrides=given | {"data.on_overlap": "stop"})
    assert (caught.value.code, caught.value.param) == ("contamination", "train.replay")
    write(tmp_path / "general.jsonl", general()[3:5])
    with pytest.raises(DataError, match="is left to replay") as caught:
        luthier.finetune(data, out=tmp_path / "d", overrides=given)
    assert (caught.value.code, caught.value.param) == ("nothing_to_replay", "train.replay")


def test_rows_of_the_own_split_that_are_held_out_are_not_replayed(data, settings, tmp_path):
    run = tmp_path / "run"
    given = settings | {"train.replay": str(data), "train.max_steps": 1}
    luthier.finetune(data, out=run, overrides=given)
    held_out = [row for side in ("validation", "test") for row in read_lines(run / f"data/{side}.jsonl")]
    replayed = read_lines(run / "data/replay.jsonl")
    assert len(replayed) == len(PLACES) - len(held_out)
    assert not [row for row in replayed if row in held_out]


def test_what_cannot_be_replayed_is_refused(data, settings, tmp_path):
    with pytest.raises(RecipeError) as caught:
        sdk.train(data, out=tmp_path / "a", overrides=settings | {"train.replay": str(tmp_path / "none.jsonl")})
    assert (caught.value.code, caught.value.param) == ("no_such_file", "train.replay")
    pairs = [
        {
            "input": {"messages": row["messages"][:1]},  # type: ignore[index]
            "preferred_output": row["messages"][1:],  # type: ignore[index]
            "non_preferred_output": [{"role": "assistant", "content": "I do not know."}],
        }
        for row in rows()
    ]
    preference = write(tmp_path / "pairs.jsonl", pairs)
    with pytest.raises(RecipeError, match="holds preference rows") as caught:
        sdk.train(data, out=tmp_path / "b", overrides=settings | {"train.replay": str(preference)})
    assert (caught.value.code, caught.value.param) == ("other_method", "train.replay")
    with pytest.raises(RecipeError, match="DPO has no loss for chat rows") as caught:
        sdk.train(preference, out=tmp_path / "c", overrides=settings)
    assert (caught.value.code, caught.value.param) == ("not_with_dpo", "train.replay")


def test_a_split_alone_reads_no_file_to_replay(data, settings, tmp_path):
    only = {"train.replay": str(tmp_path / "none.jsonl")}
    sdk.split(data, tmp_path / "out", overrides=only)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]
