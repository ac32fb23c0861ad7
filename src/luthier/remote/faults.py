"""What the errors of OpenAI's client mean: refused, to be asked again, or at an end.

Source: OpenAI's error codes guide for codes and statuses; its clients for the statuses that are asked again and for
`x-should-retry`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from luthier.errors import RemoteError
from luthier.remote.address import Address
from luthier.remote.retrying import Fault, asked_to_wait

if TYPE_CHECKING:
    import openai

MALFORMED_ATTEMPTS = 3
"""How often a question is asked whose replies are no replies: they may have been paid for."""

_FILTERED = {"content_filter", "content_policy_violation", "moderation_blocked", "responsible_ai_policy_violation"}
_TOO_LONG = {"context_length_exceeded", "string_above_max_length", "exceed_context_size_error", "request_too_large"}
_TOO_LONG_WORDS = re.compile(
    r"maximum context length|context (?:length|window|size)|prompt is too long|too many (?:input )?tokens|longer than the "
    r"maximum (?:model )?length",
    re.IGNORECASE,
)
_FILTER_WORDS = re.compile(r"content[ _]?(?:filter|management policy|policy)", re.IGNORECASE)
_NO_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_NOT_TAKEN = {"unsupported_parameter", "unsupported_value", "unknown_parameter"}
_NOT_TAKEN_WORDS = re.compile(
    r"not supported|unsupported|does not support|extra (?:inputs|fields)|unrecognized|unknown|unavailable|not available",
    re.IGNORECASE,
)
_ALSO = {"response_format": "response_format|json_schema"}
"""Further words for a parameter, as a regular expression."""


def refusal_of(error: openai.APIError, key: str) -> str | None:
    """Returns why a service will not answer this one question, or None where the error is of another kind."""
    status = getattr(error, "status_code", None)
    if status not in (400, 403, 413, 422):
        return None
    codes, words = _codes(error), _words(error)
    if codes & _TOO_LONG or status == 413 or (status in (400, 422) and _TOO_LONG_WORDS.search(words)):
        return f"too long for the model: {_said(words, key)}"
    if codes & _FILTERED or (status == 400 and _FILTER_WORDS.search(words)):
        return f"refused by the service's content filter: {_said(words, key)}"
    return None


def named_parameter(error: openai.APIError, names: Sequence[str]) -> str | None:
    """Returns which of these parameters a service says it does not take, or None where it says nothing like that."""
    if getattr(error, "status_code", None) not in (400, 422):
        return None
    words, param = _words(error), str(error.param or "")
    if not (_codes(error) & _NOT_TAKEN or _NOT_TAKEN_WORDS.search(words)):
        return None
    if param:
        return next((name for name in names if param == name or param.startswith(f"{name}.")), None)
    places = {name: re.search(rf"(?<![\w.])(?:{_ALSO.get(name, name)})(?!\w)", words) for name in names}
    # what is not taken is named first, what to use instead after it
    found = {name: place.start() for name, place in places.items() if place}
    return min(found, key=lambda name: found[name], default=None)


def fault_of(error: openai.APIError, address: Address, key: str, wall: float) -> Fault:
    """Returns what an error means for the question.

    Args:
        error: the client's.
        address: who was asked.
        key: taken out of what is said, should a service repeat it.
        wall: seconds since 1970, for waits until a date.
    """
    import openai as client  # noqa: PLC0415 - an optional part, which is there where there is such an error

    if isinstance(error, client.APITimeoutError):
        return Fault(_error(f"{address.text} did not answer in time.", "timed_out", _BUSY), again=True)
    if isinstance(error, client.APIConnectionError):
        cause = _said(str(error.__cause__ or error), key)
        hint = f"Is there a service at {address.base_url}, and can it be reached from here?"
        return Fault(_error(f"{address.text} cannot be reached: {cause}.", "unreachable", hint), again=True)
    if not isinstance(error, client.APIStatusError):
        return bad_reply(address, _said(_words(error), key))
    return _of_status(error, address, key, wall)


def bad_reply(address: Address, cause: str) -> Fault:
    """Returns the fault of a reply that is none of the chat API's."""
    return Fault(
        _error(
            f"{address.text} replied, but not as the chat API does: {_said(cause, '')}.",
            "bad_reply",
            f"Is {address.base_url} the address that /chat/completions follows? It mostly ends in /v1.",
        ),
        again=True,
        most_attempts=MALFORMED_ATTEMPTS,
    )


_BUSY = "Try later, ask less at a time (evaluate.concurrency, evaluate.judge_concurrency), or see the service's status page."


def _of_status(error: openai.APIStatusError, address: Address, key: str, wall: float) -> Fault:
    status, codes = error.status_code, _codes(error)
    told = f"{address.text} replied {status}"
    code = next((each for each in (str(error.code or ""), str(error.type or "")) if each), "")
    told += f" ({code}): {_said(_words(error), key)}." if code else f": {_said(_words(error), key)}."
    if status == 401:
        hint = f"Set {address.key_variable} to a key of this service."
        return Fault(_error(told, "unauthorized", hint))
    if status == 403:
        return Fault(_error(told, "forbidden", f"May the key in {address.key_variable} use this model?"))
    if status == 404:
        hint = f"Does the service have the model {address.model!r}, and does {address.base_url} mostly end in /v1?"
        return Fault(_error(told, "model_not_found", hint))
    if 300 <= status < 400:
        return Fault(_error(told, "redirected", "Give the address that it points to; redirects are not followed."))
    if status == 429 and codes & _NO_QUOTA:
        return Fault(_error(told, "quota_exhausted", "Add credit at the service, or raise its limit."))
    headers = error.response.headers
    again = status in (408, 409, 429) or status >= 500
    if headers.get("x-should-retry") in ("true", "false"):
        again = headers["x-should-retry"] == "true"
    if not again and status < 500:
        return Fault(_error(told, "bad_request", "The service does not take this question; its own words say why."))
    kind = "rate_limited" if status == 429 else "service_failed"
    return Fault(_error(told, kind, _BUSY), again=again, wait_s=asked_to_wait(headers, wall))


def _error(message: str, code: str, hint: str) -> RemoteError:
    return RemoteError(message, code=code, hint=hint)


def _codes(error: openai.APIError) -> set[str]:
    body: Any = error.body if isinstance(error.body, dict) else {}
    inner = body.get("innererror")  # where Azure says more
    more = inner.get("code") if isinstance(inner, dict) else None
    return {str(code).lower() for code in (error.code, error.type, body.get("code"), body.get("type"), more) if code}


def _words(error: openai.APIError) -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return str(error.message)


def _said(words: str, key: str) -> str:
    """Returns a service's words on one line, cut, without control characters, and without the key."""
    if key:
        words = words.replace(key, "[the key]")
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    return (words if len(words) <= 300 else f"{words[:299]}…").rstrip(".")
