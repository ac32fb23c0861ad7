"""Several models and metrics in one table, clusters in a comparison, and what a test can show before it is made."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from luthier import sdk
from luthier.errors import EvaluateError
from luthier.evaluate.compare import compare_scores
from luthier.evaluate.outlook import PLANNED_DEVIATION, outlook
from luthier.evaluate.pairing import Scores
from luthier.evaluate.statistics import detectable_gain, holm, rows_needed
from luthier.evaluate.table import ComparisonTable, compare_all
from luthier.report.schema import Report

pytestmark = pytest.mark.unit


def coins(share: float, seed: int, n: int = 150) -> Scores:
    rng = random.Random(seed)
    return {f"row {row}": float(rng.random() < share) for row in range(n)}


def test_all_pairs_are_compared_and_corrected_together() -> None:
    models = {
        name: {"score": coins(share, seed)} for seed, (name, share) in enumerate([("a", 0.3), ("b", 0.5), ("c", 0.7)])
    }
    table = compare_all(models)
    assert [(pairing.base, pairing.tuned) for pairing in table.pairings] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert table.num_tests == 3
    raw = [pairing.comparison.p_value for pairing in table.pairings]
    assert [pairing.comparison.adjusted_p for pairing in table.pairings] == holm(raw)
    single = compare_scores(models["a"]["score"], models["b"]["score"])
    found = table.pairings[0].comparison
    assert (found.difference, found.p_value) == (single.difference, single.p_value)
    assert found.detectable_gain is not None
    assert single.detectable_gain is not None
    assert found.detectable_gain > single.detectable_gain
    assert "after Holm's correction for 3 tests" in found.reason
    assert "c" in table.better_than_first()


def test_the_corrected_p_decides() -> None:
    """8 flips against 1: p = 0.039 alone, 0.12 among three."""
    base = {str(row): float(row < 20) for row in range(60)}
    tuned = base | {str(row): 1.0 for row in range(20, 28)} | {"0": 0.0}
    assert compare_scores(base, tuned).verdict == "BETTER"
    table = compare_all({"a": {"score": base}, "b": {"score": tuned}, "c": {"score": base}})
    assert table.pairings[0].comparison.verdict == "UNDERPOWERED"
    assert table.better_than_first() == []


def test_metrics_that_a_model_lacks_are_said() -> None:
    scores = coins(0.5, 1)
    table = compare_all({"a": {"f1": scores, "exact": scores}, "b": {"f1": scores}})
    assert [pairing.metric for pairing in table.pairings] == ["f1"]
    assert any('"exact" stands only in a' in note for note in table.notes)
    assert table.pairings[0].comparison.adjusted_p is None
    with pytest.raises(EvaluateError) as caught:
        compare_all({"a": {"f1": scores}, "b": {"exact": scores}})
    assert caught.value.code == "nothing_to_compare"


def test_rows_left_out_are_said_pair_by_pair() -> None:
    table = compare_all({"a": {"m": {"1": 1, "2": 0, "3": None}}, "b": {"m": {"1": 1, "2": 1, "3": 1, "4": 1}}})
    assert any("1 ids stand on one side only" in note for note in table.notes)
    assert any("1 rows without a score" in note for note in table.notes)


def test_clusters_widen_the_interval_and_are_told() -> None:
    rng = random.Random(4)
    base, tuned, clusters = {}, {}, {}
    for source in range(30):
        flip = rng.random() < 0.4
        for row in range(8):
            key = f"{source} {row}"
            base[key], tuned[key], clusters[key] = 0.0, float(flip), f"source {source}"
    naive, ours = compare_scores(base, tuned), compare_scores(base, tuned, clusters=clusters)
    assert (ours.n, ours.clusters) == (240, 30)
    assert ours.correlation == pytest.approx(1.0)
    assert ours.design_effect == pytest.approx(8.0)
    assert ours.difference.value == naive.difference.value
    assert ours.difference.low < naive.difference.low
    assert ours.p_value > naive.p_value
    assert "240 test rows in 30 clusters" in ours.reason
    assert "30 independent ones" in ours.power_assumption
    assert ours.detectable_gain == detectable_gain(30, 0.0125)
    assert naive.mid_p is not None
    assert ours.mid_p is None


def test_clusters_of_one_row_are_independent_rows() -> None:
    base, tuned = coins(0.4, 1), coins(0.6, 2)
    alone = compare_scores(base, tuned, clusters={key: key for key in base})
    plain = compare_scores(base, tuned)
    assert alone.p_value == plain.p_value
    assert alone.clusters is None
    assert any("Each cluster is one row" in note for note in alone.notes)


def test_a_row_without_a_cluster_is_refused() -> None:
    with pytest.raises(EvaluateError) as caught:
        compare_scores({"a": 1, "b": 0}, {"a": 1, "b": 1}, clusters={"a": "x"})
    assert caught.value.code == "no_cluster"
    assert "'b'" in caught.value.message


def test_files_give_a_report_for_one_comparison_and_a_table_for_more(tmp_path: Path) -> None:
    paths = []
    for name, share in (("a", 0.2), ("b", 0.6), ("c", 0.7)):
        lines = [
            json.dumps({"id": key, "score": score, "source": key[:5]})
            for key, score in coins(share, len(paths)).items()
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
        paths.append(tmp_path / f"{name}.jsonl")
    report = sdk.compare_files(paths[:2], cluster="source")
    assert isinstance(report, Report)
    assert "flipping together" in report.test
    assert report == sdk.compare(*paths[:2], cluster="source").model_copy(update={"created_at": report.created_at})
    table = sdk.compare_files(paths)
    assert isinstance(table, ComparisonTable)
    assert len(table.pairings) == 3
    assert str(paths[1]) in table.better_than_first()


def test_several_metrics_in_two_files_are_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "scores": {"x": 1, "y": 0.5}}\n{"id": 2, "scores": {"x": 0, "y": [0.5, 1]}}')
    table = sdk.compare_files([path, path])
    assert isinstance(table, ComparisonTable)
    assert table.metrics == ["x", "y"]
    assert all(pairing.comparison.difference.value == 0 for pairing in table.pairings)
    with pytest.raises(EvaluateError) as caught:
        sdk.compare(path, path)
    assert caught.value.code == "several_metrics"


def test_the_outlook_of_independent_rows_is_that_of_mcnemar() -> None:
    found = outlook(100)
    assert found.detectable_gain == detectable_gain(100, 0.05)
    assert found.rows_needed == rows_needed(0.1, 0.05) == 168
    assert not found.enough
    assert found.effective_rows == 100
    assert "shows a gain of 14.2 points or more" in found.sentence
    assert "takes about 168 rows" in found.sentence
    assert outlook(200).enough


def test_a_test_of_one_row_can_show_nothing() -> None:
    assert outlook(1).detectable_gain is None
    assert "can show no gain at all" in outlook(1).sentence


def test_sources_count_as_rows_until_their_likeness_is_measured() -> None:
    found = outlook(120, cluster_sizes=[4] * 30)
    assert (found.clusters, found.effective_rows) == (30, 30)
    assert found.detectable_gain == detectable_gain(30, 0.05)
    assert found.rows_needed == 4 * 168
    measured = outlook(120, cluster_sizes=[4] * 30, correlation=0.2)
    assert measured.detectable_gain is not None
    assert found.detectable_gain is not None
    assert measured.detectable_gain < found.detectable_gain
    assert outlook(120, cluster_sizes=[1] * 120) == outlook(120)
    assert outlook(60, cluster_sizes=[4] * 30).clusters == 15


def test_the_outlook_of_graded_scores_and_of_several_tests() -> None:
    assert outlook(969, minimum_gain=0.03, deviation=PLANNED_DEVIATION).rows_needed == pytest.approx(969, abs=3)
    one, six = outlook(100), outlook(100, num_tests=6)
    assert one.detectable_gain is not None
    assert six.detectable_gain is not None
    assert six.detectable_gain > one.detectable_gain
