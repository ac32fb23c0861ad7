"""A model in memory that judges."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from luthier.errors import DataError, EvaluateError, ModelError
from luthier.evaluate.judge import JudgeReply, JudgeRequest, asked_in_words
from luthier.model.generation.generator import Generator
from luthier.model.generation.prompt import Options, Prompt, Sampling
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter

MAX_NEW_TOKENS = 512
"""The longest verdict, its reasons included, where a grader sets no limit."""

_Asked = tuple[JudgeRequest, "Future[JudgeReply]"]


class LocalJudge:
    """A judge on this machine. It is loaded when it is first asked.

    It is asked for JSON in words, as nothing holds its tokens to a schema. What several threads ask at a time is answered
    in one batch.

    Args:
        load: returns the model, and its adapter where it has one.
        seed: of its draws, where a grader wants a temperature.
        batch_size: verdicts that are written at the same time.
    """

    def __init__(
        self, load: Callable[[], tuple[LoadedModel, Adapter | None]], *, seed: int = 0, batch_size: int = 8
    ) -> None:
        self._load = load
        self._seed = seed
        self._batch_size = batch_size
        self._model: LoadedModel | None = None
        self._generator: Generator | None = None
        self._waiting: deque[_Asked] = deque()
        self._busy = threading.Lock()

    def ask(self, request: JudgeRequest) -> JudgeReply:
        """Returns the model's reply.

        Raises:
            ModelError: the request does not fit the model's context, or its template refuses it.
            EvaluateError: code "judge_unusable" where the model cannot be loaded.
        """
        mine: Future[JudgeReply] = Future()
        self._waiting.append((request, mine))
        with self._busy:  # whoever gets here first answers for all who wait
            if not mine.done():
                self._answer([self._waiting.popleft() for _ in range(len(self._waiting))])
        return mine.result()

    def _answer(self, asked: list[_Asked]) -> None:
        try:
            model, generator = self._opened()
            fitting = []
            for request, future in asked:
                try:
                    fitting.append((_prompt(model, request, self._seed), _limit(request), future))
                except (DataError, ModelError) as error:
                    future.set_exception(ModelError(error.message, code=error.code, hint=error.hint))
            for limit in sorted({limit for _, limit, _ in fitting}):
                rows = [(prompt, future) for prompt, its, future in fitting if its == limit]
                for given in generator.answer([prompt for prompt, _ in rows], Options(limit)):
                    rows[given.index][1].set_result(JudgeReply(model.chat.decode(given.ids)))
        except BaseException as error:
            for _, future in asked:
                if not future.done():
                    future.set_exception(error)
            raise

    def _opened(self) -> tuple[LoadedModel, Generator]:
        if self._model is None or self._generator is None:
            try:
                model, adapter = self._load()
            except ModelError as error:  # not the row's own failure, but that of all rows
                raise EvaluateError(
                    f"The judge cannot be loaded: {error.message}",
                    code="judge_unusable",
                    param="evaluate.judge",
                    hint=error.hint,
                ) from error
            self._model, self._generator = model, Generator(model, adapter, max_rows=self._batch_size)
        return self._model, self._generator


def _limit(request: JudgeRequest) -> int:
    return int(request.sampling.get("max_completions_tokens") or MAX_NEW_TOKENS)


def _prompt(model: LoadedModel, request: JudgeRequest, seed: int) -> Prompt:
    messages: list[dict[str, Any]] = [dict(each) for each in asked_in_words(request.messages, request.response_schema)]
    ids = model.chat.encode_prompt(messages)
    room = model.context_length - _limit(request)
    if len(ids) > room:
        raise ModelError(
            f"The question to the judge has {len(ids)} tokens; {max(room, 0)} fit its context beside a verdict.",
            code="context_length_exceeded",
            param="evaluate.judge",
            hint="Choose a judge with a longer context, or lower the grader's max_completions_tokens.",
        )
    given = request.sampling
    return Prompt(
        ids,
        Sampling(
            float(given.get("temperature") or 0.0),
            float(given["top_p"]) if given.get("top_p") is not None else 1.0,
            int(given["seed"]) if given.get("seed") is not None else seed,
        ),
    )
