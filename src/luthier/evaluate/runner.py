"""Samples from test rows, and answers from a local model: the part of an evaluation that generates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from luthier.data.chat import Example, is_trained
from luthier.errors import DataError, Interrupted
from luthier.evaluate.samples import Answer, AnswerSource, Sample
from luthier.model.chat_template import ChatTokenizer
from luthier.model.generation.generator import Generator
from luthier.model.generation.prompt import Options, Prompt
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter
from luthier.runs import Event, Listener, append_line, read_lines

TOLD_EVERY = 16
"""Answers between two lines of progress."""


def samples_of(examples: Sequence[Example], chat: ChatTokenizer) -> list[Sample]:
    """Returns a sample for each example: its last trained assistant message is the target, all before it the prompt.

    The target is written as the model would have to write it: for tool calls, the template's text for them. Ids are
    the row's content hash, numbered where a row stands more than once, so they do not depend on its place.
    """
    seen: Counter[str] = Counter()
    samples = []
    for example in examples:
        last = max(index for index, message in enumerate(example.messages) if is_trained(message))
        seen[example.content_hash] += 1
        copy = seen[example.content_hash]
        samples.append(
            Sample(
                id=example.content_hash if copy == 1 else f"{example.content_hash}-{copy}",
                prompt=example.messages[:last],
                target=chat.turn_text(example.messages, example.tools, last),
                tools=example.tools,
                item=example.row,
            )
        )
    return samples


class LocalModel(AnswerSource):
    """Answers of a model in memory, with its adapter or without: one copy of the base serves both.

    Args:
        model: the base, with the adapter's layers in it where there is one.
        adapter: the adapter.
        use_adapter: whether it takes part.
        max_new_tokens: of an answer.
        batch_size: answers that are written at the same time, where memory allows.
    """

    def __init__(
        self, model: LoadedModel, adapter: Adapter | None, *, use_adapter: bool, max_new_tokens: int, batch_size: int
    ) -> None:
        self.name = "fine_tuned" if use_adapter else "base"
        self._model = model
        self._generator = Generator(model, adapter, max_rows=batch_size)
        self._use_adapter = use_adapter
        self._max_new_tokens = max_new_tokens

    def answer(
        self,
        samples: Sequence[Sample],
        done: frozenset[str] = frozenset(),
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> Iterator[list[Answer]]:
        """Yields greedy answers one by one, as they are finished, to all samples but those that are done."""
        chat = self._model.chat
        left = [sample for sample in samples if sample.id not in done]
        prompts = [
            Prompt(chat.encode_prompt(sample.prompt, sample.tools), adapted=self._use_adapter) for sample in left
        ]
        options = Options(self._max_new_tokens, stop_requested=stop_requested)
        for given in self._generator.answer(prompts, options):
            yield [Answer(left[given.index].id, chat.decode(given.ids), given.num_tokens, given.finish_reason)]


def collect_answers(
    source: LocalModel,
    samples: Sequence[Sample],
    path: Path,
    *,
    listener: Listener,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[Answer]:
    """Returns an answer for each sample, in their order, writing each to `path` as it comes.

    An interrupted collection goes on from that file: no sample is answered twice.

    Raises:
        Interrupted: a stop was requested; what was answered is kept.
        DataError: a prompt does not fit the model's context.
    """
    kept = {line["id"]: Answer(**line) for line in read_lines(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    told = 0
    for answers in source.answer(samples, frozenset(kept), stop_requested):
        for answer in answers:
            append_line(path, asdict(answer))
            kept[answer.id] = answer
        if len(kept) - told >= TOLD_EVERY or len(kept) == len(samples):
            told = len(kept)
            listener(
                Event(
                    "progress",
                    f"{source.name.replace('_', '-')}: {told} of {len(samples)} answers",
                    {"done": told, "total": len(samples), "what": source.name},
                )
            )
    if stop_requested() and len(kept) < len(samples):
        raise Interrupted(
            f"Stopped after {len(kept)} of {len(samples)} answers; they are saved.",
            code="interrupted",
            hint=f"Go on with `luthier run --resume {path.parent.parent}`.",
        )
    missing = [sample.id for sample in samples if sample.id not in kept]
    if missing:
        raise DataError(f"{len(missing)} test rows got no answer.", code="unanswered")
    return [kept[sample.id] for sample in samples]
