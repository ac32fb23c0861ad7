"""What fine-tuning made a model forget: base and fine-tuned model on a general probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from luthier.evaluate.forgetting.items import Probe, Task
from luthier.evaluate.forgetting.measures import (
    Manner,
    PairedMeasure,
    corrected,
    measure_manner,
    measure_paired,
    measure_prose,
    passed,
)
from luthier.evaluate.forgetting.result import ProbeResult
from luthier.evaluate.forgetting.verdict import judge
from luthier.evaluate.runner import LocalModel, collect_answers
from luthier.evaluate.samples import Answer, Sample
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter
from luthier.recipe import Recipe
from luthier.runs import Event, Listener, no_listener, stopwatch
from luthier.stages.probe_reader import ProbeReader
from luthier.train.engine import open_engine

WINDOW_TOKENS = 256
"""Prose is read in windows of so many tokens, each by itself: twenty of them in 20 kB, enough for an interval."""
MAX_TOKENS = 2048
"""Tokens computed at once, at most."""


def probe_stage(
    model: LoadedModel,
    adapter: Adapter,
    probe: Probe,
    recipe: Recipe,
    folder: Path,
    *,
    identity: str,
    listener: Listener = no_listener,
    stop_requested: Callable[[], bool] = lambda: False,
) -> ProbeResult:
    """Returns what both models make of a probe, and the verdict.

    Args:
        model: the base, with the adapter's layers in it.
        adapter: turned off and on again, so that both models share one copy of the base.
        probe: from `luthier.evaluate.forgetting.reading.open_probe`.
        recipe: of the run.
        folder: takes the answers to tasks, `probe-….jsonl`; an interrupted evaluation goes on from there.
        identity: what the weights are, so that answers of others are never taken for theirs.
        listener: hears of the parts.
        stop_requested: asked between tokens of answers.

    Raises:
        EvaluateError: code "too_long" where an item does not fit the model's context.
        DataError: where a task does not.
        Interrupted: a stop was requested; the answers so far are kept.
    """
    with stopwatch() as spent:
        listener(Event("stage", f"Measuring what was forgotten: {_contents(probe)}"))
        adapter.train(False)
        engine = open_engine(model, adapter)
        reader = ProbeReader(
            model.chat,
            engine,
            adapter,
            max_tokens=min(MAX_TOKENS, recipe.train.max_batch_tokens),
            context_length=model.context_length,
            probe=probe,
        )
        length = min(WINDOW_TOKENS, model.context_length - 1)
        prose = measure_prose(list(reader.windows(probe.passages, length))) if probe.passages else None
        paired = [
            measure_paired(name, [item.group for item in items], *right)
            for name, items, right in (
                ("pairs", probe.pairs, reader.pairs(probe.pairs)),
                ("questions", probe.questions, reader.questions(probe.questions)),
                ("completions", probe.completions, reader.completions(probe.completions)),
            )
            if items
        ]
        manner: Manner | None = None
        notes = list(probe.notes)
        if probe.tasks:
            answers = [
                _answers(model, adapter, probe.tasks, recipe, folder, identity, adapted, listener, stop_requested)
                for adapted in (False, True)
            ]
            right = [passed(probe.tasks, given) for given in answers]
            paired.append(measure_paired("tasks", [task.group for task in probe.tasks], *right))
            manner = measure_manner(probe.tasks, *answers)
            notes += _cut_note(manner, len(probe.tasks))
        paired = corrected(paired)
        judgement = judge(prose, paired, manner)
        result = ProbeResult(
            probe.name,
            judgement,
            prose,
            tuple(paired),
            manner,
            (*notes, *_power_notes(paired)),
            round(spent(), 1),
        )
    listener(Event("message", f"forgetting: {judgement.verdict}. {judgement.reason}", {"verdict": judgement.verdict}))
    return result


def _answers(
    model: LoadedModel,
    adapter: Adapter,
    tasks: Sequence[Task],
    recipe: Recipe,
    folder: Path,
    identity: str,
    adapted: bool,
    listener: Listener,
    stop_requested: Callable[[], bool],
) -> list[Answer]:
    """Returns a greedy answer to each task in the chat template; tasks with one limit are answered together."""
    given: dict[str, Answer] = {}
    for limit in sorted({task.max_tokens for task in tasks}):
        some = [task for task in tasks if task.max_tokens == limit]
        source = LocalModel(
            f"probe-{limit}-{'fine_tuned' if adapted else 'base'}",
            model,
            adapter,
            identity=identity,
            use_adapter=adapted,
            max_new_tokens=limit,
            batch_size=recipe.evaluate.batch_size,
        )
        samples = [Sample(task.id, [{"role": "user", "content": task.prompt}], "") for task in some]
        answers = collect_answers(source, samples, folder, listener=listener, stop_requested=stop_requested)
        given |= {answer.id: answer for answer in answers}
    return [given[task.id] for task in tasks]


def _contents(probe: Probe) -> str:
    numbers = (
        (len(probe.pairs), "minimal pairs"),
        (len(probe.questions), "questions"),
        (len(probe.completions), "completions"),
        (len(probe.passages), "texts"),
        (len(probe.tasks), "tasks"),
    )
    return ", ".join(f"{count:,} {what}" for count, what in numbers if count)


def _cut_note(manner: Manner, tasks: int) -> list[str]:
    if not manner.base_cut + manner.fine_tuned_cut:
        return []
    return [
        f"Of {tasks:,} answers to tasks, {manner.base_cut:,} of the base and {manner.fine_tuned_cut:,} of the fine-tuned "
        "model reached their limit and were cut there."
    ]


def _power_notes(paired: Sequence[PairedMeasure]) -> list[str]:
    """Returns what the items could not have shown."""
    notes = []
    for measure in paired:
        if measure.detectable_loss is None:
            notes.append(f"{measure.n:,} {measure.name} are too few to show any loss.")
        else:
            notes.append(
                f"{measure.n:,} {measure.name} show a loss of {100 * measure.detectable_loss:.1f} points or more with 80 % "
                "power (5 % of them assumed to be gained by chance)."
            )
    return notes
