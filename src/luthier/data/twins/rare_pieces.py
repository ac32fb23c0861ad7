"""The shingles of a text that tell it from the texts like it.

Texts of one template share most of their shingles. A copy is found by those that few texts have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from luthier.data.twins.minhash import Hashes, Indices, Signatures, batches, minima, shingle_hashes

COUNT_BITS = 24
COUNT_SHIFT = np.uint32(32 - COUNT_BITS)
"""Of a piece, which is the upper half of a hash."""
_ALL, _KEEP_SHIFT = 1 << 16, np.uint64(16)
_FACTORS = np.array([0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 0x9E3779B97F4A7C15], np.uint64)
_SAMPLED, _USUAL = 64, 0.6
_RARE_SHARE = 2
"""A shingle is rare if it stands in half as many texts as the usual one of its text, which is found from 64 of them."""
_MAX_TYPED = 3
"""What stands in three texts at most may be a typing error, and is not counted as usual; it is always rare."""
_MAX_PIECES = 32
"""Rare shingles kept of a text to look it up by; the share that another text has is off by 0.09 at most (one sigma)."""
_FEW_PIECES = 16
_FILTER_BITS = 22
_CELLS = 1 << 21
"""Counters of pieces that rows share with owners at once."""


Counts = npt.NDArray[np.uint32]
"""In how many texts a shingle stands, by its slot."""
Pieces = npt.NDArray[np.uint32]
"""Shingles, as the upper halves of their hashes."""


def slots_of(family: Indices, texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    """Returns the slots in which the shingles of texts are counted, which are other ones in each family."""
    found = [np.empty(0, np.uint32)]
    found += [_slots(hashes).astype(np.uint32) for hashes, _, _ in _salted(family, texts)]
    return np.concatenate(found)


def rare_pieces(family: Indices, texts: Sequence[str], usual: Counts, keep: Indices) -> tuple[Pieces, Indices]:
    """Returns the rare shingles of texts, one after another, and how many each text has.

    Args:
        family: the number of each text's family.
        texts: normalised.
        usual: in how many texts of some a shingle stands.
        keep: for each text how many of 65,536 shingles are looked at; always the same ones of a family.
    """
    pieces, lengths = [np.empty(0, np.uint32)], [np.empty(0, np.int64)]
    for hashes, offsets, start in _salted(family, texts):
        counts = usual[_slots(hashes)]
        num_chars = np.diff(offsets)
        is_rare = counts <= np.repeat(_limits(counts, offsets), num_chars)
        some = keep[start : start + len(num_chars)]
        if some.min() < _ALL:
            is_rare &= (hashes >> _KEEP_SHIFT & np.uint64(_ALL - 1)) < np.repeat(some.astype(np.uint64), num_chars)
        places = np.flatnonzero(is_rare)
        pieces.append((hashes[places] >> np.uint64(32)).astype(np.uint32))
        lengths.append(np.diff(np.searchsorted(places, offsets)))
    return np.concatenate(pieces), np.concatenate(lengths)


def signed_pieces(pieces: Pieces, offsets: Indices, counts: Counts) -> Signatures:
    """Returns the signatures of texts' rare shingles, without those that stand in no other text.

    Args:
        pieces: of the texts, one after another; text n has offsets[n] to offsets[n + 1].
        counts: how often each stands anywhere.
    """
    kept = np.flatnonzero(counts[pieces >> COUNT_SHIFT] > 1)
    hashes = pieces[kept].astype(np.uint64) * _FACTORS[0]
    hashes ^= hashes >> np.uint64(32)
    hashes *= _FACTORS[1]
    return minima(hashes, np.searchsorted(kept, offsets))


class PieceIndex:
    """Looks texts up by the rare shingles that they share with known ones.

    Args:
        texts: the known ones, normalised.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        rows = np.arange(len(texts))
        pieces = list(_rarest(texts))
        self._sizes = np.array([len(some) for some in pieces], np.int64)
        flat = np.concatenate([np.empty(0, np.uint64), *pieces])
        order = np.argsort(flat, kind="stable")
        self._owner = np.repeat(rows, self._sizes)[order].astype(np.int32)
        self._pieces, starts = np.unique(flat[order], return_index=True)
        self._starts = np.append(starts, len(flat))
        self._filter = np.zeros(1 << _FILTER_BITS, np.bool_)
        self._filter[_slots(self._pieces, _FILTER_BITS)] = True

    def alike(self, texts: Sequence[str], *, least: float, most: int) -> Indices:
        """Returns pairs of a text's place and a known one's, [P, 2], the likest known one of each text first.

        Args:
            texts: normalised.
            least: share of a known text's rare shingles that a text must have.
            most: known texts returned for each text.
        """
        found = [np.empty((0, 2), np.int64)]
        for hashes, offsets, start in _hashed(texts):
            hashes *= _FACTORS[0]  # as in family 0
            places = np.flatnonzero(self._filter[_slots(hashes, _FILTER_BITS)])
            piece = np.searchsorted(self._pieces, hashes[places])
            piece = np.minimum(piece, len(self._pieces) - 1)
            known = self._pieces[piece] == hashes[places] if len(self._pieces) else np.zeros(0, np.bool_)
            row = np.searchsorted(offsets, places[known], side="right") - 1
            shared = np.unique(row * len(self._pieces) + piece[known])
            row, piece = np.divmod(shared, max(1, len(self._pieces)))
            pairs = most_shared(row, piece, self._starts, self._owner, self._sizes, least=least, most=most)
            pairs[:, 0] += start
            found.append(pairs)
        return np.concatenate(found)


