"""Passages that texts have in common, found by their runs of eight words.

Source: 8-grams and 50 % of the words for contamination, 13-grams for a warning, and that what stands in more than 10 rows
and 1 % of them does not count: reference/data-quality.md A1, A2 and A4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import or_
from typing import Literal

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from luthier.data.twins.likeness import is_word, tokens, words
from luthier.data.twins.minhash import Hashes, Indices
from luthier.data.twins.rare_pieces import most_shared

GRAM_WORDS = 8
LONG_PASSAGE_WORDS = 13
MIN_COVERED = 0.5
"""Of the words, and of what the user says as well: two questions may have one answer, and two queries much in common."""
_MANY = 4
"""With this many rows that have a run of eight words, or are alike, there may be a template."""
_TEMPLATE_SHARE = 0.1
"""Of a text's runs. A text of which fewer stand in other rows has a sentence in common with them, not a template."""
_MIN_BOILERPLATE = 10
_MAX_WHOLE = 100
"""Rows in which a whole message may stand before it is boilerplate, in sets of any size."""
_MIN_SHARED = 0.05
_MAX_OWNERS = 3
"""Known texts looked at for each text, those with the most runs in common first; they share one run in 20 at least."""
_RAREST, _MAX_POSTINGS = 16, 64
"""Runs by which a text is found even if they are boilerplate, unless they stand in more known texts than this: two common
values of a template's slots may be a rare pair."""
_FACTORS = np.array([pow(0x9E3779B97F4A7C15, place + 1, 1 << 64) for place in range(GRAM_WORDS)], np.uint64)


@dataclass(frozen=True, slots=True)
class Quotation:
    """What a text has of a known one.

    Attributes:
        row: the text's place.
        known: the known text's place.
        has: for each run of eight words of the known text whether the text has it.
        whole: the numbers of the known text's messages that stand in the text as a whole.
        replaced: whether it has other words before, between or after the passages, as another filling of a template does.
    """

    row: int
    known: int
    has: npt.NDArray[np.bool_]
    whole: tuple[int, ...]
    replaced: bool


@dataclass(frozen=True, slots=True)
class Commonness:
    """How usual it is to have something of the known texts.

    Attributes:
        others: in how many of the texts looked up each run of eight words stands, [G].
        whole: in how many of them a message stands as a whole.
        num_others: how many texts were looked up.
    """

    others: Indices
    whole: Mapping[int, int]
    num_others: int


