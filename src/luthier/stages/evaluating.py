"""The evaluation of a run: answers of base and fine-tuned model, scores, verdict, what broke, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from luthier.data.chat import Example
from luthier.data.split import take
from luthier.errors import EvaluateError
from luthier.evaluate.compare import Comparison, compare_scores
from luthier.evaluate.forgetting.reading import open_probe
from luthier.evaluate.graders import Grader, JsonGrader, LabelGrader, choose_grader
from luthier.evaluate.graders.python_grader import isolations
from luthier.evaluate.pairing import Scores
from luthier.evaluate.runner import sample_ids, samples_of
from luthier.evaluate.samples import Answer, Sample
from luthier.evaluate.shape import shape_of
from luthier.evaluate.table import compare_all
from luthier.model.adapter import weights_file
from luthier.model.chat_template import ChatTokenizer, EncodedExample
from luthier.model.loader import versions
from luthier.recipe import Recipe
from luthier.report import sections
from luthier.report.build import RunFacts, build_report
from luthier.report.files import write_report
from luthier.report.forgetting import forgetting_part
from luthier.report.forgetting_schema import Forgetting
from luthier.report.judged import Judged
from luthier.report.requirement import evaluate_requirement
from luthier.report.schema import Report
from luthier.runs import Event, Listener, RunFolder, sha256_file, stopwatch
from luthier.stages.answering import Asked, answers_of, copying, models_of
from luthier.stages.forgetting import probe_stage
from luthier.stages.independence import Leaks, clusters_of, contamination, find_leaks
from luthier.stages.judging import OpenedJudge, calibrate, grade_models, open_judge
from luthier.stages.preferences import GRADER, judge_pairs, pair_logps, pair_samples, preferred_loss
from luthier.stages.preferences import grader_reason as pair_reason
from luthier.stages.reading import method_of
from luthier.stages.sources import RemoteModel
from luthier.stages.stopping import stop_switch
from luthier.stages.subject import Subject
from luthier.train.engine import open_engine
from luthier.train.objective import ANSWERS
from luthier.train.parts import Budget
from luthier.train.validation import loss_on

CLOSED = ("label", "json", "sql", "tool_calls")
"""Graders that suit answers of which there is one right wording."""
_ROWS_AT_ONCE = 1024
"""Training rows of which more than the answer is held."""


def evaluate_stage(run: RunFolder, subject: Subject, listener: Listener) -> Report:
    """Judges and writes the report into the run folder.

    Raises:
        EvaluateError: there is no test row, or each was trained on.
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
    ids, train = sample_ids(test), subject.train_examples
    seen = None if train is None else [train, subject.validation_examples]
    leaks = find_leaks(seen, test, ids, kept_apart=subject.kept_apart)
    sources, cluster_key = clusters_of(recipe.evaluate.cluster, test, ids)
    judge = _judge_pairs if method_of(test)[0] == "dpo" else _judge_answers
    found = judge(run, subject, test, encoded, listener)
    honest, parts = _compare(found, recipe, leaks, sources)
    forgotten = _forgetting(run, subject, listener)
    stages = run.read_manifest().get("stages", {}) if run.manifest.exists() else {}
    seconds = {name: round(stages[name]["seconds"], 1) for name in ("data", "train") if name in stages} | found.seconds
    seconds["evaluate"] = round(time.perf_counter() - started, 1)
    report = build_report(
        honest,
        samples=found.samples,
        base=found.judged["base"],
        fine_tuned=found.judged["fine-tuned"],
        grader=found.grader,
        facts=_facts(run, subject, found.losses, seconds),
        notes=[*notes, *found.notes],
        sources=sources,
        trained_on=leaks.kinds,
        cluster_key=cluster_key,
        forgetting=forgotten,
        **parts,
        **found.sections,
    )
    report = with_requirement(report, recipe.evaluate.require)
    write_report(report, run.path)
    if run.manifest.exists():
        run.finish_stage("evaluate", seconds["evaluate"], verdict=report.verdict)
    return report


@dataclass(frozen=True, slots=True)
class _Found:
    """All models, judged on the test rows.

    Attributes:
        judged: by name, the base first, the fine-tuned model last.
        described: what each of them was given.
        grader: its name, and why it was chosen.
        losses: mean loss on the rows' own answers, by `base` and `fine_tuned`.
        seconds: wall time by part.
        sections: parts of the report.
        notes: what its reader must know.
    """

    samples: list[Sample]
    judged: Mapping[str, Judged]
    described: Mapping[str, str]
    grader: tuple[str, str]
    losses: dict[str, float]
    seconds: dict[str, float]
    sections: dict[str, Any]
    notes: list[str]


