"""The words of an evaluation: sample, answer, grade, and where answers come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Sample:
    """A held-out row, cut before the answer that is to be given.

    Attributes:
        id: unique in its set and stable under reordering of the file.
        prompt: the messages before the target.
        target: the expected answer.
        tools: the functions offered with the prompt, or None.
        item: the row as its file has it, for graders that look at more of it than the target.
    """

    id: str
    prompt: list[dict[str, Any]]
    target: str
    tools: list[dict[str, Any]] | None = None
    item: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to a sample.

    Attributes:
        id: the sample's.
        text: the answer without its end token.
        num_tokens: tokens generated, the end token included.
        finish_reason: `stop` where the model ended by itself, `length` where the limit cut it, `refused` where a service
            would not answer: then there is no answer, which is not the same as an empty one.
        refusal: why it would not.
        prompt_tokens, cached_tokens: what a service counted of the prompt, and how much of it it had computed before; None
            where nobody counted.
    """

    id: str
    text: str
    num_tokens: int
    finish_reason: Literal["stop", "length", "refused"]
    refusal: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Grade:
    """The score of an answer.

    Attributes:
        score: in [0, 1], or None where it could not be scored (never a silent zero).
        reason: why it could not be scored, or what was wrong, in a few words.
        details: further numbers by name, such as a per-field F1.
    """

    score: float | None
    reason: str | None = None
    details: dict[str, float] = field(default_factory=dict)


class AnswerSource(Protocol):
    """Anything that answers samples: a local model, with or without its adapter, or a remote service.

    Attributes:
        name: of the model, and of the file that keeps its answers.
        identity: what the answers depend on but the samples: weights, settings, a service's address and model.
    """

    name: str
    identity: str

    def answer(
        self,
        samples: Sequence[Sample],
        done: frozenset[str] = frozenset(),
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> Iterator[list[Answer]]:
        """Yields answers in batches, in an order of the source's choosing; each sample that is not done is answered once."""
        ...
