"""Which examples belong together, so that no test row has a twin in training.

Rows belong together when their text is equal, nearly equal, or when they share a user message. The system prompt never
counts: where all rows share it, it would make every row a twin of every other.

Source: reference/data-quality.md A2 (character 5-grams; every candidate is confirmed exactly).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from luthier.data.chat import Example
from luthier.data.findings import quoted
from luthier.data.twins.best_pairs import BestPairs
from luthier.data.twins.copies import MIN_JACCARD, jaccard
from luthier.data.twins.likeness import MIN_LONG_WORDS
from luthier.data.twins.minhash import Indices, agreement, alike_across, neighbours
from luthier.data.twins.near import find_near_duplicates, joined
from luthier.data.twins.rewordings import reworded_pairs
from luthier.data.twins.told_texts import ToldTexts, digest_of, told

_BAND_SIZE = 4
"""32 bands of 4 find all pairs with a similarity of 0.8 but one in 10 million: (1 - 0.8⁴)³²."""
_WINDOW = 2
_MIN_ESTIMATE = 0.7
"""A signature's estimate of 0.8 is off by 0.035 (one sigma); this loses 0.2 % of such pairs and no closer ones."""
_MAX_ALIKE = 10
"""A row that is like more others than this is one filling of a template; where most of the text is an instruction that all
rows share, all would be one group."""
_MAX_COMPARED = 10

Digested = npt.NDArray[np.uint64]
"""Digests of 128 bits, [N, 2]."""
Kind = Literal["duplicate", "near-duplicate", "same-prompt"]
_CLOSEST_FIRST: tuple[Kind, ...] = ("duplicate", "near-duplicate", "same-prompt")


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which examples belong together.

    Attributes:
        groups: for each example the number of its group, from 0, in the order of their first examples, [N].
        num_groups: how many groups there are.
        notes: what a person should know about it.
    """

    groups: Indices
    num_groups: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overlap:
    """A training row that stands in another file too.

    Attributes:
        train_file, train_line: the training row.
        other_file, other_line: the row of the other file.
        kind: equal text, nearly equal text, or the same opening user message.
    """

    train_file: str
    train_line: int
    other_file: str
    other_line: int
    kind: Kind


class _Rows:
    """What is compared of examples, in an order that does not depend on theirs. Use it in a `with` statement.

    Attributes:
        told: what the examples say, in their own order.
        places: the number of the example that each row is.
        is_train: which rows are training rows.
        equal: which rows say all that the row before them says.
        long, short: the rows whose text is long, and whose user's text is short; without those that repeat one of their
            side.
        signed: the signatures of the texts.
    """

    def __init__(self, examples: Iterable[Example], num_train: int | None = None) -> None:
        self.told = ToldTexts(examples)
        count = len(self.told)
        is_other = np.arange(count) >= (count if num_train is None else num_train)
        digests = self.told.contents.view(">u8").astype(np.uint64)  # as numbers in the order of their bytes
        self.places: Indices = np.lexsort((is_other, digests[:, 1], digests[:, 0]))
        self.is_train = ~is_other[self.places]
        digests = digests[self.places]
        self.equal = np.zeros(count, np.bool_)
        self.equal[1:] = (digests[1:] == digests[:-1]).all(axis=1)
        self._again = self.equal.copy()
        self._again[1:] &= self.is_train[1:] == self.is_train[:-1]
        self.signed = self.told.signatures(self.places)
        self._num_words = self.told.num_words[self.places]
        self.long = np.flatnonzero((self._num_words >= MIN_LONG_WORDS) & ~self._again)
        self.short = np.flatnonzero(self.told.asks_little[self.places] & ~self._again)

    def __len__(self) -> int:
        return len(self.places)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.told.__exit__()

    def text(self, row: int) -> str:
        """Returns what user and assistant say in a row."""
        return self.told.texts[int(self.places[row])]

    def asked(self, row: int) -> str:
        """Returns what the user says in a short row."""
        return self.told.users[int(self.places[row])]

    def copies(self) -> tuple[Indices, int]:
        """Returns pairs of rows with a few edits or another wording, and how many rows had too many to compare."""
        edited = find_near_duplicates(self.signed, self._num_words, self.text, exclude=self._again)
        short = reworded_pairs(self.short, self.asked, known_words_differ=False)
        return np.concatenate([edited.pairs, short.pairs]), len(np.union1d(edited.unexamined, short.unexamined))

    def similar(self, pairs: Iterable[Indices]) -> tuple[list[tuple[int, int]], int]:
        """Returns those pairs that are alike in most of their pieces, and how many rows are fillings of templates.

        A row that is like very many others is such a filling; the fillings of a template do not belong together.
        """
        best = BestPairs(len(self), _MAX_COMPARED, MIN_JACCARD)
        for some in pairs:
            alike = agreement(self.signed, some)
            best.add(some[alike >= _MIN_ESTIMATE], alike[alike >= _MIN_ESTIMATE])
        likely = best.pairs()
        is_filling = best.num_partners > _MAX_ALIKE
        likely = likely[~is_filling[likely].any(axis=1)]
        found = [(one, two) for one, two in likely.tolist() if jaccard(self.text(one), self.text(two)) >= MIN_JACCARD]
        return found, int(np.count_nonzero(is_filling))

    def across(self, pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yields the pairs of two sides, also of rows that repeat one of their side."""
        first = np.maximum.accumulate(np.where(self._again, 0, np.arange(len(self)))).tolist()
        repeats: dict[int, list[int]] = defaultdict(list)
        for row in np.flatnonzero(self._again).tolist():
            repeats[first[row]].append(row)
        for one, two in pairs:
            if self.is_train[one] != self.is_train[two]:
                yield one, two
                yield from ((again, two) for again in repeats.get(one, ()))
                yield from ((one, again) for again in repeats.get(two, ()))