def _compare(
    found: _Found, recipe: Recipe, leaks: Leaks, sources: Mapping[str, str] | None
) -> tuple[Comparison, dict[str, Any]]:
    """Returns what base and fine-tuned model show on rows that were not trained on, and parts of the report.

    Args:
        found: all models, judged.
        recipe: its `evaluate.minimum_gain` and seed.
        leaks: the rows that were trained on.
        sources: sample id → what the row comes from, where rows share a source.
    """
    settings: dict[str, Any] = {
        "minimum_gain": recipe.evaluate.minimum_gain,
        "seed": recipe.seed,
        "deed": "ranked" if found.grader[0] == GRADER else "answered",
        "clusters": sources,
    }

    def scores(name: str, *, leaked: bool | None) -> Scores:
        """Returns a model's scores, of the rows that were trained on, of the others, or of all."""
        given = found.judged[name].scores
        return given if leaked is None else {key: each for key, each in given.items() if (key in leaks.kinds) == leaked}

    def compare(*, leaked: bool | None) -> Comparison | None:
        sides = [scores(name, leaked=leaked) for name in ("base", "fine-tuned")]
        both = any(one is not None and sides[1][key] is not None for key, one in sides[0].items())
        return compare_scores(*sides, **settings) if both or not leaked else None

    honest = compare(leaked=False)
    assert honest is not None
    with_them, on_them = (compare(leaked=each) if leaks.kinds else None for each in (None, True))
    parts: dict[str, Any] = {"contamination": contamination(leaks, honest, with_them, on_them)}
    if len(found.judged) > 2:
        table = compare_all({name: {"score": scores(name, leaked=False)} for name in found.judged}, **settings)
        parts["table"] = sections.model_table(table, found.judged, found.described)
    return honest, parts


def _judge_answers(
    run: RunFolder, subject: Subject, test: Sequence[Example], encoded: Sequence[Any], listener: Listener
) -> _Found:
    """Judges by what the models answer."""
    samples = samples_of(test, subject.model.chat)
    targets = _targets(subject.train_examples or test, subject.model.chat)
    graded = _Grading.of(run, subject, targets, listener)
    models, notes = models_of(subject, samples, listener)
    listener(Event("stage", f"Evaluating on {len(samples):,} test rows"))
    judged, seconds, more = graded.judge(models, samples)
    losses = _test_losses(subject, encoded, listener)
    parts = _parts(graded.grader, samples, judged, subject, targets)
    if subject.training is not None:
        copied = copying(run, subject, listener) if graded.grader.name not in CLOSED else None
        parts["overfitting"] = sections.overfitting(subject.training, copied)
    described = {model.title: model.described for model in models}
    grader = (graded.grader.name, graded.reason)
    return _Found(samples, judged, described, grader, losses, seconds, parts, [*notes, *more])


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
    notes: list[str] = []
    targets = _targets(subject.train_examples or test, subject.model.chat)
    graded = _Grading.of(run, subject, targets, listener)
    if graded.grader.name in CLOSED or subject.recipe.evaluate.grader != "auto":
        prompts = [
            replace(last, tools=sample.tools)
            for last, sample in zip(samples_of(test, subject.model.chat), samples, strict=True)
        ]
        models, _ = models_of(subject, prompts, listener, alone=True)
        answered, more, notes = graded.judge(models, prompts)
        seconds |= more
        for name, given in answered.items():
            scores = [grade.score for grade in given.grades if grade.score is not None]
            if scores:
                judged[name].metrics[f"own answers like the preferred ones ({graded.grader.name})"] = sum(scores) / len(
                    scores
                )
    losses = {name: preferred_loss(found, encoded) for name, found in logps.items()}
    parts = {"overfitting": sections.overfitting(subject.training, None)} if subject.training else {}
    if subject.recipe.evaluate.baselines or subject.recipe.evaluate.against:
        notes.append("Pairs of answers are ranked, not written: no others than base and fine-tuned model take part.")
    return _Found(samples, judged, {}, (GRADER, pair_reason(judged)), losses, seconds, parts, notes)


