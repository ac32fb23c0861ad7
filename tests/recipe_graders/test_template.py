"""Templates of graders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.recipe_graders import MissingVariable, Template

pytestmark = pytest.mark.unit

NAMESPACES = {
    "item": {"a": "x", "n": 1.0, "deep": {"list": [{"b": [1, 2]}], "odd key": "y", "no": None}, "ok": True, "é": "z"},
    "sample": {"output_text": "t", "output_tools": [{"function": {"name": "f", "arguments": "{}"}}]},
}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{{item.a}}", "x"),
        ("<{{ item.a }}|{{sample.output_text}}>", "<x|t>"),
        ("{{item.n}} {{item.ok}} {{item.deep.no}}", "1.0 true null"),
        ("{{item.deep.list[0].b}}", "[1, 2]"),
        ("{{ item.deep.list[ 0 ].b[1] }}", "2"),
        ("{{item.deep['odd key']}}{{item[\"deep\"]['odd key']}}", "yy"),
        ("{{sample.output_tools[0].function.name}}", "f"),
        ("{{item.é}}", "z"),
        ("{not} {{ unclosed", "{not} {{ unclosed"),
        ('{"smiles": "{{item.a}}"}', '{"smiles": "x"}'),
    ],
)
def test_variables_are_filled_in(text, rendered):
    assert Template(text).render(NAMESPACES) == rendered


@pytest.mark.parametrize(
    "text",
    ["{{}}", "{{ }}", "{{item}}", "{{items.a}}", "{{x}}", "{{item.a | upper}}", "{{item.}}", "{{item..a}}", "{{item[-1]}}",
     "{{item.a + 1}}", "{{sample.output_audio.data}}", "{{sample.text}}", "{{ item.a.__class__() }}"],
)  # fmt: skip
def test_what_is_no_variable_is_refused_when_read(text):
    with pytest.raises(ValueError, match=r"\{\{"):
        Template(text)


@pytest.mark.parametrize(
    ("text", "namespace", "said"),
    [
        ("{{item.b}}", "item", "there is no item.b; item has a, n, deep"),
        ("{{item.a.b}}", "item", "item.a is neither an object nor a list"),
        ("{{item.deep.list[3]}}", "item", "item.deep.list is a list of 1"),
        ("{{item.deep.no.x}}", "item", "item.deep.no is null"),
        ("{{sample.output_json.x}}", "sample", "there is no sample.output_json.x"),
        ("{{sample.output_tools[1].function}}", "sample", "is a list of 1"),
    ],
)
def test_a_missing_variable_is_named_with_what_there_is(text, namespace, said):
    with pytest.raises(MissingVariable) as caught:
        Template(text).render(NAMESPACES)
    assert caught.value.namespace == namespace
    assert said in str(caught.value)


@given(st.text())
def test_any_text_is_a_template_or_refused_and_nothing_is_evaluated(text):
    rendered = None
    try:
        rendered = Template(text).render(NAMESPACES)
    except (ValueError, MissingVariable) as error:
        rendered = str(error) if "{{" in text else None
    assert rendered == text or (rendered and "{{" in text)