def group_examples(examples: Sequence[Example]) -> Grouping:
    """Returns which examples belong together. The groups do not depend on the order of the examples."""
    with _Rows(examples) as rows:
        boilerplate = _boilerplate(rows, examples)
        copies, num_unexamined = rows.copies()
        side_by_side = neighbours(rows.signed, rows.long, band_size=_BAND_SIZE, window=_WINDOW)
        similar, num_fillings = rows.similar(pairs for pairs, _ in side_by_side)
        pairs = np.concatenate([copies, np.array(similar, np.int64).reshape(-1, 2)])
        pairs = np.concatenate([rows.places[pairs], _sharing(rows, boilerplate)])
    first, where, group = np.unique(joined(len(examples), pairs), return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(where)] = np.arange(len(first))
    groups = number[group]
    return Grouping(groups, len(first), tuple(_notes(groups, boilerplate, num_fillings, num_unexamined)))


def find_overlap(train: Sequence[Example], other: Sequence[Example]) -> list[Overlap]:
    """Returns the training rows that stand in another file too, in the order of the training rows.

    Each such training row is named once, with the closest row of the other file; then each row of the other file that
    was not named yet is, so that the rows of either side can be counted or left out.
    """
    with _Rows(itertools.chain(train, other), len(train)) as rows:
        copies, _ = rows.copies()
        similar, _ = rows.similar(alike_across(rows.signed, rows.long, rows.is_train, band_size=_BAND_SIZE))
        across = np.array(list(rows.across([*copies.tolist(), *similar])), np.int64).reshape(-1, 2)
        pairs: list[tuple[Indices, Kind]] = [
            (_matches(rows.told.contents, len(train)), "duplicate"),
            (rows.places[across], "near-duplicate"),
            (_matches(rows.told.openings, len(train), rows.told.has_opening), "same-prompt"),
        ]
    # the number of a training row is the smaller one of each pair
    named = [(one, two, kind) for some, kind in pairs for one, two in np.sort(some, axis=1).tolist()]
    named.sort(key=lambda pair: (_CLOSEST_FIRST.index(pair[2]), *pair[:2]))
    found: dict[int, tuple[int, int, Kind]] = {}
    for one, two, kind in named:
        found.setdefault(one, (one, two, kind))
    seen = {two for _, two, _ in found.values()}
    for one, two, kind in sorted(named, key=lambda pair: pair[0]):
        if two not in seen:
            seen.add(two)
            found[two] = (one, two, kind)
    return [_overlap(train[one], other[two - len(train)], kind) for one, two, kind in sorted(found.values())]


def _overlap(one: Example, two: Example, kind: Kind) -> Overlap:
    return Overlap(one.file, one.line, two.file, two.line, kind)


def _matches(digests: Digested, num_train: int, counts: npt.NDArray[np.bool_] | None = None) -> Indices:
    """Returns pairs of examples of both sides with equal digests, [P, 2]: each with the first one of the other side.

    Args:
        digests: of the training rows and then of the others.
        num_train: how many training rows there are.
        counts: the examples that are looked at; all if not given.
    """
    numbers = np.arange(len(digests)) if counts is None else np.flatnonzero(counts)
    keys = _keys(digests[numbers])
    side = (numbers >= num_train).astype(np.int64)
    first = np.full((2, len(numbers)), len(digests))  # of each side, the first example with a key
    np.minimum.at(first, (side, keys), numbers)
    pairs = np.stack([numbers, first[1 - side, keys]], axis=1)
    found: Indices = pairs[pairs[:, 1] < len(digests)]
    return found


