"""Several models, several metrics: every pair compared on each, all tests corrected together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from luthier.errors import EvaluateError
from luthier.evaluate.compare import Comparison, check_minimum_gain, conclude
from luthier.evaluate.findings import find
from luthier.evaluate.pairing import Scores, pair_scores
from luthier.evaluate.statistics import holm


@dataclass(frozen=True, slots=True)
class Pairing:
    """One comparison of a table.

    Attributes:
        metric: what is compared.
        base, tuned: the names of the two models; the base is the one given first.
        comparison: its verdict rests on the corrected p-value.
    """

    metric: str
    base: str
    tuned: str
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """All pairs of models on all metrics.

    Attributes:
        models, metrics: in the order given.
        pairings: metric by metric, each pair once.
        num_tests: tests corrected together, by Holm's method.
        notes: what was left out, and what the intervals say.
    """

    models: list[str]
    metrics: list[str]
    pairings: list[Pairing]
    num_tests: int
    notes: list[str]

    def better_than_first(self) -> list[str]:
        """Returns the models that are BETTER than the first one on the first metric."""
        first, metric = self.models[0], self.metrics[0]
        return [
            pairing.tuned
            for pairing in self.pairings
            if (pairing.base, pairing.metric, pairing.comparison.verdict) == (first, metric, "BETTER")
        ]


def compare_all(
    models: Mapping[str, Mapping[str, Scores]],
    *,
    minimum_gain: float = 0.1,
    seed: int = 0,
    deed: str = "answered",
    clusters: Mapping[str, str] | None = None,
) -> ComparisonTable:
    """Returns every pair of models compared on every metric that both have.

    All tests of the table are one family: its p-values are corrected by Holm's method, and its power is that of the
    strictest test. Intervals are 95 % each, as in a single comparison.

    Args:
        models: name → metric → id → score, the base first.
        minimum_gain, seed, deed, clusters: as in `compare_scores`.

    Raises:
        EvaluateError: code "nothing_to_compare" where fewer than two models are given, or no two share a metric; else as
            `compare_scores`.
    """
    check_minimum_gain(minimum_gain)
    metrics = list(dict.fromkeys(metric for scores in models.values() for metric in scores))
    planned = [
        (metric, base, tuned)
        for metric in metrics
        for base, tuned in combinations(models, 2)
        if metric in models[base] and metric in models[tuned]
    ]
    if not planned:
        raise EvaluateError(
            f"Of {len(models)} models no two have a metric in common.",
            code="nothing_to_compare",
            hint="Give two or more files whose lines have scores of the same name.",
        )
    measured = []
    for metric, base, tuned in planned:
        pairs = pair_scores(models[base][metric], models[tuned][metric], clusters, (base, tuned))
        measured.append((pairs, find(pairs, seed=seed, deed=deed, names=(base, tuned), num_tests=len(planned))))
    corrected: Sequence[float | None] = [None]
    if len(planned) > 1:
        corrected = holm([findings.p_value for _, findings in measured])
    pairings = [
        Pairing(
            metric,
            base,
            tuned,
            conclude(pairs, findings, minimum_gain, (base, tuned), adjusted_p=p, num_tests=len(planned)),
        )
        for (metric, base, tuned), (pairs, findings), p in zip(planned, measured, corrected, strict=True)
    ]
    return ComparisonTable(list(models), metrics, pairings, len(planned), _notes(models, metrics, pairings))


def _notes(
    models: Mapping[str, Mapping[str, Scores]], metrics: Sequence[str], pairings: Sequence[Pairing]
) -> list[str]:
    notes = []
    if len(pairings) > 1:
        notes.append(
            f"p is corrected for {len(pairings):,} tests by Holm's method: the chance of even one false verdict in the "
            "table is at most 5 %. Intervals are 95 % each."
        )
    for metric in metrics:
        having = [name for name, scores in models.items() if metric in scores]
        if len(having) < len(models):
            notes.append(f'The metric "{metric}" stands only in {", ".join(having)}.')
    for pairing in pairings:
        found = pairing.comparison
        where = f"{pairing.base} against {pairing.tuned}, {pairing.metric}: "
        if unpaired := found.base_only + found.tuned_only:
            notes.append(f"{where}{unpaired:,} ids stand on one side only and were left out.")
        if unscored := found.base_unscored + found.tuned_unscored:
            notes.append(f"{where}{unscored:,} rows without a score were left out.")
        notes.extend(where + note for note in found.notes)
    return notes
