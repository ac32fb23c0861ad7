"""What a grader is, and what is said of all rows together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from luthier.evaluate.samples import Answer, Grade

Item = Mapping[str, Any]
"""The row that a sample was made of, as its file has it: OpenAI's `item` namespace."""

NO_ITEM: Item = MappingProxyType({})


class Grader(Protocol):
    """Scores answers.

    Attributes:
        name: as reports call it.
    """

    name: str

    def grade(self, target: str, answer: str, item: Item = NO_ITEM, /) -> Grade:
        """Returns the score of one answer.

        Args:
            target: the expected answer.
            answer: the given one.
            item: the row, for graders that look at more of it.
        """
        ...


@runtime_checkable
class Summarising(Protocol):
    """A grader with something to say of all rows together."""

    def summarise(self, targets: Sequence[str], answers: Sequence[str], grades: Sequence[Grade], /) -> dict[str, float]:
        """Returns numbers by name over rows that were all scored; at least one."""
        ...


def summarise(
    grader: Grader, targets: Sequence[str], answers: Sequence[str], grades: Sequence[Grade]
) -> dict[str, float]:
    """Returns a grader's secondary metrics over all scored rows; empty where it has none or no row was scored.

    Args:
        grader: the one that gave the grades.
        targets, answers, grades: of the same rows in the same order.

    Raises:
        ValueError: the lengths differ.
    """
    scored = [row for row in zip(targets, answers, grades, strict=True) if row[2].score is not None]
    if not scored or not isinstance(grader, Summarising):
        return {}
    kept_targets, kept_answers, kept_grades = zip(*scored, strict=True)
    return grader.summarise(kept_targets, kept_answers, kept_grades)


def grade_all(
    grader: Grader,
    targets: Sequence[str],
    answers: Sequence[str],
    items: Sequence[Item] | None = None,
    *,
    workers: int = 1,
) -> list[Grade]:
    """Returns the grade of each answer, in their order.

    Args:
        grader: scores one answer at a time.
        targets, answers: of the same rows in the same order.
        items: the rows themselves, where they are at hand.
        workers: threads; more than one helps graders that wait for another process or a service.

    Raises:
        ValueError: the lengths differ.
    """
    rows = list(zip(targets, answers, items if items is not None else [NO_ITEM] * len(targets), strict=True))
    if workers == 1:
        return [grader.grade(*row) for row in rows]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda row: grader.grade(*row), rows))


def grade_answers(
    grader: Grader,
    targets: Sequence[str],
    answers: Sequence[Answer],
    items: Sequence[Item] | None = None,
    *,
    workers: int = 1,
) -> list[Grade]:
    """Returns the grade of each answer, in their order; where a service refused to answer there is nothing to score.

    Args:
        grader, targets, items, workers: as of `grade_all`.
        answers: of the same rows in the same order.

    Raises:
        ValueError: the lengths differ.
    """
    rows = list(zip(targets, answers, items if items is not None else [NO_ITEM] * len(targets), strict=True))
    given = [row for row in rows if row[1].finish_reason != "refused"]
    targets, texts, items = ([row[0] for row in given], [row[1].text for row in given], [row[2] for row in given])
    grades = iter(grade_all(grader, targets, texts, items, workers=workers))
    return [
        Grade(None, unanswered(answer)) if answer.finish_reason == "refused" else next(grades) for _, answer, _ in rows
    ]


def unanswered(answer: Answer) -> str:
    """Returns why there is no answer, in words that are the same for all rows of a kind; the answer has the service's own."""
    return f"could not be answered: {(answer.refusal or 'refused').partition(':')[0]}"


def unscored_reasons(grades: Sequence[Grade]) -> dict[str, int]:
    """Returns how often each reason kept an answer from being scored, the most frequent first."""
    reasons = Counter(grade.reason or "no reason was given" for grade in grades if grade.score is None)
    return dict(reasons.most_common())


def mean_details(grades: Sequence[Grade], names: Sequence[str]) -> dict[str, float]:
    """Returns the mean of some details over the grades that have them; names that none has are left out."""
    found = {name: [grade.details[name] for grade in grades if name in grade.details] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def shortened(text: str, limit: int = 40) -> str:
    """Returns a text for a message, cut to a limit of characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
