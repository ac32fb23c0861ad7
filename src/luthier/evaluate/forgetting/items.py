"""What a probe consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Check = Mapping[str, Any]
"""A check of an answer: `{"check": name}` and what it needs to know; see `luthier.evaluate.forgetting.checks`."""

TASK_TOKENS = 64
"""The longest answer to a task of our own; a good one is shorter."""
LONG_TASK_TOKENS = 256
"""The longest answer to a task of IFEval, which asks for letters and poems."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sentences that differ in little, of which one is grammatical.

    Attributes:
        id: unique among the pairs.
        group: the phenomenon.
        good, bad: the sentences.
    """

    id: str
    group: str
    good: str
    bad: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question, or the beginning of a text, with several ways to go on, of which one is right.

    Attributes:
        id: unique among the questions.
        group: the topic or source.
        context: what is asked.
        choices: the answers to choose from.
        answer: the place of the right one.
    """

    id: str
    group: str
    context: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class Completion:
    """A text whose last word can be known from the rest.

    Attributes:
        id: unique among the completions.
        group: where it comes from.
        context: the text without its last word.
        target: that word.
    """

    id: str
    group: str
    context: str
    target: str


@dataclass(frozen=True, slots=True)
class Passage:
    """Prose.

    Attributes:
        group: the register.
        text: any length.
    """

    group: str
    text: str


@dataclass(frozen=True, slots=True)
class Task:
    """A request whose answer can be checked by a program.

    Attributes:
        id: unique among the tasks.
        group: the kind of task; answers to `refusal` and `compliance` are counted as refusals, too.
        prompt: what the user says.
        checks: all of which a good answer passes.
        max_tokens: of the answer.
    """

    id: str
    group: str
    prompt: str
    checks: tuple[Check, ...]
    max_tokens: int = TASK_TOKENS


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked of both models.

    Attributes:
        name: `builtin`, or the path it came from.
        pairs, questions, completions, passages, tasks: its items.
        notes: what was left out, and why.
    """

    name: str
    pairs: tuple[Pair, ...] = ()
    questions: tuple[Question, ...] = ()
    completions: tuple[Completion, ...] = ()
    passages: tuple[Passage, ...] = ()
    tasks: tuple[Task, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def num_items(self) -> int:
        """Items of all kinds."""
        return sum(map(len, (self.pairs, self.questions, self.completions, self.passages, self.tasks)))

    def joined(self, other: Probe) -> Probe:
        """Returns both as one, under this one's name."""
        return Probe(
            self.name,
            self.pairs + other.pairs,
            self.questions + other.questions,
            self.completions + other.completions,
            self.passages + other.passages,
            self.tasks + other.tasks,
            self.notes + other.notes,
        )
