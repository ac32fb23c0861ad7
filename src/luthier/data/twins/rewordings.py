"""Short texts that say the same in other words: the same content words, but for one spelt otherwise."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.data.twins.keyed_entries import Entries
from luthier.data.twins.likeness import MIN_RESPELT_CHARS, content_words, is_plural, one_letter_less, rewording
from luthier.data.twins.minhash import Indices

_MAX_COMPARED = 64
"""Rows with the same words of which each is compared with each."""
_ALL_BITS = 0xFFFFFFFFFFFFFFFF
_KNOWN = 3
"""A spelling that stands in this many texts is a word."""


@dataclass(frozen=True, slots=True)
class Rewordings:
    """Short texts that say the same.

    Attributes:
        pairs: of rows, each with the smaller one first, in ascending order, [P, 2].
        unexamined: the rows that were compared with some of those that have the same words only.
    """

    pairs: Indices
    unexamined: Indices


def reworded_pairs(rows: Indices, text_of: Callable[[int], str], *, known_words_differ: bool = True) -> Rewordings:
    """Returns which short texts say the same in the same words, but for filler words and one respelt word.

    Args:
        rows: the rows whose texts are short, in ascending order.
        text_of: gives a row's normalised text.
        known_words_differ: whether two spellings are different words where both stand in several texts.

    Source: the deletion neighbourhood of SymSpell, over words and then over the letters of one word.
    """
    pairs: set[tuple[int, int]] = set()
    unexamined: set[int] = set()
    with Entries() as entries:
        index = _Index(entries)
        for row in rows:
            index.add(int(row), content_words(text_of(int(row))))
        for run in index.runs():
            for one, other in run:
                pairs.update((min(pair), max(pair)) for pair in _products(one, other, unexamined))
    found = []
    for pair in sorted(pairs):
        words = rewording(text_of(pair[0]), text_of(pair[1]))
        if words is not None and not (known_words_differ and are_known(words, index.count)):
            found.append(pair)
    return Rewordings(np.array(found, np.int64).reshape(-1, 2), np.array(sorted(unexamined), np.int64))


def are_known(words: Sequence[str], count: Mapping[str, int]) -> bool:
    """Whether two spellings are words of their own ("Anna", "Anne"), as both stand in several texts. A plural is none."""
    return len(words) == 2 and min(count.get(word, 0) for word in words) >= _KNOWN and not is_plural(*words)


def _products(one: list[int], other: list[int], unexamined: set[int]) -> Iterator[tuple[int, int]]:
    """Yields all pairs of rows of two lists, or of one given twice; of very long ones only the neighbours."""
    if len(one) * len(other) > _MAX_COMPARED**2:
        unexamined.update(one, other)
        yield from itertools.pairwise(one) if one is other else zip(one, other, strict=False)
    elif one is other:
        yield from itertools.combinations(one, 2)
    else:
        yield from itertools.product(one, other)


class _Index:
    """The rows by their content words, and by these without one of them, as sums of hashes.

    Attributes:
        count: in how many rows a word stands.
    """

    def __init__(self, entries: Entries) -> None:
        self.count: Counter[str] = Counter()
        self._hash: dict[str, int] = {}
        self._words: list[str] = []
        self._number: dict[str, int] = {}
        self._entries = entries

    def add(self, row: int, words: list[str]) -> None:
        """Takes a row's content words."""
        different = set(words)
        self.count.update(different)
        total = len(words) + sum(map(self._hashed, words))
        enter = self._entries.add
        enter(total & _ALL_BITS, row, -1)
        for word in different:
            if len(word) >= MIN_RESPELT_CHARS and word.isalpha():
                enter((total - self._hash[word]) & _ALL_BITS, row, self._number[word])

    def runs(self) -> Iterator[Iterator[tuple[list[int], list[int]]]]:
        """Yields for each key the rows to be compared: the same list twice, or two lists with a word spelt in two ways."""
        for rows, left_out in self._entries.runs():
            by_word: dict[int, list[int]] = defaultdict(list)
            for row, word in zip(rows, left_out, strict=True):
                by_word[word].append(row)
            yield self._compared(by_word)

    def _compared(self, by_word: dict[int, list[int]]) -> Iterator[tuple[list[int], list[int]]]:
        if -1 in by_word:
            yield by_word[-1], by_word[-1]
        by_variant: dict[str, list[int]] = defaultdict(list)
        pairs: set[tuple[int, int]] = set()
        for number in by_word if len(by_word) > 1 else ():
            for variant in one_letter_less(self._words[number]) if number >= 0 else ():
                pairs.update((other, number) for other in by_variant[variant])
                by_variant[variant].append(number)
        for one, other in sorted(pairs):
            yield by_word[one], by_word[other]

    def _hashed(self, word: str) -> int:
        found = self._hash.get(word)
        if found is None:
            digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            found = self._hash[word] = int.from_bytes(digest, "little")
            self._number[word] = len(self._words)
            self._words.append(word)
        return found
