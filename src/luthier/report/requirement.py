"""What is demanded of a report: `evaluate.require`, checked before anything is trained and worked out at the end."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from luthier.errors import RecipeError
from luthier.report.expression import Condition, Kind, Meaning, Reference
from luthier.report.part import Part
from luthier.report.schema import Report, Requirement

PARAM = "evaluate.require"
ALIASES = {"probe": "forgetting"}
"""Further names of fields of the report."""
HIDDEN = ("requirement",)
"""Fields that no requirement can be about: it is not known yet."""
KEYS = ("name", "field", "path", "id", "base")
"""What stands for an item of a list in brackets, the first of these that it has: `metrics['valid JSON']`. Of the pairs of
`table.pairings`, `['few-shot']` is the fine-tuned model against few-shot: the last pair with that base."""
PRESENT = "there"
"""What a whole part of the report is told as among a requirement's values."""

Schema = type[Part]


def check_requirement(expression: str, schema: Schema = Report) -> None:
    """Refuses a requirement that cannot be read, names what no report has, or could never hold.

    Args:
        expression: as in `evaluate.require`.
        schema: of the report it will be worked out on.

    Raises:
        RecipeError: code "bad_requirement".
    """
    _condition(expression, schema)


def evaluate_requirement(expression: str, report: Report) -> Requirement:
    """Returns whether a report meets a requirement, with the value of each name in it.

    Where a value is missing, such as the forgetting of a run that did not measure it, whatever rests on it does not hold.

    Raises:
        RecipeError: code "bad_requirement".
    """
    outcome = _condition(expression, type(report)).work_out(lambda reference: _value(report, reference.path))
    return Requirement(
        expression=expression,
        holds=outcome.holds is True,
        values={name: _told(value) for name, value in outcome.values.items()},
    )


def requirement_sentence(requirement: Requirement) -> str:
    """Returns whether a requirement holds, and what its names stood for, in a sentence or two."""
    told = requirement_values(requirement)
    return f"It {'holds' if requirement.holds else 'does not hold'}{f': {told}' if told else ''}."


def requirement_values(requirement: Requirement) -> str:
    """Returns what the names of a requirement stood for; those without a value last."""
    told = [f"{name} = {_written(value)}" for name, value in requirement.values.items() if value is not None]
    missing = [name for name, value in requirement.values.items() if value is None]
    parts = [", ".join(told)] if told else []
    if missing:
        parts.append(f"{', '.join(missing)} {'has' if len(missing) == 1 else 'have'} no value in this report")
    return "; ".join(parts)


def _condition(expression: str, schema: Schema) -> Condition:
    try:
        return Condition(expression, lambda reference: _meaning(reference, schema))
    except _UnknownNameError as error:
        raise _refusal(str(error), error.hint) from None
    except ValueError as error:
        raise _refusal(f"In {PARAM}: {error}.", f'Write, for instance, {PARAM}="difference.low > 0".') from None


def _refusal(message: str, hint: str) -> RecipeError:
    return RecipeError(message, code="bad_requirement", param=PARAM, hint=hint)


class _UnknownNameError(ValueError):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def _meaning(reference: Reference, schema: Schema) -> Meaning:
    annotation: Any = schema
    for index, step in enumerate(reference.path):
        given = ALIASES.get(str(step), step) if index == 0 else step
        found = _within(_present(annotation), given, top=index == 0)
        if found is None:
            raise _unknown(reference, index, _present(annotation), schema)
        annotation = found
    return _kind(_present(annotation))


def _within(annotation: Any, step: str | int, *, top: bool) -> Any:
    """Returns the type of a field, an item or an entry; None where there is none."""
    if _is_part(annotation):
        known = isinstance(step, str) and step in annotation.model_fields and not (top and step in HIDDEN)
        return annotation.model_fields[step].annotation if known else None
    if get_origin(annotation) is list:
        (item,) = get_args(annotation)
        return item if isinstance(step, int) or (_is_part(item) and _key(item)) else None
    if get_origin(annotation) is dict:
        return get_args(annotation)[1] if isinstance(step, str) else None
    return object if annotation is object else None


def _present(annotation: Any) -> Any:
    """Returns a type without its None."""
    if get_origin(annotation) in (Union, types.UnionType):
        kept = [each for each in get_args(annotation) if each is not type(None)]
        return kept[0] if len(kept) == 1 else object
    return annotation


def _kind(annotation: Any) -> Meaning:
    if get_origin(annotation) is Literal:
        words = get_args(annotation)
        return Meaning("text", words) if all(isinstance(word, str) for word in words) else Meaning("number")
    if get_origin(annotation) in (list, dict):
        inner = str if get_origin(annotation) is dict else get_args(annotation)[0]
        return Meaning("list", holds=_kind(_present(inner)).kind)
    if _is_part(annotation):
        return Meaning("part")
    plain: dict[Any, Kind] = {bool: "truth", int: "number", float: "number", str: "text"}
    return Meaning(plain.get(annotation, "any"))


def _unknown(reference: Reference, index: int, annotation: Any, schema: Schema) -> _UnknownNameError:
    given = ".".join(str(step) for step in reference.path[: index + 1])
    known = [*annotation.model_fields] if _is_part(annotation) else []
    if index == 0:
        known = [name for name in known if name not in HIDDEN]
        known += [alias for alias, name in ALIASES.items() if name in known]
    last = str(reference.path[index])
    before = ".".join(str(step) for step in reference.path[:index])
    near = [f"{before}.{name}" if before else name for name in difflib.get_close_matches(last, known, n=1, cutoff=0.7)]
    paths = list(_paths(schema))
    near = near or [path for path in paths if path.rsplit(".", 1)[-1] == last][:3]
    near = near or difflib.get_close_matches(given, paths, n=1, cutoff=0.6)
    listing = f"There are: {', '.join(known)}." if known else "Nothing stands behind it."
    hint = f"Did you mean {' or '.join(near)}?" if near else listing
    return _UnknownNameError(f"In {PARAM}: a report has no {given}.", hint)


def _paths(schema: Schema, before: str = "", depth: int = 0) -> Iterator[str]:
    for name, each in schema.model_fields.items():
        if not before and name in HIDDEN:
            continue
        yield before + name
        annotation = _present(each.annotation)
        if _is_part(annotation) and depth < 4:
            yield from _paths(annotation, f"{before}{name}.", depth + 1)


def _value(report: Part, path: tuple[str | int, ...]) -> object:
    value: object = report
    for index, step in enumerate(path):
        value = _inner(value, ALIASES.get(str(step), step) if index == 0 else step)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _inner(value: object, step: str | int) -> object:
    if isinstance(value, Part) and isinstance(step, str):
        return getattr(value, step)
    if isinstance(value, Mapping):
        return value.get(step)
    if isinstance(value, list | tuple):
        if isinstance(step, int):
            return value[step] if -len(value) <= step < len(value) else None
        named = [item for item in value if isinstance(item, Part) and getattr(item, _key(type(item)), None) == step]
        return named[-1] if named else None
    return None


def _key(schema: Schema) -> str:
    return next((key for key in KEYS if key in schema.model_fields), "")


def _is_part(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Part)


def _told(value: object) -> object:
    if isinstance(value, Part):
        return PRESENT
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    return value


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
