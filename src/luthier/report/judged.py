"""One model's answers with their grades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from luthier.evaluate.graders import Grader, grade_answers, summarise
from luthier.evaluate.pairing import Score
from luthier.evaluate.samples import Answer, Grade, Sample

GRADING_THREADS = 4
"""Graders that wait for another process are asked side by side."""

_Each = TypeVar("_Each")


@dataclass(frozen=True, slots=True)
class Judged:
    """One model's answers and their grades, in the order of the samples; of several to one sample, one after another.

    Attributes:
        scores: sample id → score, None where it could not be scored; a list where each was answered several times.
        metrics: secondary metrics by name.
        draws: answers a sample.
    """

    answers: Sequence[Answer]
    grades: Sequence[Grade]
    scores: dict[str, Score]
    metrics: dict[str, float]
    draws: int = 1

    @classmethod
    def of(
        cls,
        grader: Grader,
        samples: Sequence[Sample],
        answers: Sequence[Answer],
        draws: int = 1,
        *,
        workers: int = GRADING_THREADS,
    ) -> Judged:
        """Grades the answers, so many side by side."""
        asked = [sample for sample in samples for _ in range(draws)]
        targets, texts = [sample.target for sample in asked], [answer.text for answer in answers]
        grades = grade_answers(grader, targets, answers, [sample.item for sample in asked], workers=workers)
        return cls.graded(samples, answers, grades, summarise(grader, targets, texts, grades), draws)

    @classmethod
    def graded(
        cls,
        samples: Sequence[Sample],
        answers: Sequence[Answer],
        grades: Sequence[Grade],
        metrics: dict[str, float],
        draws: int = 1,
    ) -> Judged:
        """Returns answers whose grades are known, with the scores of each sample."""
        scores: dict[str, Score] = {}
        for number, sample in enumerate(samples):
            given = [grade.score for grade in grades[number * draws : (number + 1) * draws]]
            scores[sample.id] = given[0] if draws == 1 else given
        return cls(answers, grades, scores, metrics, draws)

    def first(self, each: Sequence[_Each]) -> Sequence[_Each]:
        """Returns, of answers or grades, the first of each sample."""
        return each[:: self.draws]
