"""Which rows of large families of like rows have rare pieces in common, as a copy and its original have.

The texts are read twice, in as many processes as there are: a few of each family, to learn which pieces its rows share;
then all, of which the other pieces are kept. Those are counted, signed, and looked for in bands.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from luthier.data.twins.best_pairs import BestPairs
from luthier.data.twins.likeness import different_words
from luthier.data.twins.minhash import NUM_MINIMA, Indices, Signatures, alike_neighbours, band_groups
from luthier.data.twins.rare_pieces import COUNT_BITS, COUNT_SHIFT, Pieces, rare_pieces, signed_pieces, slots_of
from luthier.data.twins.shared_array import SharedArray, written

TextOf = Callable[[int], str]
Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Does what `map` does, perhaps in other processes: `executor.map`."""

_BAND_SIZE = 2
_WINDOW = 6
_MIN_ALIKE = 0.2
"""Estimated similarity of the rare pieces. In a copy 0.3 to 1 are left (measured), as few pieces are rare."""
_MAX_PARTNERS = 2
"""Rows that each row is compared with. The original of a copy is nearly always the first (measured)."""
_COUNTED_FROM = 0.5
"""A row is said not to be compared with all like it if a pair was left out that has half of the rare pieces in common, or if
there were more rows than the window takes in most bands."""
_MAX_COUNTED = 20_000
"""Rows whose words are counted."""
_SAMPLED = 512
"""Rows of a family that tell which pieces are usual in it."""
_MEASURED = 16
"""Rows of a larger family that tell how many rare pieces its rows have."""
_KEPT_PIECES = 128
"""Rare pieces kept of a row of such a family, on average: a share of them is as well known as from a signature."""
_KEEP_ALL = 1 << 16
"""Of 65,536."""
_BATCH_ROWS = 2048
_NUM_GROUPS = 8
"""Parts of the bands that processes look through."""


@dataclass(frozen=True, slots=True)
class RarePairs:
    """What was found.

    Attributes:
        pairs: of rows, in no order, [P, 2].
        unexamined: the rows that have more of them than were taken.
        words: in how many of some rows a word stands.
        counted: which rows these are.
    """

    pairs: Indices
    unexamined: Indices
    words: Counter[str]
    counted: Indices


class _Chunk(NamedTuple):
    """Rows to be read: their numbers and families, how many of 65,536 pieces are kept, and how many rows' words count."""

    rows: Indices
    family: Indices
    keep: Indices
    num_counted: int


def rare_pairs(rows: Indices, family: Indices, text_of: TextOf, run: Run) -> RarePairs:
    """Returns pairs of rows that share rare pieces of their family.

    Args:
        rows: those of large families, in ascending order.
        family: the number of each one's family.
        text_of: gives a row's normalised text; it is asked in the order of the rows.
        run: does the work; `text_of` is sent.
    """
    counted = rows[:_MAX_COUNTED]
    if not len(rows):
        return RarePairs(np.empty((0, 2), np.int64), rows, Counter(), counted)
    with tempfile.TemporaryDirectory(prefix="luthier-near-") as folder:
        search = _Search(Path(folder), rows, family, text_of, run)
        search.learn_usual()
        words = search.gather()
        search.sign()
        pairs, missed = search.pairs()
    return RarePairs(rows[pairs], rows[missed], words, counted)


