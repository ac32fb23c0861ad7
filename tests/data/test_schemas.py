"""Schemas of arguments, compared with the `jsonschema` package, which shares no code with the one that is used."""

from __future__ import annotations

import socket
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.rules.schemas import schema_of

pytestmark = pytest.mark.reference

DRAFTS = (jsonschema.Draft202012Validator, jsonschema.Draft7Validator, jsonschema.Draft4Validator)
NAMES = st.sampled_from(["a", "b", "c"])
LEAF = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "yy", "a"])
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
TYPES = st.sampled_from(["string", "integer", "number", "object", "array", "boolean", "null", "dict", "any"])


def _schema(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "required": st.lists(NAMES, max_size=2, unique=True) | st.just(True),
            "items": inner | st.lists(inner, min_size=1, max_size=2),
            "enum": st.lists(LEAF, min_size=1, max_size=3, unique_by=repr),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "additionalProperties": st.booleans() | inner,
            "minimum": st.integers(-2, 2),
            "exclusiveMinimum": st.integers(-2, 2) | st.booleans(),
            "maxLength": st.integers(-1, 2),
            "minItems": st.integers(0, 2),
        },
    )


SCHEMA = st.recursive(_schema(st.just({})), _schema, max_leaves=6)


@given(schema=SCHEMA, arguments=st.dictionaries(NAMES, VALUE, max_size=3))
@settings(max_examples=500, deadline=None)
def test_the_verdicts_are_those_of_another_library(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    ours = schema_of(schema)
    accepting = []
    for draft in DRAFTS:
        try:
            draft.check_schema(schema)
            accepting.append(draft(schema))
        except jsonschema.SchemaError:
            continue
    if "$ref" in str(schema):
        if (
            ours.fault is None and accepting
        ):  # references that lead nowhere, or round in circles, are judged differently
            return
    else:
        assert (ours.fault is None) == bool(accepting)
        if accepting:
            assert (ours.fault_of(arguments, 10) is None) == accepting[0].is_valid(arguments)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a schema tried to open a connection")

    monkeypatch.setattr(socket, "socket", refuse)
    for reference in ("https://example.com/schema.json", "http://127.0.0.1:9/x", "file:///etc/hostname", "other.json"):
        fault = schema_of({"$ref": reference}).fault
        assert fault is not None
        assert "not present" in fault or "Retrieval is disabled" in fault


def chained(length: int) -> dict[str, Any]:
    places: dict[str, Any] = {"d0": {"type": "integer"}}
    for place in range(1, length):
        places[f"d{place}"] = {"anyOf": [{"$ref": f"#/$defs/d{place - 1}"}, {"$ref": f"#/$defs/d{place - 1}"}]}
    return {"$defs": places, "properties": {"a": {"$ref": f"#/$defs/d{length - 1}"}}}


def test_no_schema_keeps_the_check_busy() -> None:
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"a": deep}
    again = {"properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    looking = {"properties": {"a": {"pattern": r"(?=(a+))\1+b"}}}
    start = time.perf_counter()
    assert "more than 100,000 nodes" in str(schema_of(chained(60)).fault)
    assert "more than 100,000 nodes" in str(schema_of(chained(500)).fault)
    assert schema_of({"anyOf": [again, again]}).fault_of(deep, 400) == "they are not valid under it"
    assert schema_of(looking).fault_of({"a": "a" * 500_000}, 500_000) is None
    assert schema_of(chained(5)).fault_of({"a": "x"}, 10) is not None
    assert schema_of({"$ref": "#"}).fault is None
    assert time.perf_counter() - start < 10


def test_equal_schemas_are_compiled_once() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert schema_of(schema) is schema_of(dict(schema))
    assert schema_of(None).fault_of({"a": 1}, 10) is None
    assert schema_of({"enum": ["\ud800"]}).fault is not None