class Passages:
    """Looks texts up by the runs of eight words that they share with known ones.

    Args:
        texts: of each known text its messages, normalised.
        asked: of each message whether the user says it.

    Attributes:
        num_grams: how many different runs of eight words the known texts have.
    """

    def __init__(self, texts: Sequence[Sequence[str]], asked: Sequence[Sequence[bool]]) -> None:
        self._vocabulary: dict[str, int] = {}
        numbers: dict[str, int] = {}
        said = [[_words(message) for message in text] for text in texts]
        for word in (word for text in said for message in text for word in message):
            self._vocabulary.setdefault(word, len(self._vocabulary) + 1)
        self._words = [[word for message in text for word in message] for text in said]
        self._asked = [
            np.repeat(np.array(roles, np.bool_), [len(message) for message in text])
            for roles, text in zip(asked, said, strict=True)
        ]
        # of each message its number, and where its words begin and end
        self._messages = [
            [
                (numbers.setdefault(" ".join(message), len(numbers)), int(end) - len(message), int(end))
                for message, end in zip(text, np.cumsum([len(message) for message in text]), strict=True)
            ]
            for text in said
        ]
        hashes, row = self._grams(self._words)
        self._grams_known, self._ids = np.unique(hashes, return_inverse=True)
        self.num_grams = len(self._grams_known)
        self._offsets = np.searchsorted(row, np.arange(len(texts) + 1))
        self._sizes = np.maximum(1, np.diff(self._offsets))
        gram, owner = np.divmod(np.unique(self._ids * max(1, len(texts)) + row), max(1, len(texts)))
        self._count = np.bincount(gram, minlength=self.num_grams)
        order = np.lexsort((self._count[gram], owner))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
        limit = boilerplate_limit(len(texts))
        indexed = (self._count[gram] <= limit) | ((rank < _RAREST) & (self._count[gram] <= _MAX_POSTINGS))
        self._owner = owner[indexed]
        self._starts = np.searchsorted(gram[indexed], np.arange(self.num_grams + 1))

    def look(self, texts: Sequence[Sequence[str]]) -> tuple[list[Quotation], Indices, Counter[int]]:
        """Returns what texts have of known ones.

        Args:
            texts: of each text its messages, normalised.

        Returns:
            The quotations, the runs of eight words that each text has, of all texts, and in how many texts known messages
            stand as a whole.
        """
        joined = [[word for message in text for word in _words(message)] for text in texts]
        had = self._had(joined)
        row, gram = np.divmod(had, max(1, self.num_grams))
        count = self._count + np.bincount(gram, minlength=self.num_grams)
        likest = most_shared(row, gram, self._starts, self._owner, self._sizes, least=_MIN_SHARED, most=_MAX_OWNERS)
        found: list[Quotation] = []
        certain: list[bool] = []
        for text, known in likest.tolist():
            ids = self._ids_of(known)
            keys = text * self.num_grams + ids
            has = had[np.minimum(np.searchsorted(had, keys), len(had) - 1)] == keys
            whole = tuple(self._whole(known, has))
            is_template = np.count_nonzero(count[ids] > _MIN_BOILERPLATE) > _TEMPLATE_SHARE * len(ids)
            may_count = not is_template and self._is_long(known, has)
            if whole or may_count:
                found.append(Quotation(text, known, has, whole, _replaced(self._words[known], joined[text])))
                certain.append(may_count)
        usual = Counter(number for _, number in {(one.row, number) for one in found for number in one.whole})
        # what is left out here does not count whatever else is found
        rare = [min((usual[number] for number in one.whole), default=0) <= _MAX_WHOLE for one in found]
        return list(compress(found, map(or_, certain, rare))), gram, usual

    def kind(self, quotation: Quotation, common: Commonness, num_alike: int) -> Literal["passage", "partial"] | None:
        """Returns whether the text has "passage" (half of the known text or more), "partial" (13 words) or None of it.

        Of a known text that is the filling of a template, whole messages must stand in the text.

        Args:
            quotation: what the text has.
            common: of all texts.
            num_alike: how many texts are like the known one, itself included.
        """
        known = quotation.known
        limit = boilerplate_limit(common.num_others)
        rare = {number for number in quotation.whole if common.whole[number] <= min(limit, _MAX_WHOLE)}
        covered = np.zeros(len(self._words[known]), np.bool_)
        for number, start, end in self._messages[known]:
            covered[start:end] = number in rare
        if self._is_half(known, covered):
            return "passage"
        ids = self._ids_of(known)
        count = self._count[ids] + common.others[ids]
        least = _MANY if quotation.replaced else _MIN_BOILERPLATE + 1
        is_template = np.count_nonzero(count >= least) > _TEMPLATE_SHARE * len(ids)
        if is_template or (quotation.replaced and num_alike >= _MANY):
            return None
        usual = (self._count[ids] > boilerplate_limit(len(self._words))) | (common.others[ids] > limit)
        told = quotation.has & ~usual
        if self._is_half(known, _covered(told)):
            return "passage"
        return "partial" if _longest(told) >= LONG_PASSAGE_WORDS else None

    def num_alike(self, known: int, common: Commonness) -> int:
        """Returns how many rows have a run of eight words of a known text at most; itself and one more at least."""
        ids = self._ids_of(known)
        return max(2, int(np.max(self._count[ids] + common.others[ids], initial=2)))

    def _ids_of(self, known: int) -> Indices:
        """Returns the numbers of a known text's runs, in order."""
        found: Indices = self._ids[self._offsets[known] : self._offsets[known + 1]]
        return found

    def _whole(self, known: int, has: npt.NDArray[np.bool_]) -> Iterator[int]:
        """Yields the numbers of the messages of which the text has all runs."""
        for number, start, end in self._messages[known]:
            if end - start >= GRAM_WORDS and has[start : end - GRAM_WORDS + 1].all():
                yield number

    def _is_long(self, known: int, has: npt.NDArray[np.bool_]) -> bool:
        """Whether what the text has may be half of the known text, or a long passage."""
        return self._is_half(known, _covered(has)) or _longest(has) >= LONG_PASSAGE_WORDS

    def _is_half(self, known: int, covered: npt.NDArray[np.bool_]) -> bool:
        """Whether half of the words are covered, and half of what the user says if that is long enough to tell."""
        asked = self._asked[known]
        found = covered[asked].sum() >= MIN_COVERED * asked.sum() or asked.sum() < GRAM_WORDS
        return bool(found and covered.sum() >= MIN_COVERED * len(covered))

    def _had(self, texts: Sequence[Sequence[str]]) -> Indices:
        """Returns text * num_grams + run for each text and each run that it has, in ascending order."""
        hashes, row = self._grams(texts)
        if not self.num_grams:
            return np.empty(0, np.int64)
        gram = np.minimum(np.searchsorted(self._grams_known, hashes), self.num_grams - 1)
        same = self._grams_known[gram] == hashes
        return np.unique(row[same] * self.num_grams + gram[same])

    def _grams(self, texts: Sequence[Sequence[str]]) -> tuple[Hashes, Indices]:
        """Returns the hashes of all runs of eight known words, and the text of each."""
        known = self._vocabulary.get
        flat: list[int] = []
        lengths = []
        for text in texts:
            flat += [known(word, 0) for word in text]
            flat.append(0)
            lengths.append(len(text) + 1)
        ids = np.array(flat, np.uint64)
        count = max(0, len(ids) - GRAM_WORDS + 1)
        hashes = np.zeros(count, np.uint64)
        whole = np.ones(count, np.bool_)
        for place in range(GRAM_WORDS):
            part = ids[place : place + count]
            hashes += part * _FACTORS[place]
            whole &= part > 0
        row = np.repeat(np.arange(len(lengths)), lengths)[:count]
        hashes ^= hashes >> np.uint64(32)
        return hashes[whole], row[whole]


