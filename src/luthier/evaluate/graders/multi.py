"""OpenAI's `multi`: a formula over the scores of other graders."""

from __future__ import annotations

from collections.abc import Mapping

from luthier.evaluate.graders.protocol import Grader
from luthier.evaluate.graders.reward import Case, OpenAIGrader, Reward
from luthier.recipe_graders import Formula, MultiDefinition


class MultiGrader(OpenAIGrader):
    """The value of a formula; none where any of its graders gives none.

    Args:
        definition: the formula.
        graders: those it names; `parts` holds them.
    """

    def __init__(self, definition: MultiDefinition, graders: Mapping[str, Grader]) -> None:
        super().__init__(definition.name or definition.type)
        self.parts = graders
        self._formula = Formula(definition.calculate_output, graders)

    def _reward(self, case: Case) -> Reward:
        parts = {name: _reward_of(grader, case) for name, grader in self.parts.items()}
        for name, part in parts.items():
            if part.value is None:
                return Reward(None, f"{name}: {part.reason}", part.fault, parts)
        values = {name: part.value for name, part in parts.items() if part.value is not None}
        try:
            value = self._formula.value(values)
        except ArithmeticError as error:
            at = ", ".join(f"{name} = {score:g}" for name, score in values.items())
            return Reward(None, f"the formula cannot be computed at {at}: {error}", "formula_parse_error", parts)
        said = "; ".join(f"{name}: {part.reason}" for name, part in parts.items() if part.reason)
        return Reward(value, said or None, None, parts)


def _reward_of(grader: Grader, case: Case) -> Reward:
    if isinstance(grader, OpenAIGrader):
        return grader.reward(case)
    grade = grader.grade(case.target, case.answer, case.row)
    return Reward(grade.score, grade.reason, None if grade.score is not None else "other_error")
