"""Whether answers look like those trained on: their kind, whatever they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luthier.evaluate.graders.calls import read_calls
from luthier.evaluate.graders.json_value import parse_json
from luthier.evaluate.graders.label import label_of
from luthier.evaluate.graders.sql import is_query


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of answer.

    Attributes:
        name: for a sentence, such as "a JSON object".
        holds: whether a text is one.
        trained_share: the share of training answers that are.
    """

    name: str
    holds: Callable[[str], bool]
    trained_share: float

    def share(self, answers: Sequence[str]) -> float:
        """Returns the share of answers that are of this kind; there is at least one."""
        return sum(map(self.holds, answers)) / len(answers)


def shape_of(grader: str, train_answers: Sequence[str]) -> Shape:
    """Returns the kind of the training answers, as narrow as what they are graded by allows.

    Args:
        grader: the name of the grader that suits them or was asked for.
        train_answers: at least one.
    """
    name, holds = _kind(grader, train_answers)
    return Shape(name, holds, sum(map(holds, train_answers)) / len(train_answers))


def _kind(grader: str, train_answers: Sequence[str]) -> tuple[str, Callable[[str], bool]]:
    if grader == "tool_calls":
        return "a function call", lambda text: bool(read_calls(text).calls)
    if grader == "sql":
        return "an SQL query", is_query
    if grader == "label":
        labels = {label_of(text) for text in train_answers}
        return f"one of the {len(labels):,} labels of the training answers", lambda text: label_of(text) in labels
    if grader == "json":
        keys = [frozenset(value) for text in train_answers if isinstance(value := _parsed(text), dict)]
        if len(keys) == len(train_answers) and len(set(keys)) == 1:
            wanted = keys[0]
            named = ", ".join(sorted(wanted))
            return f"a JSON object of {named}", lambda text: _keys(text) == wanted
        return "a JSON object or list", lambda text: isinstance(_parsed(text), dict | list)
    if not any("\n" in text.strip() for text in train_answers):
        return "a single line", lambda text: bool(text.strip()) and "\n" not in text.strip()
    return "a text", lambda text: bool(text.strip())


def _parsed(text: str) -> object:
    try:
        return parse_json(text)
    except ValueError:
        return None


def _keys(text: str) -> frozenset[str] | None:
    value = _parsed(text)
    return frozenset(value) if isinstance(value, dict) else None
