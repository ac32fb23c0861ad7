"""Several answers a row: the two parts of the standard error are those that were put in."""

from __future__ import annotations

import math

import numpy as np
import pytest

from luthier.evaluate.compare import compare_scores
from luthier.evaluate.statistics import split_noise

pytestmark = pytest.mark.unit


def test_the_parts_are_those_that_were_put_in() -> None:
    rng = np.random.default_rng(1)
    rows, base_k, tuned_k = 20_000, 2, 5
    base = rng.normal(0, 0.3, (rows, base_k))
    tuned = rng.normal(0.1, 0.2, (rows, 1)) + rng.normal(0, 0.4, (rows, tuned_k))
    error = float((tuned.mean(1) - base.mean(1)).std(ddof=1)) / math.sqrt(rows)
    noise = split_noise(base.tolist(), tuned.tolist(), error)
    assert rows * noise.sampling_error**2 == pytest.approx(0.3**2 / base_k + 0.4**2 / tuned_k, rel=0.03)
    assert rows * noise.row_error**2 == pytest.approx(0.2**2, rel=0.05)
    assert noise.error**2 == pytest.approx(noise.row_error**2 + noise.sampling_error**2)
    assert (noise.base_samples, noise.tuned_samples) == (2, 5)
    assert noise.row_error < noise.error_with(2) < noise.error_with(1) == pytest.approx(noise.error)


def test_rows_answered_once_take_the_spread_of_the_others() -> None:
    rng = np.random.default_rng(2)
    mixed = [rng.normal(0, 0.3, 1 if row % 2 else 3).tolist() for row in range(20_000)]
    once = [[0.0]] * len(mixed)
    noise = split_noise(once, mixed, 1.0)
    assert len(mixed) * noise.sampling_error**2 == pytest.approx(0.3**2 * (1 / 1 + 1 / 3) / 2, rel=0.03)


def test_chance_never_makes_a_part_negative() -> None:
    noise = split_noise([[0, 1], [1, 0], [0, 1]], [[1, 0], [0, 1], [1, 0]], error=0.01)
    assert noise.row_error == 0.0
    assert noise.sampling_error == 0.01


def test_a_comparison_tells_the_parts() -> None:
    rng = np.random.default_rng(3)
    base = {str(row): (rng.random(4) < 0.4).astype(float).tolist() for row in range(80)}
    tuned = {str(row): (rng.random(4) < 0.7).astype(float).tolist() for row in range(80)}
    found = compare_scores(base, tuned)
    assert found.noise is not None
    assert found.verdict == "BETTER"
    assert found.noise.sampling_error > found.noise.row_error
    assert any("4 answers a row from the base" in note for note in found.notes)
    clusters = {str(row): str(row // 4) for row in range(80)}
    grouped = compare_scores(base, tuned, clusters=clusters)
    assert grouped.noise is not None
    # sampling is the same whatever rows share, but for the error that it is a part of
    assert grouped.noise.sampling_error == pytest.approx(min(found.noise.sampling_error, grouped.noise.error))
    once = {key: scores[0] for key, scores in base.items()}
    assert compare_scores(once, once).noise is None
