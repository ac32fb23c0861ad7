"""The judge of an evaluation: opened by name, checked by people's labels, and asked about pairs of answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.errors import EvaluateError, RemoteError
from luthier.evaluate.graders import Grader
from luthier.evaluate.graders.model_graders import ModelGrader
from luthier.evaluate.graders.multi import MultiGrader
from luthier.evaluate.graders.pairwise_grader import PairwiseGrader
from luthier.evaluate.graders.protocol import unanswered
from luthier.evaluate.judge import JudgeReply, JudgeRequest, asked_in_words
from luthier.evaluate.judge_cache import CachedJudge, interrupted
from luthier.evaluate.judge_labels import check_grader, check_readable, read_labels
from luthier.evaluate.local_judge import LocalJudge
from luthier.evaluate.pairwise import Pair
from luthier.evaluate.samples import Answer, Grade, Sample
from luthier.model.device import resolve_device
from luthier.model.loader import LoadedModel, resolve_dtype
from luthier.model.lora import Adapter
from luthier.recipe import Recipe
from luthier.remote.address import is_remote, read_address
from luthier.remote.chat import ChatRequest, ChatService, Patience
from luthier.remote.retrying import Stopped
from luthier.remote.usage import Usage, told_cost
from luthier.report.build import readable
from luthier.report.judged import GRADING_THREADS, Judged
from luthier.runs import Event, Listener, no_listener
from luthier.stages.opening import load_opened, open_model, weights_identity
from luthier.stages.stopping import stop_switch

VERDICTS = "judge.jsonl"
"""What the judge said, in the run folder."""

_OF_THE_ROW = ("bad_request",)
"""Codes of failures that are the question's own; all others would be those of each question, and end the evaluation."""


class RemoteJudge:
    """A service's model as a judge. Its verdicts are asked for at temperature 0 where a grader says nothing else.

    Args:
        service: the model.
        seed: sent with each question.

    Attributes:
        stop_requested: looked at while a question waits to be asked again.
    """

    def __init__(self, service: ChatService, *, seed: int = 0) -> None:
        self.service = service
        self.stop_requested: Callable[[], bool] = lambda: False
        self._seed = seed
        self.identity = f"{service.address.base_url} {service.address.model} seed={seed}"

    def ask(self, request: JudgeRequest) -> JudgeReply:
        """Returns the model's reply; a question that the service will not answer is refused.

        Raises:
            RemoteError: the service does not take this question.
            EvaluateError: code "judge_unusable" where it takes none; what it has said is kept.
            Interrupted: a stop was requested.
        """
        given = dict(request.sampling)
        limit = given.pop("max_completions_tokens", None)
        schema = request.response_schema
        # OpenAI holds its models to a schema; others may pass it over in silence
        messages = request.messages
        if self.service.address.service != "openai" or "response_format" in self.service.left_out:
            messages = asked_in_words(messages, schema)
        asked = ChatRequest(
            messages,
            max_tokens=limit,
            sampling={"temperature": 0, "seed": self._seed} | given,
            response_schema=schema,
            schema_name=request.name,
            key=request.digest(self.identity),
        )
        try:
            reply = self.service.ask(asked, self.stop_requested)
        except Stopped:
            raise interrupted() from None
        except RemoteError as error:
            if error.code in _OF_THE_ROW:
                raise
            raise EvaluateError(
                f"The judge cannot be asked: {error.message}",
                code="judge_unusable",
                param="evaluate.judge",
                hint=f"{error.hint or ''} What it said before is kept; give the same command again to go on.".strip(),
            ) from None
        counts = reply.usage.replies > 0 and not reply.usage.uncounted
        return JudgeReply(
            reply.text,
            refusal=reply.refusal,
            prompt_tokens=reply.usage.prompt_tokens if counts else None,
            cached_tokens=reply.usage.cached_tokens if counts else None,
            completion_tokens=reply.usage.completion_tokens if counts else None,
        )


@dataclass(frozen=True, slots=True)
class FoundJudge:
    """A judge by name.

    Attributes:
        title: as the recipe names it.
        judge: the service or the local model, whose verdicts nobody keeps yet.
        identity: what they depend on but what is asked.
    """

    title: str
    judge: RemoteJudge | LocalJudge
    identity: str


