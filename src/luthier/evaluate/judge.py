"""A model that judges: what is asked of it, and what it says."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import orjson

_MOST_OBJECTS = 1_000
"""Places in a reply where an object is looked for, so that one of braces alone takes no time to speak of."""


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """A question to a model that judges.

    Attributes:
        messages: with `role` and `content`, as in the chat API.
        model: the model's name, as the grader's definition has it; a judge that is one model may pass it over.
        response_schema: the JSON schema that the reply is asked to follow, or None; `name` is its name.
        name: of the schema.
        sampling: the chat API's sampling parameters, such as `temperature` and `seed`.
    """

    messages: Sequence[Mapping[str, Any]]
    model: str
    response_schema: Mapping[str, Any] | None = None
    name: str = "judgement"
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def digest(self, identity: str) -> str:
        """Returns a key of this question to the judge of that identity: equal for what gets the same reply."""
        asked = orjson.dumps([identity, asdict(self)], option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(asked, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What a judge said.

    Attributes:
        text: the reply.
        logprobs: the log-probability of each of its tokens, where the judge gives them.
        refusal: why it would not answer, where it refused.
        prompt_tokens, cached_tokens, completion_tokens: what a service counted; None where nobody counted.
    """

    text: str
    logprobs: Sequence[float] | None = None
    refusal: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def result(self) -> Any:
        """The `result` of a reply that follows `result_schema`; of other JSON its value, of other text None.

        Models without structured output put words or a fence around it: then it is the `result` of the one object that
        has one. Where several objects say different things, or the reply breaks off within one, nothing is guessed.
        """
        bare = self.text.strip()
        if bare.startswith("```") and bare.endswith("```"):
            bare = bare.split("\n", 1)[-1][:-3]
        try:
            value = json.loads(bare)
        except (ValueError, RecursionError):
            return _only_result(bare)
        return value.get("result") if isinstance(value, dict) else value

    @property
    def confidence(self) -> float | None:
        """The probability of the whole reply, or None where it is not known."""
        return None if self.logprobs is None else math.exp(min(0.0, math.fsum(self.logprobs)))


class Judge(Protocol):
    """Answers messages: a model in memory, or a service.

    Where several threads grade, several ask at once.
    """

    def ask(self, request: JudgeRequest) -> JudgeReply:
        """Returns the model's reply.

        Raises:
            RemoteError, ModelError: there is none; the row could not be scored. Any other error ends the evaluation.
        """
        ...


def asked_in_words(
    messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None
) -> Sequence[Mapping[str, Any]]:
    """Returns messages that ask for a reply by this schema in words, for models that cannot be held to one.

    The words stand at the end of the last message of the user, or after the last message where that is another's.
    """
    if schema is None:
        return messages
    allowed = schema.get("properties", {}).get("result", {})
    kind = "a number" if allowed.get("type") == "number" else "a text"
    if choices := allowed.get("enum"):
        kind = "one of " + ", ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    words = (
        'Reply with one JSON object and nothing else: {"steps": [{"description": "…", "conclusion": "…"}], "result": …}. '
        f"The result is {kind}."
    )
    last = dict(messages[-1]) if messages else {}
    if last.get("role") != "user" or not isinstance(last.get("content"), str):
        return [*messages, {"role": "user", "content": words}]
    return [*messages[:-1], {**last, "content": f"{last['content']}\n\n{words}"}]


def _only_result(text: str) -> Any:
    """Returns what the objects with a `result` in a text agree on, or None."""
    decoder, found, place = json.JSONDecoder(), [], text.find("{")
    for _ in range(_MOST_OBJECTS):
        if place < 0:
            break
        try:
            value, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
                break  # what is left is a part of an object
            end = place + 1
        except RecursionError:
            break
        else:
            if isinstance(value, dict) and "result" in value:
                found.append(value["result"])
        place = text.find("{", end)
    return found[0] if found and all(type(each) is type(found[0]) and each == found[0] for each in found) else None


def result_schema(allowed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON schema of a reply with a `result` and the steps that led to it.

    The steps come first, so that a model thinks before it decides.

    Args:
        allowed: the schema of the result.

    Source: OpenAI's graders guide, "Score model grader outputs", for the two fields.
    """
    step = {
        "type": "object",
        "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
        "required": ["description", "conclusion"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"steps": {"type": "array", "items": step}, "result": allowed},
        "required": ["steps", "result"],
        "additionalProperties": False,
    }
