"""Asks a service with OpenAI's chat API, through OpenAI's own client."""

from __future__ import annotations

import difflib
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from luthier.errors import MissingError
from luthier.remote.address import Address
from luthier.remote.faults import bad_reply, fault_of, named_parameter, refusal_of
from luthier.remote.retrying import Clock, Fault, retried
from luthier.remote.usage import Usage

if TYPE_CHECKING:
    import openai

FIRST_CONTACT_S = 20.0
"""Seconds after which a service is given up that could not be reached even once: its address is wrong, or it is not up."""

_DROPPED = ("temperature", "top_p", "seed", "response_format", "reasoning_effort", "stop")
"""What a question can do without where a service does not take it."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a service is waited for.

    Attributes:
        timeout_s: for the reply to one attempt.
        give_up_after_s: for one question, all attempts and the waits between them together.
    """

    timeout_s: float = 120.0
    give_up_after_s: float = 600.0


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question.

    Attributes:
        messages: in OpenAI's form.
        tools: the functions that are offered, or None.
        max_tokens: of the answer; None for the service's own limit.
        sampling: further parameters of the chat API, such as `temperature` and `seed`.
        response_schema: the JSON schema that the answer is to follow, or None; `schema_name` is its name.
        key: sent as `Idempotency-Key`: the same for the same question, so that a service that honours it does not work twice.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    max_tokens: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    response_schema: Mapping[str, Any] | None = None
    schema_name: str = "reply"
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back.

    Attributes:
        text: the answer; empty where there is none.
        calls: functions that it calls, as (name, arguments as JSON).
        finish_reason: `stop`; `length` where the limit cut it; `refused` where the service would not give one.
        refusal: why the service would not, or the model's own words where the model refused.
        usage: the tokens that were counted.
    """

    text: str
    finish_reason: Literal["stop", "length", "refused"]
    calls: Sequence[tuple[str, str]] = ()
    refusal: str | None = None
    usage: Usage = field(default_factory=Usage)


class ChatService:
    """A model of a service. Several threads may ask at once.

    The key is read from the environment here and kept in memory alone.

    Args:
        address: the model.
        patience: how long to wait for it.
        clock: tells the time and waits.

    Raises:
        MissingError: code "openai_missing" where OpenAI's client is not installed; "no_key" where the service needs a key
            and the environment has none.
    """

    def __init__(self, address: Address, *, patience: Patience | None = None, clock: Clock | None = None) -> None:
        self.address = address
        self._patience = patience or Patience()
        self._clock = clock or Clock()
        self._key = os.environ.get(address.key_variable, "").strip()
        if address.needs_key and not self._key:
            raise MissingError(
                f"There is no key to {address.text}.",
                code="no_key",
                param=address.key_variable,
                hint=f"Set the environment variable {address.key_variable}; keys are taken from nowhere else.",
            )
        self._client = self._open()
        weakref.finalize(self, self._client.close)
        self._reached = False
        self._left_out: set[str] = set()
        self._limit_name = "max_completion_tokens" if address.service == "openai" else "max_tokens"

    @property
    def left_out(self) -> frozenset[str]:
        """Parameters that the service does not take, and so has not been given since it said so."""
        return frozenset(self._left_out)

    def ask(self, request: ChatRequest, stop_requested: Callable[[], bool] = lambda: False) -> ChatReply:
        """Returns the reply to a question, asked again while that may help.

        Raises:
            RemoteError: code "unauthorized", "forbidden", "model_not_found", "quota_exhausted", "unreachable", "timed_out",
                "rate_limited", "service_failed", "bad_reply", "redirected", or "bad_request"; the message has the status and
                the service's own words.
            Stopped: a stop was requested while it waited.
        """
        return retried(
            lambda: self._attempt(request),
            give_up_after_s=self._patience.give_up_after_s,
            clock=self._clock,
            stop_requested=stop_requested,
        )

    def _open(self) -> openai.OpenAI:
        try:
            import openai  # noqa: PLC0415 - an optional part
        except ImportError:
            raise MissingError(
                "Asking a service takes OpenAI's client, which is not installed.",
                code="openai_missing",
                hint="pip install 'luthier[remote]'",
            ) from None
        headers: dict[str, Any] = {}
        if self.address.service != "openai":  # the client would send other services who one is at OpenAI
            headers = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        return openai.OpenAI(
            api_key=self._key or "none",
            base_url=self.address.base_url,
            timeout=self._patience.timeout_s,
            max_retries=0,  # ours, with one limit for all attempts
            default_headers=headers,
            # a redirect could take the question and the key elsewhere
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )

    def _attempt(self, request: ChatRequest) -> ChatReply:
        import openai  # noqa: PLC0415 - `_open` has seen that it is there

        while True:
            body = self._body(request)
            try:
                completion = self._client.chat.completions.create(**body, extra_headers=self._headers(request.key))
            except openai.APIError as error:
                self._reached = self._reached or isinstance(error, openai.APIStatusError)
                refusal = refusal_of(error, self._key)
                if refusal is not None:
                    return ChatReply("", "refused", refusal=refusal)
                if self._adapts(body, error):
                    continue
                raise self._fault(error) from None
            except ValueError as error:  # a body that is no JSON
                raise bad_reply(self.address, str(error)) from None
            self._reached = True
            return _read(completion, self.address)

    def _headers(self, key: str | None = None) -> dict[str, Any]:
        import openai  # noqa: PLC0415 - `_open` has seen that it is there

        headers: dict[str, Any] = {} if self._key else {"Authorization": openai.Omit()}
        return headers | ({"Idempotency-Key": key} if key else {})

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.address.model, "messages": [dict(each) for each in request.messages]}
        if request.tools:
            body["tools"] = [dict(tool) for tool in request.tools]
        if request.max_tokens is not None:
            body[self._limit_name] = request.max_tokens
        if request.response_schema is not None:
            schema = {"name": request.schema_name, "strict": True, "schema": dict(request.response_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        body |= request.sampling
        return {name: value for name, value in body.items() if name not in self._left_out}

    def _adapts(self, body: Mapping[str, Any], error: openai.APIError) -> bool:
        """Whether the service does not take a parameter that can be spelled in another way, or left out."""
        limits = ("max_tokens", "max_completion_tokens")
        name = named_parameter(error, [name for name in (*limits, *_DROPPED) if name in body])
        if name is None:
            return False
        if name in limits:
            other = limits[1 - limits.index(name)]
            if other in self._left_out:
                return False
            self._left_out.add(name)
            self._limit_name = other
            return True
        self._left_out.add(name)
        return True

    def _fault(self, error: openai.APIError) -> Fault:
        fault = fault_of(error, self.address, self._key, self._clock.wall())
        if not self._reached and fault.error.code == "unreachable":
            fault.within_s = FIRST_CONTACT_S
        if fault.error.code == "model_not_found":
            near = self._nearest_model()
            fault.error.hint = f"Did you mean {near!r}?" if near else fault.error.hint
        return fault

    def _nearest_model(self) -> str | None:
        import openai  # noqa: PLC0415 - `_open` has seen that it is there

        try:
            names = [model.id for model in self._client.models.list(extra_headers=self._headers()).data]
        except (openai.OpenAIError, AttributeError, TypeError, ValueError):
            return None
        near = difflib.get_close_matches(self.address.model, names, n=1, cutoff=0.5)
        return near[0] if near else None


def _read(completion: Any, address: Address) -> ChatReply:
    """Returns a reply as its body has it; the client does not hold bodies against OpenAI's description."""
    choices = getattr(completion, "choices", None)
    first = choices[0] if isinstance(choices, list) and choices else None
    message = getattr(first, "message", None)
    if message is None:
        said = getattr(completion, "error", None)
        raise bad_reply(address, f"it has no answer{f' but an error: {said}' if said else ''}")
    usage = _usage(completion)
    reason = getattr(first, "finish_reason", None)
    if reason == "content_filter":
        return ChatReply("", "refused", refusal="the service's content filter cut the answer off", usage=usage)
    functions = [getattr(call, "function", None) for call in getattr(message, "tool_calls", None) or []]
    calls = [(str(each.name), str(each.arguments or "{}")) for each in functions if each is not None]
    content, refusal = getattr(message, "content", None), getattr(message, "refusal", None)
    return ChatReply(
        text=content if isinstance(content, str) else "",
        finish_reason="length" if reason == "length" else "stop",
        calls=calls,
        refusal=refusal if isinstance(refusal, str) and refusal else None,
        usage=usage,
    )


def _usage(completion: Any) -> Usage:
    counted = getattr(completion, "usage", None)
    prompt, answered = (_count(counted, name) for name in ("prompt_tokens", "completion_tokens"))
    if prompt is None or answered is None:
        return Usage(replies=1, uncounted=1)
    cached = _count(getattr(counted, "prompt_tokens_details", None), "cached_tokens") or 0
    return Usage(1, prompt, min(cached, prompt), answered)


def _count(holder: Any, name: str) -> int | None:
    found = getattr(holder, name, None)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None
