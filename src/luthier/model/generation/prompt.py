"""What is asked of a model, and how its answer is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is chosen: the likeliest at temperature 0, else drawn from the likeliest that make up `top_p`.

    Attributes:
        temperature: what logits are divided by.
        top_p: the least share of the probability that the tokens drawn from hold; at least one is left.
        seed: decides the draws of this answer, whatever stands beside it.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to go on from.

    Attributes:
        ids: its tokens, at least one.
        sampling: how the answer is chosen.
        adapted: whether the adapter takes part, where there is one.
    """

    ids: Sequence[int]
    sampling: Sampling = Sampling()
    adapted: bool = True


@dataclass(frozen=True, slots=True)
class Options:
    """What holds for all prompts of a call.

    Attributes:
        max_new_tokens: of each answer, the one that ends it included.
        logprobs: whether each token comes with its log-probability.
        share_prefix: whether what prompts begin with alike is computed once; the answers are the same either way.
        stop_requested: asked before each step; once true, nothing more is computed.
    """

    max_new_tokens: int
    logprobs: bool = False
    share_prefix: bool = True
    stop_requested: Callable[[], bool] = lambda: False
