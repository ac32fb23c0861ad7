"""The rows that two sets of scores have in common, with what was left out counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.errors import EvaluateError
from luthier.evaluate.statistics import Floats, Integers

Score = float | None | Sequence[float | None]
"""A row's score in [0, 1]; None where it could not be scored; several for answers that were sampled several times."""

Scores = Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The rows that both sides have a score for, in the order of their ids.

    Attributes:
        base, tuned: each row's score, the mean of its answers' where there are several.
        base_answers, tuned_answers: each row's answers' scores.
        clusters: each row's cluster, numbered from 0 without gaps; None where rows are independent.
        base_unscored, tuned_unscored: rows without a score, on each side.
        base_only, tuned_only: ids that only one side has.
        answers_unscored: single answers without a score in rows that have others.
        alone: whether clusters were given, and each is one row.
    """

    base: Floats
    tuned: Floats
    base_answers: list[tuple[float, ...]]
    tuned_answers: list[tuple[float, ...]]
    clusters: Integers | None
    base_unscored: int
    tuned_unscored: int
    base_only: int
    tuned_only: int
    answers_unscored: int
    alone: bool

    @property
    def num_clusters(self) -> int | None:
        """How many clusters the rows come from."""
        return None if self.clusters is None else int(self.clusters.max()) + 1

    @property
    def sampled(self) -> bool:
        """Whether a row was answered more than once."""
        return any(len(row) > 1 for side in (self.base_answers, self.tuned_answers) for row in side)


def pair_scores(
    base: Scores, tuned: Scores, clusters: Mapping[str, str] | None = None, names: tuple[str, str] = ("base", "tuned")
) -> Pairs:
    """Returns the rows that both sides have a score for.

    Args:
        base, tuned: id → score.
        clusters: id → the source it shares with others; None where rows are independent.
        names: of the sides, for messages.

    Raises:
        EvaluateError: code "no_common_samples" where no row has two scores; "bad_score" for a score that is not in
            [0, 1]; "no_cluster" for a row without one.
    """
    one, other = (
        {key: _answers(score, name, key) for key, score in side.items()}
        for name, side in zip(names, (base, tuned), strict=True)
    )
    common = sorted(base.keys() & tuned.keys())
    paired = [key for key in common if one[key] and other[key]]
    if not paired:
        raise _nothing_in_common(len(common), len(base), len(tuned), names)
    numbers = None if clusters is None else _numbered(paired, clusters)
    alone = numbers is not None and int(numbers.max()) + 1 == len(paired)
    return Pairs(
        base=np.array([np.mean(one[key]) for key in paired], dtype=np.float64),
        tuned=np.array([np.mean(other[key]) for key in paired], dtype=np.float64),
        base_answers=[one[key] for key in paired],
        tuned_answers=[other[key] for key in paired],
        clusters=None if alone else numbers,
        base_unscored=sum(not answers for answers in one.values()),
        tuned_unscored=sum(not answers for answers in other.values()),
        base_only=len(base.keys() - tuned.keys()),
        tuned_only=len(tuned.keys() - base.keys()),
        answers_unscored=sum(
            sum(part is None for part in score)
            for side, answers in ((base, one), (tuned, other))
            for key in paired
            if isinstance(score := side[key], Sequence) and answers[key]
        ),
        alone=alone,
    )


def mean_score(score: Score) -> float | None:
    """Returns a row's score, the mean of its answers' where there are several; None where none could be scored."""
    if not isinstance(score, Sequence):
        return score
    scored = [part for part in score if part is not None]
    return float(np.mean(scored)) if scored else None


def _answers(score: Score, name: str, key: str) -> tuple[float, ...]:
    """Returns the scores of a row's answers, none where it could not be scored."""
    parts = tuple(score) if isinstance(score, Sequence) else (score,)
    for part in parts:
        if part is not None and not 0 <= part <= 1:
            raise EvaluateError(
                f"The {name} score of {key!r} is {part}.",
                code="bad_score",
                hint="Scores lie between 0 and 1; None says that an answer could not be scored.",
            )
    return tuple(float(part) for part in parts if part is not None)


def _numbered(paired: Sequence[str], clusters: Mapping[str, str]) -> Integers:
    for key in paired:
        if key not in clusters:
            raise EvaluateError(
                f"The row {key!r} has no cluster.",
                code="no_cluster",
                hint="Give each row the source it comes from; a row that shares none gets one of its own, such as its id.",
            )
    found = {cluster: number for number, cluster in enumerate(sorted({clusters[key] for key in paired}))}
    return np.array([found[clusters[key]] for key in paired], dtype=np.int64)


def _nothing_in_common(num_common: int, num_base: int, num_tuned: int, names: tuple[str, str]) -> EvaluateError:
    if num_common:
        problem = f"Of the {num_common:,} rows that both sides have, none has a score on both."
        hint = "Look at the reasons why they could not be scored; perhaps the grader does not suit the answers."
    else:
        problem = f"No id is in both: {num_base:,} ids on {names[0]}'s side, {num_tuned:,} on {names[1]}'s."
        hint = "A comparison is made row by row: give scores of the same rows under the same ids."
    return EvaluateError(problem, code="no_common_samples", hint=hint)