class _Search:
    """The search, step by step; what is large lies in files, where all processes see it."""

    def __init__(self, folder: Path, rows: Indices, family: Indices, text_of: TextOf, run: Run) -> None:
        self._folder = folder
        self._rows = rows
        self._family = family
        self._text_of = text_of
        self._run = run
        self._keep = np.full(len(rows), _KEEP_ALL, np.int64)
        self._usual, self._counts = (
            written(str(folder / name), "u4", (1 << COUNT_BITS,)) for name in ("usual", "counts")
        )
        self._ends = np.zeros(len(rows) + 1, np.int64)

    def learn_usual(self) -> None:
        """Counts the pieces of some rows of each family, and sets how many of its rare pieces are kept."""
        order = np.argsort(self._family, kind="stable")
        _, start, inverse, size = np.unique(
            self._family[order], return_index=True, return_inverse=True, return_counts=True
        )
        rank = np.arange(len(order)) - start[inverse]
        step = -(-size // _SAMPLED)
        sampled = np.sort(order[rank % step[inverse] == 0])
        usual = np.asarray(self._usual)
        work = functools.partial(_slots, text_of=self._text_of)
        for slots in self._run(work, self._chunks(sampled)):
            np.add.at(usual, slots, np.uint32(1))
        step = -(-size // _MEASURED)
        measured = np.sort(order[(size > _SAMPLED)[inverse] & (rank % step[inverse] == 0)])
        if not len(measured):
            return
        lengths = [number for _, number, _ in self._run(self._work(), self._chunks(measured))]
        names, place = np.unique(self._family[measured], return_inverse=True)
        mean = np.bincount(place, np.concatenate(lengths)) / np.bincount(place)
        keep = np.minimum(_KEEP_ALL, _KEEP_ALL * _KEPT_PIECES / np.maximum(mean, 1)).astype(np.int64)
        where = np.minimum(np.searchsorted(names, self._family), len(names) - 1)
        self._keep = np.where(names[where] == self._family, keep[where], _KEEP_ALL)

    def gather(self) -> Counter[str]:
        """Writes the rare pieces of all rows into a file, and counts them; returns the words of some rows."""
        words: Counter[str] = Counter()
        num_rows = 0
        counts = np.asarray(self._counts)
        with (self._folder / "pieces").open("wb") as file:
            for pieces, lengths, some in self._run(
                self._work(), self._chunks(np.arange(len(self._rows)), _MAX_COUNTED)
            ):
                np.add.at(counts, pieces >> COUNT_SHIFT, np.uint32(1))
                file.write(memoryview(pieces))
                self._ends[num_rows + 1 : num_rows + 1 + len(lengths)] = lengths
                num_rows += len(lengths)
                words.update(some)
        np.cumsum(self._ends, out=self._ends)
        del self._usual  # nobody asks any more
        return words

    def sign(self) -> None:
        """Signs the rare pieces of each row, without those that no other row has."""
        starts = range(0, len(self._rows), _BATCH_ROWS)
        ends = [self._ends[start : start + _BATCH_ROWS + 1] for start in starts]
        work = functools.partial(_signatures, path=self._folder / "pieces", counts=SharedArray(self._counts))
        with (self._folder / "signed").open("wb") as file:
            for found in self._run(work, ends):
                file.write(memoryview(found))
        del self._counts

    def pairs(self) -> tuple[Indices, npt.NDArray[np.bool_]]:
        """Returns the likeliest pairs, and which rows have more of them than were taken."""
        num_rows = len(self._rows)
        groups = band_groups(_BAND_SIZE, 1 if self._run is map else _NUM_GROUPS)
        signed = np.memmap(self._folder / "signed", np.uint16, "r", shape=(num_rows, NUM_MINIMA))
        best = BestPairs(num_rows, _MAX_PARTNERS, _COUNTED_FROM)
        num_cut_off = np.zeros(num_rows, np.int64)
        work = functools.partial(_best_of_bands, signed=SharedArray(signed))
        for pairs, alike, missed, cut_off in self._run(work, groups):
            best.add(pairs, alike)
            best.missed |= missed
            num_cut_off += cut_off
        found = best.pairs()
        return found, best.missed | (num_cut_off > NUM_MINIMA // _BAND_SIZE // 2)

    def _work(self) -> Callable[[_Chunk], tuple[Pieces, Indices, Counter[str]]]:
        return functools.partial(_rare_pieces, usual=SharedArray(self._usual), text_of=self._text_of)

    def _chunks(self, places: Indices, num_counted: int = 0) -> Iterator[_Chunk]:
        for start in range(0, len(places), _BATCH_ROWS):
            some = places[start : start + _BATCH_ROWS]
            yield _Chunk(self._rows[some], self._family[some], self._keep[some], max(0, num_counted - start))


def _slots(chunk: _Chunk, text_of: TextOf) -> npt.NDArray[np.uint32]:
    return slots_of(chunk.family, [text_of(row) for row in chunk.rows.tolist()])


def _rare_pieces(chunk: _Chunk, usual: SharedArray, text_of: TextOf) -> tuple[Pieces, Indices, Counter[str]]:
    """Returns the rare pieces of rows, how many each has, and in how many of the first of them a word stands."""
    texts = [text_of(row) for row in chunk.rows.tolist()]
    words = Counter(itertools.chain.from_iterable(map(different_words, texts[: chunk.num_counted])))
    return *rare_pieces(chunk.family, texts, usual.values, chunk.keep), words


def _signatures(ends: Indices, path: Path, counts: SharedArray) -> Signatures:
    """Returns the signatures of rows, whose pieces begin and end at these places of a file."""
    pieces = np.fromfile(path, np.uint32, count=int(ends[-1] - ends[0]), offset=4 * int(ends[0]))
    return signed_pieces(pieces, ends - ends[0], counts.values)


def _best_of_bands(
    bands: range, signed: SharedArray
) -> tuple[Indices, npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.int16]]:
    """Returns the likeliest pairs that some bands show, how alike they are, which rows had more, and how often."""
    num_rows = len(signed.values)
    best = BestPairs(num_rows, _MAX_PARTNERS, _COUNTED_FROM)
    num_cut_off = np.zeros(num_rows, np.int16)
    neighbours = alike_neighbours(
        signed.values, np.arange(num_rows), band_size=_BAND_SIZE, window=_WINDOW, bands=bands, least=_MIN_ALIKE
    )
    for pairs, alike, cut_off in neighbours:
        best.add(pairs, alike)
        num_cut_off[cut_off] += 1
    return *best.kept(), best.missed, num_cut_off
