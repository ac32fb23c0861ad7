"""Samples from test rows, and answers from a local model: the part of an evaluation that generates."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import orjson

from luthier.data.chat import Example, is_trained
from luthier.errors import DataError, Interrupted
from luthier.evaluate.samples import Answer, AnswerSource, Sample
from luthier.model.chat_template import ChatTokenizer
from luthier.model.generation.generator import Generator
from luthier.model.generation.prompt import Options, Prompt, Sampling
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter
from luthier.runs import Event, Listener, append_line, cut_torn_line, read_lines

TOLD_EVERY = 16
"""Answers between two lines of progress."""


def samples_of(examples: Sequence[Example], chat: ChatTokenizer) -> list[Sample]:
    """Returns a sample for each example: its last trained assistant message is the target, all before it the prompt.

    The target is written as the model would have to write it: for tool calls, the template's text for them.
    """
    samples = []
    for key, example in zip(sample_ids(examples), examples, strict=True):
        last = max(index for index, message in enumerate(example.messages) if is_trained(message))
        samples.append(
            Sample(
                id=key,
                prompt=example.messages[:last],
                target=chat.turn_text(example.messages, example.tools, last),
                tools=example.tools,
                item=example.row,
            )
        )
    return samples


def sample_ids(examples: Sequence[Example]) -> list[str]:
    """Returns the ids of the samples of examples.

    They are the row's content hash, numbered where a row stands more than once, so they do not depend on its place.
    """
    seen: Counter[str] = Counter()
    ids = []
    for example in examples:
        key = example.content_hash
        seen[key] += 1
        ids.append(key if seen[key] == 1 else f"{key}-{seen[key]}")
    return ids


class LocalModel(AnswerSource):
    """Answers of a model in memory, with its adapter or without: one copy of the base serves both.

    Args:
        name: of the model, and of the file that keeps its answers.
        model: the base, with the adapter's layers in it where there is one.
        adapter: the adapter.
        identity: what the weights are, so that answers of others are never taken for theirs.
        use_adapter: whether the adapter takes part.
        max_new_tokens: of an answer.
        batch_size: answers that are written at the same time, where memory allows.
        temperature: 0 for the likeliest answer, else what answers are drawn at.
        seed: of the draws. A sample's draw is decided by it and the sample's id, whatever is asked beside it.
    """

    def __init__(
        self,
        name: str,
        model: LoadedModel,
        adapter: Adapter | None,
        *,
        identity: str,
        use_adapter: bool,
        max_new_tokens: int,
        batch_size: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.name = name
        self.identity = f"{identity} adapted={use_adapter} max={max_new_tokens} temperature={temperature} seed={seed}"
        self._model = model
        self._generator = Generator(model, adapter, max_rows=batch_size)
        self._use_adapter = use_adapter
        self._max_new_tokens = max_new_tokens
        self._temperature = temperature
        self._seed = seed

    def answer(
        self,
        samples: Sequence[Sample],
        done: frozenset[str] = frozenset(),
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> Iterator[list[Answer]]:
        """Yields answers one by one, as they are finished, to all samples but those that are done."""
        chat = self._model.chat
        left = [sample for sample in samples if sample.id not in done]
        prompts = [
            Prompt(
                chat.encode_prompt(sample.prompt, sample.tools),
                sampling=self._sampling(sample.id),
                adapted=self._use_adapter,
            )
            for sample in left
        ]
        options = Options(self._max_new_tokens, stop_requested=stop_requested)
        for given in self._generator.answer(prompts, options):
            yield [Answer(left[given.index].id, chat.decode(given.ids), given.num_tokens, given.finish_reason)]

    def _sampling(self, sample: str) -> Sampling:
        if self._temperature == 0:
            return Sampling()
        return Sampling(self._temperature, seed=seed_of(self._seed, sample))


def seed_of(seed: int, sample: str) -> int:
    """Returns the seed of the draw of one sample, 32 bits."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{sample}".encode(), digest_size=4).digest(), "big")


def draws_of(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Returns each sample `count` times in a row, under ids of their own where that is more than once."""
    if count == 1:
        return list(samples)
    return [replace(sample, id=f"{sample.id}#{draw}") for sample in samples for draw in range(1, count + 1)]


def collect_answers(
    source: AnswerSource,
    samples: Sequence[Sample],
    folder: Path,
    *,
    listener: Listener,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[Answer]:
    """Returns an answer for each sample, in their order, writing each to `folder/NAME.jsonl` as it comes.

    An interrupted collection goes on from that file: no sample is answered twice. Its first line says what was asked of
    whom; answers of another model, to other prompts or under other settings are put aside (`NAME.jsonl.old`), which is said.

    Raises:
        Interrupted: a stop was requested; what was answered is kept.
        DataError: a prompt does not fit the model's context.
    """
    path = folder / f"{source.name}.jsonl"
    made_of = _digest(source, samples)
    folder.mkdir(parents=True, exist_ok=True)
    kept = _kept(path, made_of, listener)
    if not path.exists():
        append_line(path, {"made_of": made_of})
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
            hint="Give the same command again, or go on with `luthier run --resume` where it was a run.",
        )
    missing = [sample.id for sample in samples if sample.id not in kept]
    if missing:
        raise DataError(f"{len(missing)} test rows got no answer.", code="unanswered")
    return [kept[sample.id] for sample in samples]


def _kept(path: Path, made_of: str, listener: Listener) -> dict[str, Answer]:
    cut_torn_line(path)
    lines = read_lines(path)
    if not lines:
        path.unlink(missing_ok=True)
        return {}
    if lines[0].get("made_of") != made_of:
        aside = path.with_name(f"{path.name}.old")
        path.replace(aside)
        message = (
            f"{len(lines) - 1:,} earlier answers of {path.stem} are to other prompts, settings or weights; see {aside}."
        )
        listener(Event("message", message))
        return {}
    return {line["id"]: Answer(**line) for line in lines[1:]}


def _digest(source: AnswerSource, samples: Sequence[Sample]) -> str:
    found = hashlib.blake2b(source.identity.encode(), digest_size=16)
    for sample in samples:
        found.update(orjson.dumps([sample.id, sample.prompt, sample.tools], option=orjson.OPT_SORT_KEYS))
    return found.hexdigest()
