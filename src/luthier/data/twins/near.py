"""Rows that are nearly the same: copies of one another with a few edits, but not two fillings of one template.

Three steps: signatures find the families of rows that are alike; within a large family the pieces that most of its
rows share say nothing, so the search goes on with the rare ones; every pair found is compared word by word. The search
is by chance: it finds 98 to 100 % of planted copies (tests/data/test_near.py), and what it names is exact.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from luthier.data.twins.copies import Comparison, Verdict, compare, verdict
from luthier.data.twins.likeness import MIN_LONG_WORDS, different_words
from luthier.data.twins.minhash import Indices, Signatures, agreement, band_groups, neighbours
from luthier.data.twins.rare_search import Run, TextOf, rare_pairs
from luthier.data.twins.rewordings import reworded_pairs
from luthier.data.twins.shared_array import SharedArray

MIN_SEARCHED_WORDS = 15
"""A copy of a text of 20 words may have fewer, where spaces were left out."""
_MIN_LINKED = 0.45
"""Estimated similarity from which rows are of one family. 5 % of the characters edited leave 0.60 (measured; rarely
0.55), and the estimate is off by 0.044 (one sigma)."""
_BAND_SIZE = 3
"""42 bands of 3 find 99.99 % of pairs with a similarity of 0.6, 99.8 % at 0.53, and 4 % at 0.1: 1 - (1 - s³)⁴²."""
_SMALL_FAMILY = 10
"""Up to this many rows, each is compared with each."""
_MIN_ESTIMATE = 0.68
"""Estimated similarity from which the exact one may be 0.8 (three sigma)."""
_AS_ALIKE = 0.15
"""A row is as alike to two others as they are if its estimate is at most this much lower (two sigma of a difference)."""
_NUM_GROUPS = 6
"""Parts of the bands that processes look through."""
_MAX_WORDS = 1_000_000
_PAIRS_A_TASK = 2048


@dataclass(frozen=True, slots=True)
class NearResult:
    """Which rows are near duplicates.

    Attributes:
        pairs: the pairs, each with the smaller row first, in ascending order, [P, 2].
        clusters: the rows that belong together, each cluster and all clusters in ascending order.
        unexamined: the rows that were compared with those most like them only, there being more of their kind.
    """

    pairs: Indices
    clusters: tuple[tuple[int, ...], ...]
    unexamined: Indices

    @property
    def num_unexamined(self) -> int:
        """How many rows were not compared with all rows like them."""
        return len(self.unexamined)


def find_near_duplicates(
    signed: Signatures,
    num_words: npt.NDArray[np.integer],
    text_of: TextOf,
    *,
    exclude: npt.NDArray[np.bool_] | None = None,
    run: Run = map,
) -> NearResult:
    """Returns which rows are near duplicates.

    Args:
        signed: the rows' signatures, [N, 128].
        num_words: how many words each row has (`likeness.count_words`).
        text_of: gives a row's normalised text. It is asked in the order of the rows where that is possible.
        exclude: rows to leave out: those equal to an earlier one.
        run: does the comparisons, in other processes if it likes; `text_of` must then be fit to be sent there.
    """
    taken = num_words > 0
    if exclude is not None:
        taken &= ~exclude
    families = _Families(signed, np.flatnonzero(taken & (num_words >= MIN_SEARCHED_WORDS)), run)
    candidates = _candidates(families, text_of, run)
    long = (num_words[candidates.pairs] >= MIN_LONG_WORDS).any(axis=1)
    found = _judged(families, replace(candidates, pairs=candidates.pairs[long]), text_of, run)
    short = reworded_pairs(np.flatnonzero(taken & (num_words < MIN_LONG_WORDS)), text_of)
    found = np.unique(np.concatenate([found, short.pairs]), axis=0)
    unexamined = np.union1d(candidates.unexamined, short.unexamined)
    return NearResult(found, clusters(len(signed), found), unexamined)


def joined(count: int, pairs: Indices) -> Indices:
    """Returns for each of `count` places the smallest place that the pairs join it to."""
    parent = np.arange(count)
    while len(pairs):
        low, high = pairs.min(axis=1), pairs.max(axis=1)
        np.minimum.at(parent, high, low)
        while not np.array_equal(above := parent[parent], parent):
            parent = above
        pairs = parent[pairs]
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return parent


def clusters(count: int, pairs: Indices) -> tuple[tuple[int, ...], ...]:
    """Returns the places that the pairs join, in ascending order, without those that stand alone."""
    members: dict[int, list[int]] = defaultdict(list)
    first = joined(count, pairs)
    for place in np.unique(pairs).tolist():
        members[int(first[place])].append(place)
    return tuple(tuple(found) for _, found in sorted(members.items()))


@dataclass(frozen=True, slots=True)
class _Task:
    """Pairs to be compared.

    Attributes:
        pairs: of rows, [P, 2].
        similar: of each pair whether the Jaccard similarity may be large enough to count.
        counted: the rows whose words are to be counted.
    """

    pairs: Indices
    similar: npt.NDArray[np.bool_]
    counted: frozenset[int]


def _compare(task: _Task, text_of: TextOf) -> tuple[list[Comparison | None], Counter[str]]:
    """Returns how the texts of each pair differ, or None for texts that cannot be copies, and the words of rows."""
    count: Counter[str] = Counter()
    left = set(task.counted)

    @functools.lru_cache(maxsize=1024)
    def cached(row: int) -> str:
        text = text_of(row)
        if row in left:
            left.remove(row)
            count.update(different_words(text))
        return text

    found = [
        compare(cached(one), cached(other), by_jaccard=by_jaccard)
        for (one, other), by_jaccard in zip(task.pairs.tolist(), task.similar.tolist(), strict=True)
    ]
    return found, count


def _families_of_bands(bands: range, signed: SharedArray, rows: Indices) -> npt.NDArray[np.int32]:
    """Returns for each row the smallest one that the pairs in some bands join it to."""
    of = np.arange(len(signed.values))
    for pairs, _ in neighbours(signed.values, rows, band_size=_BAND_SIZE, window=2, bands=bands):
        between = of[pairs]
        pairs = pairs[between[:, 0] != between[:, 1]]
        pairs = pairs[agreement(signed.values, pairs) >= _MIN_LINKED]
        if len(pairs):
            of = joined(len(of), of[pairs])[of]
    return of.astype(np.int32)


class _Families:
    """Rows that are alike, directly or through others.

    Attributes:
        of: for each row its family, named by the smallest row in it.
        size: for each row how many there are in its family.
    """

    def __init__(self, signed: Signatures, rows: Indices, run: Run) -> None:
        self._signed = signed
        self.of = np.arange(len(signed))
        work = functools.partial(_families_of_bands, signed=SharedArray(signed), rows=rows)
        for found in run(work, band_groups(_BAND_SIZE, 1 if run is map else _NUM_GROUPS)):
            self.of = joined(len(signed), np.stack([self.of, self.of[found]], axis=1))[self.of]
        self.size = np.bincount(self.of, minlength=len(signed))[self.of]
        self._sorted = np.argsort(self.of, kind="stable")
        self._names = self.of[self._sorted]

    def agreement(self, pairs: Indices) -> npt.NDArray[np.float32]:
        """Returns the estimated similarity of pairs of rows, [P]."""
        return agreement(self._signed, pairs)

    def small(self) -> Indices:
        """Returns all pairs of the families in which each row is compared with each."""
        rows = self._sorted[(self.size > 1)[self._sorted] & (self.size <= _SMALL_FAMILY)[self._sorted]]
        pairs = [np.empty((0, 2), np.int64)]
        for step in range(1, _SMALL_FAMILY):
            same = self.of[rows[step:]] == self.of[rows[:-step]]
            pairs.append(np.stack([rows[:-step][same], rows[step:][same]], axis=1))
        return np.concatenate(pairs)

    def num_alike(self, one: int, other: int) -> int:
        """Returns how many rows are as alike to two rows as these are to each other; themselves included.

        In a large family it is all of them: there, rows of every degree of likeness are to be expected.
        """
        if self.size[one] > _SMALL_FAMILY:
            return int(self.size[one])
        start, stop = np.searchsorted(self._names, [self.of[one], self.of[one] + 1])
        members = self._sorted[start:stop]
        limit = self.agreement(np.array([[one, other]]))[0] - _AS_ALIKE
        near = [self.agreement(np.stack([members, np.full_like(members, row)], 1)) for row in (one, other)]
        return int(np.count_nonzero(np.maximum(*near) >= limit))


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Pairs to compare.

    Attributes:
        pairs: in ascending order, [P, 2].
        unexamined: the rows that have more of them.
        words: in how many of some rows a word stands.
        counted: which rows these are.
    """

    pairs: Indices
    unexamined: Indices
    words: Counter[str]
    counted: npt.NDArray[np.bool_]


