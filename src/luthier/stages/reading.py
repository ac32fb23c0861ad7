"""The files of a run: read, checked, and of the kind that the method learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from luthier.data.chat import Example
from luthier.data.check import MIN_EXAMPLES, CheckResult, check_files
from luthier.data.shapes.formats import recognise
from luthier.errors import DataError, RecipeError
from luthier.recipe import DataRecipe
from luthier.runs import Event, Listener

MOST_SHOWN = 8
"""Kinds of error shown when a run stops; the message says how many more there are."""
FORMATS: dict[str, str] = {"supervised": "chat", "dpo": "preference"}
"""The rows that each method learns from."""


def method_of(examples: Sequence[Example]) -> tuple[Literal["supervised", "dpo"], str]:
    """Returns the method that learns from such rows, and why."""
    if examples and recognise(examples[0].row).name == FORMATS["dpo"]:
        return "dpo", "the rows hold a preferred answer and another"
    return "supervised", "the rows hold conversations with the answers to learn"


def checked(
    file: str, data: DataRecipe, side: str, listener: Listener, *, method: Literal["auto", "supervised", "dpo"] = "auto"
) -> CheckResult:
    """Returns the examples of a file, all of the format that the method learns from; `auto`: chat or preference rows.

    Args:
        file: what to read.
        data: what to do with broken rows.
        side: what the rows are for: train, validation, test or replay.
        listener: hears what does not stop the run.
        method: what is learned.

    Raises:
        DataError: errors in it, each with its place, unless `data.on_invalid=drop` leaves the broken rows out.
        RecipeError: code "other_method", where all its rows are for the other method.
    """
    minimum = MIN_EXAMPLES if side == "train" else 1
    param = "train.replay" if side == "replay" else f"data.{side}"
    result = check_files([file], minimum=minimum, param=param)
    formats = result.summary["formats"]
    likely = "preference" if formats.get("preference", 0) > formats.get("chat", 0) else "chat"
    wanted = FORMATS.get(method, likely)
    if likely != wanted and set(formats) == {likely}:
        raise RecipeError(
            f"{file} holds {likely} rows; train.method={method} learns from {wanted} rows.",
            code="other_method",
            param="train.method" if side == "train" else param,
            hint="Leave train.method at auto, or give other rows."
            if side == "train"
            else "Give rows of the same kind as the training rows.",
        )
    if set(formats) - {wanted}:
        result = check_files([file], minimum=minimum, row_format=wanted, param=param)
    errors = [finding for finding in result.findings if finding.severity == "error"]
    if result.blocking or (errors and data.on_invalid == "stop"):
        listed = "\n".join(f"  {f.file}:{f.line}: {f.message}\n    → {f.remedy}" for f in errors[:MOST_SHOWN])
        more = f"\n  … and {len(errors) - MOST_SHOWN} more kinds of error" if len(errors) > MOST_SHOWN else ""
        hint = f"`luthier check {file}` shows all findings"
        if any(finding.fix for finding in errors):
            hint += f", `luthier clean {file} --out FILE2` mends some of them"
        hint += "."
        if not result.blocking:
            hint += f" data.on_invalid=drop leaves {len(result.rejected):,} of {result.rows_read:,} rows out, listed."
        raise DataError(
            f"{file} cannot be used as it is; nothing was trained.\n{listed}{more}",
            code=errors[0].code.replace("-", "_"),
            param=param,
            hint=hint,
        )
    for f in result.findings:
        if f.severity == "warning" or f.code == "too-few-examples":
            listener(Event("warning", f"{f.file}:{f.line}: {f.message}", {"finding": f.to_json()}))
    return result


def read_checked(path: Path) -> Sequence[Example]:
    """Returns the examples of a file that was written from checked ones; an empty file is an empty side."""
    return check_files([path], minimum=1, codes=frozenset()).examples if path.stat().st_size else []
