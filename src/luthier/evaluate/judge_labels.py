"""Answers that people labelled right or wrong, and what a judge says of the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from luthier.data.chat import content_text
from luthier.errors import EvaluateError
from luthier.evaluate.graders.model_graders import ModelGrader
from luthier.evaluate.graders.protocol import grade_all
from luthier.evaluate.judge_correction import check_judge
from luthier.evaluate.samples import Sample

_WORDS = {
    "right": True,
    "correct": True,
    "pass": True,
    "true": True,
    "wrong": False,
    "incorrect": False,
    "fail": False,
    "false": False,
}
_PARAM = "evaluate.judge_labels"


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """An answer that somebody judged.

    Attributes:
        target: the expected answer.
        answer: the given one.
        item: the row.
        right: what the person said.
    """

    target: str
    answer: str
    item: Mapping[str, Any]
    right: bool


def read_labels(path: str | Path, samples: Sequence[Sample]) -> list[LabelledAnswer]:
    """Returns the labelled answers of a file.

    Args:
        path: JSON lines with `answer`, `label` (true, false, 1, 0, "right", "wrong", …), and either `id`, a test row's, or
            `item`, a row itself: one of the chat format, or any object, its expected answer as `target`.
        samples: the test rows.

    Raises:
        EvaluateError: code "labels_not_readable", or "bad_label" with file and line.
    """
    check_readable(path)
    by_id = {sample.id: sample for sample in samples}
    found = []
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise _bad(f"{path}:{number}: not JSON: {error}") from None
        try:
            found.append(_labelled(row, by_id))
        except ValueError as error:
            raise _bad(f"{path}:{number}: {error}") from None
    return found


def check_readable(path: str | Path) -> None:
    """Returns where a file of labels can be read.

    Raises:
        EvaluateError: code "labels_not_readable".
    """
    try:
        with Path(path).open("rb"):
            return
    except OSError as error:
        raise EvaluateError(
            f"{path} cannot be read: {error.strerror}.", code="labels_not_readable", param=_PARAM, hint=_HINT
        ) from None


def check_grader(grader: ModelGrader, labelled: Sequence[LabelledAnswer], *, workers: int = 1) -> str:
    """Gives a grader its judge's verdicts beside people's, and returns what came of it, in one sentence.

    Answers that the judge did not judge are left out and counted.

    Raises:
        EvaluateError: as the grader's judge.
    """
    grades = grade_all(
        grader,
        [each.target for each in labelled],
        [each.answer for each in labelled],
        [each.item for each in labelled],
        workers=workers,
    )
    verdicts = [(each.right, grader.passed(grade)) for each, grade in zip(labelled, grades, strict=True)]
    both = [(right, passed) for right, passed in verdicts if passed is not None]
    check = check_judge([right for right, _ in both], [passed for _, passed in both])
    grader.check = check
    told = f"{grader.name}: the judge and people both judged {len(both):,} answers"
    if len(both) < len(labelled):
        told += f" ({len(labelled) - len(both):,} more had no verdict of the judge)"
    if check.sensitivity is not None:
        told += f"; it passes {check.sensitivity:.0%} of what people found right"
    if check.specificity is not None:
        told += f"; it fails {check.specificity:.0%} of what people found wrong"
    if check.kappa is not None:
        told += f" (kappa {check.kappa:.2f})"
    return f"{told}."


def _labelled(row: Any, by_id: Mapping[str, Sample]) -> LabelledAnswer:
    if not isinstance(row, dict):
        raise ValueError("a line is one object")
    answer = row.get("answer")
    if not isinstance(answer, str):
        raise ValueError("`answer` is not a text")
    right = _label(row.get("label"))
    if "id" in row:
        sample = by_id.get(row["id"]) if isinstance(row["id"], str) else None
        if sample is None:
            raise ValueError(f"no test row has the id {row['id']!r}; give the row itself as `item`")
        return LabelledAnswer(sample.target, answer, sample.item, right)
    item = row.get("item")
    if not isinstance(item, dict):
        raise ValueError("there is neither an `id` nor an `item`")
    return LabelledAnswer(_target(item), answer, item, right)


def _label(given: Any) -> bool:
    label = _WORDS.get(given.strip().lower()) if isinstance(given, str) else given
    if label in (True, False) and isinstance(label, bool | int):
        return bool(label)
    raise ValueError(f"`label` is {given!r}; it is true, false, 1, 0, or one of {', '.join(_WORDS)}")


def _target(item: Mapping[str, Any]) -> str:
    if isinstance(item.get("target"), str):
        return str(item["target"])
    messages = item.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "assistant":
            return content_text(message)
    return ""


_HINT = 'A line is {"id": "…", "answer": "…", "label": true}; docs/remote-and-judges.md shows more.'


def _bad(message: str) -> EvaluateError:
    return EvaluateError(f"{message}.", code="bad_label", param=_PARAM, hint=_HINT)
