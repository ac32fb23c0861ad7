"""Before a test: what its rows can show, and how many would do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.evaluate.findings import PLANNED_REGRESS_RATE
from luthier.evaluate.sentences import counted, points, with_unit
from luthier.evaluate.statistics import (
    ALPHA,
    MAX_ROWS,
    POWER,
    Grouping,
    detectable_gain,
    detectable_score_gain,
    grouping_of,
    rows_needed,
    score_rows_needed,
)

PLANNED_DEVIATION = 1 / 3
"""The standard deviation between rows of score differences that is assumed before anything is measured.
Source: Miller 2024 (arXiv 2411.00640), the example of section 5: a variance of 1/9."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a test of so many rows can show.

    Attributes:
        rows: of the test.
        clusters: sources they come from; None where rows are independent.
        effective_rows: independent rows that would show as much.
        detectable_gain: the smallest gain shown with 80 % power; None where none is, however large.
        minimum_gain: the smallest gain worth having.
        rows_needed: rows that would show it, in clusters like these; None above 100,000.
        assumption: what the numbers rest on.
        sentence: all of it for a person.
    """

    rows: int
    clusters: int | None
    effective_rows: float
    detectable_gain: float | None
    minimum_gain: float
    rows_needed: int | None
    assumption: str
    sentence: str

    @property
    def enough(self) -> bool:
        """Whether the smallest gain worth having would be shown."""
        return self.detectable_gain is not None and self.detectable_gain <= self.minimum_gain


def outlook(
    rows: int,
    *,
    minimum_gain: float = 0.1,
    regress_rate: float = PLANNED_REGRESS_RATE,
    deviation: float | None = None,
    cluster_sizes: Sequence[int] | None = None,
    correlation: float = 1.0,
    num_tests: int = 1,
) -> Outlook:
    """Returns what a test of so many rows can show, before it is made.

    Args:
        rows: of the test, at least one.
        minimum_gain: the smallest gain worth having, in score points.
        regress_rate: for right-or-wrong scores, the share of rows assumed (or measured) to flip against the gain.
        deviation: for graded scores, the standard deviation of the differences (`PLANNED_DEVIATION` where none was
            measured); None for right-or-wrong scores.
        cluster_sizes: rows of each source, where rows share one; they need not add up to `rows`, of which they tell the
            kind.
        correlation: of the rows of a cluster; unmeasured it is 1, the safe side: a source counts as one row.
        num_tests: tests that will share the level.
    """
    alpha = ALPHA / num_tests
    grouping = _grouping(rows, cluster_sizes, correlation)
    test, assumed = "exact McNemar test", f"{points(regress_rate)} % of the rows flip against it"
    if deviation is None:
        gain = detectable_gain(rows, regress_rate, alpha=alpha, grouping=grouping)
        needed = rows_needed(minimum_gain, regress_rate, alpha=alpha, grouping=grouping)
    else:
        gain = detectable_score_gain(rows, deviation, alpha=alpha, grouping=grouping)
        needed = score_rows_needed(minimum_gain, deviation, alpha=alpha, grouping=grouping)
        test, assumed = "paired t-test", f"differences spread over rows by {with_unit(points(deviation))}"
    if grouping is not None:
        test = f"{test} by clusters"
        assumed += f" and rows of one source are alike to {grouping.correlation:.2g} of 1"
    effective = rows if grouping is None else grouping.effective_rows
    clusters = None if grouping is None else grouping.clusters
    assumption = f"{test}, {points(POWER)} % power, {points(alpha)} % level, where {assumed}"
    shows = "can show no gain at all" if gain is None else f"shows a gain of {with_unit(points(gain))} or more"
    sources = "" if clusters is None else f" from {counted(clusters, 'source')}"
    sentence = f"A test of {counted(rows, 'row')}{sources} {shows} ({assumption})."
    if gain is None or gain > minimum_gain:
        many = f"about {needed:,} rows" if needed is not None else f"more than {MAX_ROWS:,} rows"
        sentence += f" To show {with_unit(points(minimum_gain))} takes {many}."
    return Outlook(rows, clusters, effective, gain, minimum_gain, needed, assumption, sentence)


def _grouping(rows: int, sizes: Sequence[int] | None, correlation: float) -> Grouping | None:
    if not sizes or max(sizes) <= 1:
        return None
    kind = grouping_of(sizes, correlation)
    clusters = max(1, math.floor(kind.clusters_among(rows)))
    return Grouping(rows, clusters, min(kind.weighted_size, rows), correlation)
