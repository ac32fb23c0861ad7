"""Who answers, by name: a service's model, a base model, a run, an adapter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import orjson

from luthier.errors import RemoteError
from luthier.evaluate.runner import LocalModel, seed_of
from luthier.evaluate.samples import Answer, AnswerSource, Sample
from luthier.evaluate.sentences import counted
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter
from luthier.recipe import Recipe
from luthier.remote.address import is_remote, read_address
from luthier.remote.chat import ChatReply, ChatRequest, ChatService, Patience
from luthier.remote.retrying import Stopped
from luthier.remote.usage import Usage, told_cost
from luthier.runs import Listener, no_listener
from luthier.stages.opening import load_opened, open_model, weights_identity


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """How a source is asked.

    Attributes:
        max_new_tokens: of an answer.
        temperature: 0 for the likeliest answer, else what answers are drawn at.
        seed: of the draws, passed to services too, which do their best with it.
        concurrency: questions under way at a time at a service.
        batch_size: answers that a local model writes at the same time.
        patience: how long a service is waited for.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    concurrency: int = 8
    batch_size: int = 32
    patience: Patience = field(default_factory=Patience)

    @classmethod
    def of(cls, recipe: Recipe) -> SourceSettings:
        """Returns what a recipe says, whose `evaluate.max_new_tokens` is resolved."""
        given = recipe.evaluate
        return cls(
            int(given.max_new_tokens),
            temperature=0.0 if given.samples == 1 else given.temperature,
            seed=recipe.seed,
            concurrency=given.concurrency,
            batch_size=given.batch_size,
        )


def open_source(
    text: str, settings: SourceSettings, listener: Listener = no_listener, *, param: str = "--against"
) -> AnswerSource:
    """Returns a source of answers.

    Args:
        text: `SERVICE:MODEL` or `URL#MODEL` for a service's model; else a run folder, an adapter's, a model's, or a name of
            the catalog.
        settings: how to ask it.
        listener: hears of a fetch.
        param: where the text was given, for messages.

    Raises:
        RecipeError: code "bad_source" for a service that is not known, with the nearest name.
        MissingError: no key, or OpenAI's client or the local model is not there.
        ModelError: there is no such local model.
    """
    if is_remote(text):
        return RemoteModel(ChatService(read_address(text, param=param), patience=settings.patience), settings)
    opened = open_model(text, (), listener)
    model, adapter = load_opened(opened)
    identity = weights_identity(opened.base, model.dtype, opened.recipe.model.quantization, opened.adapter)
    return local_source(
        source_name("local", text), model, adapter, settings, identity=identity, use_adapter=adapter is not None
    )


def local_source(
    name: str,
    model: LoadedModel,
    adapter: Adapter | None,
    settings: SourceSettings,
    *,
    identity: str,
    use_adapter: bool,
) -> LocalModel:
    """Returns a model in memory as a source of answers; the arguments are those of `LocalModel`."""
    return LocalModel(
        name,
        model,
        adapter,
        identity=identity,
        use_adapter=use_adapter,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        temperature=settings.temperature,
        seed=settings.seed,
    )


