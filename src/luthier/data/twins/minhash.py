"""MinHash signatures of texts, and which of them may be alike, vectorised: 20 µs a row of 1 kB.

The character 5-grams (shingles) of a whole batch are hashed at once with numpy; the library takes the minima.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from luthier.data.twins.shared_array import let_go

SHINGLE_CHARS = 5
"""Characters a shingle. One word changed in ten leaves 0.76 of the character 5-grams alike but only 0.37 of the word
5-grams. Source: measured, reference/data-quality.md A2."""
NUM_MINIMA = 128
"""Minima a signature; the similarity they estimate is off by 0.044 at most (one sigma)."""
_SEED = 1
_BATCH_CHARS = 1 << 16
"""Characters hashed at once, so that the intermediate arrays stay within the processor's cache."""
_PAIRS_AT_ONCE = 1 << 15
_ROWS_AT_ONCE = 1 << 16
"""Rows whose signatures are in memory at once, 16 MB of them, where they lie in a file."""
_PROBED = 32
"""Values of a signature that are compared first."""
_PACKED = 4
"""Values of 16 bits that are one number of 64 when they are looked at so."""
_FACTORS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5, 0xD6E8FEB86659FD93], np.uint64
)
"""Odd numbers without a pattern, one for each character of a shingle: the golden ratio, primes of xxHash, and the factor
of the rrmxmx mixer."""

Signatures = npt.NDArray[np.uint16]
Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


def signatures(texts: Sequence[str]) -> Signatures:
    """Returns the signatures of normalised texts, [N, 128]: 16 bits of the least hash under each permutation.

    The share of equal values of two rows estimates the Jaccard similarity of their character 5-grams. A text without
    characters has 65535 everywhere.
    """
    found = np.empty((len(texts), NUM_MINIMA), np.uint16)
    for start, stop in batches(texts):
        hashes, offsets = shingle_hashes(texts[start:stop])
        found[start:stop] = minima(hashes, offsets)
    return found


def minima(hashes: Hashes, offsets: Indices) -> Signatures:
    """Returns the signatures of rows whose hashes stand one after another; row n has offsets[n] to offsets[n + 1]."""
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets.astype(np.uint64), NUM_MINIMA, _SEED)
    rows = np.array(matrix.to_rows(), np.uint32).reshape(len(offsets) - 1, NUM_MINIMA)
    return rows.astype(np.uint16)


def batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yields slices of the texts that are worth hashing at once."""
    start, chars = 0, 0
    for place, text in enumerate(texts):
        if place > start and chars + len(text) > _BATCH_CHARS:
            yield start, place
            start, chars = place, 0
        chars += len(text)
    if start < len(texts):
        yield start, len(texts)


def shingle_hashes(texts: Sequence[str]) -> tuple[Hashes, Indices]:
    """Returns the hashes of the texts' shingles, one after another, and where each text's begin and end.

    A text has as many hashes as characters: its last four stand for no shingle and repeat the first one. A text of five
    characters or fewer is one shingle.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    whole = "".join(texts) + "\0" * (SHINGLE_CHARS - 1)
    if whole.isascii():
        codes: npt.NDArray[np.unsignedinteger] = np.frombuffer(whole.encode("ascii"), np.uint8)
    else:
        codes = np.frombuffer(whole.encode("utf-32-le", "surrogatepass"), np.uint32)
    wide = codes.astype(np.uint64) + np.uint64(1)
    count = int(offsets[-1])
    hashes = wide[:count] * _FACTORS[0]
    part = np.empty_like(hashes)
    for place in range(1, SHINGLE_CHARS):
        np.multiply(wide[place : place + count], _FACTORS[place], out=part)
        hashes += part
    for row in np.flatnonzero((lengths > 0) & (lengths < SHINGLE_CHARS)):
        first, length = int(offsets[row]), int(lengths[row])
        hashes[first] = np.sum(wide[first : first + length] * _FACTORS[:length], dtype=np.uint64)
    _mix(hashes, part)
    filled = np.flatnonzero(lengths > 0)
    for back in range(1, SHINGLE_CHARS):
        last = np.maximum(offsets[filled + 1] - back, offsets[filled])
        hashes[last] = hashes[offsets[filled]]
    return hashes, offsets


