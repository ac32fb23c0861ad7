"""OpenAI's `python`: a function `grade(sample, item)`, run in a process of its own."""

from __future__ import annotations

from luthier.evaluate.graders.protocol import Grader
from luthier.evaluate.graders.reward import Case, Fault, OpenAIGrader, Reward
from luthier.evaluate.sandbox.process import Isolation, Limits, run_grade
from luthier.recipe_graders import PythonDefinition


class PythonGrader(OpenAIGrader):
    """What a function gives, each answer in a new process; none where it fails in any way.

    OpenAI gives 0 where the function fails; here such an answer could not be scored.

    Args:
        definition: the source.
        limits: of time, memory and disk; OpenAI's where none are given.
    """

    def __init__(self, definition: PythonDefinition, limits: Limits | None = None) -> None:
        super().__init__(definition.name or definition.type, pass_threshold=definition.pass_threshold)
        self._source = definition.source
        self._limits = limits or Limits()
        self.isolation: Isolation | None = None
        """What kept the last process in; None before the first."""

    def _reward(self, case: Case) -> Reward:
        sample = {"output_json": None, "output_audio": None, **case.sample}
        outcome = run_grade(self._source, sample, case.item, self._limits)
        self.isolation = outcome.isolation or self.isolation
        if outcome.value is None:
            fault: Fault = "python_grader_server_error" if outcome.by == "machine" else "python_grader_runtime_error"
            return Reward(None, outcome.reason, fault)
        return Reward(outcome.value)


def isolations(grader: Grader) -> list[str]:
    """Returns what kept the code of a grader, or of those it is made of, from this machine: a sentence each."""
    if isinstance(grader, PythonGrader):
        return [grader.isolation.sentence] if grader.isolation else []
    parts = getattr(grader, "parts", {})
    return list(dict.fromkeys(sentence for part in parts.values() for sentence in isolations(part)))
