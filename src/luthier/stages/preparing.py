"""The data of a run: read, checked, kept apart, split, written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from luthier.data.chat import Example
from luthier.data.check import MIN_EXAMPLES, CheckResult, check_files
from luthier.data.findings import RejectedRow
from luthier.data.shapes.formats import recognise
from luthier.data.split import Split, split_examples, take, write_examples, write_rejected
from luthier.data.twins.overlap import find_overlap
from luthier.errors import DataError, RecipeError
from luthier.recipe import DataRecipe, Recipe
from luthier.report.schema import DataSummary
from luthier.runs import Event, Listener, RunFolder, stopwatch

MOST_SHOWN = 8
"""Kinds of error shown when a run stops; the message says how many more there are."""
SIDES = ("train", "validation", "test")
FORMATS: dict[str, str] = {"supervised": "chat", "dpo": "preference"}
"""The rows that each method learns from."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data of a run, and what there is to say about it.

    Attributes:
        rejected: rows left out.
        notes: what the reader of the verdict must know.
    """

    split: Split
    rejected: list[RejectedRow]
    summary: DataSummary
    notes: list[str]


def prepare_stage(run: RunFolder, recipe: Recipe, listener: Listener, *, hold_out: bool) -> Prepared:
    """Prepares the data, or reads back what an earlier part of the run prepared.

    Args:
        run: where it is written.
        recipe: what to read and how.
        listener: hears of it.
        hold_out: whether to hold rows out for validation and test where no files are given for them.
    """
    done = run.stage("data")
    if done:
        train, validation, test = (read_checked(run.data / f"{name}.jsonl") for name in SIDES)
        summary = DataSummary(**done["summary"])
        return Prepared(Split(train, validation, test, num_groups=summary.groups), [], summary, done["notes"])
    with stopwatch() as seconds:
        listener(Event("stage", "Checking and splitting the data"))
        prepared = prepare(recipe, listener, hold_out=hold_out)
        write_split(run.data, prepared)
    run.finish_stage("data", seconds(), summary=prepared.summary.model_dump(), notes=prepared.notes)
    return prepared


def prepare(recipe: Recipe, listener: Listener, *, hold_out: bool = True) -> Prepared:
    """Returns the examples of a recipe, checked, kept apart by group, and split.

    Raises:
        DataError: broken rows that are not to be dropped, too few rows, or rows that stand in two files.
    """
    data = recipe.data
    main = checked(str(data.train), data, "train", listener, method=recipe.train.method)
    method, _ = method_of(main.examples)
    given = {
        name: checked(file, data, name, listener, method=method)
        for name, file in (("validation", data.validation), ("test", data.test))
        if file is not None
    }
    examples, overlapping, notes = _keep_apart(main.examples, {n: r.examples for n, r in given.items()}, data)
    split = split_examples(
        examples,
        validation_share=data.validation_share if hold_out and "validation" not in given else 0.0,
        test_share=data.test_share if hold_out and "test" not in given else 0.0,
        seed=recipe.seed,
    )
    sides = {name: given[name].examples if name in given else getattr(split, name) for name in SIDES}
    if data.max_train is not None and len(sides["train"]) > data.max_train:
        notes.append(
            f"Shortened: {data.max_train:,} of {len(sides['train']):,} training rows were used (data.max_train)."
        )
        sides["train"] = take(sides["train"], data.max_train, recipe.seed)
    rejected = [*main.rejected, *(row for side in given.values() for row in side.rejected), *overlapping.values()]
    _tell(listener, sides, split, rejected, notes)
    findings = [f"{f.message} ({f.file}:{f.line})" for f in main.findings if f.severity == "warning"]
    summary = DataSummary(
        source=str(data.train),
        examples=len(main.examples),
        rejected=len(rejected),
        groups=split.num_groups,
        overlap=len(overlapping),
        warnings=[*split.notes, *findings],
        train=len(sides["train"]),
        validation=len(sides["validation"]),
        test=len(sides["test"]),
    )
    kept = replace(split, train=sides["train"], validation=sides["validation"], test=sides["test"])
    return Prepared(kept, rejected, summary, notes)


def method_of(examples: Sequence[Example]) -> tuple[Literal["supervised", "dpo"], str]:
    """Returns the method that learns from such rows, and why."""
    if examples and recognise(examples[0].row).name == FORMATS["dpo"]:
        return "dpo", "the rows hold a preferred answer and another"
    return "supervised", "the rows hold conversations with the answers to learn"


def checked(
    file: str, data: DataRecipe, side: str, listener: Listener, *, method: Literal["auto", "supervised", "dpo"] = "auto"
) -> CheckResult:
    """Returns the examples of a file, all of the format that the method learns from; `auto`: chat or preference rows.

    Raises:
        DataError: errors in it, each with its place, unless `data.on_invalid=drop` leaves the broken rows out.
        RecipeError: code "other_method", where all its rows are for the other method.
    """
    minimum = MIN_EXAMPLES if side == "train" else 1
    result = check_files([file], minimum=minimum, param=f"data.{side}")
    formats = result.summary["formats"]
    likely = "preference" if formats.get("preference", 0) > formats.get("chat", 0) else "chat"
    wanted = FORMATS.get(method, likely)
    if likely != wanted and set(formats) == {likely}:
        raise RecipeError(
            f"{file} holds {likely} rows; train.method={method} learns from {wanted} rows.",
            code="other_method",
            param="train.method" if side == "train" else f"data.{side}",
            hint="Leave train.method at auto, or give other rows."
            if side == "train"
            else "Give rows of the same kind as the training rows.",
        )
    if set(formats) - {wanted}:
        result = check_files([file], minimum=minimum, row_format=wanted, param=f"data.{side}")
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
            param=f"data.{side}",
            hint=hint,
        )
    for f in result.findings:
        if f.severity == "warning" or f.code == "too-few-examples":
            listener(Event("warning", f"{f.file}:{f.line}: {f.message}", {"finding": f.to_json()}))
    return result


def read_checked(path: Path) -> list[Example]:
    """Returns the examples of a file that was written from checked ones; an empty file is an empty side."""
    return check_files([path], minimum=1, codes=frozenset()).examples if path.stat().st_size else []


def _tell(
    listener: Listener, sides: dict[str, list[Example]], split: Split, rejected: list[RejectedRow], notes: list[str]
) -> None:
    for note in notes:
        listener(Event("warning", note))
    if rejected:
        by_code = Counter(code for row in rejected for code in row.codes)
        listing = ", ".join(f"{code} {count:,}" for code, count in by_code.most_common())
        listener(Event("warning", f"{len(rejected):,} rows were left out ({listing}); rejected.jsonl lists them."))
    for note in split.notes:
        listener(Event("message", note))
    sizes = {name: len(rows) for name, rows in sides.items()}
    listing = ", ".join(f"{count:,} {name}" for name, count in sizes.items())
    labels = f"; stratified by {split.num_labels:,} labels" if split.num_labels else ""
    listener(
        Event("message", f"{listing} rows; {split.num_groups:,} groups of like rows, none on two sides{labels}", sizes)
    )


def write_split(folder: Path, prepared: Prepared) -> None:
    """Writes the three sides, and what was left out."""
    for name in SIDES:
        write_examples(folder / f"{name}.jsonl", getattr(prepared.split, name))
    if prepared.rejected:
        write_rejected(folder / "rejected.jsonl", prepared.rejected)


def _keep_apart(
    examples: list[Example], given: dict[str, list[Example]], data: DataRecipe
) -> tuple[list[Example], dict[tuple[str, int], RejectedRow], list[str]]:
    """Returns the training examples that stand in no given file, those that do, and what to say about it.

    Raises:
        DataError: `data.on_overlap=stop` and some do.
    """
    overlap: dict[tuple[str, int], RejectedRow] = {}
    notes = []
    texts = {(example.file, example.line): example.text for example in examples} if given else {}
    for name, others in given.items():
        found = find_overlap(examples, others)
        if not found:
            continue
        first = found[0]
        rows = {(o.train_file, o.train_line): o for o in found}
        what = (
            f"{len(rows)} training rows stand in the {name} file too, the first at {first.train_file}:{first.train_line} "
            f"and {first.other_file}:{first.other_line} ({first.kind})"
        )
        if data.on_overlap == "stop":
            raise DataError(
                f"{what}.",
                code="contamination",
                param=f"data.{name}",
                hint="Remove them from one file, or let data.on_overlap=drop leave them out of training.",
            )
        if data.on_overlap == "keep":
            notes.append(f"{what}; they were kept (data.on_overlap=keep), so the score on them cannot be trusted.")
            continue
        notes.append(f"{what}; they were left out of training (data.on_overlap=drop).")
        for (file, line), other in rows.items():
            reason = f"{other.kind} of {other.other_file}:{other.other_line} in the {name} file"
            text = texts[file, line]
            overlap.setdefault((file, line), RejectedRow(file, line, ("contamination",), reason, text))
    kept = [example for example in examples if (example.file, example.line) not in overlap]
    return kept, overlap, notes
