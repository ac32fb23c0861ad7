"""Recipes: order of layers, origins, and errors that say what to write instead."""

from __future__ import annotations

import pytest

from luthier.errors import RecipeError
from luthier.recipe import Recipe
from luthier.recipe_io import (
    describe,
    dump_recipe,
    field_paths,
    load_recipe,
    override_recipe,
    preset_names,
    recipe_hash,
    validate_recipe,
)

pytestmark = pytest.mark.unit


def test_later_layers_win_and_origins_say_so(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("train:\n  n_epochs: 4\n  learning_rate: 1e-3\nseed: 9\n")
    loaded = load_recipe(["train.n_epochs=5"], file=file, preset="quick")
    assert loaded.recipe.train.n_epochs == 5
    assert loaded.recipe.train.learning_rate == 0.001
    assert loaded.recipe.data.max_train == 100
    assert loaded.recipe.seed == 9
    assert loaded.origins["train.n_epochs"] == "command line"
    assert loaded.origins["seed"] == "mine.yaml"
    assert loaded.origins["data.max_train"] == "preset quick"
    assert loaded.origins["model.base"] == "default"


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("train.learning_rate=1e-3", "learning_rate", 0.001),
        ("train.max_grad_norm=null", "max_grad_norm", None),
        ("train.max_grad_norm=", "max_grad_norm", None),
        ("train.n_epochs=auto", "n_epochs", "auto"),
    ],
)
def test_values_are_read_as_people_mean_them(text, path, value):
    assert getattr(load_recipe([text]).recipe.train, path) == value


def test_lists_and_numbers_that_are_names():
    recipe = load_recipe(["adapter.target_modules=[q_proj, v_proj]", "data.train='1e5'"]).recipe
    assert recipe.adapter.target_modules == ("q_proj", "v_proj")


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("train.n_epoch=3", "train.n_epochs"),
        ("lora_alpha=3", "adapter.lora_alpha"),
        ("optimizer.learning_rate=3", "train.learning_rate"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(text, needle):
    with pytest.raises(RecipeError) as caught:
        load_recipe([text])
    assert caught.value.code == "unknown_key"
    assert needle in str(caught.value.hint)


@pytest.mark.parametrize(
    "text", ["train.n_epochs=0", "train.n_epochs=many", "seed=-1", "evaluate.grader=vibes", "seed=1.5"]
)
def test_a_wrong_value_names_path_value_cause_and_origin(text):
    path, _, value = text.partition("=")
    with pytest.raises(RecipeError) as caught:
        load_recipe([text])
    assert caught.value.param == path
    assert path in caught.value.message
    assert value in caught.value.message
    assert "command line" in caught.value.message
    assert describe(path) in str(caught.value.hint)


@pytest.mark.parametrize("text", ["train.n_epochs", "=3", ""])
def test_a_word_that_is_no_override_is_refused(text):
    with pytest.raises(RecipeError) as caught:
        load_recipe([text])
    assert caught.value.code == "bad_override"


def test_unreadable_files_are_named(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [")
    with pytest.raises(RecipeError, match=r"bad\.yaml is not YAML"):
        load_recipe(file=bad)
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(file=tmp_path / "none.yaml")
    bad.write_text("- 1")
    with pytest.raises(RecipeError, match="not a tree"):
        load_recipe(file=bad)


def test_what_is_dumped_is_what_is_loaded(tmp_path):
    recipe = load_recipe(["train.n_epochs=2", "adapter.target_modules=[q_proj]", "data.max_train=7"]).recipe
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_recipe(recipe))
    assert load_recipe(file=file).recipe == recipe


def test_the_hash_tells_recipes_apart_but_not_folders():
    one = load_recipe(["output.dir=a"]).recipe
    assert recipe_hash(one) == recipe_hash(load_recipe(["output.dir=b"]).recipe)
    assert recipe_hash(one) != recipe_hash(load_recipe(["seed=2"]).recipe)


def test_overrides_can_be_laid_over_a_loaded_recipe():
    loaded = override_recipe(load_recipe(["seed=3"]), ["train.n_epochs=2"])
    assert (loaded.recipe.seed, loaded.recipe.train.n_epochs) == (3, 2)


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_loads(name):
    assert load_recipe(preset=name).recipe != Recipe()


def test_every_field_is_described_once_and_here():
    assert len(field_paths()) > 20
    assert [path for path in field_paths() if len(describe(path)) < 10] == []


def test_a_long_value_that_is_refused_is_shown_in_short() -> None:
    with pytest.raises(RecipeError) as caught:
        validate_recipe({"evaluate": {"grader": {"type": "multi", "name": "x" * 5_000}}})
    assert len(caught.value.message) < 600
    assert "…" in caught.value.message
