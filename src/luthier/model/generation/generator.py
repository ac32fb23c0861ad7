"""Generation: rows enter, are computed together, and leave one by one as they are finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal

from luthier.errors import DataError
from luthier.model.generation.answer import Answer, FinishReason, Piece, answer_of
from luthier.model.generation.choice import Chooser, logprob_of
from luthier.model.generation.generic import GenericEngine
from luthier.model.generation.native_engine import NativeEngine, obstacle
from luthier.model.generation.prompt import Options, Prompt
from luthier.model.generation.row import Engine, Row
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter

MAX_ROWS = 32
"""Rows at a time; more are faster and take more memory (`docs/measurements/generation.md`)."""


class Generator:
    """A model that answers.

    Networks of the Llama family on a CPU with a C compiler are computed by our own kernels: what a row gets does not depend
    on the rows beside it, nor on how many there are, in a single bit. All others are computed by transformers' own forward,
    where other shapes may round differently.

    Args:
        model: the base, with the adapter's layers in it where there is one.
        adapter: the adapter. Its present values are taken at the beginning of each call.
        max_rows: how many rows are computed at a time, where memory allows.
        engine: `native` or `generic` where one of them is wanted.
    """

    def __init__(
        self,
        model: LoadedModel,
        adapter: Adapter | None = None,
        *,
        max_rows: int = MAX_ROWS,
        engine: Literal["auto", "native", "generic"] = "auto",
    ) -> None:
        self._model = model
        self._adapter = adapter
        self._max_rows = max_rows
        self._engine = engine

    def answer(self, prompts: Sequence[Prompt], options: Options) -> Iterator[Answer]:
        """Yields the answers as they are finished, in any order; unfinished ones are left out where a stop is requested.

        Raises:
            DataError: a prompt and its answer do not fit the model's context.
        """
        pieces: dict[int, list[Piece]] = {}
        for piece in self.stream(prompts, options):
            pieces.setdefault(piece.index, []).append(piece)
            if piece.finish_reason:
                yield answer_of(pieces.pop(piece.index))

    def stream(self, prompts: Sequence[Prompt], options: Options) -> Iterator[Piece]:
        """Yields the tokens of all answers as they come. Closing the iterator stops the work.

        Raises:
            DataError: a prompt and its answer do not fit the model's context.
        """
        rows = [
            Row(index, prompt, list(prompt.ids), len(prompt.ids) + options.max_new_tokens)
            for index, prompt in enumerate(prompts)
        ]
        if not rows:
            return
        self._check_fits(rows, options)
        choosers = [Chooser(prompt.sampling) for prompt in prompts]
        logits = options.logprobs or any(not chooser.greedy for chooser in choosers)
        engine = self._open(rows, logits=logits, share_prefix=options.share_prefix)
        waiting = deque(engine.ordered(rows))
        inside = 0
        while (waiting or inside) and not options.stop_requested():
            while waiting and engine.takes(waiting[0]):
                engine.enter(waiting.popleft())
                inside += 1
            for prediction in engine.step():
                row = prediction.row
                token = choosers[row.index].choose(prediction.likeliest, prediction.logits_V)
                logprob = None
                if options.logprobs and prediction.logits_V is not None:
                    logprob = logprob_of(prediction.logits_V, token)
                reason: FinishReason | None = None
                if token in self._model.stop_ids:
                    reason = "stop"
                elif len(row.ids) + 1 == row.most_tokens:
                    reason = "length"
                if reason:
                    engine.leave(row)
                    inside -= 1
                else:
                    engine.give(row, token)
                yield Piece(row.index, token, logprob, reason)

    def _open(self, rows: Sequence[Row], *, logits: bool, share_prefix: bool) -> Engine:
        against = "as asked" if self._engine == "generic" else obstacle(self._model, self._adapter)
        if self._engine == "native" and against:
            raise ValueError(f"The native engine cannot compute this model: {against}.")
        if against:
            return GenericEngine(
                self._model, self._adapter, against, max_rows=self._max_rows, logits=logits, share_prefix=share_prefix
            )
        most_tokens = max(row.most_tokens for row in rows)
        return NativeEngine(
            self._model,
            self._adapter,
            max_rows=min(self._max_rows, len(rows)),
            most_tokens=most_tokens,
            logits=logits,
            share_prefix=share_prefix,
        )

    def _check_fits(self, rows: Sequence[Row], options: Options) -> None:
        longest = max(rows, key=lambda row: row.most_tokens)
        if longest.most_tokens > self._model.context_length:
            raise DataError(
                f"A prompt of {len(longest.ids)} tokens and an answer of up to {options.max_new_tokens} do not fit the "
                f"model's context of {self._model.context_length} tokens.",
                code="context_length_exceeded",
                param="messages",
                hint="Shorten the prompt or lower evaluate.max_new_tokens; nothing is ever cut.",
            )