def _sharing(rows: _Rows, boilerplate: _Boilerplate | None) -> Indices:
    """Returns pairs of examples that are equal, or share an opening or another message of the user that means something."""
    told = rows.told
    again = np.flatnonzero(rows.equal)
    opening = np.flatnonzero(told.has_opening)
    messages = np.concatenate([told.openings[opening], told.laters])
    of = np.concatenate([opening, told.later_rows])
    means = ~boilerplate.holds(messages) if boilerplate is not None else np.ones(len(of), np.bool_)
    return np.concatenate(
        [
            np.stack([rows.places[again - 1], rows.places[again]], axis=1),
            _alike(messages[means], of[means]),
            _alike(told.openings[opening], opening),
        ]
    )


def _alike(digests: Digested, of: Indices) -> Indices:
    """Returns pairs that join all examples with equal digests, [P, 2]."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    same = np.flatnonzero((digests[order[1:]] == digests[order[:-1]]).all(axis=1))
    return np.stack([of[order[same]], of[order[same + 1]]], axis=1)


def _keys(digests: Digested) -> Indices:
    """Returns a number for each digest, the same one for equal ones, from 0."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    new = np.ones(len(order), np.bool_)
    new[1:] = (digests[order[1:]] != digests[order[:-1]]).any(axis=1)
    keys = np.empty(len(order), np.int64)
    keys[order] = np.cumsum(new) - 1
    return keys


@dataclass(frozen=True, slots=True)
class _Boilerplate:
    """Later user messages that stand in too many rows to mean anything.

    Attributes:
        digests: of them, [B, 2].
        text, count: of the commonest, and in how many rows it stands.
    """

    digests: Digested
    text: str
    count: int

    def holds(self, digests: Digested) -> npt.NDArray[np.bool_]:
        """Returns which of these digests are among them."""
        keys = _keys(np.concatenate([self.digests, digests]))
        found: npt.NDArray[np.bool_] = np.isin(keys[len(self.digests) :], keys[: len(self.digests)])
        return found


def _boilerplate(rows: _Rows, examples: Sequence[Example]) -> _Boilerplate | None:
    """Returns the later user messages that stand in too many rows to mean anything, or None where none does."""
    laters, of = rows.told.laters, rows.told.later_rows
    row = np.empty(len(rows), np.int64)
    row[rows.places] = np.arange(len(rows))
    order = np.argsort(row[of], kind="stable")
    keys, of = _keys(laters)[order], of[order]
    by_key = np.lexsort((row[of], keys))
    once = np.ones(len(keys), np.bool_)  # a row that says it twice is one row
    once[1:] = (np.diff(keys[by_key]) != 0) | (np.diff(of[by_key]) != 0)
    counts = np.bincount(keys[by_key[once]])
    common = np.flatnonzero(counts > max(10, len(rows) // 100))
    if not len(common):
        return None
    _, first = np.unique(keys, return_index=True)
    most = common[np.lexsort((first[common], -counts[common]))[0]]
    digests = laters[order[first]]
    texts = told(examples[int(of[first[most]])]).laters
    text = next(text for text in texts if digest_of(text) == digests[most].tobytes())
    return _Boilerplate(digests[common], text, int(counts[most]))


def _notes(groups: Indices, boilerplate: _Boilerplate | None, num_fillings: int, num_unexamined: int) -> Iterator[str]:
    num_rows = len(groups)
    if boilerplate is not None:
        others = len(boilerplate.digests) - 1
        more = f" and {others} more such messages" if others else ""
        yield (
            f"{quoted(boilerplate.text)}{more} stand{'' if more else 's'} in so many conversations "
            f"({boilerplate.count:,} of {num_rows:,}) that sharing it does not keep rows together."
        )
    if num_rows:
        size = int(np.bincount(groups).max())
        if size > max(10, num_rows // 5):
            yield (
                f"{size:,} of {num_rows:,} rows belong together (equal, nearly equal, or sharing a user message), so "
                "they stay on one side of the split."
            )
    if num_fillings:
        rows = "1 row is" if num_fillings == 1 else f"{num_fillings:,} rows are"
        yield (
            f"{rows} like more than {_MAX_ALIKE} others in most of the text, as fillings of a template are; only copies "
            "among them are kept together."
        )
    if num_unexamined:
        rows = "1 row has" if num_unexamined == 1 else f"{num_unexamined:,} rows have"
        yield f"{rows} so many others of one kind that only the likest were compared; a copy may have been missed."
