"""The data of a run: read, checked, kept apart, split, written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from luthier.data.chat import Example
from luthier.data.findings import RejectedRow
from luthier.data.rows_on_disk import RowsOnDisk, chosen, known_as, written_rows
from luthier.data.split import Split, split_examples, take, write_examples, write_rejected
from luthier.data.twins.overlap import find_overlap
from luthier.errors import DataError, RecipeError
from luthier.evaluate.outlook import outlook
from luthier.model.allocator import give_back_freed_memory
from luthier.recipe import DataRecipe, Recipe
from luthier.report.schema import DataSummary
from luthier.runs import Event, Listener, RunFolder, sha256_file, stopwatch
from luthier.stages.independence import cluster_sizes
from luthier.stages.reading import checked, method_of

SIDES = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data of a run, and what there is to say about it.

    Attributes:
        rejected: rows left out.
        notes: what the reader of the verdict must know.
        replay: general examples to mix in. They, and the sides, are read from files when they are asked for: from those
            given, and once they are written, from those in the run folder.
        digests: the sha256 of the file in the run folder that holds each of the sides, and what is replayed.
    """

    split: Split
    rejected: list[RejectedRow]
    summary: DataSummary
    notes: list[str]
    replay: Sequence[Example] = ()
    digests: dict[str, str] = field(default_factory=dict)


def prepare_stage(run: RunFolder, recipe: Recipe, listener: Listener, *, hold_out: bool) -> Prepared:
    """Prepares the data, or reads back what an earlier part of the run prepared.

    Args:
        run: where it is written.
        recipe: what to read and how.
        listener: hears of it.
        hold_out: whether to hold rows out for validation and test where no files are given for them.

    Raises:
        DataError: the rows cannot be used, or are not those that an earlier part of the run wrote.
        RecipeError: they are for another method than the recipe's.
    """
    files = {name: run.data / f"{name}.jsonl" for name in (*SIDES, *(("replay",) if recipe.train.replay else ()))}
    done = run.stage("data")
    if done:
        rows = _unchanged(files, done["sha256"])
        summary = DataSummary(**done["summary"])
        split = Split(rows["train"], rows["validation"], rows["test"], num_groups=summary.groups)
        return Prepared(split, [], summary, done["notes"], rows.get("replay", ()), dict(done["sha256"]))
    with stopwatch() as seconds:
        listener(Event("stage", "Checking and splitting the data"))
        prepared = _with_replay(prepare(recipe, listener, hold_out=hold_out), recipe, listener)
        prepared = write_split(run.data, prepared)
        give_back_freed_memory()
        digests = {name: sha256_file(file) for name, file in files.items()}
    run.finish_stage("data", seconds(), summary=prepared.summary.model_dump(), notes=prepared.notes, sha256=digests)
    return replace(prepared, digests=digests)


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
    give_back_freed_memory()  # a hundred bytes a row that the check packed, in pieces too small to go back by themselves
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
    if hold_out and sides["test"]:
        _tell_outlook(listener, sides["test"], recipe)
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


def _with_replay(prepared: Prepared, recipe: Recipe, listener: Listener) -> Prepared:
    """Returns the data with the rows of `train.replay`, without those that held-out rows are like.

    Raises:
        DataError: rows of the file are broken or stand among the held-out ones, and are not to be dropped; or none is left.
        RecipeError: the file holds no chat rows, or the training rows are pairs of answers.
    """
    file = recipe.train.replay
    if file is None:
        return prepared
    if method_of(prepared.split.train)[0] == "dpo":
        raise RecipeError(
            f"train.replay={file} is given, but pairs of answers are trained, and DPO has no loss for chat rows.",
            code="not_with_dpo",
            param="train.replay",
            hint="Leave train.replay out; train.dpo_beta holds the model to what it knew.",
        )
    found = checked(file, recipe.data, "replay", listener, method="supervised")
    held_out = {"validation": prepared.split.validation, "test": prepared.split.test}
    rows, overlapping, notes = _keep_apart(found.examples, held_out, recipe.data, replayed=file)
    if not rows:
        raise DataError(
            f"No row of {file} is left to replay: validation or test rows are like each of them.",
            code="nothing_to_replay",
            param="train.replay",
            hint="Give a file of other general examples.",
        )
    if found.rejected:
        listing = f"{len(found.rejected):,} rows of {file} were left out; rejected.jsonl lists them."
        listener(Event("warning", listing))
    for note in notes:
        listener(Event("warning", note))
    rejected = [*prepared.rejected, *found.rejected, *overlapping.values()]
    summary = prepared.summary.model_copy(update={"rejected": len(rejected)})
    return replace(prepared, replay=rows, rejected=rejected, summary=summary, notes=[*prepared.notes, *notes])


