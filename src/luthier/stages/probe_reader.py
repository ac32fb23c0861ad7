"""Base and fine-tuned model read the texts of a probe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from luthier.errors import EvaluateError
from luthier.evaluate.forgetting.items import Completion, Pair, Passage, Probe, Question
from luthier.evaluate.forgetting.measures import Window
from luthier.model.chat_template import ChatTokenizer, EncodedExample
from luthier.model.lora import Adapter
from luthier.train.engine import Engine
from luthier.train.likelihood import Floats, divergences, greedy_rows, row_logps

Right = tuple[list[bool], list[bool]]
"""Whether each item is right: of the base, and of the fine-tuned model."""
FEW, BEGINNING = 10, 200
"""So many texts of a kind, and so many characters of each, tell what stands before a text."""


class ProbeReader:
    """Reads texts with base and fine-tuned model.

    Args:
        chat: the tokenizer.
        engine: of the adapted model.
        adapter: turned off and on again.
        max_tokens: computed at once.
        context_length: the longest text that the model was made for, in tokens.
        probe: what will be read.
    """

    def __init__(
        self,
        chat: ChatTokenizer,
        engine: Engine,
        adapter: Adapter,
        *,
        max_tokens: int,
        context_length: int,
        probe: Probe,
    ) -> None:
        self._chat = chat
        self._engine = engine
        self._adapter = adapter
        self._max_tokens = max_tokens
        self._context_length = context_length
        self._first = self._find_first(_beginnings(probe))

    def _find_first(self, texts: Sequence[str]) -> int:
        """Returns the special token behind which the base finds these texts likeliest.

        Which token stood before a text when a model was made is written nowhere: of many instruction-tuned models the
        "beginning of text" begins a turn of a chat, and nothing but a role's name is expected behind it.
        """
        tokenizer = self._chat.tokenizer
        named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
        candidates = list(dict.fromkeys(int(token) for token in named if token is not None))
        ids = [self._chat.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        with self._adapter.disabled():
            sums = [
                sum(map(_sum, row_logps(self._engine, [_row([token, *i], 1, "") for i in ids], self._max_tokens)))
                for token in candidates
            ]
        return candidates[int(np.argmax(sums))]

    def windows(self, passages: Sequence[Passage], length: int) -> Iterator[Window]:
        """Yields prose in windows of so many tokens, with what both models make of them. Every token is read."""
        rows, places = [], []
        for passage in passages:
            encoding = self._chat.tokenizer(passage.text, add_special_tokens=False, return_offsets_mapping=True)
            ids = encoding.input_ids
            starts = [start for start, _ in encoding.offset_mapping]
            for begin in range(0, len(ids), length):
                rows.append(_row([self._first, *ids[begin : begin + length]], 1, passage.group))
                until = starts[begin + length] if begin + length < len(ids) else len(passage.text)
                text = passage.text[0 if begin == 0 else starts[begin] : until]
                places.append((passage.group, len(text.encode("utf-8", "replace"))))
        read = divergences(self._engine, self._adapter, rows, self._max_tokens)
        for (group, num_bytes), found in zip(places, read, strict=True):
            yield Window(group, num_bytes, found.base, found.fine_tuned, found.divergence)

    def pairs(self, pairs: Sequence[Pair]) -> Right:
        """Returns of each pair whether the grammatical sentence is likelier as a whole, to both models."""
        rows = [self._continued("", text, pair.id) for pair in pairs for text in (pair.good, pair.bad)]
        return self._of_both(
            rows, lambda logps: [_sum(a) > _sum(b) for a, b in zip(logps[::2], logps[1::2], strict=True)]
        )

    def questions(self, questions: Sequence[Question]) -> Right:
        """Returns of each question whether the right choice is the likeliest by the mean of its tokens."""
        rows = [
            self._continued(as_prompt(question.context), f" {choice.strip()}", question.id)
            for question in questions
            for choice in question.choices
        ]

        def right(logps: list[Floats]) -> list[bool]:
            scores = iter([float(of_choice.mean()) for of_choice in logps])
            return [_is_right(question, [next(scores) for _ in question.choices]) for question in questions]

        return self._of_both(rows, right)

    def completions(self, completions: Sequence[Completion]) -> Right:
        """Returns of each text whether the model would go on with its last word."""
        rows = [self._continued(item.context.rstrip(), f" {item.target.strip()}", item.id) for item in completions]
        with self._adapter.disabled():
            base = greedy_rows(self._engine, rows, self._max_tokens)
        return base, greedy_rows(self._engine, rows, self._max_tokens)

    def _of_both(self, rows: Sequence[EncodedExample], right: Callable[[list[Floats]], list[bool]]) -> Right:
        with self._adapter.disabled():
            base = right(row_logps(self._engine, rows, self._max_tokens))
        return base, right(row_logps(self._engine, rows, self._max_tokens))

    def _continued(self, context: str, text: str, place: str) -> EncodedExample:
        """Returns a text after its context; a token that lies across the border belongs to the text.

        Raises:
            EvaluateError: code "too_long".
        """
        encoding = self._chat.tokenizer(context + text, add_special_tokens=False, return_offsets_mapping=True)
        known = sum(end <= len(context) for _, end in encoding.offset_mapping) if context else 0
        row = _row([self._first, *encoding.input_ids], 1 + known, place)
        if len(row) > self._context_length:
            raise EvaluateError(
                f"{place} of the probe has {len(row):,} tokens; the model's context is {self._context_length:,}.",
                code="too_long",
                param="evaluate.probe",
                hint="Shorten it, or leave it out of the probe; nothing is ever cut.",
            )
        return row


def as_prompt(context: str) -> str:
    """Returns what the choices are put behind: a question is marked as one, the beginning of a sentence stands as it is."""
    context = context.strip()
    return f"Question: {context}\nAnswer:" if context.endswith("?") else context


def _is_right(question: Question, scores: Sequence[float]) -> bool:
    """Whether the likeliest choice is the right one, or another of the same words; what is no number chooses nothing."""
    best = int(np.argmax(scores))
    return math.isfinite(scores[best]) and question.choices[best] == question.choices[question.answer]


def _row(ids: Sequence[int], known: int, place: str) -> EncodedExample:
    """Returns tokens of which all are predicted but the first `known`."""
    return EncodedExample(np.array(ids, dtype=np.int64), np.arange(len(ids)) >= known, place)


def _beginnings(probe: Probe) -> list[str]:
    """Returns how some of the texts of a probe begin."""
    texts = (
        [pair.good for pair in probe.pairs[:: max(1, len(probe.pairs) // FEW)]],
        [passage.text for passage in probe.passages],
        [as_prompt(question.context) for question in probe.questions],
        [item.context for item in probe.completions],
    )
    return [text.strip()[:BEGINNING] for some in texts for text in some[:FEW]]


def _sum(logps: Floats) -> float:
    return float(logps.sum())
