"""Who computes which rows of a step: a function of the rows and the number of processes alone.

The work of a share is counted in tokens of its flat row: a beginning that rows of one share have in common counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise, zip_longest
from typing import Any, TypeVar

import numpy as np

from luthier.train.batch import MIN_SHARED_TOKENS, parts_of_step
from luthier.train.objective import Objective

_Row = TypeVar("_Row")
_WINDOW_PARTS = 8
"""Rows are shared out so many parts a process at a time: enough to even out, and never more than a few rows in memory."""


def rounds(
    rows: Sequence[_Row], max_tokens: int, objective: Objective[Any], num_shares: int
) -> Iterator[Sequence[list[_Row]]]:
    """Yields parts that are computed at the same time, one for each process, some perhaps empty.

    Args:
        rows: of any number; some at a time are looked at.
        max_tokens: of a part, or one longer row.
        objective: tells a row's tokens.
        num_shares: processes. With one, the parts are those of `parts_of_step`.
    """
    if num_shares == 1:
        for part in parts_of_step(rows, max_tokens, objective.num_tokens):
            yield [part]
        return
    for window in parts_of_step(rows, _WINDOW_PARTS * num_shares * max_tokens, objective.num_tokens):
        shares = share_out(window, objective, num_shares)
        parts = [parts_of_step(share, max_tokens, objective.num_tokens) for share in shares]
        for together in zip_longest(*parts):
            yield [part or [] for part in together]


def dealt(parts: Iterable[_Row], num_shares: int) -> Iterator[list[_Row]]:
    """Yields as many parts at a time as there are processes; the last ones may be fewer."""
    rest = iter(parts)
    while together := list(islice(rest, num_shares)):
        yield together


def share_out(rows: Sequence[_Row], objective: Objective[Any], num_shares: int) -> list[list[_Row]]:
    """Returns a share of the rows for each process, with about equal work; rows keep their order within a share.

    Two ways are tried and the better one taken: neighbours in alphabetical order stay together, so that groups with a
    beginning of their own are not torn apart; or each row, the longest first, goes where the least work is then.
    """
    beginnings = [_Beginning(objective, row) for row in rows]
    order = sorted(range(len(rows)), key=lambda place: (beginnings[place].key, place))
    ways = [
        _runs(order, beginnings, num_shares),
        _longest_first(beginnings, num_shares),
    ]
    best = min(ways, key=lambda shares: max(_work(share, beginnings) for share in shares))
    return [[rows[place] for place in sorted(share)] for share in best]


class _Beginning:
    """What a row may have in common with others, and its tokens."""

    def __init__(self, objective: Objective[Any], row: object) -> None:
        first = objective.examples(row)[0]
        self.tokens = objective.num_tokens(row)
        # The token that predicts the first trained one is never shared; see `luthier.train.batch`.
        self.ids = first.ids[: max(0, int(np.argmax(first.trained)) - 1)]
        self.key = self.ids.astype(">u4").tobytes()

    def beside(self, other: _Beginning | None) -> int:
        """Returns the tokens that the row adds to a flat row with another one in it."""
        if other is None:
            return self.tokens
        count = min(len(self.ids), len(other.ids))
        differing = np.flatnonzero(self.ids[:count] != other.ids[:count])
        common = int(differing[0]) if len(differing) else count
        return self.tokens - common if common >= MIN_SHARED_TOKENS else self.tokens


def _work(share: Sequence[int], beginnings: Sequence[_Beginning]) -> int:
    """Returns the tokens of a share's flat row: in alphabetical order, each row shares most with its neighbour."""
    order = sorted(share, key=lambda place: beginnings[place].key)
    return sum(
        beginnings[place].beside(beginnings[order[index - 1]] if index else None) for index, place in enumerate(order)
    )


def _runs(order: Sequence[int], beginnings: Sequence[_Beginning], num_shares: int) -> list[list[int]]:
    """Returns neighbours together, in as few tokens for the largest share as cuts between them allow."""
    alone = [beginnings[place].tokens for place in order]
    beside = [alone[0]] + [beginnings[place].beside(beginnings[before]) for before, place in pairwise(order)]

    def cut(limit: int) -> list[list[int]]:
        runs: list[list[int]] = [[]]
        tokens = 0
        for index, place in enumerate(order):
            if runs[-1] and tokens + beside[index] > limit:
                runs.append([])
            tokens = tokens + beside[index] if runs[-1] else alone[index]
            runs[-1].append(place)
        return runs

    least = _smallest(max(alone), sum(alone), lambda limit: len(cut(limit)) <= num_shares)
    found = cut(least)
    return found + [[] for _ in range(num_shares - len(found))]


def _smallest(low: int, high: int, enough: Callable[[int], bool]) -> int:
    """Returns the smallest number from `low` to `high` that is enough; every larger one is, too."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _longest_first(beginnings: Sequence[_Beginning], num_shares: int) -> list[list[int]]:
    """Returns rows spread by length alone."""
    shares: list[list[int]] = [[] for _ in range(num_shares)]
    tokens = [0] * num_shares
    for place in sorted(range(len(beginnings)), key=lambda place: (-beginnings[place].tokens, place)):
        lightest = tokens.index(min(tokens))
        shares[lightest].append(place)
        tokens[lightest] += beginnings[place].tokens
    return shares
