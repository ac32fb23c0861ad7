"""Files of scores: lines of `{"id", "score"}` or `{"id", "scores": {…}}`, refused with file, line, cause and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from luthier.errors import EvaluateError
from luthier.evaluate.graders import parse_json
from luthier.evaluate.pairing import Score

EXAMPLE = '{"id": "row 1", "score": 1}'
SCORE = "score"
"""What the metric of a plain `"score"` is called."""


@dataclass(frozen=True, slots=True)
class ScoreFile:
    """One model's scores.

    Attributes:
        path: the file.
        metrics: metric → id → score, in the order of their first line.
        clusters: id → its source, where a key was asked for and the line has it.
    """

    path: Path
    metrics: dict[str, dict[str, Score]] = field(default_factory=dict)
    clusters: dict[str, str] = field(default_factory=dict)


def read_scores(path: str | Path) -> dict[str, Score]:
    """Returns id → score from a JSONL file of `{"id", "score"}` lines; other keys are passed over.

    A score is a number in [0, 1], true or false, null where the answer could not be scored, or a list of these where a
    row was answered several times. An id is a text or a whole number. Empty lines are passed over.

    Raises:
        EvaluateError: code "unreadable_scores" (with the cause), "no_scores" for an empty file, and with file and line
            "bad_score_line", "duplicate_id"; "several_metrics" where lines have "scores" of several names.
    """
    found = read_score_file(path)
    if len(found.metrics) > 1:
        raise EvaluateError(
            f"{path} holds several metrics: {', '.join(found.metrics)}.",
            code="several_metrics",
            hint="`luthier compare` and `luthier.sdk.compare_files` compare all of them, with Holm's correction.",
        )
    return next(iter(found.metrics.values()))


def read_score_file(path: str | Path, cluster: str | None = None) -> ScoreFile:
    """Returns a file's scores by metric, and the source of each row.

    Args:
        path: lines of `{"id", "score"}`, or of `{"id", "scores": {name: score}}` for several metrics.
        cluster: the key that names a row's source, a text, a number, true or false.

    Raises:
        EvaluateError: as `read_scores`, but for "several_metrics".
    """
    path = Path(path)
    found = ScoreFile(path)
    lines: dict[str, int] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        reader = _Line(f"{path}:{number}")
        row = reader.row(line)
        key = reader.read_id(row["id"])
        if key in lines:
            raise EvaluateError(
                f"{path}:{number}: the id {key!r} already stands on line {lines[key]}.",
                code="duplicate_id",
                param="id",
                hint='Give each row one line; where it was answered several times, a list: "score": [1, 0, 1].',
            )
        lines[key] = number
        for name, value in reader.metrics(row).items():
            found.metrics.setdefault(name, {})[key] = reader.read_score(value)
        if cluster is not None and row.get(cluster) is not None:
            found.clusters[key] = reader.read_cluster(cluster, row[cluster])
    if not found.metrics:
        raise EvaluateError(f"{path} holds no scores.", code="no_scores", hint=f"Give lines like {EXAMPLE}.")
    return found


def named(files: Sequence[ScoreFile]) -> list[str]:
    """Returns a name for each file, its path; a file given again is numbered."""
    names: list[str] = []
    for file in files:
        name, number = str(file.path), 2
        while name in names:
            name, number = f"{file.path} ({number})", number + 1
        names.append(name)
    return names


def joined_clusters(files: Sequence[ScoreFile], cluster: str) -> dict[str, str]:
    """Returns id → source from all files; one of them is enough to name a row's.

    Raises:
        EvaluateError: code "no_cluster" where an id has none in any file, "two_clusters" where files disagree.
    """
    joined: dict[str, str] = {}
    for file in files:
        for key, value in file.clusters.items():
            if joined.setdefault(key, value) != value:
                raise EvaluateError(
                    f"{file.path} puts the row {key!r} into the cluster {value!r}, another file into {joined[key]!r}.",
                    code="two_clusters",
                    param=cluster,
                    hint=f'Give "{cluster}" in one file only, or the same in all.',
                )
    ids = dict.fromkeys(key for file in files for scores in file.metrics.values() for key in scores)
    missing = [key for key in ids if key not in joined]
    if missing:
        raise EvaluateError(
            f'{len(missing):,} of {len(ids):,} rows have no "{cluster}" in any file, {missing[0]!r} the first of them.',
            code="no_cluster",
            param=cluster,
            hint=f'Add "{cluster}" to their lines; a row that shares its source with none gets one of its own.',
        )
    return joined


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 (byte {error.start + 1})"
        raise EvaluateError(
            f"{path} cannot be read: {cause}.",
            code="unreadable_scores",
            hint=f"Give a UTF-8 file of lines like {EXAMPLE}.",
        ) from None


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that is read, and its place for whatever is wrong with it."""

    place: str

    def refuse(self, problem: str, hint: str, param: str | None = None) -> EvaluateError:
        return EvaluateError(f"{self.place}: {problem}.", code="bad_score_line", param=param, hint=hint)

    def row(self, line: str) -> dict[str, Any]:
        try:
            row = parse_json(line)
        except ValueError as error:
            raise self.refuse(
                f"the line cannot be read as JSON: {error}", f"Write {EXAMPLE}; null for no score."
            ) from None
        if not isinstance(row, dict):
            raise self.refuse("the line is not a JSON object", f"Write {EXAMPLE}.")
        if "id" not in row:
            raise self.refuse('there is no "id"', 'Each line needs "id" and "score".', "id")
        if SCORE not in row and "scores" not in row:
            raise self.refuse('there is no "score"', 'Each line needs "id" and "score".', SCORE)
        return row

    def metrics(self, row: dict[str, Any]) -> dict[str, Any]:
        found = {SCORE: row[SCORE]} if SCORE in row else {}
        several = row.get("scores", {})
        if not isinstance(several, dict) or ("scores" in row and not several):
            raise self.refuse(
                'the "scores" are not an object of names and scores', 'Write "scores": {"f1": 0.5}.', "scores"
            )
        if SCORE in found and SCORE in several:
            raise self.refuse(
                'the metric "score" stands twice', 'Give "score" beside "scores", or within, not both.', "scores"
            )
        return found | several

    def read_id(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
            return str(value)
        raise self.refuse("the id is neither a text nor a whole number", "Give ids as text.", "id")

    def read_cluster(self, name: str, value: Any) -> str:
        # parse_json gives numbers as Decimal
        if isinstance(value, str | Decimal | bool):
            return str(value)
        raise self.refuse(f'"{name}" is neither a text nor a number', "Name the source of a row by a text.", name)

    def read_score(self, value: Any) -> Score:
        if not isinstance(value, list):
            return self._one(value)
        if not value:
            raise self.refuse("the list of scores is empty", "Give the score of each answer; null for no score.", SCORE)
        return [self._one(part) for part in value]

    def _one(self, value: Any) -> float | None:
        if value is None:
            return None
        if not isinstance(value, Decimal | bool):
            raise self.refuse(
                "the score is not a number", "Write a number between 0 and 1, true, false, or null.", SCORE
            )
        if not 0 <= value <= 1:
            raise self.refuse(
                f"the score is {value}",
                "Scores lie between 0 and 1: divide percentages by 100; null for no score.",
                SCORE,
            )
        return float(value)