def agreement(signed: Signatures, pairs: Indices) -> npt.NDArray[np.float32]:
    """Returns the estimated similarity of pairs of rows, [P]."""
    found = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        one, other = pairs[start : start + _PAIRS_AT_ONCE].T
        found[start : start + _PAIRS_AT_ONCE] = np.count_nonzero(signed[one] == signed[other], axis=1)
    return found / np.float32(signed.shape[1])


def band_groups(band_size: int, count: int) -> list[range]:
    """Returns the bands, by the places of their first values, in so many portions."""
    starts = range(0, NUM_MINIMA - band_size + 1, band_size)
    edges = [len(starts) * part // count for part in range(count + 1)]
    return [starts[begin:end] for begin, end in itertools.pairwise(edges)]


def neighbours(
    signed: Signatures, rows: Indices, *, band_size: int, window: int, bands: range | None = None
) -> Iterator[tuple[Indices, Indices]]:
    """Yields for each band the pairs of rows with equal values in it that lie side by side, [P, 2], and the rows cut off.

    Rows of equal values in a band are sorted by the values after it, so that those most alike lie side by side; each is
    paired with the next `window` ones. Those with more rows after them than that are cut off.

    Args:
        signed: signatures.
        rows: the rows to look at, in ascending order.
        band_size: values a band, at most 4. P(a pair of similarity s shares one of b bands) = 1 - (1 - s^size)^b.
        window: how many neighbours each row is paired with.
        bands: the bands to look at, by the places of their first values; all if not given.
    """
    for order, starts in _runs(signed, rows, band_size, bands):
        yield (
            np.concatenate([np.empty((0, 2), np.int64), *_beside(order, starts, window)]),
            _cut_off(order, starts, window),
        )


def alike_neighbours(
    signed: Signatures, rows: Indices, *, band_size: int, window: int, least: float, bands: range
) -> Iterator[tuple[Indices, npt.NDArray[np.float32], Indices]]:
    """Yields of the pairs of `neighbours` those that are alike, how much they are, and the rows cut off.

    Most pairs are hardly alike, and two looks that cost little tell: where more rows share a band than the window takes,
    the pair must share one of four values by which its place was not found, too; and a quarter of the values, none of which
    is in the band, must have half of the likeness asked for. Of pairs as alike as 0.3, the first lets 76 % pass and the
    second 99 %, in each of the bands that they share.

    Args:
        signed, rows, band_size, window, bands: as in `neighbours`.
        least: the estimated similarity from which a pair is alike.
    """
    for start in bands:
        probe = (start + NUM_MINIMA // 2) % NUM_MINIMA // _PROBED * _PROBED
        for order, starts in _runs(signed, rows, band_size, range(start, start + 1)):
            others = _packed(signed, slice(None), start + _PACKED)[order]
            crowded = np.bincount(starts, minlength=len(starts))[starts] > window + 1
            found = [np.empty((0, 2), np.int64)]
            for pairs in _beside(order, starts, window, others, crowded):
                found.append(pairs[agreement(signed[:, probe : probe + _PROBED], pairs) >= least / 2])
            pairs = np.concatenate(found)
            alike = agreement(signed, pairs)
            yield pairs[alike >= least], alike[alike >= least], _cut_off(order, starts, window)


def _beside(
    order: Indices,
    starts: Indices,
    window: int,
    others: Hashes | None = None,
    crowded: npt.NDArray[np.bool_] | None = None,
) -> Iterator[Indices]:
    """Yields pairs of rows of one run, 1 to `window` places apart; of crowded runs those that share one of `others`."""
    for step in range(1, window + 1):
        same = starts[step:] == starts[:-step]
        if others is not None and crowded is not None:
            differ = others[step:] ^ others[:-step]
            # whether any 16 bits are zero, as in the C library's strlen
            any_equal = (differ - np.uint64(0x0001000100010001)) & ~differ & np.uint64(0x8000800080008000)
            same &= (any_equal != 0) | ~crowded[step:]
        places = np.flatnonzero(same)
        yield np.stack([order[places], order[places + step]], axis=1)


def _cut_off(order: Indices, starts: Indices, window: int) -> Indices:
    """Returns the rows with more rows of their run after them than the window takes."""
    cut_off: Indices = order[: len(order) - window - 1][starts[window + 1 :] == starts[: -window - 1]]
    return cut_off


def alike_across(
    signed: Signatures, rows: Indices, side: npt.NDArray[np.bool_], *, band_size: int
) -> Iterator[Indices]:
    """Yields for each band pairs of rows of two sides with equal values in it, [P, 2].

    Each row is paired with the nearest one of the other side before it and after it, in the order of `neighbours`.

    Args:
        signed, rows, band_size: as in `neighbours`.
        side: for each row of `signed` on which side it is.
    """
    for order, starts in _runs(signed, rows, band_size, None):
        here = side[order]
        places = np.arange(len(order))
        pairs = [np.empty((0, 2), np.int64)]
        for is_other in (True, False):
            nearest = np.maximum.accumulate(np.where(here == is_other, places, -1))
            found = np.flatnonzero((here != is_other) & (nearest >= starts))
            pairs.append(np.stack([order[found], order[nearest[found]]], axis=1))
            following = np.minimum.accumulate(np.where(here == is_other, places, len(order))[::-1])[::-1]
            inside = np.minimum(following, len(order) - 1)
            found = np.flatnonzero((here != is_other) & (following < len(order)) & (starts[inside] == starts))
            pairs.append(np.stack([order[found], order[following[found]]], axis=1))
        yield np.concatenate(pairs)


def _runs(signed: Signatures, rows: Indices, band_size: int, bands: range | None) -> Iterator[tuple[Indices, Indices]]:
    """Yields for each band the rows that share its values with others, in order, and where the run of each begins."""
    for start in bands if bands is not None else band_groups(band_size, 1)[0]:
        keys = _packed(signed, rows if len(rows) < len(signed) else slice(None), start)
        if band_size < _PACKED:
            order = np.argsort(keys, kind="stable")
        else:  # no value that follows is part of the key
            order = np.lexsort((_packed(signed, rows, start + band_size), keys))
        band = keys[order] >> np.uint64(16 * (_PACKED - band_size))
        new = np.ones(len(order) + 1, np.bool_)
        new[1:-1] = band[1:] != band[:-1]
        in_run = ~(new[1:] & new[:-1])
        places = np.arange(np.count_nonzero(in_run))
        yield rows[order[in_run]], np.maximum.accumulate(np.where(new[:-1][in_run], places, 0))


def _packed(signed: Signatures, rows: Indices | slice, start: int) -> Hashes:
    """Returns four neighbouring values of each row as one number, the first in the highest bits.

    Of signatures in a file, a part is in memory at a time.
    """
    start %= signed.shape[1]
    columns = np.arange(start, start + _PACKED) % signed.shape[1]
    count = len(signed) if isinstance(rows, slice) else len(rows)
    numbers = np.empty(count, np.uint64)
    for first in range(0, count, _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        some = part if isinstance(rows, slice) else rows[part]
        if columns[-1] > columns[0]:  # one stretch of memory
            values = np.ascontiguousarray(signed[some, start : start + _PACKED])
        else:
            values = np.ascontiguousarray(signed[some][:, columns])
        numbers[part] = values.view(">u8")[:, 0]
        let_go(signed)
    return numbers


def _mix(hashes: Hashes, part: Hashes) -> None:
    """Spreads each hash over all 64 bits, in place. Source: the finaliser of MurmurHash3."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        np.right_shift(hashes, np.uint64(33), out=part)
        hashes ^= part
        hashes *= np.uint64(factor)
    np.right_shift(hashes, np.uint64(33), out=part)
    hashes ^= part
