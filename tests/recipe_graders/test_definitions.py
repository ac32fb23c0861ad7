"""Definitions of graders: what a recipe takes, and what it says of what it does not take."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import RecipeError
from luthier.recipe_graders import GRADER_NAMES, MultiDefinition, PythonDefinition, read_definition, read_grader
from luthier.recipe_io import dump_recipe, load_recipe, override_recipe, recipe_hash

pytestmark = pytest.mark.unit

CHECK = {
    "type": "string_check",
    "name": "label",
    "input": "{{sample.output_text}}",
    "reference": "{{ item.label }}",
    "operation": "eq",
}
MESSAGES = [{"role": "user", "content": "Grade {{sample.output_text}} against {{item.label}}."}]
SCORE = {"type": "score_model", "name": "s", "model": "m", "input": MESSAGES}
ONE_OF_EACH = [
    CHECK,
    CHECK | {"operation": "ilike"},
    {"type": "text_similarity", "input": "a", "reference": "b", "evaluation_metric": "rouge_l", "pass_threshold": 0.8},
    {"type": "python", "source": "def grade(sample, item):\n    return 1.0", "image_tag": "2025-05-08"},
    SCORE | {"range": [0, 100], "sampling_params": {"seed": 1, "temperature": 0, "max_completions_tokens": 9}},
    {
        "type": "label_model",
        "name": "l",
        "model": "m",
        "input": MESSAGES,
        "labels": ["a", "b"],
        "passing_labels": ["a"],
    },
    {"type": "multi", "name": "m", "graders": {"one": CHECK, "two": SCORE}, "calculate_output": "0.5 * one + two / 2"},
    {"type": "exact"},
    {"type": "contains", "text": "{{item.label}}", "ignore_case": True},
    {"type": "regex", "pattern": r"^\d+$", "match": "full"},
    {"type": "label"},
    {"type": "json", "measure": "field_f1", "json_schema": {"type": "object"}},
    {"type": "sql", "database": "x.db"},
    {"type": "tool_calls", "measure": "names", "ordered": True},
    {"type": "pairwise", "criteria": "politeness", "show_expected": False},
]
JUDGE = "evaluate.judge=http://localhost:8000/v1#judge"


@pytest.mark.parametrize("definition", ONE_OF_EACH, ids=lambda definition: definition["type"])
def test_a_definition_survives_the_recipe_and_its_yaml(definition, tmp_path):
    loaded = load_recipe([f"evaluate.grader={json.dumps(definition)}", JUDGE])
    grader = loaded.recipe.evaluate.grader
    given_values = {key: value for key, value in definition.items() if key not in ("graders", "input", "range")}
    dumped = grader.model_dump(mode="json")
    assert {key: dumped[key] for key in given_values if not isinstance(given_values[key], dict)} == {
        key: value for key, value in given_values.items() if not isinstance(value, dict)
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_recipe(loaded.recipe))
    assert load_recipe(file=file).recipe == loaded.recipe
    assert override_recipe(loaded, ["seed=1"]).recipe == loaded.recipe


@pytest.mark.parametrize("name", GRADER_NAMES)
def test_every_name_is_taken(name):
    database = ["evaluate.database=x.db"] if name == "sql" else []
    assert load_recipe([f"evaluate.grader={name}", *database, JUDGE]).recipe.evaluate.grader == name


def test_a_file_stands_in_the_recipe_with_what_it_holds(tmp_path):
    file = tmp_path / "grader.json"
    file.write_text("\ufeff" + json.dumps({"grader": CHECK}))
    loaded = load_recipe([f"evaluate.grader={file}"])
    assert loaded.recipe.evaluate.grader == read_definition(CHECK)
    file.write_text(json.dumps(CHECK | {"operation": "ne"}))
    assert recipe_hash(load_recipe([f"evaluate.grader={file}"]).recipe) != recipe_hash(loaded.recipe)


def test_a_python_file_is_a_grader(tmp_path):
    file = tmp_path / "halves.py"
    file.write_text("def grade(sample, item):\n    return 0.5\n")
    grader = load_recipe([f"evaluate.grader={file}"]).recipe.evaluate.grader
    assert isinstance(grader, PythonDefinition)
    assert grader.name == "halves"
    assert "return 0.5" in grader.source


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nests too deeply"),
        ("[1]", "not match"),
        (json.dumps(CHECK | {"operation": "is"}), "operation: "),
        (json.dumps({key: value for key, value in CHECK.items() if key != "input"}), "input: "),
        (json.dumps(CHECK | {"inptu": 1}), "inptu: "),
        (json.dumps(CHECK | {"input": "{{items.x}}"}), "input: {{items.x}} does not begin with item. or sample."),
    ],
)
def test_a_wrong_file_is_told_with_file_and_field(text, said, tmp_path):
    file = tmp_path / "grader.json"
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe([f"evaluate.grader={file}"])
    assert caught.value.param == "evaluate.grader"
    assert str(file) in caught.value.message
    assert said in caught.value.message or said == "not match"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("given_value", "said"),
    [
        ("jsn", "did you mean 'json'"),
        ("no/such/file.json", "cannot be read"),
        (5, "a name, a file, or a definition"),
        (None, "a name, a file, or a definition"),
        ([CHECK], "a name, a file, or a definition"),
        ({}, "type"),
        ({"type": "string"}, "string_check"),
        (
            {"type": "python", "source": "def grade(sample, item) return 1"},
            "source: the source is not Python in line 1",
        ),
        ({"type": "python", "source": "def grades(sample, item): return 1"}, "no function grade"),
        ({"type": "python", "source": "#" * 256_001}, "at most 256,000"),
        ({"type": "regex", "pattern": "(a"}, "no regular expression"),
        (SCORE | {"range": [1, 0]}, "the smaller one first"),
        (SCORE | {"range": [0, float("inf")]}, "two finite numbers"),
        (SCORE | {"input": []}, "input: "),
        (SCORE | {"input": [{"role": "user", "content": {"type": "input_image", "image_url": "x"}}]}, "text alone"),
        ({**ONE_OF_EACH[5], "passing_labels": ["c"]}, "not among the labels"),
        ({"type": "multi", "graders": {"a": CHECK}, "calculate_output": "a + b"}, "b is no grader"),
        ({"type": "multi", "graders": {"a": CHECK}, "calculate_output": "(a"}, "cannot be read"),
        ({"type": "multi", "graders": {}, "calculate_output": "1"}, "graders: "),
        ({"type": "multi", "graders": {"a": ONE_OF_EACH[6]}, "calculate_output": "a"}, "graders.a: "),
        ({"type": "multi", "graders": [CHECK, CHECK], "calculate_output": "label"}, "two graders go by 'label'"),
        ({"type": "multi", "graders": {"a": CHECK | {"input": "{{x}}"}}, "calculate_output": "a"}, "graders.a.input: "),
    ],
)
def test_what_is_wrong_is_said(given_value, said):
    with pytest.raises(ValueError, match=r".") as caught:
        read_grader(given_value)
    assert said in str(caught.value)


def test_the_spellings_of_guide_and_reference_are_taken():
    assert read_grader(CHECK | {"operation": "neq"}).operation == "ne"
    block = [{"role": "user", "content": [{"type": "input_text", "text": "a"}, "b"], "type": "message"}]
    asked = read_grader(SCORE | {"input": block, "sampling_params": {"max_tokens": 5}})
    assert asked.input[0].content == "ab"
    assert asked.sampling_params.max_completions_tokens == 5


@pytest.mark.parametrize(
    ("graders", "names"),
    [
        ({"a": CHECK, "b": SCORE}, ["a", "b"]),
        ([CHECK, {"type": "text_similarity", "input": "", "reference": "", "evaluation_metric": "bleu"}],
         ["label", "text_similarity_score"]),
        (CHECK, ["label"]),
        ([CHECK | {"name": "Example string check grader"}], ["string_check_score"]),
    ],
)  # fmt: skip
def test_multi_takes_a_map_a_list_and_a_single_grader(graders, names):
    grader = read_grader({"type": "multi", "graders": graders, "calculate_output": " + ".join(names)})
    assert isinstance(grader, MultiDefinition)
    assert list(grader.graders) == names


@pytest.mark.parametrize(
    "grader",
    ["sql", '{"type": "sql"}', '{"type": "multi", "graders": {"a": {"type": "sql"}}, "calculate_output": "a"}'],
)
def test_sql_without_a_database_is_refused_before_anything_is_trained(grader):
    with pytest.raises(RecipeError) as caught:
        load_recipe([f"evaluate.grader={grader}"])
    assert caught.value.param == "evaluate.database"
    assert load_recipe([f"evaluate.grader={grader}", "evaluate.database=x.db"]).recipe.evaluate.database == "x.db"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(ONE_OF_EACH), st.data())
def test_any_value_in_any_place_is_taken_or_refused_in_words(definition, data):
    key = data.draw(st.sampled_from(sorted(definition)))
    broken = definition | {key: data.draw(JSON_VALUES)}
    said = read = None
    try:
        read = read_grader(broken)
    except ValueError as error:
        said = str(error)
    assert said or read.type == broken["type"]


PAGE = Path(__file__).parents[2] / "docs" / "graders.md"


@pytest.mark.parametrize("text", re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
def test_every_definition_of_the_page_is_taken(text):
    assert read_grader(json.loads(text)).type in text


def test_the_page_shows_every_kind_and_every_name():
    text = PAGE.read_text("utf-8")
    kinds = {json.loads(block)["type"] for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)}
    assert kinds == {definition["type"] for definition in ONE_OF_EACH}
    assert all(f"`{name}`" in text for name in GRADER_NAMES)


def test_the_pages_python_does_what_its_comments_say(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    exec(code, {})  # noqa: S102 - our own page
    said = capsys.readouterr().out.splitlines()
    assert said == [line.split("# ")[1] for line in code.splitlines() if "# " in line]
