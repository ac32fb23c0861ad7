"""The likeliest pairs of rows, a few for each row, out of very many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from luthier.data.twins.minhash import Indices

_PAIRS_HELD = 1_000_000


class BestPairs:
    """The likeliest pairs, a few for each row.

    Args:
        num_rows: rows are numbered from 0.
        most: pairs kept for each; the other row may have kept one for itself.
        counted_from: how alike a pair must be to be missed if it is left out.

    Attributes:
        missed: which rows had such pairs left out.
        num_partners: how many pairs each row had, at least.
    """

    def __init__(self, num_rows: int, most: int, counted_from: float) -> None:
        self._num_rows = num_rows
        self._most = most
        self._counted_from = counted_from
        self._keys = [np.empty(0, np.int64)]
        self._alike = [np.empty(0, np.float32)]
        self.missed = np.zeros(num_rows, np.bool_)
        self.num_partners = np.zeros(num_rows, np.int64)

    def add(self, pairs: Indices, alike: npt.NDArray[np.float32]) -> None:
        """Takes pairs, some of which may be known, and how alike they are."""
        self._keys.append(pairs.min(axis=1) * self._num_rows + pairs.max(axis=1))
        self._alike.append(alike)
        if sum(map(len, self._keys)) > max(4 * self._most * self._num_rows, _PAIRS_HELD):
            self._cut_off()

    def pairs(self) -> Indices:
        """Returns the pairs, each with the smaller row first, in ascending order."""
        return self.kept()[0]

    def kept(self) -> tuple[Indices, npt.NDArray[np.float32]]:
        """Returns the pairs, as `pairs` does, and how alike they are."""
        self._cut_off()
        return np.stack(np.divmod(self._keys[0], max(1, self._num_rows)), axis=1), self._alike[0]

    def _cut_off(self) -> None:
        keys, first = np.unique(np.concatenate(self._keys), return_index=True)
        alike = np.concatenate(self._alike)[first]
        sides = np.concatenate(np.divmod(keys, max(1, self._num_rows)))
        np.maximum(self.num_partners, np.bincount(sides, minlength=self._num_rows), out=self.num_partners)
        order = np.lexsort((np.concatenate([-alike, -alike]), sides))
        rank = np.arange(len(order)) - np.searchsorted(sides[order], sides[order])
        kept = np.zeros(len(keys), np.bool_)
        kept[order[rank < self._most] % max(1, len(keys))] = True
        left_out = np.concatenate([~kept & (alike >= self._counted_from)] * 2)
        self.missed[sides[left_out]] = True
        self._keys, self._alike = [keys[kept]], [alike[kept]]
