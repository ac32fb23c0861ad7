"""Which rows each step takes: like lengths together, replayed rows among them, and the seed alone decides."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import TrainError
from luthier.recipe import TrainRecipe
from luthier.train.batch import epoch_order
from luthier.train.order import Course
from luthier.train.settings import TrainSettings

pytestmark = pytest.mark.unit
RESOLVED = {"n_epochs": 2, "learning_rate": 0.1, "batch_size": 4, "max_activation_mb": 512}


def course(num_rows, num_replay=0, *, batch_size=4, window=8, share=0.0, seed=1):
    recipe = TrainRecipe(**RESOLVED)
    settings = dataclasses.replace(
        TrainSettings.from_recipe(recipe, seed=seed), batch_size=batch_size, length_window=window, replay_share=share
    )
    lengths = np.random.default_rng(0).integers(10, 1000, num_rows + num_replay)
    return Course(settings, lengths, num_rows)


@given(
    num_rows=st.integers(1, 200),
    num_replay=st.integers(1, 50),
    batch_size=st.integers(1, 9),
    window=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.01, 0.1, 0.5]),
    epoch=st.integers(0, 3),
)
def test_every_row_is_taken_once_an_epoch_whatever_the_window(num_rows, num_replay, batch_size, window, share, epoch):
    steps = course(num_rows, num_replay, batch_size=batch_size, window=window, share=share)
    taken = [step.tolist() for step in steps.steps(epoch)]
    assert len(taken) == steps.steps_an_epoch
    assert all(len(step) == batch_size for step in taken[:-1])
    flat = [place for step in taken for place in step]
    assert sorted(place for place in flat if place < num_rows) == list(range(num_rows))
    assert len(flat) - num_rows == steps.settings.num_replayed(num_rows)
    assert max(flat) < num_rows + num_replay
    first = len(taken) // 2
    assert [step.tolist() for step in steps.steps(epoch, first=first)] == taken[first:]


def test_a_window_of_one_keeps_the_shuffled_order():
    assert course(50, window=1).order(2).tolist() == epoch_order(50, seed=1, epoch=2).tolist()


def test_rows_of_a_step_are_alike_and_steps_come_by_chance():
    def spread(window):
        steps = course(4000, window=window)
        return np.mean([np.ptp(steps.lengths[step]) for step in steps.steps(0)])

    assert spread(8) < spread(1) / 5
    steps = course(4000)
    means = [steps.lengths[step].mean() for step in steps.steps(0)]
    neighbours = np.corrcoef(means[:-1], means[1:])[0, 1]
    assert abs(neighbours) < 0.1  # a step's length says nothing about the next one's


def test_which_rows_meet_still_changes_from_epoch_to_epoch():
    steps = course(400)
    first, second = ({tuple(sorted(step)) for step in steps.steps(epoch)} for epoch in (0, 1))
    assert len(first & second) < 3


def test_what_does_not_fill_a_step_comes_last():
    assert [len(step) for step in course(11).steps(0)] == [4, 4, 3]


def test_replayed_rows_are_the_share_asked_for_and_each_is_taken_before_any_is_taken_again():
    steps = course(90, 25, share=0.1)
    replayed = [[place for place in steps.order(epoch) if place >= 90] for epoch in range(5)]
    assert [len(places) for places in replayed] == [10] * 5  # 10 of 100 rows
    assert sorted(place for places in replayed for place in places) == sorted(list(range(90, 115)) * 2)
    assert len({place for places in replayed[:2] for place in places}) == 20


def test_more_may_be_replayed_than_there_is():
    places = course(30, 3, share=0.5).order(0)
    assert np.bincount(places[places >= 30] - 30).tolist() == [10, 10, 10]


def test_steps_count_what_is_replayed():
    settings = course(90, 25, share=0.1).settings
    assert settings.steps_an_epoch(90) == 25
    assert settings.total_steps(90) == 50
    assert dataclasses.replace(settings, max_steps=7).total_steps(90) == 7


def test_settings_come_from_a_resolved_recipe():
    settings = TrainSettings.from_recipe(TrainRecipe(**RESOLVED), seed=9)
    assert (settings.seed, settings.length_window, settings.replay_share) == (9, 1, 0.0)
    assert TrainSettings.from_recipe(TrainRecipe(**RESOLVED, replay="chat.jsonl"), seed=9).replay_share == 0.1
    with pytest.raises(TrainError, match="still auto") as caught:
        TrainSettings.from_recipe(TrainRecipe(n_epochs=1), seed=9)
    assert caught.value.param == "train.learning_rate"