def _candidates(families: _Families, text_of: TextOf, run: Run) -> _Candidates:
    rows = np.flatnonzero(families.size > _SMALL_FAMILY)
    rare = rare_pairs(rows, families.of[rows], text_of, run)
    counted = np.zeros(len(families.size), np.bool_)
    counted[rare.counted] = True
    # in a family, rows of every likeness are joined through others
    likely = rare.pairs[families.agreement(rare.pairs) >= _MIN_LINKED]
    pairs = np.concatenate([families.small(), likely])
    return _Candidates(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))], rare.unexamined, rare.words, counted)


def _judged(families: _Families, candidates: _Candidates, text_of: TextOf, run: Run) -> Indices:
    """Returns those pairs that are copies."""
    count = candidates.words
    copies = BestCopies()
    undecided: list[tuple[int, int, int, Comparison]] = []
    tasks = list(_tasks(families, candidates))
    for task, (found, words) in zip(tasks, run(functools.partial(_compare, text_of=text_of), tasks), strict=True):
        for (one, other), how in zip(task.pairs.tolist(), found, strict=True):
            num_alike = families.num_alike(one, other) if how is not None else 0
            if how is not None and num_alike <= 2:
                copies.add(one, other, how, verdict(how, num_alike, {}))  # no word is asked for, and most are such
            elif how is not None:
                undecided.append((one, other, num_alike, how))
        count.update(words)
        if len(count) > _MAX_WORDS:
            # a word that stands in one row is one that was not counted, to the verdict
            count = Counter({word: number for word, number in count.items() if number > 1})
    for one, other, num_alike, how in undecided:
        copies.add(one, other, how, verdict(how, num_alike, count))
    return np.array(sorted(copies.pairs()), np.int64).reshape(-1, 2)


