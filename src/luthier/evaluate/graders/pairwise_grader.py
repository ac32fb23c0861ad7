"""The grader that compares a model's answers with the base's."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.evaluate.graders.model_graders import judge_needed
from luthier.evaluate.graders.protocol import NO_ITEM, Item
from luthier.evaluate.judge import Judge
from luthier.evaluate.pairwise import Pair, PairwiseResult, judge_pairs
from luthier.evaluate.samples import Grade
from luthier.recipe_graders import PairwiseDefinition

SAME = "both answers are the same"
FLIP_RATE = "judge changes its mind with the order"
FIRST_SHARE = "judge chooses what stands first"
WON = "preferred to the base (uncalibrated)"


class PairwiseGrader:
    """Says whose answer is better, the base's or another model's; it compares, and scores no answer by itself.

    Raises:
        EvaluateError: code "no_judge" where there is no model to ask.
    """

    name = "pairwise"

    def __init__(self, definition: PairwiseDefinition, judge: Judge | None) -> None:
        self.name = definition.name or definition.type
        self._definition = definition
        self._judge = judge_needed(judge, definition.type)

    def grade(self, _target: str, _answer: str, _item: Item = NO_ITEM, /) -> Grade:
        """Returns no score: one answer is no pair."""
        return Grade(None, "answers are compared in pairs, and this one stands alone")

    def compare(self, pairs: Sequence[Pair], *, workers: int = 1) -> tuple[list[Grade], dict[str, float]]:
        """Returns a grade for the second answer of each pair, and what is to be said of the judge.

        1 where it is preferred to the base's in both orders, 0 where the base's is, 0.5 for a tie, a changed mind, and equal
        answers, about which nobody is asked.

        Args:
            pairs: with the base's answers.
            workers: threads that ask side by side.
        """
        shown = (
            pairs if self._definition.show_expected else [Pair(pair.question, pair.base, pair.tuned) for pair in pairs]
        )
        asked = [pair for pair in shown if pair.base != pair.tuned]
        if not asked:
            return [Grade(0.5, SAME) for _ in pairs], {}
        result = judge_pairs(self._judge, "", asked, criteria=self._definition.criteria, workers=workers)
        judgements = iter(result.judgements)
        grades = []
        for pair in shown:
            if pair.base == pair.tuned:
                grades.append(Grade(0.5, SAME))
                continue
            judgement = next(judgements)
            grades.append(Grade(judgement.score, judgement.reason))
        return grades, _numbers(grades, result)


def _numbers(grades: Sequence[Grade], result: PairwiseResult) -> dict[str, float]:
    scores = [grade.score for grade in grades if grade.score is not None]
    found = {
        WON: sum(scores) / len(scores) if scores else None,
        FLIP_RATE: result.swap_flip_rate,
        FIRST_SHARE: result.first_share,
    }
    return {name: value for name, value in found.items() if value is not None}
