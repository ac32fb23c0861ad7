"""OpenAI's graders that ask a model: `label_model` and `score_model`."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.errors import EvaluateError, ModelError, RemoteError
from luthier.evaluate.graders.label import label_of
from luthier.evaluate.graders.protocol import shortened
from luthier.evaluate.graders.reward import Case, OpenAIGrader, Reward
from luthier.evaluate.judge import Judge, JudgeRequest, result_schema
from luthier.evaluate.judge_correction import JudgeCheck, judged_share
from luthier.evaluate.samples import Grade
from luthier.recipe_graders import LabelModelDefinition, ScoreModelDefinition, Template


def judge_needed(judge: Judge | None, kind: str, model: str = "") -> Judge:
    """Returns the judge.

    Raises:
        EvaluateError: code "no_judge" where there is none.
    """
    if judge is None:
        raise EvaluateError(
            f"The grader {kind} asks a model{f' ({model})' if model else ''}, and there is none to ask.",
            code="no_judge",
            param="evaluate.judge",
            hint=f"Set evaluate.judge=openai:{model or 'gpt-4.1-mini'}, evaluate.judge=http://localhost:8000/v1#MODEL, or to "
            "the name or folder of a local model.",
        )
    return judge


class ModelGrader(OpenAIGrader):
    """A grader that asks a model and reads its reply.

    Attributes:
        check: the judge's verdicts beside people's on answers of the same kind, where there are any: they correct its share.
    """

    def __init__(
        self,
        definition: LabelModelDefinition | ScoreModelDefinition,
        judge: Judge | None,
        allowed: Mapping[str, Any],
        *,
        scale: tuple[float, float] = (0.0, 1.0),
        pass_threshold: float | None = None,
    ) -> None:
        super().__init__(definition.name or definition.type, pass_threshold=pass_threshold, scale=scale)
        self._judge = judge_needed(judge, definition.type, definition.model)
        self.check: JudgeCheck | None = None
        self._model = definition.model
        self._messages = [(message.role, Template(message.content)) for message in definition.input]
        parameters = definition.sampling_params
        self._sampling = parameters.model_dump(exclude_none=True) if parameters else {}
        self._schema = result_schema(allowed)

    def passed(self, grade: Grade) -> bool | None:
        """Returns whether an answer passes; None where it has no score, or nothing says from which score on one does."""
        if grade.score is None or "passed" not in grade.details:
            return None
        return bool(grade.details["passed"])

    def summarise(self, targets: Sequence[str], answers: Sequence[str], grades: Sequence[Grade], /) -> dict[str, float]:
        """Returns the mean of each detail, and the share that the judge passes: corrected for its mistakes, with the ends of
        its interval, or marked as uncalibrated."""
        numbers = super().summarise(targets, answers, grades)
        verdicts = [verdict for verdict in map(self.passed, grades) if verdict is not None]
        if not verdicts:
            scores = [grade.score for grade in grades if grade.score is not None]
            return numbers | {"judge's score (uncalibrated)": sum(scores) / len(scores)}
        share = judged_share(sum(verdicts), len(verdicts), self.check)
        if not share.calibrated:
            return numbers | {"passed by the judge (uncalibrated)": share.value}
        return numbers | {
            "passed by the judge (corrected)": share.value,
            "passed by the judge (corrected, low)": share.low,
            "passed by the judge (corrected, high)": share.high,
            "passed by the judge (as judged)": share.passed_share,
        }

    def _reward(self, case: Case) -> Reward:
        messages = [{"role": role, "content": text.render(case.namespaces)} for role, text in self._messages]
        request = JudgeRequest(messages, self._model, self._schema, sampling=self._sampling)
        try:
            reply = self._judge.ask(request)
        except (RemoteError, ModelError) as error:
            return Reward(None, f"the judge did not answer: {error.message}", "model_grader_server_error")
        if reply.refusal:
            return Reward(None, f"the judge refused: {shortened(reply.refusal, 80)}", "model_grader_refusal_error")
        confidence = {} if reply.confidence is None else {"judge_confidence": reply.confidence}
        return self._read(reply.result, reply.text, confidence)

    @abstractmethod
    def _read(self, result: Any, text: str, details: dict[str, float]) -> Reward:
        """Returns the reward of a reply."""


class LabelModelGrader(ModelGrader):
    """1 where the label that a model gives is one that passes.

    Raises:
        EvaluateError: code "no_judge" where there is no model to ask.
    """

    def __init__(self, definition: LabelModelDefinition, judge: Judge | None) -> None:
        super().__init__(definition, judge, {"type": "string", "enum": list(definition.labels)})
        self._labels = {label_of(label): label for label in definition.labels}
        self._passing = set(definition.passing_labels)

    def passed(self, grade: Grade) -> bool | None:
        """Returns whether the label is one that passes; None where there is none."""
        return None if grade.score is None else grade.score == 1.0

    def _read(self, result: Any, text: str, details: dict[str, float]) -> Reward:
        label = self._labels.get(label_of(result if isinstance(result, str) else text))
        if label is None:
            said = shortened(" ".join(text.split()), 60)
            return Reward(None, f"the judge gave none of its labels: {said!r}", "model_grader_parse_error")
        passes = label in self._passing
        return Reward(float(passes), None if passes else f"the judge says {label}", details=details)


class ScoreModelGrader(ModelGrader):
    """The number that a model gives, held within its range.

    Raises:
        EvaluateError: code "no_judge" where there is no model to ask.
    """

    def __init__(self, definition: ScoreModelDefinition, judge: Judge | None) -> None:
        super().__init__(
            definition, judge, {"type": "number"}, scale=definition.range, pass_threshold=definition.pass_threshold
        )

    def _read(self, result: Any, text: str, details: dict[str, float]) -> Reward:
        value = _number(text if result is None else result)
        if value is None:
            said = shortened(" ".join(text.split()), 60)
            return Reward(None, f"the judge gave no number: {said!r}", "model_grader_parse_error")
        low, high = self._scale
        held = min(max(value, low), high)
        reason = f"the judge gave {value:g}" + ("" if held == value else f", held to {held:g}")
        return Reward(held, None if held == high else reason, details=details)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
