"""OpenAI's `string_check`."""

from __future__ import annotations

from luthier.evaluate.graders.protocol import shortened
from luthier.evaluate.graders.reward import Case, OpenAIGrader, Reward
from luthier.recipe_graders import StringCheckDefinition, Template

_SAID = {"eq": "is not", "ne": "is", "like": "does not contain", "ilike": "does not contain, in any case,"}


class StringCheckGrader(OpenAIGrader):
    """1 where the operation holds between two texts, else 0. Nothing is trimmed."""

    def __init__(self, definition: StringCheckDefinition) -> None:
        super().__init__(definition.name or definition.type)
        self._input = Template(definition.input)
        self._reference = Template(definition.reference)
        self._operation = definition.operation

    def _reward(self, case: Case) -> Reward:
        given, reference = self._input.render(case.namespaces), self._reference.render(case.namespaces)
        holds = {
            "eq": given == reference,
            "ne": given != reference,
            "like": reference in given,
            "ilike": reference.casefold() in given.casefold(),
        }[self._operation]
        if holds:
            return Reward(1.0)
        return Reward(0.0, f"{shortened(given)!r} {_SAID[self._operation]} {shortened(reference)!r}")