def _tasks(families: _Families, candidates: _Candidates) -> Iterator[_Task]:
    """Yields the pairs in portions; the words of rows that were not counted are, by the first portion that has them."""
    pairs = candidates.pairs
    rows, first = np.unique(pairs, return_index=True)
    rows, first = rows[~candidates.counted[rows]], first[~candidates.counted[rows]] // 2
    for start in range(0, len(pairs), _PAIRS_A_TASK):
        some = pairs[start : start + _PAIRS_A_TASK]
        counted = rows[(first >= start) & (first < start + len(some))]
        yield _Task(some, families.agreement(some) >= _MIN_ESTIMATE, frozenset(counted.tolist()))


class BestCopies:
    """Copies and their originals. An edited filling of a template is like its original's sisters, too, only less so."""

    def __init__(self) -> None:
        self._found: list[tuple[tuple[int, int], tuple[int, int], list[int]]] = []
        self._least: dict[int, tuple[int, int]] = {}

    def add(self, one: int, other: int, compared: Comparison, found: Verdict) -> None:
        """Takes a pair."""
        if not found.copy:
            return
        cost = (found.num_doubts, compared.num_edits)
        edited = [row for row, is_edited in ((one, found.left_edited), (other, found.right_edited)) if is_edited]
        self._found.append((cost, (one, other), edited if found.num_doubts else []))
        for row in (one, other):
            self._least[row] = min(self._least.get(row, cost), cost)

    def pairs(self) -> list[tuple[int, int]]:
        """Returns the pairs without doubt, and of each edited row those with the least doubt; the likest first."""
        return [pair for cost, pair, edited in sorted(self._found) if all(cost == self._least[row] for row in edited)]