@dataclass(frozen=True, slots=True)
class OpenedJudge:
    """A judge with its verdicts on disk.

    Attributes:
        found: who it is.
        judge: whom graders ask.
    """

    found: FoundJudge
    judge: CachedJudge

    @contextlib.contextmanager
    def stoppable(self, listener: Listener) -> Iterator[None]:
        """Lets Ctrl-C end the asking, within: what is under way is waited for and kept."""
        with stop_switch(listener) as stop_requested:
            self.judge.stop_requested = stop_requested
            if isinstance(self.found.judge, RemoteJudge):
                self.found.judge.stop_requested = stop_requested
            yield

    def notes(self) -> list[str]:
        """Returns what the reader of a verdict must know of its judge: who it is, what it cost, what it does not take."""
        title = self.found.title
        told = [f"Answers were judged by {title}."]
        if isinstance(self.found.judge, LocalJudge):
            return told
        service = self.found.judge.service
        told.append(told_cost(service.address, sum(map(_usage, self.judge.used), Usage())))
        if service.left_out:
            names = " and ".join(sorted(service.left_out))
            told.append(f"{title} does not take {names}: its verdicts may differ from run to run.")
        return told


def find_judge(recipe: Recipe, listener: Listener, *, patience: Patience | None = None) -> FoundJudge | None:
    """Returns the judge that a recipe names, or None where it names none.

    Nothing is asked yet, and no local model is loaded: what is wrong with the name or the key can be said before training.

    Args:
        recipe: its `evaluate.judge`, `evaluate.judge_concurrency` and seed.
        listener: hears of a fetch, and of the model being loaded.
        patience: how long a service is waited for.

    Raises:
        RecipeError: code "bad_source" for a service that is not known.
        MissingError: no key, or OpenAI's client or the local model is not there.
        ModelError: there is no such local model.
        EvaluateError: code "labels_not_readable" where people's labels are not there.
    """
    labels = recipe.evaluate.judge_labels
    if labels is not None:
        check_readable(labels)
    text = recipe.evaluate.judge
    if text is None:
        return None
    if is_remote(text):
        remote = RemoteJudge(
            ChatService(read_address(text, param="evaluate.judge"), patience=patience), seed=recipe.seed
        )
        return FoundJudge(remote.service.address.text, remote, remote.identity)
    opened = open_model(text, (), listener)
    device, _ = resolve_device(opened.recipe.model.device)
    dtype, _ = resolve_dtype(opened.recipe.model.dtype, device)

    def load() -> tuple[LoadedModel, Adapter | None]:
        listener(Event("stage", f"Loading the judge {text}"))
        return load_opened(opened)

    local = LocalJudge(load, seed=recipe.seed, batch_size=recipe.evaluate.judge_concurrency)
    identity = weights_identity(opened.base, dtype, opened.recipe.model.quantization, opened.adapter)
    return FoundJudge(text, local, f"{identity} seed={recipe.seed}")


def open_judge(
    recipe: Recipe, folder: Path, listener: Listener, *, patience: Patience | None = None
) -> OpenedJudge | None:
    """Returns the judge that a recipe names, with its verdicts on disk, or None where it names none.

    Args:
        recipe, listener, patience: as of `find_judge`.
        folder: the run's, where verdicts are kept.

    Raises:
        RecipeError, MissingError, ModelError, EvaluateError: as `find_judge`.
    """
    found = find_judge(recipe, listener, patience=patience)
    return OpenedJudge(found, CachedJudge(found.judge, found.identity, folder / VERDICTS)) if found else None


