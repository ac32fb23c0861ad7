"""Samples from test rows, and answers from a local model: the part of an evaluation that generates."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from luthier.data.chat import Example, is_trained
from luthier.errors import DataError, Interrupted
from luthier.evaluate.samples import Answer, AnswerSource, Sample
from luthier.model.chat_template import ChatTokenizer
from luthier.model.generate import batches_of, generate_batch
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter
from luthier.runs import Event, Listener, append_line, read_lines


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
            )
        )
    return samples


class LocalModel(AnswerSource):
    """Answers of a model in memory, with its adapter or without."""

    def __init__(
        self, model: LoadedModel, adapter: Adapter | None, *, use_adapter: bool, max_new_tokens: int, batch_size: int
    ) -> None:
        self.name = "fine_tuned" if use_adapter else "base"
        self._model = model
        self._silenced = adapter.disabled if adapter and not use_adapter else contextlib.nullcontext
        self._max_new_tokens = max_new_tokens
        self._batch_size = batch_size

    def answer(self, samples: Sequence[Sample], done: frozenset[str] = frozenset()) -> Iterator[list[Answer]]:
        """Yields greedy answers batch by batch; a batch whose samples are all done is passed over."""
        prompts = [self._model.chat.encode_prompt(sample.prompt, sample.tools) for sample in samples]
        for indices in batches_of(prompts, self._batch_size):
            if all(samples[index].id in done for index in indices):
                continue
            with self._silenced():
                generated = generate_batch(self._model, prompts, indices, max_new_tokens=self._max_new_tokens)
            yield [
                Answer(samples[g.index].id, self._model.chat.decode(g.ids), g.num_tokens, g.finish_reason)
                for g in generated
            ]


def collect_answers(
    source: LocalModel,
    samples: Sequence[Sample],
    path: Path,
    *,
    listener: Listener,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[Answer]:
    """Returns an answer for each sample, in their order, writing each batch to `path` as it comes.

    An interrupted collection goes on from that file. A batch is answered again unless it is there whole, so that the
    answers are those of an uninterrupted run.

    Raises:
        Interrupted: a stop was requested; what was answered is kept.
        DataError: a prompt does not fit the model's context.
    """
    kept = {line["id"]: Answer(**line) for line in read_lines(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    for answers in source.answer(samples, frozenset(kept)):
        for answer in answers:
            if answer.id not in kept:
                append_line(path, asdict(answer))
            kept[answer.id] = answer
        listener(
            Event(
                "progress",
                f"{source.name.replace('_', '-')}: {len(kept)} of {len(samples)} answers",
                {"done": len(kept), "total": len(samples), "what": source.name},
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
