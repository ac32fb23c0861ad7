"""Who answers the test rows, and what each of them is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from luthier.data.split import take
from luthier.evaluate.copying import copied_share, in_other_words, is_worded
from luthier.evaluate.runner import LocalModel, collect_answers, draws_of, samples_of
from luthier.evaluate.samples import Answer, AnswerSource, Sample
from luthier.report.schema import Copying
from luthier.runs import Event, Listener, RunFolder, stopwatch
from luthier.stages.baselines import prompted
from luthier.stages.sources import SourceSettings, local_source, open_source
from luthier.stages.stopping import stop_switch
from luthier.stages.subject import Subject

ASKED_AGAIN = 24
"""Training rows that are asked in other words, at most."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A model and the prompts it gets.

    Attributes:
        title: of the model in the report.
        described: what it was given.
        samples: the test rows with its prompts.
    """

    title: str
    described: str
    source: AnswerSource
    samples: Sequence[Sample]


def models_of(
    subject: Subject, samples: Sequence[Sample], listener: Listener, *, alone: bool = False
) -> tuple[list[Asked], list[str]]:
    """Returns the models that answer, the base first and the fine-tuned one last, and what is to be said of them.

    Args:
        subject: base and adapter.
        samples: the test rows.
        listener: hears of choices made on the way.
        alone: whether the two are asked alone, without what one would try before training.
    """
    baselines, notes = ([], []) if alone else prompted(subject, samples, listener)
    models = [Asked("base", "the prompt alone", _local(subject, "base", adapted=False), samples)]
    models += [
        Asked(each.title, each.described, _local(subject, each.name, adapted=False), each.samples) for each in baselines
    ]
    models += [
        Asked(text, "the prompt alone", open_source(text, SourceSettings.of(subject.recipe), listener), samples)
        for text in (() if alone else subject.recipe.evaluate.against)
    ]
    models.append(Asked("fine-tuned", "the prompt alone", _local(subject, "fine_tuned", adapted=True), samples))
    return models, notes


def answers_of(
    models: Sequence[Asked], run: RunFolder, draws: int, listener: Listener
) -> Iterator[tuple[Asked, list[Answer], float]]:
    """Yields each model with its answers, so many to each sample one after another, and the seconds they took.

    Answers of an earlier part of the run are kept.

    Raises:
        Interrupted: a stop was asked for; what was answered is kept.
    """
    with stop_switch(listener) as stop_requested:
        for model in models:
            with stopwatch() as spent:
                answers = collect_answers(
                    model.source,
                    draws_of(model.samples, draws),
                    run.answers,
                    listener=listener,
                    stop_requested=stop_requested,
                )
            yield model, answers, spent()


def copying(run: RunFolder, subject: Subject, listener: Listener) -> Copying | None:
    """Returns whether training answers are said word for word where they are asked for in other words.

    None where too few of them are long enough for that to tell anything, or training rows are not at hand.
    """
    rows = subject.train_examples or []
    some = take(rows, 4 * ASKED_AGAIN, subject.recipe.seed) if rows else []
    samples = [sample for sample in samples_of(some, subject.model.chat) if is_worded(sample.target)][:ASKED_AGAIN]
    if len(samples) < ASKED_AGAIN / 2:
        return None
    listener(Event("stage", f"Asking {len(samples)} training rows in other words"))
    reworded = [in_other_words(sample) for sample in samples]
    targets = [sample.target for sample in samples]
    asked = [
        Asked("base_share", "", _local(subject, "base_reworded", adapted=False, greedy=True), reworded),
        Asked("fine_tuned_share", "", _local(subject, "fine_tuned_reworded", adapted=True, greedy=True), reworded),
        Asked("unchanged_share", "", _local(subject, "fine_tuned_trained", adapted=True, greedy=True), samples),
    ]
    shares = {
        model.title: copied_share(targets, [answer.text for answer in answers])
        for model, answers, _ in answers_of(asked, run, 1, listener)
    }
    return Copying(rows=len(samples), **shares)


def _local(subject: Subject, name: str, *, adapted: bool, greedy: bool = False) -> LocalModel:
    settings = SourceSettings.of(subject.recipe)
    if greedy:
        settings = replace(settings, temperature=0.0)
    return local_source(name, subject.model, subject.adapter, settings, identity=subject.identity, use_adapter=adapted)
