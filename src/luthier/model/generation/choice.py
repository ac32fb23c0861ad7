"""The choice of a token from its logits. Everything is computed row by row, so no row can change another's draw."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from luthier.model.generation.prompt import Sampling

_FEW = 256
"""So many of the likeliest tokens are sorted first; where they hold less than `top_p`, all are."""


class Chooser:
    """Chooses the tokens of one answer."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = random.Random(sampling.seed)

    @property
    def greedy(self) -> bool:
        """Whether it takes the likeliest token."""
        return self._sampling.temperature <= 0

    def choose(self, likeliest: int, logits_V: Tensor | None) -> int:
        """Returns the next token; logits may be left out where the choice is greedy."""
        if self.greedy:
            return likeliest
        assert logits_V is not None
        shares_V = torch.softmax(logits_V / self._sampling.temperature, -1)
        draw = self._random.random()
        if self._sampling.top_p >= 1:
            return _drawn(shares_V, draw)
        few = min(_FEW, len(shares_V))
        shares_C, tokens_C = shares_V.topk(few)
        if float(shares_C.sum()) < self._sampling.top_p:
            shares_C, tokens_C = shares_V.sort(descending=True, stable=True)
        before_C = shares_C.cumsum(0) - shares_C
        kept = max(int((before_C < self._sampling.top_p).sum()), 1)
        return int(tokens_C[_drawn(shares_C[:kept], draw)])


def logprob_of(logits_V: Tensor, token: int) -> float:
    """Returns the log-probability of a token."""
    return float(logits_V[token] - torch.logsumexp(logits_V, -1))


def _drawn(shares_C: Tensor, draw: float) -> int:
    """Returns the place whose share of the sum of all a number in [0, 1) falls into."""
    sums_C = shares_C.double().cumsum(0)
    place = int(torch.searchsorted(sums_C, draw * float(sums_C[-1]), right=True))
    return min(place, len(shares_C) - 1)
