"""Which examples belong together, so that no test row has a twin in training.

Rows belong together when their text is equal, nearly equal, or when they share a user message. The system prompt never
counts: where all rows share it, it would make every row a twin of every other.

Source: reference/data-quality.md A2 (character 5-grams; every candidate is confirmed exactly).
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from luthier.data.chat import Example
from luthier.data.findings import quoted
from luthier.data.rows import said
from luthier.data.twins.best_pairs import BestPairs
from luthier.data.twins.copies import MIN_JACCARD, jaccard
from luthier.data.twins.likeness import MIN_LONG_WORDS, content_words, count_words, normalised, words
from luthier.data.twins.minhash import Indices, agreement, alike_across, neighbours, signatures
from luthier.data.twins.near import find_near_duplicates, joined
from luthier.data.twins.rewordings import reworded_pairs

MIN_FOLLOW_UP_WORDS = 4
"""Follow-ups with fewer content words ("Thanks, that's all!") say nothing of what a conversation is about."""
_BAND_SIZE = 4
"""32 bands of 4 find all pairs with a similarity of 0.8 but one in 10 million: (1 - 0.8⁴)³²."""
_WINDOW = 2
_MIN_ESTIMATE = 0.7
"""A signature's estimate of 0.8 is off by 0.035 (one sigma); this loses 0.2 % of such pairs and no closer ones."""
_MAX_ALIKE = 10
"""A row that is like more others than this is one filling of a template; where most of the text is an instruction that all
rows share, all would be one group."""
_MAX_COMPARED = 10

