"""Batches as flat rows of tokens, and their order.

A batch is one row of real tokens without padding: the prefix that its examples share, once, then the rest of each
example. Linear layers see the flat row; attention (`luthier.train.attention`) lets each example see the prefix and
itself. Tensor legend: T tokens of the flat row, N trained positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from luthier.model.chat_template import EncodedExample

MIN_SHARED_PREFIX_TOKENS = 8


@dataclass(frozen=True, slots=True)
class FlatBatch:
    """Several examples as one flat row.

    Attributes:
        ids_T, positions_T: token ids, and each token's position in its own example.
        prefix_tokens: how many first tokens of the row are the shared prefix.
        lengths: tokens of each example behind the prefix.
        predict_N: positions in the flat row whose next token is trained.
        targets_N: those next tokens.
        real_tokens: tokens of the examples, the prefix counted for each.
    """

    ids_T: Tensor
    positions_T: Tensor
    prefix_tokens: int
    lengths: tuple[int, ...]
    predict_N: Tensor
    targets_N: Tensor
    real_tokens: int

    @property
    def num_trained(self) -> int:
        """Tokens the loss covers."""
        return len(self.targets_N)


def flatten(rows: Sequence[EncodedExample], *, share_prefix: bool = True) -> FlatBatch:
    """Returns examples as one flat row."""
    prefix = shared_prefix(rows) if share_prefix else 0
    ids = [rows[0].ids[:prefix]]
    positions = [np.arange(prefix)]
    predict, targets = [], []
    offset = 0
    for row in rows:
        ids.append(row.ids[prefix:])
        positions.append(np.arange(prefix, len(row)))
        trained = np.flatnonzero(row.trained)
        predict.append(trained - 1 + offset)
        targets.append(row.ids[trained])
        offset += len(row) - prefix
    return FlatBatch(
        ids_T=torch.from_numpy(np.concatenate(ids)),
        positions_T=torch.from_numpy(np.concatenate(positions)),
        prefix_tokens=prefix,
        lengths=tuple(len(row) - prefix for row in rows),
        predict_N=torch.from_numpy(np.concatenate(predict)),
        targets_N=torch.from_numpy(np.concatenate(targets)),
        real_tokens=sum(len(row) for row in rows),
    )


def shared_prefix(rows: Sequence[EncodedExample]) -> int:
    """Returns how many first tokens all examples share.

    It ends before the first position that predicts a trained token of any example, so each example keeps its own
    losses.
    """
    if len(rows) < 2:
        return 0
    limit = min(int(np.flatnonzero(row.trained)[0]) - 1 for row in rows)
    first = rows[0].ids[:limit]
    for row in rows[1:]:
        differing = np.flatnonzero(row.ids[: len(first)] != first)
        first = first[: int(differing[0])] if len(differing) else first
    return len(first) if len(first) >= MIN_SHARED_PREFIX_TOKENS else 0


def epoch_order(num_examples: int, *, seed: int, epoch: int) -> list[int]:
    """Returns the order of examples in an epoch: a function of seed and epoch alone, on any machine and version."""

    def key(index: int) -> bytes:
        return hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=8).digest()

    return sorted(range(num_examples), key=key)


def steps_of_epoch(order: Sequence[int], batch_size: int) -> list[list[int]]:
    """Returns the examples of each step; the last, smaller one is trained on too."""
    return [list(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]


def parts_of_step(rows: Sequence[EncodedExample], max_tokens: int) -> Iterator[list[EncodedExample]]:
    """Yields the examples of a step in parts of at most `max_tokens` tokens (or one longer example)."""
    part: list[EncodedExample] = []
    tokens = 0
    for row in rows:
        if part and tokens + len(row) > max_tokens:
            yield part
            part, tokens = [], 0
        part.append(row)
        tokens += len(row)
    if part:
        yield part
