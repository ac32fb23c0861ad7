"""The evaluation of a run: answers of base and fine-tuned model, scores, verdict, report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luthier.advise.hyperparameters import max_new_tokens
from luthier.data.chat import Example
from luthier.data.split import take
from luthier.errors import EvaluateError
from luthier.evaluate.compare import compare_scores
from luthier.evaluate.graders import Grader, choose_grader
from luthier.evaluate.runner import LocalModel, collect_answers, samples_of
from luthier.evaluate.samples import Sample
from luthier.model.adapter import load_adapter, weights_file
from luthier.model.chat_template import ChatTokenizer, EncodedExample
from luthier.model.device import resolve_device
from luthier.model.loader import LoadedModel, load_model, model_shape, resolve_dtype, versions
from luthier.model.lora import Adapter
from luthier.recipe import Recipe
from luthier.report.build import Judged, RunFacts, build_report
from luthier.report.files import write_report
from luthier.report.schema import DataSummary, Report, TrainingSummary
from luthier.runs import Event, Listener, RunFolder, sha256_file, stopwatch
from luthier.stages.opening import OpenedModel
from luthier.stages.preferences import GRADER, judge_pairs, pair_logps, pair_samples, preferred_loss
from luthier.stages.preferences import grader_reason as pair_reason
from luthier.stages.reading import method_of, read_checked
from luthier.stages.stopping import stop_switch
from luthier.train.encode import Encoded, RowStream, encode_rows
from luthier.train.engine import open_engine
from luthier.train.objective import ANSWERS
from luthier.train.parts import Budget
from luthier.train.validation import loss_on

CLOSED = ("label", "json", "sql", "tool_calls")
"""Graders that suit answers of which there is one right wording."""
_ROWS_AT_ONCE = 1024
"""Training rows of which more than the answer is held."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged, and on what.

    Attributes:
        recipe: with `evaluate.max_new_tokens` resolved.
        train_examples: what the grader is inferred from.
        data, training: of the run, or None for an adapter from elsewhere.
        adapter_folder: its files.
        notes: what the reader of the verdict must know already.
    """

    recipe: Recipe
    model: LoadedModel
    adapter: Adapter
    adapter_folder: Path
    train_examples: Sequence[Example]
    test: Encoded[Any]
    data: DataSummary | None
    training: TrainingSummary | None
    notes: list[str]


def evaluate_stage(run: RunFolder, subject: Subject, listener: Listener) -> Report:
    """Judges and writes the report into the run folder.

    Raises:
        EvaluateError: there is no test row.
        Interrupted: a stop was asked for; the answers so far are kept.
    """
    if not subject.test.examples:
        raise EvaluateError(
            "There is no test row.", code="no_test_rows", param="data.test", hint="Give data.test=FILE."
        )
    started = time.perf_counter()
    recipe, notes = subject.recipe, list(subject.notes)
    test, encoded = subject.test.examples, subject.test.encoded
    limit = recipe.evaluate.max_samples
    if limit is not None and limit < len(test):
        notes.append(f"Shortened: evaluate.max_samples={limit} of {len(test):,} test rows were judged.")
        numbers = {(example.file, example.line): number for number, example in enumerate(test)}
        test = take(test, limit, recipe.seed)
        encoded = [encoded[numbers[example.file, example.line]] for example in test]
    judge = _judge_pairs if method_of(test)[0] == "dpo" else _judge_answers
    found = judge(run, subject, test, encoded, listener)
    comparison = compare_scores(
        found.base.scores,
        found.fine_tuned.scores,
        minimum_gain=recipe.evaluate.minimum_gain,
        seed=recipe.seed,
        deed="ranked" if found.grader[0] == GRADER else "answered",
    )
    manifest = run.read_manifest() if run.manifest.exists() else {}
    stages = manifest.get("stages", {})
    seconds = {name: round(stages[name]["seconds"], 1) for name in ("data", "train") if name in stages} | found.seconds
    seconds["evaluate"] = round(time.perf_counter() - started, 1)
    report = build_report(
        comparison,
        samples=found.samples,
        base=found.base,
        fine_tuned=found.fine_tuned,
        grader=found.grader,
        facts=RunFacts(
            recipe=recipe,
            folder=str(run.path),
            losses=found.losses,
            data=subject.data,
            training=subject.training,
            resolved=manifest.get("resolved", []),
            versions=versions(),
            hashes={
                **{f"{path} ({entry['file']})": entry["sha256"] for path, entry in manifest.get("inputs", {}).items()},
                **{f"base {name}": digest for name, digest in manifest.get("base_model_sha256", {}).items()},
                "adapter": sha256_file(weights_file(subject.adapter_folder)),
                "recipe": manifest.get("recipe_sha256", ""),
            },
            seconds=seconds,
        ),
        notes=notes,
    )
    write_report(report, run.path)
    if run.manifest.exists():
        run.finish_stage("evaluate", seconds["evaluate"], verdict=report.verdict)
    return report


@dataclass(frozen=True, slots=True)
class _Found:
    """Both models, judged on the test rows.

    Attributes:
        grader: its name, and why it was chosen.
        losses: mean loss on the rows' own answers, by `base` and `fine_tuned`.
        seconds: wall time by part.
    """

    samples: list[Sample]
    base: Judged
    fine_tuned: Judged
    grader: tuple[str, str]
    losses: dict[str, float]
    seconds: dict[str, float]


def _judge_answers(
    run: RunFolder, subject: Subject, test: Sequence[Example], encoded: Sequence[Any], listener: Listener
) -> _Found:
    """Judges by what the models answer."""
    samples = samples_of(test, subject.model.chat)
    grader, reason = _grader(subject.recipe, subject.train_examples, subject.model.chat)
    listener(Event("stage", f"Evaluating on {len(samples):,} test rows"))
    judged, seconds = _graded(run, subject, samples, grader, reason, listener)
    losses = _test_losses(subject, encoded, listener)
    return _Found(samples, judged["base"], judged["fine_tuned"], (grader.name, reason), losses, seconds)


def _judge_pairs(
    run: RunFolder, subject: Subject, test: Sequence[Example], encoded: Sequence[Any], listener: Listener
) -> _Found:
    """Judges by which of a row's two answers the models find likelier, and grades their own answers beside where the
    preferred ones are labels or JSON, or a grader was asked for."""
    listener(Event("stage", f"Evaluating on {len(test):,} pairs of answers"))
    samples, others = pair_samples(test, subject.model.chat)
    with stopwatch() as spent:
        logps = pair_logps(subject.model, subject.adapter, encoded, subject.recipe.train.max_batch_tokens)
    seconds = {"pairs": round(spent(), 1)}
    judged = judge_pairs(logps, samples, others, encoded)
    grader, reason = _grader(subject.recipe, subject.train_examples, subject.model.chat)
    if grader.name in CLOSED or subject.recipe.evaluate.grader != "auto":
        prompts = [
            replace(last, tools=sample.tools)
            for last, sample in zip(samples_of(test, subject.model.chat), samples, strict=True)
        ]
        answered, more = _graded(run, subject, prompts, grader, reason, listener)
        seconds |= more
        for name, given in answered.items():
            scores = [grade.score for grade in given.grades if grade.score is not None]
            if scores:
                judged[name].metrics[f"own answers like the preferred ones ({grader.name})"] = sum(scores) / len(scores)
    losses = {name: preferred_loss(found, encoded) for name, found in logps.items()}
    return _Found(samples, judged["base"], judged["fine_tuned"], (GRADER, pair_reason(judged)), losses, seconds)


def _graded(
    run: RunFolder, subject: Subject, samples: Sequence[Sample], grader: Grader, reason: str, listener: Listener
) -> tuple[dict[str, Judged], dict[str, float]]:
    """Returns the answers of both models, graded, and the seconds they took."""
    listener(Event("message", f"grader = {grader.name}: {reason}", {"grader": grader.name}))
    seconds: dict[str, float] = {}
    judged: dict[str, Judged] = {}
    with stop_switch(listener) as stop_requested:
        for use_adapter in (False, True):
            source = LocalModel(
                subject.model,
                subject.adapter,
                use_adapter=use_adapter,
                max_new_tokens=int(subject.recipe.evaluate.max_new_tokens),
                batch_size=subject.recipe.evaluate.batch_size,
            )
            with stopwatch() as spent:
                answers = collect_answers(
                    source,
                    samples,
                    run.answers / f"{source.name}.jsonl",
                    listener=listener,
                    stop_requested=stop_requested,
                )
            seconds[f"answers_{source.name}"] = round(spent(), 1)
            judged[source.name] = Judged.of(grader, samples, answers)
    return judged, seconds


def open_subject(opened: OpenedModel, examples: Sequence[Example], *, own_rows: bool) -> Subject:
    """Returns an adapter on disk as something to judge on these rows.

    Args:
        opened: with an adapter.
        examples: the test rows.
        own_rows: whether they are the run's own test rows, so that its data and training belong in the report.

    Raises:
        DataError: a row is too long and is not to be dropped.
        EvaluateError: there is no adapter.
    """
    if opened.adapter is None:
        raise EvaluateError("A base model alone has nothing to be compared with.", code="not_fine_tuned", param="model")
    recipe, folder = opened.recipe, opened.base
    shape = model_shape(folder)
    device, _ = resolve_device(recipe.model.device)
    dtype, _ = resolve_dtype(recipe.model.dtype, device)
    model = load_model(folder, dtype, quantization=recipe.model.quantization, device=device)
    adapter = load_adapter(model.network, opened.adapter)
    length = shape.context_length if recipe.model.max_length == "auto" else recipe.model.max_length
    drop = recipe.data.on_too_long == "drop"
    method = method_of(examples)[0]
    test = encode_rows(model.chat, examples, method=method, max_length=length, drop_too_long=drop)
    train_examples = read_checked(opened.run.data / "train.jsonl") if opened.run else examples
    if recipe.evaluate.max_new_tokens == "auto":
        rows = RowStream(model.chat, train_examples, method="supervised", max_length=length, drop_too_long=True)
        tokens = max_new_tokens(max(row.last_answer_tokens for row in rows))[0]
        recipe = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"max_new_tokens": tokens})})
    stage = opened.run.stage("train") if opened.run and own_rows else None
    return Subject(
        recipe=recipe,
        model=model,
        adapter=adapter,
        adapter_folder=opened.adapter,
        train_examples=train_examples,
        test=test,
        data=DataSummary(**stage["data"]) if stage else None,
        training=TrainingSummary(**stage["summary"]) if stage else None,
        notes=stage["notes"] if stage else [],
    )


def forget_answers(run: RunFolder) -> None:
    """Removes answers of an earlier evaluation: a new one may use other rows or settings."""
    shutil.rmtree(run.answers, ignore_errors=True)


def _grader(recipe: Recipe, train_examples: Sequence[Example], chat: ChatTokenizer) -> tuple[Grader, str]:
    portions = (train_examples[start : start + _ROWS_AT_ONCE] for start in range(0, len(train_examples), _ROWS_AT_ONCE))
    return choose_grader(recipe.evaluate, [sample.target for some in portions for sample in samples_of(some, chat)])


def _test_losses(subject: Subject, rows: Sequence[EncodedExample], listener: Listener) -> dict[str, float]:
    """Returns the mean loss of both models on the answers in the data, in nats per token."""
    budget = Budget(subject.recipe.train.max_batch_tokens, listener)
    engine = open_engine(subject.model, subject.adapter)
    with subject.adapter.disabled():
        base = loss_on(rows, engine, subject.adapter, ANSWERS, budget)
    tuned = loss_on(rows, engine, subject.adapter, ANSWERS, budget)
    subject.adapter.train(False)
    return {"base": base, "fine_tuned": tuned}
