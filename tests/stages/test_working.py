"""What is decided before several processes train: who holds what, when a signal counts, whether they see one folder."""

from __future__ import annotations

import os
import signal

import pytest

from luthier.errors import RecipeError
from luthier.recipe import AdapterRecipe, ModelRecipe, Recipe, TrainRecipe
from luthier.runs import no_listener
from luthier.stages import stopping, training
from luthier.stages.stopping import stop_switch
from luthier.stages.working import open_shared, working
from luthier.train.processes import ALONE, Processes, num_beside, started

pytestmark = pytest.mark.unit
TOGETHER = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "LOCAL_WORLD_SIZE": "2"}


class Two(Processes):
    size = 2


def recipe(shard=None, **sections):
    model = ModelRecipe(dtype="float32", **sections.pop("model", {}))
    return Recipe(train=TrainRecipe(shard=shard), model=model, **sections)


@pytest.mark.parametrize(
    ("shard", "free", "split"),
    [(None, 100_000, True), (None, 10_000_000, False), (True, 10_000_000, True), (False, 100_000, False)],
)
def test_a_base_is_split_where_it_does_not_fit_well(tiny_model_folder, monkeypatch, shard, free, split):
    monkeypatch.setattr(training, "free_memory", lambda device: free)
    heard = []
    two = Two()
    found = training._holders(recipe(shard), tiny_model_folder, two, heard.append)
    assert (found is two) == split
    assert [event.data for event in heard] == ([{"sharded_over": 2}] if split else [])
    assert training._holders(recipe(shard), tiny_model_folder, ALONE, heard.append) is None


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"quantization": "nf4"}},
        {"adapter": AdapterRecipe(method="full")},
        {"adapter": AdapterRecipe(modules_to_save=("norm",))},
    ],
    ids=["quantized", "full", "whole modules"],
)
def test_what_cannot_be_split_is_refused_only_where_it_was_asked_for(tiny_model_folder, monkeypatch, sections):
    monkeypatch.setattr(training, "free_memory", lambda device: 0)
    assert training._holders(recipe(None, **sections), tiny_model_folder, Two(), no_listener) is None
    with pytest.raises(RecipeError) as caught:
        training._holders(recipe(True, **sections), tiny_model_folder, Two(), no_listener)
    assert caught.value.code == "not_with_shard"


def test_started_is_what_torchrun_says(monkeypatch):
    for name in TOGETHER:
        monkeypatch.delenv(name, raising=False)
    assert (started(), num_beside()) == ((0, 1), 1)
    monkeypatch.setenv("WORLD_SIZE", "4")  # as a scheduler may set it that starts no processes
    assert started() == (0, 1)
    for name, value in TOGETHER.items():
        monkeypatch.setenv(name, value)
    assert (started(), num_beside()) == ((1, 2), 2)


def test_a_signal_that_torchrun_passes_on_is_the_same_signal(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    with stop_switch(no_listener) as stop_requested:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop_requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    for name, value in TOGETHER.items():
        monkeypatch.setenv(name, value)
    with stop_switch(no_listener) as stop_requested:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop_requested()
        clock[0] += 6
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_process_that_does_not_see_the_run_folder_says_so(tmp_path):
    with pytest.raises(RecipeError, match="does not see the run folder") as caught:
        open_shared(tmp_path / "elsewhere", Two())
    assert caught.value.code == "run_not_shared"


def test_one_process_works_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    def nothing():
        raise RecipeError("no", code="no")

    with pytest.raises(RecipeError) as caught, working(nothing, no_listener):
        raise AssertionError("it was opened")
    assert not caught.value.told
