"""The grader of labels, and the table of which were taken for which."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.evaluate.graders.protocol import NO_ITEM, Item
from luthier.evaluate.samples import Grade

_QUOTES = {'""', "''", "``", "“”", "„“", "”“", "‘’", "‚‘", "«»", "»«", "‹›"}


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """Which labels were taken for which.

    Attributes:
        labels: the expected labels, sorted.
        counts: [expected, given] rows; the last column counts answers that are none of the labels.
    """

    labels: list[str]
    counts: list[list[int]]


class LabelGrader:
    """1 where the answer is the expected label; case, a full stop and surrounding quotes do not matter."""

    name = "label"

    def grade(self, target: str, answer: str, _item: Item = NO_ITEM, /) -> Grade:
        """Returns 1 or 0; None where nothing is left of the expected label."""
        expected, given = label_of(target), label_of(answer)
        if not expected:
            return Grade(None, "the expected label is empty")
        if expected == given:
            return Grade(1.0)
        if not given:
            return Grade(0.0, "the answer is empty")
        among = re.search(rf"(?<!\w){re.escape(expected)}(?!\w)", given)
        return Grade(0.0, "the label stands among other text" if among else "a different label")

    def summarise(
        self, targets: Sequence[str], answers: Sequence[str], _grades: Sequence[Grade], /
    ) -> dict[str, float]:
        """Returns accuracy, macro-F1 and the share of answers that are a label at all.

        The classes are the labels that occur as targets; any other answer counts as a miss of its row's class. This is
        scikit-learn's `f1_score(average="macro", labels=<those>, zero_division=0)`.
        """
        expected = [label_of(target) for target in targets]
        given = [label_of(answer) for answer in answers]
        support, predicted = Counter(expected), Counter(given)
        right = Counter(label for label, answer in zip(expected, given, strict=True) if label == answer)
        f1 = [2 * right[label] / (support[label] + predicted[label]) for label in support]
        return {
            "accuracy": right.total() / len(expected),
            "macro_f1": sum(f1) / len(f1),
            "known_label": sum(label in support for label in given) / len(given),
        }


def confusion_matrix(targets: Sequence[str], answers: Sequence[str]) -> ConfusionMatrix:
    """Returns which labels were taken for which; rows without an expected label are left out.

    Raises:
        ValueError: the lengths differ.
    """
    pairs = [(label_of(target), label_of(answer)) for target, answer in zip(targets, answers, strict=True)]
    labels = sorted({expected for expected, _ in pairs if expected})
    place = {label: index for index, label in enumerate(labels)}
    counts = [[0] * (len(labels) + 1) for _ in labels]
    for expected, given in pairs:
        if expected:
            counts[place[expected]][place.get(given, len(labels))] += 1
    return ConfusionMatrix(labels, counts)


def label_of(text: str) -> str:
    """Returns a label as it is compared: case folded, without outer whitespace, quotes around it, and a full stop."""
    label = text.strip().casefold()
    while True:
        bare = label.removesuffix(".").strip()
        if len(bare) > 1 and bare[0] + bare[-1] in _QUOTES:
            bare = bare[1:-1].strip()
        if bare == label:
            return label
        label = bare