def boilerplate_limit(num_rows: int) -> int:
    """Returns in how many rows a run of words may stand before it is boilerplate."""
    return max(_MIN_BOILERPLATE, num_rows // 100)


def _words(text: str) -> list[str]:
    return words(text) if text.isascii() else [token for token in tokens(text) if is_word(token)]


def _covered(has: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Returns for each word whether one of the runs covers it."""
    if not len(has):
        return np.zeros(0, np.bool_)
    return np.convolve(has, np.ones(GRAM_WORDS, np.int64)) > 0


def _longest(has: npt.NDArray[np.bool_]) -> int:
    """Returns how many words the longest passage has."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], has.astype(np.int8), [0]])))
    return int(np.max(edges[1::2] - edges[::2], initial=1 - GRAM_WORDS)) + GRAM_WORDS - 1


def _replaced(known: Sequence[str], text: Sequence[str]) -> bool:
    """Whether a text has other words than the known one before, between or after passages that both have."""
    ends = [(0, 0)]
    for block in Levenshtein.opcodes(known, text).as_matching_blocks():
        if block.size > 1:
            if block.a > ends[-1][0] and block.b > ends[-1][1]:
                return True
            ends.append((block.a + block.size, block.b + block.size))
    return ends[-1][0] < len(known) and ends[-1][1] < len(text)
