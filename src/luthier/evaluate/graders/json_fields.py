"""The grader of JSON: equal as values, field by field, and as a schema says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.data.rules.schemas import schema_of
from luthier.errors import EvaluateError
from luthier.evaluate.graders.json_value import Path, first_difference, leaves_of, parse_json
from luthier.evaluate.graders.protocol import NO_ITEM, Item
from luthier.evaluate.samples import Grade
from luthier.recipe_graders import JsonDefinition


@dataclass(frozen=True, slots=True)
class FieldScore:
    """How one field came out over all rows.

    Attributes:
        field: its path; positions in lists are written `[]`.
        precision: the share of the given fields that were expected so.
        recall: the share of the expected fields that were given so.
        f1: of the two.
        expected: how often it was expected.
        given: how often it was given.
    """

    field: str
    precision: float
    recall: float
    f1: float
    expected: int
    given: int


class JsonGrader:
    """1 where both are JSON and equal as values: numbers by value, keys in any order, lists in theirs, true not 1.

    With another `measure` the score is the F1 of the fields, or whether the answer is JSON as the schema says.
    """

    name = "json"

    def __init__(self, definition: JsonDefinition | None = None) -> None:
        given = definition or JsonDefinition(type="json")
        self._measure = given.measure
        self._schema = None if given.json_schema is None else schema_of(given.json_schema)
        if self._schema and self._schema.fault:
            raise EvaluateError(
                f"The JSON schema of the grader cannot be used: {self._schema.fault}.",
                code="bad_json_schema",
                param="evaluate.grader",
                hint="Give a schema of any draft since the fourth that refers to no other document.",
            )

    def grade(self, target: str, answer: str, _item: Item = NO_ITEM, /) -> Grade:
        """Returns the score with per-field numbers; None where the expected answer is needed and is not JSON.

        Fields are the leaves of the value with their whole path, list positions included. The details hold
        `valid_json`, `field_precision`, `field_recall`, `field_f1`, the counts they rest on, `equal`, and `valid_schema`
        where there is a schema.
        """
        try:
            expected = leaves_of(parse_json(target))
        except ValueError as error:
            if self._measure != "valid":
                return Grade(None, f"the expected answer cannot be read as JSON: {error}")
            expected = {}
        try:
            given = leaves_of(parse_json(answer))
        except ValueError as error:
            details = _field_details(0, len(expected), 0, valid=False) if expected else {"valid_json": 0.0}
            schema = {} if self._schema is None else {"valid_schema": 0.0}
            return Grade(0.0, f"cannot be read as JSON: {error}", details | schema)
        details = {"valid_json": 1.0}
        if expected:
            matched = sum(given.get(path) == leaf for path, leaf in expected.items())
            details = _field_details(matched, len(expected), len(given), valid=True)
            details["equal"] = float(expected == given)
        fault = self._schema_fault(answer)
        if self._schema is not None:
            details["valid_schema"] = float(fault is None)
        reason = first_difference(expected, given) if expected and expected != given else None
        if self._measure == "valid":
            return Grade(float(fault is None), fault, details)
        score = details["equal" if self._measure == "equal" else "field_f1"]
        return Grade(score, reason, details)

    def summarise(
        self, _targets: Sequence[str], _answers: Sequence[str], grades: Sequence[Grade], /
    ) -> dict[str, float]:
        """Returns the share of valid JSON, and precision, recall and F1 of the fields of all rows together (micro).

        With a schema, the share of answers that it allows; where the score is another, the share of equal values.
        """
        found = {"valid_json": sum(grade.details["valid_json"] for grade in grades) / len(grades)}
        with_fields = [grade for grade in grades if "expected_fields" in grade.details]
        if with_fields:
            matched, expected, given = (
                sum(int(grade.details[name]) for grade in with_fields)
                for name in ("matched_fields", "expected_fields", "answered_fields")
            )
            fields = _field_details(matched, expected, given, valid=True)
            found |= {name: fields[name] for name in ("field_f1", "field_precision", "field_recall")}
        if self._schema is not None:
            found["valid_schema"] = sum(grade.details["valid_schema"] for grade in grades) / len(grades)
        if self._measure != "equal" and with_fields:
            found["equal"] = sum(grade.details.get("equal", 0.0) for grade in with_fields) / len(with_fields)
        return found

    def _schema_fault(self, answer: str) -> str | None:
        if self._schema is None:
            return None
        try:
            value: Any = json.loads(answer)
        except ValueError as error:  # a whole number of more digits than Python reads
            return f"cannot be held against the schema: {str(error)[:80]}"
        fault = self._schema.fault_of(value, len(answer))
        return None if fault is None else f"not as the schema says: {fault}"


def field_scores(targets: Sequence[str], answers: Sequence[str]) -> list[FieldScore]:
    """Returns how each field came out over all rows whose expected answer is JSON, the most expected first.

    Raises:
        ValueError: the lengths differ.
    """
    expected_count: Counter[str] = Counter()
    given_count: Counter[str] = Counter()
    matched_count: Counter[str] = Counter()
    for target, answer in zip(targets, answers, strict=True):
        try:
            expected = leaves_of(parse_json(target))
        except ValueError:
            continue
        try:
            given = leaves_of(parse_json(answer))
        except ValueError:
            given = {}
        expected_count.update(map(_field, expected))
        given_count.update(map(_field, given))
        matched_count.update(_field(path) for path, leaf in expected.items() if given.get(path) == leaf)
    names = sorted(expected_count | given_count, key=lambda name: (-expected_count[name], name))
    return [
        FieldScore(
            field=name,
            precision=matched_count[name] / given_count[name] if given_count[name] else 0.0,
            recall=matched_count[name] / expected_count[name] if expected_count[name] else 0.0,
            f1=2 * matched_count[name] / (expected_count[name] + given_count[name]),
            expected=expected_count[name],
            given=given_count[name],
        )
        for name in names
    ]


def _field(path: Path) -> str:
    text = "".join("[]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return text or "the value"


def _field_details(matched: int, expected: int, given: int, *, valid: bool) -> dict[str, float]:
    return {
        "valid_json": float(valid),
        "field_precision": matched / given if given else 0.0,
        "field_recall": matched / expected,
        "field_f1": 2 * matched / (expected + given),
        "matched_fields": float(matched),
        "expected_fields": float(expected),
        "answered_fields": float(given),
    }
