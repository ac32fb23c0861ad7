"""Models trained on parts of a run's data, and the curve through their scores: would more data help?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from luthier.data.check import MIN_EXAMPLES
from luthier.data.split import take, write_examples
from luthier.errors import EvaluateError
from luthier.evaluate.learning_curve import fit_curve
from luthier.evaluate.sentences import counted
from luthier.evaluate.statistics import cluster_sums
from luthier.recipe_io import LoadedRecipe
from luthier.report.schema import CurvePoint, LearningCurve, Report
from luthier.runs import RunFolder
from luthier.stages.opening import read_recipe, with_overrides
from luthier.stages.reading import read_checked

SHARES = ("1/8", "1/4", "1/2")
"""Of the training rows, each part within the next; the run itself is the whole."""
GAIN = 0.05
"""The gain asked about, in score points."""
_BEYOND = 4.0
"""How many times the data the curve is drawn for."""
_DRAWN = 40


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the training rows, and the run that learns from it.

    Attributes:
        recipe: with every value that a rule chose left to that rule again.
        folder: of the run.
        num_rows: of it.
    """

    recipe: LoadedRecipe
    folder: Path
    num_rows: int


def parts_of(run: RunFolder) -> list[Part]:
    """Writes parts of a run's training rows into its folder and returns the runs to be made of them, the smallest first.

    Raises:
        EvaluateError: code "too_few_rows" where the rows are too few for two parts beside the whole.
    """
    train = read_checked(run.data / "train.jsonl")
    recipe = read_recipe(run)
    chosen = [entry["path"] for entry in run.read_manifest().get("resolved", [])]
    parts = []
    for share in SHARES:
        count = len(train) // int(share.removeprefix("1/"))
        if count < MIN_EXAMPLES:
            continue
        folder = run.path / "curve" / f"{count}-rows"
        folder.mkdir(parents=True, exist_ok=True)
        write_examples(folder / "rows.jsonl", take(train, count, recipe.seed))
        values: dict[str, object] = dict.fromkeys(chosen, "auto")
        values |= {
            "data.train": str(folder / "rows.jsonl"),
            "data.test": str(run.data / "test.jsonl"),
            "data.validation": str(run.data / "validation.jsonl"),
            "data.max_train": None,
            "evaluate.baselines": [],
            "evaluate.against": [],
            "evaluate.probe": "none",
            "evaluate.require": None,
            "output.dir": None,
        }
        if not (run.data / "validation.jsonl").stat().st_size:
            values |= {"data.validation": None, "data.validation_share": 0}
        parts.append(Part(with_overrides(LoadedRecipe(recipe, {}), values), folder / "run", count))
    if len(parts) < 2:
        raise EvaluateError(
            f"{counted(len(train), 'training row')} are too few for a learning curve.",
            code="too_few_rows",
            param="curve",
            hint=f"It needs parts of {MIN_EXAMPLES} rows or more at a half and a quarter of the data: "
            f"{4 * MIN_EXAMPLES} training rows.",
        )
    return parts


def curve_of(whole: Report, parts: Mapping[int, Report]) -> LearningCurve:
    """Returns the curve through the scores of the fine-tuned models, on rows that none of them was trained on.

    Args:
        whole: the run's report.
        parts: reports of parts of it by their number of training rows.

    Raises:
        EvaluateError: a row was not scored by all, so that no row is left; or as `fit_curve`.
    """
    reports = dict(sorted(parts.items()))
    assert whole.data is not None
    reports[whole.data.train] = whole
    scores = [
        {row.id: row.fine_tuned_score for row in report.rows if row.fine_tuned_score is not None and not row.trained_on}
        for report in reports.values()
    ]
    ids = sorted(set.intersection(*(set(found) for found in scores)))
    if not ids:
        raise EvaluateError("No test row was scored for all models of the curve.", code="no_common_samples")
    each = np.array([[found[key] for key in ids] for found in scores])
    sources = {row.id: row.source for row in whole.rows if row.source}
    _, numbers = np.unique([sources.get(key, key) for key in ids], return_inverse=True)
    means, covariance = each.mean(axis=1), _covariance(each, numbers)
    errors = np.sqrt(np.diag(covariance))
    fitted = fit_curve(list(reports), means.tolist(), errors.tolist(), covariance=covariance)
    more = fitted.examples_for(GAIN)

    def at(examples: float, score: float | None = None, error: float = 0.0) -> CurvePoint:
        value, band = fitted.score_at(examples)
        return CurvePoint(
            examples=round(examples),
            score=value if score is None else score,
            error=error,
            low=band.low,
            high=band.high,
        )

    sizes = list(reports)
    points = [at(*known) for known in zip(sizes, means.tolist(), errors.tolist(), strict=True)]
    left = sum(len(found) for found in scores) / len(scores) - len(ids)
    sentence = more.reason + " The luck of a single training run is not in these intervals."
    if left:
        sentence += f" {counted(len(ids), 'row')} that all models were scored on were used."
    return LearningCurve(
        points=points,
        drawn=[at(examples) for examples in np.geomspace(sizes[0], _BEYOND * sizes[-1], _DRAWN).tolist()],
        gain=GAIN,
        answer=more.answer,
        more_examples=more.best,
        low=more.low,
        high=more.high,
        sentence=sentence,
    )


def _covariance(scores: npt.NDArray[np.float64], sources: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Returns the covariance of models' mean scores [models, models], from scores [models, rows] row by row.

    Rows of one source are added up first. Two rows half a point off, one each way, are added to the spread, so that models
    which are right on each of a few rows do not count as known exactly.

    Source: the cluster-robust variance of a mean, Miller 2024 (arXiv 2411.00640), section 2.2; the added rows are our choice,
    after Agresti & Min 2005 (Statistics in Medicine 24:729).
    """
    off = scores - scores.mean(axis=1, keepdims=True)
    sums = np.stack([cluster_sums(row, sources)[0] for row in off])
    num_rows, num_sources = scores.shape[1], sums.shape[1]
    spread = sums @ sums.T * (num_sources / max(1, num_sources - 1)) + 2 * 0.5**2 * np.eye(len(scores))
    covariance: npt.NDArray[np.float64] = spread / num_rows**2
    return covariance
