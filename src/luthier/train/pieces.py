"""A flat row cut into pieces for the compiled attention: runs of queries, and the keys that each run sees.

Tensor legend: T tokens of the flat row, P pieces, N keys of all pieces one after another.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from luthier.model.kernels.attention import Pieces
from luthier.train.batch import FlatBatch

_QUERIES, _MOST_PIECES, _MULTIPLE = 128, 16, 8
"""Longer segments are cut, so that a piece's scores stay in the cache and the cores have pieces to share; into so many at
most, as what each piece gives each of its keys is kept until all are added up."""


def pieces_of(layout: FlatBatch) -> Pieces:
    """Returns the pieces of a flat row; every token but filling is a query of one of them."""
    starts: list[int] = []
    lengths: list[int] = []
    keys: list[NDArray[np.int64]] = []
    for segment in layout.segments:
        before = [np.arange(other.start, other.start + other.length) for other in layout.ancestors(segment)]
        count = min(-(-segment.length // _QUERIES), _MOST_PIECES)
        queries = -(-segment.length // (count * _MULTIPLE)) * _MULTIPLE
        for first in range(0, segment.length, queries):
            last = min(first + queries, segment.length)
            starts.append(segment.start + first)
            lengths.append(last - first)
            keys.append(np.concatenate([*before, np.arange(segment.start, segment.start + last)]))
    # The largest first: whoever is done early takes a small one more.
    order = sorted(range(len(starts)), key=lambda piece: -lengths[piece] * len(keys[piece]))
    counts = [len(keys[piece]) for piece in order]
    keys_N = np.concatenate([keys[piece] for piece in order])
    uses_T = np.bincount(keys_N, minlength=len(layout.ids_T))
    return Pieces(
        start_P=torch.tensor([starts[piece] for piece in order]),
        length_P=torch.tensor([lengths[piece] for piece in order]),
        offset=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
        keys_N=torch.from_numpy(keys_N),
        parts_of=torch.from_numpy(np.concatenate([[0], np.cumsum(uses_T)])),
        seen_at_N=torch.from_numpy(np.argsort(keys_N, kind="stable")),
        most_queries=max(lengths),
        most_keys=max(counts),
    )
