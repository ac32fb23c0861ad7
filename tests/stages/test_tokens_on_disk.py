"""Encoded rows of a run lie on disk: what they are kept for, made again for, and left out of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from stage_rows import PLACES, write

import luthier
from luthier import sdk
from luthier.errors import DataError, TrainError
from luthier.model.chat_template import ChatTokenizer
from luthier.runs import read_lines
from luthier.stages import training
from luthier.train import token_store
from luthier.train.preference import ReferredPairs
from luthier.train.token_store import TokenStore

pytestmark = pytest.mark.unit
ADAPTER = "adapter/adapter_model.safetensors"


def rows() -> list[dict[str, object]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"What is the capital of {place}, please?"},
                {"role": "assistant", "content": place[::-1].title()},
            ]
        }
        for place in PLACES
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "capitals.jsonl", rows())


@pytest.fixture
def seen(monkeypatch) -> list[dict[str, object]]:
    """What training is given."""
    given: list[dict[str, object]] = []
    real = training.train

    def watched(model, adapter, train_rows, valid_rows, *args, **kwargs):
        given.append({"train": train_rows, "validation": valid_rows, **kwargs})
        return real(model, adapter, train_rows, valid_rows, *args, **kwargs)

    monkeypatch.setattr(training, "train", watched)
    return given


def test_training_reads_rows_from_disk_with_their_places_in_the_file_given(data, settings, tmp_path, seen):
    report = luthier.finetune(data, out=tmp_path / "run", overrides=settings | {"train.max_steps": 2})
    (given,) = seen
    for side in ("train", "validation"):
        store = given[side]
        assert isinstance(store, TokenStore)
        assert store.path == tmp_path / "run/tokens" / side
        assert all(row.place.startswith(f"{data}:") for row in store)
    assert sorted(path.name for path in (tmp_path / "run/tokens").iterdir()) == ["test", "train", "validation"]
    lengths = [len(row) for row in given["train"]]
    assert report.data is not None
    assert report.data.mean_tokens == round(float(np.mean(lengths)), 1)
    assert report.data.longest_tokens == max(lengths)


@pytest.mark.parametrize("damage", [None, "changed", "gone"])
def test_a_resumed_run_encodes_nothing_again_unless_it_must(data, settings, tmp_path, monkeypatch, damage):
    run = tmp_path / "run"
    whole = luthier.finetune(data, out=tmp_path / "whole", overrides=settings)
    first = settings | {"train.checkpoint_every_s": 0, "evaluate.baselines": []}

    def stopped(*args, **kwargs):
        asked = iter(range(1, 100))
        return training_train(*args, **kwargs | {"stop_requested": lambda: next(asked) >= 2})

    training_train = training.train
    with monkeypatch.context() as patched:
        patched.setattr(training, "train", stopped)
        with pytest.raises(luthier.errors.Interrupted):
            luthier.finetune(data, out=run, overrides=first)
    encoded = []
    real = ChatTokenizer.encode_example
    monkeypatch.setattr(ChatTokenizer, "encode_example", lambda *a, **k: encoded.append(k["place"]) or real(*a, **k))
    heard = []
    if damage:
        file = run / "tokens/validation/rows.bin"
        file.write_bytes(b"\0" * file.stat().st_size) if damage == "changed" else (
            run / "tokens/validation/store.json"
        ).unlink()
    resumed = luthier.finetune(resume=run, listener=heard.append)
    assert len(encoded) == (len(read_lines(run / "data/validation.jsonl")) if damage else 0)
    assert any("are made again" in event.message for event in heard) == (damage == "changed")
    assert (run / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()
    assert resumed.rows == whole.rows


def test_rows_that_were_left_out_are_listed_by_a_run_that_died_once_they_were(settings, tmp_path, monkeypatch):
    records = rows()
    records[2]["messages"][0]["content"] = "why " * 100  # type: ignore[index]
    file = write(tmp_path / "long.jsonl", records)
    limited = settings | {"model.max_length": 200, "train.max_steps": 1, "data.on_too_long": "drop"}

    def die(*_: object) -> None:
        raise KeyError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(training, "_resolve", die)
        with pytest.raises(KeyError):
            sdk.train(file, out=tmp_path / "run", overrides=limited)
    assert (tmp_path / "run/tokens/test/store.json").exists()
    assert not (tmp_path / "run/data/rejected.jsonl").exists()
    heard = []
    sdk.train(resume=tmp_path / "run", listener=heard.append)
    (rejected,) = read_lines(tmp_path / "run/data/rejected.jsonl")
    assert (rejected["file"], rejected["line"], rejected["codes"]) == (str(file), 3, ["too-long"])
    assert "430 tokens, model.max_length is 200" in str(rejected)
    assert "why why" in str(rejected)
    assert any("1 rows longer" in event.message for event in heard)


def test_rows_too_long_leave_nothing_behind_and_all_are_counted(settings, tmp_path):
    records = rows()
    for number in range(7):
        records[number * 3]["messages"][0]["content"] = "why " * (100 + number)  # type: ignore[index]
    file = write(tmp_path / "long.jsonl", records)
    limited = settings | {"model.max_length": 200, "data.test": str(write(tmp_path / "t.jsonl", rows()[:2]))}
    limited |= {"data.on_overlap": "keep"}
    with pytest.raises(DataError, match=r"7 rows are too long: .*long\.jsonl:\d+ has \d+ tokens.*; and 2 more\."):
        sdk.train(file, out=tmp_path / "run", overrides=limited)
    assert list((tmp_path / "run/tokens").iterdir()) == []
    with pytest.raises(DataError, match="No training row has at most 20 tokens") as caught:
        sdk.train(file, out=tmp_path / "b", overrides=limited | {"model.max_length": 20, "data.on_too_long": "drop"})
    assert caught.value.code == "no_training_rows"


def test_a_full_disk_says_so_and_the_run_goes_on_later(data, settings, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(token_store, "_write_rows", full)
        with pytest.raises(TrainError, match="No space left") as caught:
            sdk.train(data, out=tmp_path / "run", overrides=settings | {"train.max_steps": 1})
    assert caught.value.code == "token_store_not_written"
    assert list((tmp_path / "run/tokens").iterdir()) == []
    assert sdk.train(resume=tmp_path / "run").steps == 1


def test_another_tokenizer_or_length_is_other_rows(data, settings, tmp_path):
    """The digest of a store covers what decides the rows."""
    import orjson

    made_from = set()
    for number, more in enumerate(({}, {"model.max_length": 300}, {"data.on_too_long": "drop"}, {"seed": 2}, {})):
        run = tmp_path / str(number)
        sdk.train(data, out=run, overrides=settings | {"train.max_steps": 1} | more)
        made_from.add(orjson.loads((run / "tokens/train/store.json").read_bytes())["made_from"])
    assert len(made_from) == 4


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_a_run_whose_rows_changed_is_not_resumed(data, settings, tmp_path, change):
    sdk.train(data, out=tmp_path / "run", overrides=settings | {"train.max_steps": 1})
    file = tmp_path / "run/data/train.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[1:])) if change == "changed" else file.unlink()
    with pytest.raises(DataError, match=r"data/train\.jsonl is ") as caught:
        sdk.train(resume=tmp_path / "run")
    assert caught.value.code == "split_changed"


def test_a_file_that_changed_before_it_was_taken_over_is_refused(data, settings, tmp_path, monkeypatch):
    def die(*_: object, **__: object) -> None:
        raise KeyError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("luthier.stages.preparing.prepare", die)
        with pytest.raises(KeyError):
            sdk.train(data, out=tmp_path / "run", overrides=settings | {"train.max_steps": 1})
    before = data.read_bytes()
    data.write_bytes(before + before.splitlines(keepends=True)[0].replace(b"Bor", b"Ror"))
    with pytest.raises(luthier.errors.RecipeError, match=r"not what it was when this run began") as caught:
        sdk.train(resume=tmp_path / "run")
    assert (caught.value.code, caught.value.param) == ("input_changed", "data.train")
    data.write_bytes(before)
    assert sdk.train(resume=tmp_path / "run").steps == 1


def test_pairs_of_answers_are_read_from_disk_too(settings, tmp_path, seen):
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": f"Would you like to live in {place}?"}]},
            "preferred_output": [{"role": "assistant", "content": f"Yes, {place} is fine."}],
            "non_preferred_output": [{"role": "assistant", "content": "No."}],
        }
        for place in PLACES
    ]
    sdk.train(write(tmp_path / "pairs.jsonl", pairs), out=tmp_path / "run", overrides=settings | {"train.max_steps": 1})
    (given,) = seen
    assert isinstance(given["train"], ReferredPairs)
    store = TokenStore(tmp_path / "run/tokens/train")
    assert given["train"].lengths.tolist() == store.lengths.tolist()
    assert all(
        row.pair.other.ids.tolist() == kept.other.ids.tolist() for row, kept in zip(given["train"], store, strict=True)
    )