def calibrate(
    grader: Grader, recipe: Recipe, samples: Sequence[Sample], judge: OpenedJudge | None, listener: Listener
) -> list[str]:
    """Lets people's labels correct a grader's judge, where the recipe gives some, and returns what is to be said of it.

    To be called once, before answers are graded; the corrected share is then among the grader's metrics by itself.

    Raises:
        EvaluateError: code "labels_not_readable", "bad_label", "judge_unusable".
        Interrupted: a stop was asked for; what the judge said is kept.
    """
    file = recipe.evaluate.judge_labels
    if isinstance(grader, ModelGrader):
        if file is None:
            return [
                f"Uncalibrated: no human labels say how often the judge of {grader.name} is wrong (evaluate.judge_labels)."
            ]
        labelled = read_labels(file, samples)
        listener(Event("stage", f"Asking the judge about {len(labelled):,} answers that people labelled"))
        with judge.stoppable(listener) if judge else contextlib.nullcontext():
            return [check_grader(grader, labelled, workers=recipe.evaluate.judge_concurrency)]
    asks = isinstance(grader, PairwiseGrader) or (
        isinstance(grader, MultiGrader) and any(isinstance(part, ModelGrader) for part in grader.parts.values())
    )
    if not asks:
        return []
    unused = f"; evaluate.judge_labels={file} has no part in it" if file else ""
    return [f"Uncalibrated: the judge's verdicts within {grader.name} are not corrected by human labels{unused}."]


def grade_models(
    grader: Grader,
    recipe: Recipe,
    samples: Sequence[Sample],
    answers: Mapping[str, Sequence[Answer]],
    *,
    judge: OpenedJudge | None = None,
    listener: Listener = no_listener,
    base: str = "base",
) -> dict[str, Judged]:
    """Returns each model's answers with their grades, whatever the grader: alone, or in pairs with the base's.

    Args:
        grader: from `choose_grader`, calibrated.
        recipe: its `evaluate.samples` and `evaluate.judge_concurrency`.
        samples: the test rows.
        answers: of each model by name, so many to each sample one after another.
        judge: whom the grader asks, where it asks one.
        listener: hears of a stop.
        base: the name of the model that others are compared with in pairs.

    Raises:
        EvaluateError: code "judge_unusable".
        Interrupted: a stop was asked for; what the judge said is kept.
    """
    draws = recipe.evaluate.samples
    workers = recipe.evaluate.judge_concurrency if judge else GRADING_THREADS
    with judge.stoppable(listener) if judge else contextlib.nullcontext():
        if isinstance(grader, PairwiseGrader):
            return judged_in_pairs(grader, samples, answers, base=base, draws=draws, workers=workers)
        return {name: Judged.of(grader, samples, given, draws, workers=workers) for name, given in answers.items()}


def judged_in_pairs(
    grader: PairwiseGrader,
    samples: Sequence[Sample],
    answers: Mapping[str, Sequence[Answer]],
    *,
    base: str = "base",
    draws: int = 1,
    workers: int = 1,
) -> dict[str, Judged]:
    """Returns each model, judged by whether its answers are preferred to the base's; the base itself has 0.5 by definition.

    Args:
        grader: with the judge.
        samples: the test rows.
        answers: of each model by name, so many to each sample one after another.
        base: the name of the model that the others are compared with.
        draws: answers a sample.
        workers: questions under way at a time.

    Raises:
        EvaluateError: code "judge_unusable".
    """
    asked = [sample for sample in samples for _ in range(draws)]
    judged = {}
    for name, given in answers.items():
        if name == base:
            grades = [Grade(0.5, "the base is what others are compared with") for _ in asked]
            metrics: dict[str, float] = {}
        else:
            grades, metrics = _compared(grader, asked, answers[base], given, workers)
        judged[name] = Judged.graded(samples, given, grades, metrics, draws)
    return judged


def _compared(
    grader: PairwiseGrader, samples: Sequence[Sample], base: Sequence[Answer], given: Sequence[Answer], workers: int
) -> tuple[list[Grade], dict[str, float]]:
    both = list(zip(samples, base, given, strict=True))
    whole = [row for row in both if "refused" not in (row[1].finish_reason, row[2].finish_reason)]
    pairs = [Pair(readable(sample.prompt), one.text, other.text, sample.target) for sample, one, other in whole]
    found, metrics = grader.compare(pairs, workers=workers)
    rest = iter(found)
    return [
        Grade(None, unanswered(one if one.finish_reason == "refused" else other))
        if "refused" in (one.finish_reason, other.finish_reason)
        else next(rest)
        for _, one, other in both
    ], metrics


def _usage(reply: JudgeReply) -> Usage:
    if reply.prompt_tokens is None or reply.completion_tokens is None:
        return Usage() if reply.refusal and not reply.text else Usage(replies=1, uncounted=1)
    return Usage(1, reply.prompt_tokens, reply.cached_tokens or 0, reply.completion_tokens)
