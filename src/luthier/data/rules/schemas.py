"""JSON schemas of functions' arguments: whether they are valid, and whether arguments are as they say.

The schemas are compiled by jsonschema-rs. It is asked never to fetch anything: a schema that refers to another document
is one that cannot be used. Nor can a schema keep it busy for long: regular expressions are matched in linear time where
they allow it, and faults are not looked for one by one where a schema refers to itself or unfolds into very many.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from luthier.data.shapes.wording import short

if TYPE_CHECKING:
    import jsonschema_rs

_MAX_CACHED = 1024
_MAX_FAULTS = 10
_MAX_CHARS = 120
_MAX_NODES = 100_000
"""Nodes of a schema, with references followed; one with more could keep a check busy for ever."""
_MAX_LISTED = 5_000
"""Nodes up to which a call's faults are listed; beyond, and where a schema refers to itself, it is only told that there are
some. Listing takes about 25 microseconds a node where every alternative of an `anyOf` fails."""
_MAX_REFERENCES = 100
"""References that lead one to the other."""
_MAX_BACKTRACKS = 10_000
_MAX_BACKTRACKED_CHARS = 10_000
"""Longer arguments are not compared with schemas whose regular expressions look around: that takes quadratic time."""
_UNDECIDED = ("BacktrackLimitExceeded", "RegexEngineFailure")
"""Faults of the regular expression, not of the text."""
_MASK = "the value"
"""Stands for what is judged, so that the same fault is said in the same words."""


class Schema:
    """A function's schema, compiled.

    Attributes:
        fault: what is wrong with the schema itself, or None.
    """

    __slots__ = ("_backtracks", "_lists_faults", "_validator", "fault")

    def __init__(self, schema: dict[str, Any] | None) -> None:
        self._validator: jsonschema_rs.Validator | None = None
        self.fault: str | None = None
        self._backtracks = self._lists_faults = False
        if schema is None:
            return
        size = _Unfolded(schema)
        if size.num_nodes > _MAX_NODES:
            self.fault = f"with its references followed it has more than {_MAX_NODES:,} nodes"
            return
        self._lists_faults = size.num_nodes <= _MAX_LISTED and not size.is_recursive
        self._validator, self.fault, self._backtracks = _compiled(schema)

    def fault_of(self, arguments: dict[str, Any], num_chars: int) -> str | None:
        """Returns what is wrong with a call's arguments, or None.

        Args:
            arguments: the arguments.
            num_chars: how long their JSON is.
        """
        validator = self._validator
        if validator is None or (self._backtracks and num_chars > _MAX_BACKTRACKED_CHARS):
            return None
        try:
            if validator.is_valid(arguments):
                return None
            if not self._lists_faults:
                return "they are not valid under it"
            faults = list(itertools.islice(validator.iter_errors(arguments), _MAX_FAULTS))
        except ValueError as error:  # text with half a surrogate pair, or nested too deep
            return f"they cannot be checked: {str(error)[:_MAX_CHARS]}"
        faults = [fault for fault in faults if type(fault.kind).__name__ not in _UNDECIDED]
        if not faults:
            return None
        more = len(faults) - 1
        return _said(faults[0]) + (
            f" (and {more} more{' or so' if len(faults) == _MAX_FAULTS else ''})" if more else ""
        )


def schema_of(parameters: Any) -> Schema:
    """Returns the compiled schema of a function's "parameters"; equal ones are compiled once."""
    if not isinstance(parameters, dict):
        return _ANYTHING
    try:
        return _cached(orjson.dumps(parameters))
    except TypeError:  # what orjson cannot write, such as half a surrogate pair
        return Schema(parameters)


@functools.lru_cache(maxsize=_MAX_CACHED)
def _cached(schema: bytes) -> Schema:
    return Schema(json.loads(schema))


def _compiled(schema: dict[str, Any]) -> tuple[jsonschema_rs.Validator | None, str | None, bool]:
    """Returns the validator, or what is wrong, and whether it backtracks. A schema may be of any draft since the fourth."""
    import jsonschema_rs  # noqa: PLC0415 - most files declare no tools

    drafts = (jsonschema_rs.Draft202012Validator, jsonschema_rs.Draft7Validator, jsonschema_rs.Draft4Validator)
    fault = ""
    for patterns in (jsonschema_rs.RegexOptions(), jsonschema_rs.FancyRegexOptions(backtrack_limit=_MAX_BACKTRACKS)):
        backtracks = isinstance(patterns, jsonschema_rs.FancyRegexOptions)
        for draft in drafts:
            try:
                validator = draft(schema, validate_formats=False, offline=True, mask=_MASK, pattern_options=patterns)
                return validator, None, backtracks
            except jsonschema_rs.ValidationError as error:
                fault = fault or _said(error).replace(_MASK, short(error.instance), 1)
            except ValueError as error:
                fault = fault or str(error)[:_MAX_CHARS]
    return None, fault, False


class _Unfolded:
    """How large a schema is with its references followed.

    Attributes:
        num_nodes: objects, lists and values; of what a reference leads to, each time anew.
        is_recursive: whether a reference leads back to where it stands; it is not followed again.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self.is_recursive = False
        self._schema = schema
        self._known: dict[str, int | None] = {}
        self.num_nodes = self._size(schema, 0)

    def _size(self, node: Any, depth: int) -> int:
        size, layer = 0, [node]
        while layer:
            size += len(layer)
            below: list[Any] = []
            for item in layer:
                if isinstance(item, dict):
                    below.extend(item.values())
                    if "$ref" in item:
                        size += self._referred(item["$ref"], depth)
                    self.is_recursive |= "$dynamicRef" in item or "$recursiveRef" in item
                elif isinstance(item, list):
                    below.extend(item)
            layer = below
        return size

    def _referred(self, reference: Any, depth: int) -> int:
        if not isinstance(reference, str) or depth > _MAX_REFERENCES:
            return _MAX_NODES if depth > _MAX_REFERENCES else 0
        if reference in self._known:
            known = self._known[reference]
            self.is_recursive |= known is None
            return known or 0
        self._known[reference] = None
        self._known[reference] = size = self._size(self._target(reference), depth + 1)
        return size

    def _target(self, reference: str) -> Any:
        """Returns what a reference to a place in the same schema leads to; what it cannot be followed to is nothing."""
        target: Any = self._schema
        for step in reference.removeprefix("#").split("/")[1:]:
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
        return target if reference.startswith("#") else None


def _said(error: jsonschema_rs.ValidationError) -> str:
    place = _path(error.instance_path)
    return f"{f'at {place}, ' if place else ''}{error.message}"[:_MAX_CHARS]


def _path(steps: Iterable[str | int]) -> str:
    """Returns a place as people write it: `days[0].from`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


_ANYTHING = Schema(None)
