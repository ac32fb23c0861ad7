"""Reads what `evaluate.grader` holds: a name, a file, or a definition."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from luthier.recipe_graders.definitions import GRADER_NAMES, GraderDefinition

_MAX_FILE_BYTES = 4_000_000
"""A definition holds a source of 256 kB at most; the rest is prompt."""

_ADAPTER: TypeAdapter[Any] = TypeAdapter(GraderDefinition)


def read_grader(given: Any) -> Any:
    """Returns a grader's name, or its definition, validated; a file's definition stands for its path from here on.

    Args:
        given: a name; the path of a file with OpenAI's JSON, or of a Python file with a function `grade`; the JSON itself.

    Raises:
        ValueError: it is none of these; the message says where and why.
    """
    if isinstance(given, BaseModel):
        return given
    if isinstance(given, str) and given in GRADER_NAMES:
        return given
    try:
        if isinstance(given, str):
            return _read_text(given)
        if isinstance(given, dict):
            return read_definition(given)
    except ValueError as error:
        raise PydanticCustomError("grader", "{cause}", {"cause": str(error)}) from None
    raise PydanticCustomError("grader", "a grader is a name, a file, or a definition", {})


def read_definition(given: Any, place: str = "") -> Any:
    """Returns the definition of one grader, validated.

    Args:
        given: OpenAI's JSON as Python holds it; `{"grader": {…}}` around it is taken as well.
        place: where it stands, for the message.

    Raises:
        ValueError: the message says which field is wrong, and how.
    """
    inner = given.get("grader") if isinstance(given, dict) and given.keys() == {"grader"} else given
    try:
        return _ADAPTER.validate_python(inner)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # the tag of each union stands in the path, though not in the JSON
        path = ".".join(str(part) for part in _without_tags(first["loc"], inner))
        cause = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{place}{': ' if place else ''}{f'{path}: ' if path else ''}{cause}") from None


def _read_text(given: str) -> Any:
    if given.lstrip().startswith("{"):
        return read_definition(_parsed(given, ""))
    path = Path(given)
    looks_like_a_file = path.suffix.lower() in (".json", ".py") or len(path.parts) > 1
    if not looks_like_a_file and not path.is_file():
        near = difflib.get_close_matches(given.strip().lower(), GRADER_NAMES, n=1, cutoff=0.5)
        raise ValueError(
            f"there is no grader {given!r} and no file of that name"
            + (f"; did you mean {near[0]!r}?" if near else f"; graders: {', '.join(GRADER_NAMES)}")
        )
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ValueError(f"{path} has more than {_MAX_FILE_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start + 1})") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if path.suffix.lower() == ".py":
        return read_definition({"type": "python", "name": path.stem, "source": text}, str(path))
    return read_definition(_parsed(text, str(path)), str(path))


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{place}:{error.lineno}: " if place else ""
        raise ValueError(f"{where}the definition is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError(f"{place}{': ' if place else ''}the definition nests too deeply") from None


def _without_tags(location: tuple[int | str, ...], given: Any) -> list[int | str]:
    kept: list[int | str] = []
    for part in location:
        inside = isinstance(given, dict) and part in given
        inside = inside or (isinstance(given, list) and isinstance(part, int) and part < len(given))
        if inside:
            given = given[part]
            kept.append(part)
        elif part is location[-1] and not (isinstance(given, dict) and given.get("type") == part):
            kept.append(part)  # a missing key
    return kept