Kind = Literal["duplicate", "near-duplicate", "same-prompt"]
_CLOSEST_FIRST: tuple[Kind, ...] = ("duplicate", "near-duplicate", "same-prompt")


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which examples belong together.

    Attributes:
        groups: for each example the number of its group, from 0.
        num_groups: how many groups there are.
        notes: what a person should know about it.
    """

    groups: list[int]
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
    """What is compared of examples, in an order that does not depend on theirs.

    Attributes:
        places: the number of the example that each row is.
        is_train: which rows are training rows.
        contents: digests of all that is said.
        openings, laters: the user's first message, and those of the others that mean something, normalised.
        users, texts: what the user says, and what user and assistant say, normalised.
        long, short: the rows whose text, or whose user's text, is long or short; without those that repeat one of their
            side.
        signed: the signatures of `texts`.
    """

    def __init__(self, examples: Sequence[Example], num_train: int) -> None:
        told = ((*_texts(example), place) for place, example in enumerate(examples))
        found = sorted(told, key=lambda row: (row[0], row[3] >= num_train))
        self.contents = [content for content, *_ in found]
        self.places = np.array([place for *_, place in found], np.int64)
        self.openings = [users[0] if users else "" for _, users, *_ in found]
        self.laters = [
            tuple(text for text in users[1:] if len(content_words(text)) >= MIN_FOLLOW_UP_WORDS)
            for _, users, *_ in found
        ]
        self.users = ["\n".join(users) for _, users, *_ in found]
        self.texts = [text for _, _, text, _ in found]
        self.signed = signatures(self.texts)
        self._num_words = np.array([count_words(text) for text in self.texts], np.int64)
        self.is_train = self.places < num_train
        same = zip(self.contents, self.is_train.tolist(), strict=True)
        self._again = np.array([one == other for one, other in itertools.pairwise([None, *same])], np.bool_)
        self.long = np.flatnonzero((self._num_words >= MIN_LONG_WORDS) & ~self._again)
        num_user_words = np.array([len(words(text)) for text in self.users], np.int64)
        self.short = np.flatnonzero((num_user_words > 0) & (num_user_words < MIN_LONG_WORDS) & ~self._again)

    def __len__(self) -> int:
        return len(self.contents)

    def copies(self) -> tuple[Indices, int]:
        """Returns pairs of rows with a few edits or another wording, and how many rows had too many to compare."""
        edited = find_near_duplicates(self.signed, self._num_words, self.texts.__getitem__, exclude=self._again)
        short = reworded_pairs(self.short, self.users.__getitem__, known_words_differ=False)
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
        found = [(one, two) for one, two in likely.tolist() if jaccard(self.texts[one], self.texts[two]) >= MIN_JACCARD]
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
    rows = _Rows(examples, len(examples))
    boilerplate = _boilerplate(rows)
    copies, num_unexamined = rows.copies()
    side_by_side = neighbours(rows.signed, rows.long, band_size=_BAND_SIZE, window=_WINDOW)
    similar, num_fillings = rows.similar(pairs for pairs, _ in side_by_side)
    pairs = np.concatenate([_sharing(rows, boilerplate), copies, np.array(similar, np.int64).reshape(-1, 2)])
    first = np.empty(len(rows), np.int64)
    first[rows.places] = joined(len(rows), pairs)
    numbers: dict[int, int] = {}
    groups = [numbers.setdefault(row, len(numbers)) for row in first.tolist()]
    notes = _notes(groups, boilerplate, num_fillings, num_unexamined)
    return Grouping(groups, len(numbers), tuple(notes))


def find_overlap(train: Sequence[Example], other: Sequence[Example]) -> list[Overlap]:
    """Returns the training rows that stand in another file too, in the order of the training rows.

    Each such training row is named once, with the closest row of the other file; then each row of the other file that
    was not named yet is, so that the rows of either side can be counted or left out.
    """
    rows = _Rows([*train, *other], len(train))
    copies, _ = rows.copies()
    similar, _ = rows.similar(alike_across(rows.signed, rows.long, rows.is_train, band_size=_BAND_SIZE))
    pairs: list[tuple[int, int, Kind]] = [
        *((one, two, "duplicate") for one, two in _matches(rows, rows.contents)),
        *((one, two, "near-duplicate") for one, two in rows.across([*copies.tolist(), *similar])),
        *((one, two, "same-prompt") for one, two in _matches(rows, rows.openings)),
    ]
    # the number of a training row is the smaller one of each pair
    named = [(*sorted(rows.places[[one, two]].tolist()), kind) for one, two, kind in pairs]
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


def _matches(rows: _Rows, values: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """Yields pairs of a row of each side with equal values: each row with the first one of the other side."""
    is_train = rows.is_train.tolist()
    first: dict[tuple[bool, Hashable], int] = {}
    order = np.argsort(rows.places).tolist()
    for row in order:
        first.setdefault((is_train[row], values[row]), row)
    for row in order:
        other = first.get((not is_train[row], values[row]))
        if other is not None and values[row]:
            yield row, other


def _sharing(rows: _Rows, boilerplate: Mapping[str, int]) -> Indices:
    """Returns pairs of rows that are equal, or share an opening or another message of the user that means something."""
    first: dict[tuple[str, Hashable], int] = {}
    pairs = []
    for row in range(len(rows)):
        shared: list[tuple[str, Hashable]] = [("content", rows.contents[row])]
        shared += [
            ("user", text) for text in (rows.openings[row], *rows.laters[row]) if text and text not in boilerplate
        ]
        shared += [("opening", rows.openings[row])] if rows.openings[row] else []
        pairs += [(first.setdefault(key, row), row) for key in shared]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _texts(example: Example) -> tuple[bytes, list[str], str]:
    """Returns a digest of all that is said, the user's messages, and the user's and assistant's text, normalised."""
    spoken = [message for message in example.messages if message["role"] not in ("system", "developer")]
    texts = [(str(message["role"]), normalised(said(message))) for message in spoken]
    whole = "\0".join(part for said in texts for part in said).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(whole, digest_size=16).digest()
    users = [text for role, text in texts if role == "user"]
    return digest, users, "\n".join(text for role, text in texts if role in ("user", "assistant"))


def _boilerplate(rows: _Rows) -> dict[str, int]:
    """Returns the later user messages that stand in too many rows to mean anything, with their counts."""
    counts = Counter(text for laters in rows.laters for text in set(laters))
    limit = max(10, len(rows) // 100)
    return {text: count for text, count in counts.most_common() if count > limit}


def _notes(groups: list[int], boilerplate: Mapping[str, int], num_fillings: int, num_unexamined: int) -> Iterator[str]:
    num_rows = len(groups)
    if boilerplate:
        text, count = next(iter(boilerplate.items()))
        more = f" and {len(boilerplate) - 1} more such messages" if len(boilerplate) > 1 else ""
        yield (
            f"{quoted(text)}{more} stand{'' if more else 's'} in so many conversations ({count:,} of {num_rows:,}) "
            "that sharing it does not keep rows together."
        )
    if groups:
        size = Counter(groups).most_common(1)[0][1]
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
