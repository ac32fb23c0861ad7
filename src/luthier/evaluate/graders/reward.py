"""What OpenAI's graders give: a reward on their own scale, or why there is none."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from luthier.evaluate.graders.protocol import NO_ITEM, Item, mean_details
from luthier.evaluate.graders.sample import item_of, sample_of
from luthier.evaluate.samples import Grade
from luthier.recipe_graders import MissingVariable

Fault = Literal[
    "formula_parse_error",
    "sample_parse_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
]
"""Why there is no reward, in the words of OpenAI's reply to `graders/run`."""

_ROUNDING = 1e-9
"""A score this close outside of its range is one in it: sums of weights do not always make 1."""


@dataclass(frozen=True)
class Case:
    """One answer that is to be graded.

    Attributes:
        target: the expected answer.
        answer: the given one.
        row: the row as its file has it.
    """

    target: str
    answer: str
    row: Item = field(default_factory=dict)

    @cached_property
    def item(self) -> dict[str, Any]:
        """The row as templates see it."""
        return item_of(self.target, self.row)

    @cached_property
    def sample(self) -> dict[str, Any]:
        """The answer as templates see it."""
        return sample_of(self.answer)

    @property
    def namespaces(self) -> dict[str, Any]:
        """Both, by the names that templates use."""
        return {"item": self.item, "sample": self.sample}


@dataclass(frozen=True, slots=True)
class Reward:
    """What a grader gives to one answer.

    Attributes:
        value: on the grader's own scale, or None where it could not be scored.
        reason: why there is none, or what was wrong, in a few words.
        fault: the kind of failure, where there was one; a template that asks for what the answer does not have is one
            with a value, 0.
        parts: of a `multi` grader, what each of its graders gives.
        details: further numbers by name.
    """

    value: float | None
    reason: str | None = None
    fault: Fault | None = None
    parts: Mapping[str, Reward] = field(default_factory=dict)
    details: Mapping[str, float] = field(default_factory=dict)


class OpenAIGrader(ABC):
    """A grader that OpenAI's API defines.

    Args:
        name: as reports call it.
        pass_threshold: the reward from which an answer passes, or None.
        scale: the smallest and the largest reward; scores are scaled from it to 0 to 1.
    """

    def __init__(
        self, name: str, *, pass_threshold: float | None = None, scale: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        self.name = name
        self.pass_threshold = pass_threshold
        self._scale = scale

    def reward(self, case: Case) -> Reward:
        """Returns what the grader gives to an answer, on its own scale.

        A template that asks for what the answer does not have gives 0: the answer is not of the form that was asked for.
        One that asks for what the row does not have gives none.
        """
        try:
            return self._reward(case)
        except MissingVariable as error:
            if error.namespace == "sample":
                return Reward(0.0, f"of the answer, {error}", "sample_parse_error")
            return Reward(None, f"of the row, {error}", "invalid_variable_error")

    def grade(self, target: str, answer: str, item: Item = NO_ITEM, /) -> Grade:
        """Returns the reward scaled to 0 to 1, with the parts of a `multi` grader as details; None where there is none, or
        it is not on the scale."""
        reward = self.reward(Case(target, answer, item))
        details = {name: part.value for name, part in reward.parts.items() if part.value is not None} | dict(
            reward.details
        )
        if reward.value is None:
            return Grade(None, reward.reason, details)
        low, high = self._scale
        score = (reward.value - low) / (high - low)
        if not math.isfinite(score) or not -_ROUNDING <= score <= 1 + _ROUNDING:
            return Grade(None, f"the score is {reward.value:g}, which is not between {low:g} and {high:g}", details)
        if self.pass_threshold is not None:
            details["passed"] = float(reward.value >= self.pass_threshold)
        return Grade(min(max(score, 0.0), 1.0), reward.reason, details)

    def summarise(
        self, _targets: Sequence[str], _answers: Sequence[str], grades: Sequence[Grade], /
    ) -> dict[str, float]:
        """Returns the mean of each detail: what passed, and the parts of a `multi` grader."""
        return mean_details(grades, list(dict.fromkeys(name for grade in grades for name in grade.details)))

    @abstractmethod
    def _reward(self, case: Case) -> Reward: ...