def most_shared(
    row: Indices,
    piece: Indices,
    starts: Indices,
    owner: npt.NDArray[np.integer],
    sizes: Indices,
    *,
    least: float,
    most: int,
) -> Indices:
    """Returns pairs of a row and an owner of pieces, [P, 2], the owners that share most with each row first.

    Args:
        row, piece: which row has which piece, in ascending order.
        starts, owner: the owners of piece p are owner[starts[p] : starts[p + 1]].
        sizes: how many pieces each owner has.
        least: share of an owner's pieces that a row must have.
        most: owners returned for each row.
    """
    found = [np.empty((0, 2), np.int64)]
    num_owners = starts[piece + 1] - starts[piece]
    rows_at_once = max(1, _CELLS // max(1, len(sizes)))
    for first in range(0, int(row[-1]) + 1 if len(row) else 0, rows_at_once):
        some = slice(*np.searchsorted(row, [first, first + rows_at_once]))
        number = num_owners[some]
        posting = np.repeat(starts[piece[some]] - np.cumsum(number) + number, number)
        cell = np.repeat((row[some] - first) * len(sizes), number) + owner[posting + np.arange(len(posting))]
        shared = np.bincount(cell)
        cells = np.flatnonzero(shared)
        share = shared[cells] / sizes[cells % len(sizes)]
        cells, share = cells[share >= least], share[share >= least]
        here, known = np.divmod(cells, len(sizes))
        order = np.lexsort((known, -share, here))
        here, known = here[order], known[order]
        rank = np.arange(len(here)) - np.searchsorted(here, here)
        found.append(np.stack([here + first, known], axis=1)[rank < most])
    return np.concatenate(found)


def _hashed(texts: Sequence[str]) -> Iterator[tuple[Hashes, Indices, int]]:
    for start, stop in batches(texts):
        yield *shingle_hashes(texts[start:stop]), start


def _salted(family: Indices, texts: Sequence[str]) -> Iterator[tuple[Hashes, Indices, int]]:
    """Yields the hashes of the texts' shingles, which are other ones in each family."""
    salt = family.astype(np.uint64) * _FACTORS[2]
    for hashes, offsets, start in _hashed(texts):
        hashes ^= np.repeat(salt[start : start + len(offsets) - 1], np.diff(offsets))
        hashes *= _FACTORS[0]
        yield hashes, offsets, start


def _rarest(texts: Sequence[str]) -> Iterator[Hashes]:
    """Yields for each text the hashes of its rarest shingles; of equally rare ones, those with the least hashes."""
    family = np.zeros(len(texts), np.int64)
    table = np.zeros(1 << COUNT_BITS, np.uint32) if texts else np.zeros(0, np.uint32)
    for hashes, _, _ in _salted(family, texts):
        np.add.at(table, _slots(hashes), np.uint32(1))
    for hashes, offsets, _ in _salted(family, texts):
        counts = table[_slots(hashes)]
        limits = _limits(counts, offsets)
        for row, limit in enumerate(limits.tolist()):
            some, first = np.unique(hashes[offsets[row] : offsets[row + 1]], return_index=True)
            number = counts[offsets[row] : offsets[row + 1]][first]
            rarest = some[np.argsort(number, kind="stable")]
            yield rarest[: np.clip(np.count_nonzero(number <= limit), _FEW_PIECES, _MAX_PIECES)]


def _limits(counts: npt.NDArray[np.uint32], offsets: Indices) -> Indices:
    """Returns in how many texts a shingle of each row may stand to be rare.

    Most of a filled template is the template, so its shingles' usual count is the number of its fillings.
    """
    lengths = np.diff(offsets)
    sample = offsets[:-1, None] + np.arange(_SAMPLED) * lengths[:, None] // _SAMPLED
    some = np.sort(counts[np.minimum(sample, len(counts) - 1)], axis=1)
    num_typed = np.count_nonzero(some <= _MAX_TYPED, axis=1)
    place = np.minimum(num_typed + ((_SAMPLED - num_typed) * _USUAL).astype(np.int64), _SAMPLED - 1)
    usual: Indices = some[np.arange(len(some)), place].astype(np.int64)
    return np.maximum(usual // _RARE_SHARE, _MAX_TYPED)


def _slots(hashes: Hashes, bits: int = COUNT_BITS) -> Indices:
    return (hashes >> np.uint64(64 - bits)).astype(np.int64)