@dataclass(frozen=True, slots=True)
class _Grading:
    """A grader with whatever it needs.

    Attributes:
        reason: why it was chosen.
        judge_model: whom it asks, where it asks a model.
    """

    run: RunFolder
    recipe: Recipe
    grader: Grader
    reason: str
    judge_model: OpenedJudge | None
    listener: Listener

    @classmethod
    def of(cls, run: RunFolder, subject: Subject, targets: Sequence[str], listener: Listener) -> Self:
        """Opens the grader that the recipe asks for, or that suits the training answers."""
        judge = open_judge(subject.recipe, run.path, listener)
        grader, reason = choose_grader(subject.recipe.evaluate, targets, judge=judge.judge if judge else None)
        return cls(run, subject.recipe, grader, reason, judge, listener)

    def judge(
        self, models: Sequence[Asked], samples: Sequence[Sample]
    ) -> tuple[dict[str, Judged], dict[str, float], list[str]]:
        """Returns the models' answers with their grades, the seconds they took, and what their reader must know."""
        seconds: dict[str, float] = {}
        answers: dict[str, list[Answer]] = {}
        name = self.grader.name
        self.listener(Event("message", f"grader = {name}: {self.reason}", {"grader": name}))
        notes = calibrate(self.grader, self.recipe, samples, self.judge_model, self.listener)
        for model, given, spent in answers_of(models, self.run, self.recipe.evaluate.samples, self.listener):
            seconds[f"answers_{model.source.name}"] = round(spent, 1)
            answers[model.title] = given
            if isinstance(model.source, RemoteModel):
                notes += model.source.notes(given)
        with stopwatch() as spent_grading:
            judged = grade_models(
                self.grader, self.recipe, samples, answers, judge=self.judge_model, listener=self.listener
            )
        seconds["grading"] = round(spent_grading(), 1)
        if self.judge_model:
            notes += self.judge_model.notes()
        return judged, seconds, notes


def _forgetting(run: RunFolder, subject: Subject, listener: Listener) -> Forgetting | None:
    """Returns what was forgotten, by the recipe's probe."""
    probe = open_probe(subject.recipe.evaluate.probe)
    if probe is None:
        return None
    with stop_switch(listener) as stop_requested:
        found = probe_stage(
            subject.model,
            subject.adapter,
            probe,
            subject.recipe,
            run.answers,
            identity=subject.identity,
            listener=listener,
            stop_requested=stop_requested,
        )
    return forgetting_part(found)


def with_requirement(report: Report, require: str | None) -> Report:
    """Returns the report with whether it meets what the recipe demands of it."""
    return (
        report if require is None else report.model_copy(update={"requirement": evaluate_requirement(require, report)})
    )


def _parts(
    grader: Grader, samples: Sequence[Sample], judged: Mapping[str, Judged], subject: Subject, targets: Sequence[str]
) -> dict[str, Any]:
    """Returns the parts of the report that are about the answers themselves."""
    base, tuned = judged["base"], judged["fine-tuned"]
    asked = [sample.target for sample in samples for _ in range(tuned.draws)]
    texts = [[answer.text for answer in each.answers] for each in (base, tuned)]
    chat = subject.model.chat
    expected = [len(chat.tokenizer(sample.target, add_special_tokens=False).input_ids) + 1 for sample in samples]
    parts: dict[str, Any] = {
        "unscored_reasons": sections.reasons(judged),
        "shape": sections.answer_shape(shape_of(grader.name, targets), sum(expected) / len(expected), base, tuned),
        "isolation": " ".join(isolations(grader)),
    }
    if isinstance(grader, LabelGrader):
        parts["confusion"] = sections.confusion_table(asked, *texts)
    if isinstance(grader, JsonGrader):
        parts["fields"] = sections.field_rows(asked, *texts)
    return parts


def _facts(run: RunFolder, subject: Subject, losses: Mapping[str, float], seconds: Mapping[str, float]) -> RunFacts:
    manifest = run.read_manifest() if run.manifest.exists() else {}
    return RunFacts(
        recipe=subject.recipe,
        folder=str(run.path),
        losses=losses,
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
    )


def _targets(examples: Sequence[Example], chat: ChatTokenizer) -> list[str]:
    """Returns the answers of examples, as the model has to write them."""
    portions = (examples[start : start + _ROWS_AT_ONCE] for start in range(0, len(examples), _ROWS_AT_ONCE))
    return [sample.target for some in portions for sample in samples_of(some, chat)]


def _test_losses(subject: Subject, rows: Sequence[EncodedExample], listener: Listener) -> dict[str, float]:
    """Returns the mean loss of both models on the answers in the data, in nats per token."""
    budget = Budget(subject.recipe.train.max_batch_tokens, listener)
    engine = open_engine(subject.model, subject.adapter)
    with subject.adapter.disabled():
        base = loss_on(rows, engine, subject.adapter, ANSWERS, budget)
    tuned = loss_on(rows, engine, subject.adapter, ANSWERS, budget)
    subject.adapter.train(False)
    return {"base": base, "fine_tuned": tuned}
