"""A model that judges: what is asked of it, and what it says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """A question to a model that judges.

    Attributes:
        messages: with `role` and `content`, as in the chat API.
        model: the model's name, as the grader's definition has it; a judge that is one model may pass it over.
        response_schema: the JSON schema that the reply is asked to follow, or None; `name` is its name.
        name: of the schema.
        sampling: the chat API's sampling parameters, such as `temperature` and `seed`.
    """

    messages: Sequence[Mapping[str, Any]]
    model: str
    response_schema: Mapping[str, Any] | None = None
    name: str = "judgement"
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What a judge said.

    Attributes:
        text: the reply.
        logprobs: the log-probability of each of its tokens, where the judge gives them.
        refusal: why it would not answer, where it refused.
    """

    text: str
    logprobs: Sequence[float] | None = None
    refusal: str | None = None

    @property
    def result(self) -> Any:
        """The `result` of a reply that follows `result_schema`; of other JSON its value, of other text None."""
        bare = self.text.strip()
        if bare.startswith("```") and bare.endswith("```"):  # a model without structured output
            bare = bare.split("\n", 1)[-1][:-3]
        try:
            value = json.loads(bare)
        except (ValueError, RecursionError):
            return None
        return value.get("result") if isinstance(value, dict) else value

    @property
    def confidence(self) -> float | None:
        """The probability of the whole reply, or None where it is not known."""
        return None if self.logprobs is None else math.exp(min(0.0, math.fsum(self.logprobs)))


class Judge(Protocol):
    """Answers messages: a model in memory, or a service.

    Where several threads grade, several ask at once.
    """

    def ask(self, request: JudgeRequest) -> JudgeReply:
        """Returns the model's reply.

        Raises:
            RemoteError, ModelError: there is none; the row could not be scored. Any other error ends the evaluation.
        """
        ...


def result_schema(allowed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON schema of a reply with a `result` and the steps that led to it.

    The steps come first, so that a model thinks before it decides.

    Args:
        allowed: the schema of the result.

    Source: OpenAI's graders guide, "Score model grader outputs", for the two fields.
    """
    step = {
        "type": "object",
        "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
        "required": ["description", "conclusion"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"steps": {"type": "array", "items": step}, "result": allowed},
        "required": ["steps", "result"],
        "additionalProperties": False,
    }
