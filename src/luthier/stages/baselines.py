"""What one would try before training: the base with training examples in its prompt, the same for all or similar ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luthier.data.chat import Example
from luthier.data.split import take
from luthier.evaluate.prompting import answer_of, asked_of, fitted, question_of
from luthier.evaluate.retrieval import Index
from luthier.evaluate.runner import samples_of
from luthier.evaluate.samples import Sample
from luthier.evaluate.sentences import counted
from luthier.model.chat_template import ChatTokenizer, EncodedExample
from luthier.recipe import Baseline
from luthier.runs import Event, Listener
from luthier.stages.subject import Subject
from luthier.train.engine import Engine, open_engine
from luthier.train.objective import ANSWERS
from luthier.train.parts import Budget
from luthier.train.validation import loss_on

TRIED = (1, 2, 4, 8)
"""Numbers of examples tried on the validation rows."""
CHOSEN_ON = 32
"""Validation rows that the number is chosen by, at most."""
UNTRIED = 4
"""Examples shown where there are no validation rows to choose by."""

Show = Callable[[Sample, int], Sequence[Example]]
"""Returns so many training examples for a sample, the best last."""


@dataclass(frozen=True, slots=True)
class Prompted:
    """The base with examples in its prompt.

    Attributes:
        name: of its answers' file.
        title: for people.
        described: what it was given and how that was chosen.
        samples: the test rows, with the examples.
    """

    name: str
    title: str
    described: str
    samples: list[Sample]


def prompted(subject: Subject, samples: Sequence[Sample], listener: Listener) -> tuple[list[Prompted], list[str]]:
    """Returns the baselines of the recipe with their prompts, and what is to be said of those that are left out."""
    wanted, train = subject.recipe.evaluate.baselines, subject.train_examples
    if not wanted:
        return [], []
    if train is None:
        return [], ["The base was not tried with examples in its prompt: the training rows are not at hand."]
    ways: dict[Baseline, Callable[[], Show]] = {
        "few-shot": lambda: _same_for_all(train, subject.recipe.seed),
        "retrieved": lambda: _most_similar(train),
    }
    engine = open_engine(subject.model, subject.adapter)
    found = []
    for baseline in wanted:
        listener(Event("stage", f"Choosing how many examples the base is shown, {_WORDS[baseline]}"))
        found.append(_prompted(baseline, ways[baseline](), subject, engine, samples, listener))
    return found, []


_WORDS: dict[Baseline, str] = {
    "few-shot": "the same for all rows",
    "retrieved": "the most similar for each row (BM25)",
}


def _prompted(
    baseline: Baseline, show: Show, subject: Subject, engine: Engine, samples: Sequence[Sample], listener: Listener
) -> Prompted:
    assert subject.train_examples is not None
    fits = _fits(subject)
    rows = subject.validation_examples
    chosen = take(rows, CHOSEN_ON, subject.recipe.seed) if len(rows) > CHOSEN_ON else rows
    counts = [count for count in TRIED if count <= len(subject.train_examples)]
    if chosen:
        losses = {count: _loss(count, show, chosen, fits, subject, engine, listener) for count in counts}
        best = min(counts, key=lambda count: losses[count])
        tried = ", ".join(f"{count}: {loss:.3f}" for count, loss in losses.items())
        why = f"chosen by the loss on {counted(len(chosen), 'validation row')} (nats per token; {tried})"
    else:
        best = min(UNTRIED, counts[-1])
        why = "there were no validation rows to choose by"
    asked, fewer = [], 0
    for sample in samples:
        shown, count = fitted(sample, show(sample, best), fits)
        asked.append(shown)
        fewer += count < best
    described = f"{counted(best, 'training example')} in the prompt, {_WORDS[baseline]}; {why}"
    if fewer:
        described += f"; {counted(fewer, 'row')} got fewer, as many as fit the model's context"
    listener(Event("message", f"{baseline}: {described}", {"examples": best}))
    return Prompted(baseline.replace("-", "_"), f"{baseline} ({best})", f"the base with {described}", asked)


def _same_for_all(train: Sequence[Example], seed: int) -> Show:
    drawn = list(take(train, min(TRIED[-1], len(train)), seed))
    return lambda _, count: drawn[:count]


def _most_similar(train: Sequence[Example]) -> Show:
    index = Index([question_of(asked_of(example)) for example in train])

    def show(sample: Sample, count: int) -> Sequence[Example]:
        return [train[number] for number in reversed(index.nearest(question_of(sample.prompt), count))]

    return show


def _fits(subject: Subject) -> Callable[[Sample], bool]:
    chat, room = subject.model.chat, subject.model.context_length - int(subject.recipe.evaluate.max_new_tokens)
    return lambda sample: len(chat.encode_prompt(sample.prompt, sample.tools)) <= room


def _loss(
    count: int,
    show: Show,
    examples: Sequence[Example],
    fits: Callable[[Sample], bool],
    subject: Subject,
    engine: Engine,
    listener: Listener,
) -> float:
    """Returns the base's mean loss on the answers of validation rows, after so many examples."""
    chat = subject.model.chat
    rows = [
        _encoded(fitted(sample, show(sample, count), fits)[0], example, chat)
        for example, sample in zip(examples, samples_of(examples, chat), strict=True)
    ]
    with subject.adapter.disabled():
        loss = loss_on(rows, engine, subject.adapter, ANSWERS, Budget(subject.recipe.train.max_batch_tokens, listener))
    subject.adapter.train(False)
    return loss


def _encoded(sample: Sample, example: Example, chat: ChatTokenizer) -> EncodedExample:
    """Returns a prompt and the example's answer as the model sees them; the loss is on the answer alone."""
    before = [{**message, "weight": 0} if message["role"] == "assistant" else message for message in sample.prompt]
    return chat.encode_example([*before, answer_of(example)], sample.tools, place=f"{example.file}:{example.line}")
