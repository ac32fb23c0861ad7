"""What a model says: piece by piece, and whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of one answer.

    Attributes:
        index: of the prompt.
        token: the token; the last one may be the end token, which is no part of the text.
        logprob: its log-probability under the model (at temperature 1), where it was asked for.
        finish_reason: of the last piece: `stop` at an end token, `length` at the limit.
    """

    index: int
    token: int
    logprob: float | None
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to a prompt.

    Attributes:
        index: of the prompt.
        ids: the tokens, without the one that ended it.
        num_tokens: tokens generated, the end token included.
        finish_reason: `stop` where the model ended by itself, `length` where the limit cut it.
        logprobs: the log-probability of each generated token, the end token included, where they were asked for.
    """

    index: int
    ids: list[int]
    num_tokens: int
    finish_reason: FinishReason
    logprobs: list[float] | None = None


def answer_of(pieces: list[Piece]) -> Answer:
    """Returns the answer that these pieces make up, the last of which has a reason to be the last."""
    last = pieces[-1]
    assert last.finish_reason is not None
    text = pieces[:-1] if last.finish_reason == "stop" else pieces
    logprobs = [piece.logprob for piece in pieces if piece.logprob is not None]
    return Answer(last.index, [piece.token for piece in text], len(pieces), last.finish_reason, logprobs or None)
