"""Batches as flat rows of tokens, and their order.

A batch is one row of real tokens without padding. A beginning that several of its examples share (the system prompt, the
prompt of two answers) stands in it once; the batch is a forest of such segments, and each example is a path from a root
to a leaf. Linear layers see the flat row; attention (`luthier.train.attention`) lets each token see its own path and
nothing else. Tensor legend: T tokens of the flat row, N trained positions.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from luthier.model.chat_template import EncodedExample

_Row = TypeVar("_Row")

MIN_SHARED_TOKENS = 8
"""Shorter beginnings are computed for each example: a segment costs more than they do."""
ROW_MULTIPLE = 64
"""The flat row is filled up to a multiple of this with tokens that nothing sees, so that few shapes come up: the library
that multiplies matrices compiles a kernel for each new one. Source: `docs/measurements/product-shapes.md`."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring tokens of the flat row that the same examples share.

    Attributes:
        start, length: where they stand in the flat row.
        position: of the first one in its examples.
        parent: the segment before it in its examples, as a place in `FlatBatch.segments`; None at the beginning.
    """

    start: int
    length: int
    position: int
    parent: int | None


@dataclass(frozen=True, slots=True)
class FlatBatch:
    """Several examples as one flat row.

    Attributes:
        ids_T, positions_T: token ids, and each token's position in its own example.
        segments: what the row is made of; a parent stands before its children. Tokens behind the last one are filling.
        predict_N: positions in the flat row whose next token is trained.
        targets_N: those next tokens.
        example_N: to which example each of them belongs, as a place in the list of rows.
        real_tokens: tokens of the examples, shared ones counted for each.
    """

    ids_T: Tensor
    positions_T: Tensor
    segments: tuple[Segment, ...]
    predict_N: Tensor
    targets_N: Tensor
    example_N: Tensor
    real_tokens: int

    @property
    def num_trained(self) -> int:
        """Tokens the loss covers."""
        return len(self.targets_N)

    @property
    def num_shared_tokens(self) -> int:
        """Tokens that were saved because examples share them."""
        return self.real_tokens - sum(segment.length for segment in self.segments)

    def to(self, device: torch.device) -> FlatBatch:
        """Returns the batch with its tensors on a device."""
        if self.ids_T.device == device:
            return self
        names = ("ids_T", "positions_T", "predict_N", "targets_N", "example_N")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def ancestors(self, segment: Segment) -> list[Segment]:
        """Returns the segments before a segment in its examples, the first one first."""
        found: list[Segment] = []
        while segment.parent is not None:
            segment = self.segments[segment.parent]
            found.insert(0, segment)
        return found


def flatten(rows: Sequence[EncodedExample], *, share_prefix: bool = True) -> FlatBatch:
    """Returns examples as one flat row."""
    forest = _Forest(rows, share_prefix=share_prefix)
    forest.plant(list(range(len(rows))), 0, None)
    predict = [np.flatnonzero(row.trained) - 1 + forest.offsets[place] for place, row in enumerate(rows)]
    filling = -forest.num_tokens % ROW_MULTIPLE
    return FlatBatch(
        ids_T=torch.from_numpy(np.concatenate([*forest.ids, np.zeros(filling, np.int64)])),
        positions_T=torch.from_numpy(np.concatenate([*forest.positions, np.zeros(filling, np.int64)])),
        segments=tuple(forest.segments),
        predict_N=torch.from_numpy(np.concatenate(predict)),
        targets_N=torch.from_numpy(np.concatenate([row.ids[row.trained] for row in rows])),
        example_N=torch.from_numpy(np.repeat(np.arange(len(rows)), [row.num_trained for row in rows])),
        real_tokens=sum(len(row) for row in rows),
    )


class _Forest:
    """Lays the segments of examples side by side.

    Attributes:
        ids, positions: of the tokens laid so far, in pieces.
        offsets: for each example, where its last segment stands in the flat row, less the position of its first token.
    """

    def __init__(self, rows: Sequence[EncodedExample], *, share_prefix: bool) -> None:
        self._rows = rows
        # A token that predicts a trained one is never shared: each example keeps its own losses.
        self._shareable = [int(np.flatnonzero(row.trained)[0]) - 1 if share_prefix else 0 for row in rows]
        self.segments: list[Segment] = []
        self.ids: list[NDArray[np.int64]] = []
        self.positions: list[NDArray[np.int64]] = []
        self.num_tokens = 0
        self.offsets = [0] * len(rows)

    def plant(self, places: list[int], depth: int, parent: int | None) -> None:
        """Lays what follows the first `depth` tokens, which the examples at these places share."""
        alike: dict[bytes | int, list[int]] = defaultdict(list)
        for place in places:
            beginning = depth + MIN_SHARED_TOKENS
            fits = beginning <= self._shareable[place]
            alike[self._rows[place].ids[depth:beginning].tobytes() if fits else place].append(place)
        for group in alike.values():
            if len(group) == 1:
                (place,) = group
                self.offsets[place] = self.num_tokens - depth
                # Tokens from the last trained one on predict nothing that is trained.
                self._lay(place, depth, int(np.flatnonzero(self._rows[place].trained)[-1]), parent)
            else:
                stop = self._common(group)
                self._lay(group[0], depth, stop, parent)
                self.plant(group, stop, len(self.segments) - 1)

    def _lay(self, place: int, start: int, stop: int, parent: int | None) -> None:
        self.segments.append(Segment(self.num_tokens, stop - start, start, parent))
        self.ids.append(self._rows[place].ids[start:stop])
        self.positions.append(np.arange(start, stop))
        self.num_tokens += stop - start

    def _common(self, places: list[int]) -> int:
        """Returns how many first tokens these examples may share."""
        first = self._rows[places[0]].ids[: min(self._shareable[place] for place in places)]
        for place in places[1:]:
            differing = np.flatnonzero(self._rows[place].ids[: len(first)] != first)
            first = first[: int(differing[0])] if len(differing) else first
        return len(first)


def epoch_order(num_examples: int, *, seed: int, epoch: int) -> NDArray[np.int32]:
    """Returns the order of examples in an epoch: a function of seed and epoch alone, on any machine and version."""
    return shuffled(num_examples, f"{seed}/{epoch}")


def shuffled(count: int, name: str) -> NDArray[np.int32]:
    """Returns 0 … count - 1 in an order that is a function of the name alone: by the values of SplitMix64.

    numpy's own permutation may change between its versions, these integers cannot. No two are equal, so no sorting
    algorithm can matter either. A million take a tenth of a second.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    first = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    return np.argsort(splitmix64(count, first)).astype(np.int32)  # at a million rows, each 4 bytes are felt


def splitmix64(count: int, state: int) -> NDArray[np.uint64]:
    """Returns the first values of the generator SplitMix64, which are all different."""
    values = np.arange(1, count + 1, dtype=np.uint64)
    values *= np.uint64(0x9E3779B97F4A7C15)
    values += np.uint64(state)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(31)
    return values


def steps_of_epoch(order: NDArray[np.int32], batch_size: int, *, first: int = 0) -> Iterator[NDArray[np.int32]]:
    """Yields the examples of each step from the step `first` on; the last, smaller one is trained on too."""
    for start in range(first * batch_size, len(order), batch_size):
        yield order[start : start + batch_size]


def parts_of_step(rows: Sequence[_Row], max_tokens: int, num_tokens: Callable[[_Row], int]) -> Iterator[list[_Row]]:
    """Yields the rows of a step in parts of at most `max_tokens` tokens (or one longer row)."""
    part: list[_Row] = []
    tokens = 0
    for row in rows:
        length = num_tokens(row)
        if part and tokens + length > max_tokens:
            yield part
            part, tokens = [], 0
        part.append(row)
        tokens += length
    if part:
        yield part