def _unchanged(files: Mapping[str, Path], recorded: Mapping[str, str]) -> dict[str, RowsOnDisk]:
    """Returns the rows of files, whose digests are those recorded.

    Raises:
        DataError: code "split_changed" where a file is gone or holds other bytes.
    """
    found = {}
    for name, file in files.items():
        if file.is_file():
            found[name], digest = written_rows(file)
        if name not in found or digest != recorded[name]:
            raise DataError(
                f"{file} is {'not what this run wrote' if file.is_file() else 'gone'}, so the run cannot go on as it began.",
                code="split_changed",
                param="resume",
                hint="Put the file back as it was, or start a new run.",
            )
    return found


def _tell(
    listener: Listener, sides: dict[str, Sequence[Example]], split: Split, rejected: list[RejectedRow], notes: list[str]
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


def _tell_outlook(listener: Listener, test: Sequence[Example], recipe: Recipe) -> None:
    """Says what a test of these rows can show, before anything is trained."""
    wanted = recipe.evaluate
    rows = test if wanted.max_samples is None else take(test, wanted.max_samples, recipe.seed)
    ahead = outlook(len(rows), minimum_gain=wanted.minimum_gain, cluster_sizes=cluster_sizes(rows, wanted.cluster))
    listener(
        Event("message" if ahead.enough else "warning", ahead.sentence, {"detectable_gain": ahead.detectable_gain})
    )


def write_split(folder: Path, prepared: Prepared) -> Prepared:
    """Writes the three sides, what is replayed, and what was left out; returns the same data, read from there from now on."""
    split = prepared.split
    train, validation, test = (write_examples(folder / f"{name}.jsonl", getattr(split, name)) for name in SIDES)
    replay = write_examples(folder / "replay.jsonl", prepared.replay) if prepared.replay else prepared.replay
    if prepared.rejected:
        write_rejected(folder / "rejected.jsonl", prepared.rejected)
    written = replace(split, train=train, validation=validation, test=test)
    return replace(prepared, split=written, replay=replay)


def _keep_apart(
    examples: Sequence[Example],
    given: Mapping[str, Sequence[Example]],
    data: DataRecipe,
    *,
    replayed: str | None = None,
) -> tuple[Sequence[Example], dict[tuple[str, int], RejectedRow], list[str]]:
    """Returns the training examples that stand in no given file, those that do, and what to say about it.

    Args:
        examples: to be trained on.
        given: files of held-out rows; with `replayed`, the held-out rows themselves.
        data: what to do with those that stand in both.
        replayed: the file that the examples are replayed from.

    Raises:
        DataError: `data.on_overlap=stop` and some do.
    """
    overlap: dict[tuple[str, int], RejectedRow] = {}
    notes = []
    ours, theirs = (f"rows of {replayed}", "rows") if replayed else ("training rows", "file")
    for name, others in given.items():
        found = find_overlap(examples, others) if others else []
        if not found:
            continue
        first = found[0]
        rows = {(o.train_file, o.train_line): o for o in found}
        what = (
            f"{len(rows)} {ours} stand in the {name} {theirs} too, the first at {first.train_file}:{first.train_line} "
            f"and {first.other_file}:{first.other_line} ({first.kind})"
        )
        if data.on_overlap == "stop":
            raise DataError(
                f"{what}.",
                code="contamination",
                param="train.replay" if replayed else f"data.{name}",
                hint="Remove them from one file, or let data.on_overlap=drop leave them out of training.",
            )
        if data.on_overlap == "keep":
            notes.append(f"{what}; they were kept (data.on_overlap=keep), so the score on them cannot be trusted.")
            continue
        notes.append(f"{what}; they were left out of training (data.on_overlap=drop).")
        numbers = {place: number for number, place in enumerate(known_as(examples).each()) if place in rows}
        for (file, line), other in rows.items():
            reason = f"{other.kind} of {other.other_file}:{other.other_line} in the {name} {theirs}"
            text = examples[numbers[file, line]].text
            overlap.setdefault((file, line), RejectedRow(file, line, ("contamination",), reason, text))
    if not overlap:
        return examples, overlap, notes
    stays = np.fromiter((place not in overlap for place in known_as(examples).each()), np.bool_, len(examples))
    return chosen(examples, np.flatnonzero(stays)), overlap, notes
