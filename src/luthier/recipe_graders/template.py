"""Templates of OpenAI's graders: text with `{{ item.path }}` and `{{ sample.path }}`.

Source: OpenAI's graders guide, "Templating": two namespaces, nested variables in a syntax like JSON path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

NAMESPACES = ("item", "sample")
SAMPLE_VARIABLES = ("output_text", "output_json", "output_tools", "choices")
"""What a sample can have: `output_json` where the answer is JSON, and OpenAI's `output_audio` never."""

_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_STEP = re.compile(r"""\.\s*([^\s.\[\](){}'"|]+)|\[\s*(\d{1,9})\s*\]|\[\s*'([^']*)'\s*\]|\[\s*"([^"]*)"\s*\]""")
_NAME = re.compile(r"\s*([A-Za-z_]\w*)")

Path = tuple[str | int, ...]


class MissingVariable(LookupError):  # noqa: N818 - to some graders it is no fault
    """A variable that its namespace does not have.

    Attributes:
        namespace: `item` or `sample`.
        written: the variable as it stands in the template.
    """

    def __init__(self, namespace: str, written: str, there_is: str) -> None:
        super().__init__(f"there is no {written}; {there_is}")
        self.namespace = namespace
        self.written = written


class Template:
    """A text with variables, parsed.

    Args:
        text: the template.

    Raises:
        ValueError: what stands between `{{` and `}}` is no variable of `item` or `sample`.
    """

    __slots__ = ("_parts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: list[str | Path] = []
        end = 0
        for place in _PLACE.finditer(text):
            self._parts += [text[end : place.start()], _path(place[1])]
            end = place.end()
        self._parts.append(text[end:])

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def render(self, namespaces: Mapping[str, Any]) -> str:
        """Returns the text with each variable's value; a value that is no text is written as JSON.

        Args:
            namespaces: `item` and `sample`.

        Raises:
            MissingVariable: a namespace does not have a variable.
        """
        return "".join(part if isinstance(part, str) else _written(_value(part, namespaces)) for part in self._parts)


def _path(inside: str) -> Path:
    name = _NAME.match(inside)
    if not name or name[1] not in NAMESPACES:
        raise ValueError(f"{{{{{inside}}}}} does not begin with item. or sample., the only two namespaces")
    steps: list[str | int] = [name[1]]
    end = name.end()
    while step := _STEP.match(inside, end):
        key, index, quoted, double_quoted = step.groups()
        steps.append(
            int(index) if index is not None else next(k for k in (key, quoted, double_quoted) if k is not None)
        )
        end = step.end()
    if inside[end:].strip():
        raise ValueError(f"{{{{{inside}}}}} cannot be read from {inside[end:].strip()[:20]!r} on")
    if len(steps) == 1:
        raise ValueError(f"{{{{{inside}}}}} names no variable of {name[1]}")
    if steps[0] == "sample" and steps[1] not in SAMPLE_VARIABLES:
        raise ValueError(f"{{{{{inside}}}}} is not to be had; a sample has {', '.join(SAMPLE_VARIABLES)}")
    return tuple(steps)


def _value(path: Path, namespaces: Mapping[str, Any]) -> Any:
    value: Any = namespaces
    for depth, step in enumerate(path):
        named = isinstance(step, str) and isinstance(value, Mapping) and step in value
        if not named and not (isinstance(step, int) and isinstance(value, list) and step < len(value)):
            raise MissingVariable(str(path[0]), _shown(path), f"{_shown(path[:depth])} {_holds(value)}")
        value = value[step]
    return value


def _holds(value: Any) -> str:
    if isinstance(value, Mapping):
        names = [str(name) for name in value][:12]
        return f"has {', '.join(names)}" if names else "is empty"
    if isinstance(value, list):
        return f"is a list of {len(value)}"
    return "is null" if value is None else "is neither an object nor a list"


def _shown(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