def source_name(kind: str, text: str) -> str:
    """Returns a name for the file of a source's answers: readable, and different for different sources."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[-60:]
    return f"{kind}_{readable}_{digest}"


class RemoteModel(AnswerSource):
    """Answers of a service's model.

    Attributes:
        title: the model as it was named.

    Args:
        service: the model.
        settings: how to ask it.
    """

    def __init__(self, service: ChatService, settings: SourceSettings) -> None:
        address = service.address
        self.title = address.text
        self.name = source_name("remote", address.text)
        self.identity = (
            f"{address.base_url} {address.model} max={settings.max_new_tokens} temperature={settings.temperature} "
            f"seed={settings.seed}"
        )
        self._service = service
        self._settings = settings

    def answer(
        self,
        samples: Sequence[Sample],
        done: frozenset[str] = frozenset(),
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> Iterator[list[Answer]]:
        """Yields answers as they come, to all samples but those that are done.

        After a stop, or where the service fails, nothing new is asked; what is under way is waited for and yielded, as it is
        paid for.

        Raises:
            RemoteError: the service fails for good, or does not take what is asked; the answers before it have been yielded.
        """
        left = iter([sample for sample in samples if sample.id not in done])
        under_way: set[Future[Answer]] = set()
        failure: RemoteError | None = None
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            while True:
                while failure is None and len(under_way) < self._settings.concurrency and not stop_requested():
                    sample = next(left, None)
                    if sample is None:
                        break
                    under_way.add(pool.submit(self._answer, sample, stop_requested))
                if not under_way:
                    break
                finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                answers = []
                for future in finished:
                    try:
                        answers.append(future.result())
                    except RemoteError as error:
                        failure = failure or error
                    except Stopped:
                        continue
                if answers:
                    yield answers
        if failure is not None:
            raise failure

    def notes(self, answers: Sequence[Answer]) -> list[str]:
        """Returns what a reader must know of these answers: their cost, refusals, settings that the service did not take."""
        told = [told_cost(self._service.address, usage_of(answers))]
        refused = [answer for answer in answers if answer.finish_reason == "refused"]
        if refused:
            told.append(
                f"{self.title}: {counted(len(refused), 'row')} could not be answered and have no score; the first: "
                f"{refused[0].refusal}."
            )
        left_out = sorted(self._service.left_out - {"max_tokens", "max_completion_tokens"})
        if left_out:
            told.append(f"{self.title} does not take {' and '.join(left_out)}: its answers may differ from run to run.")
        return told

    def _answer(self, sample: Sample, stop_requested: Callable[[], bool]) -> Answer:
        settings = self._settings
        seed = settings.seed if settings.temperature == 0 else seed_of(settings.seed, sample.id) >> 1
        messages = [_message(message, self._service.address.service) for message in sample.prompt]
        asked = orjson.dumps([self.identity, sample.id, messages, sample.tools], option=orjson.OPT_SORT_KEYS)
        request = ChatRequest(
            messages,
            tools=sample.tools,
            max_tokens=settings.max_new_tokens,
            sampling={"temperature": settings.temperature, "seed": seed},
            key=hashlib.blake2b(asked, digest_size=16).hexdigest(),
        )
        return _answer_of(sample.id, self._service.ask(request, stop_requested))


def usage_of(answers: Sequence[Answer]) -> Usage:
    """Returns what a service counted for these answers, those of earlier parts of the run among them."""
    return sum(
        (
            Usage(
                1,
                answer.prompt_tokens or 0,
                answer.cached_tokens or 0,
                answer.num_tokens,
                uncounted=int(answer.prompt_tokens is None),
            )
            for answer in answers
            if answer.finish_reason != "refused" or answer.prompt_tokens is not None
        ),
        Usage(),
    )


def _answer_of(sample: str, reply: ChatReply) -> Answer:
    usage = reply.usage
    counts = usage.replies > 0 and not usage.uncounted
    # a model's own refusal is its answer, and as such right or wrong; a service's is none
    text = reply.text or (reply.refusal or "" if reply.finish_reason != "refused" else "")
    calls = [
        f"<tool_call>\n{orjson.dumps({'name': name, 'arguments': _parsed(arguments)}).decode()}\n</tool_call>"
        for name, arguments in reply.calls
    ]
    return Answer(
        sample,
        "\n".join(part for part in (text, *calls) if part),
        usage.completion_tokens,
        reply.finish_reason,
        refusal=reply.refusal if reply.finish_reason == "refused" else None,
        prompt_tokens=usage.prompt_tokens if counts else None,
        cached_tokens=usage.cached_tokens if counts else None,
    )


def _parsed(arguments: str) -> Any:
    try:
        return orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments


def _message(message: dict[str, Any], service: str | None) -> dict[str, Any]:
    """Returns a message as services take it: `weight` belongs to training, and `developer` is OpenAI's word for system."""
    given = {key: value for key, value in message.items() if key != "weight"}
    if given.get("role") == "developer" and service != "openai":
        given["role"] = "system"
    return given
