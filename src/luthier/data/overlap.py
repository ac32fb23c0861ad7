"""Which examples belong together, so that no test row has a twin in training.

Rows belong together when their text is equal, nearly equal, or when they share a user message. The system prompt never
counts: where all rows share it, it would make every row a twin of every other.

Source: reference/data-quality.md A2 (character 5-grams; 128 permutations in 16 bands of 8 catch 95 % of pairs with a
Jaccard similarity of 0.8; every candidate is confirmed exactly).
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import orjson
from rensa import RMinHash

from luthier.data.chat import Example, Message, content_text
from luthier.data.findings import quoted
from luthier.data.likeness import content_words, jaccard, normalised, reworded, shingles, spelling_keys, words

MIN_JACCARD = 0.8
MIN_LONG_WORDS = 20
"""Shorter texts are compared word by word: one slot of a template is a large part of them."""
MIN_FOLLOW_UP_WORDS = 4
"""Follow-ups with fewer content words ("Thanks, that's all!") say nothing of what a conversation is about."""
_PERMUTATIONS = 128
_BANDS = 16
_MINHASH_SEED = 1
_BATCH = 1000
_MAX_A_KEY = 64
"""Rows looked at for each key that a new one shares; only templated rows by the thousand share a key more often."""
_MAX_COMPARED = 16
"""Rows compared exactly with a new one, those with the most similar signatures first."""
_MIN_ESTIMATE = 0.7
"""A signature's estimate of 0.8 is off by 0.035 (one sigma); this loses 0.2 % of such pairs and no closer ones."""

Kind = Literal["duplicate", "near-duplicate", "same-prompt"]


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


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """What is compared of an example; its place in the list stands for the example."""

    place: int
    content: bytes
    opening: str
    later: tuple[str, ...]
    user: str
    text: str
    num_user_words: int
    num_words: int
    signature: npt.NDArray[np.uint32]

    @property
    def is_short(self) -> bool:
        """Whether the user's text is compared word by word."""
        return 0 < self.num_user_words < MIN_LONG_WORDS

    def near_keys(self) -> Iterator[Hashable]:
        """Yields keys of which two rows share one if they may be near duplicates."""
        if self.is_short:
            yield from spelling_keys(self.user)
        if self.num_words >= MIN_LONG_WORDS:
            rows = _PERMUTATIONS // _BANDS
            for band in range(_BANDS):
                yield band, self.signature[band * rows : (band + 1) * rows].tobytes()


class _NearIndex:
    """Finds near duplicates among the rows it was given."""

    def __init__(self) -> None:
        self._rows: dict[int, list[_Fingerprint]] = defaultdict(list)

    def add(self, row: _Fingerprint) -> None:
        """Remembers a row."""
        for key in row.near_keys():
            self._rows[hash(key)].append(row)

    def near(self, row: _Fingerprint, known: Callable[[int], bool]) -> Iterator[_Fingerprint]:
        """Yields the remembered rows that are near duplicates of this one, but those already `known` by place."""
        candidates: dict[int, _Fingerprint] = {}
        for key in row.near_keys():
            for other in self._rows.get(hash(key), ())[-_MAX_A_KEY:]:
                candidates[other.place] = other
        unknown = [other for place, other in candidates.items() if not known(place)]
        for other in _likeliest(row, unknown):
            if not known(other.place) and _near(row, other):
                yield other


def group_examples(examples: Sequence[Example]) -> Grouping:
    """Returns which examples belong together. The groups do not depend on the order of the examples."""
    rows = _fingerprints(examples)
    union = _Union(len(rows))
    boilerplate = _boilerplate(rows)
    first: dict[tuple[str, Hashable], int] = {}
    index = _NearIndex()
    for row in sorted(rows, key=lambda row: row.content):
        shared: list[tuple[str, Hashable]] = [("content", row.content)]
        shared += [("user", text) for text in (row.opening, *row.later) if text and text not in boilerplate]
        shared += [("opening", row.opening)] if row.opening else []
        new = shared[0] not in first
        for key in shared:
            union.join(row.place, first.setdefault(key, row.place))
        if new:  # a row equal to an earlier one has the same neighbours
            for other in index.near(row, lambda place, row=row: union.same(row.place, place)):  # type: ignore[misc]
                union.join(row.place, other.place)
            index.add(row)
    groups = union.groups()
    return Grouping(groups, len(set(groups)), tuple(_notes(groups, boilerplate, len(rows))))


def find_overlap(train: Sequence[Example], other: Sequence[Example]) -> list[Overlap]:
    """Returns the training rows that stand in another file too, in the order of the training rows.

    Each such training row is named once, with the closest row of the other file; then each row of the other file that
    was not named yet is, so that the rows of either side can be counted or left out.
    """
    others = _fingerprints(other)
    index = _NearIndex()
    by_content: dict[bytes, list[int]] = defaultdict(list)
    by_opening: dict[str, list[int]] = defaultdict(list)
    for row in others:
        index.add(row)
        by_content[row.content].append(row.place)
        if row.opening:
            by_opening[row.opening].append(row.place)
    found: list[tuple[int, int, Kind]] = []
    seen: set[int] = set()
    more: dict[int, tuple[int, int, Kind]] = {}
    for row in _fingerprints(train):
        pairs: dict[int, Kind] = {}
        for place in by_content.get(row.content, ()):
            pairs[place] = "duplicate"
        for near in index.near(row, pairs.__contains__):
            pairs.setdefault(near.place, "near-duplicate")
        for place in by_opening.get(row.opening, ()):
            pairs.setdefault(place, "same-prompt")
        for place, kind in pairs.items():
            more.setdefault(place, (row.place, place, kind))
        if pairs:
            closest = next(iter(pairs))
            found.append((row.place, closest, pairs[closest]))
            seen.add(closest)
    found += [pair for place, pair in more.items() if place not in seen]
    return [_overlap(train[one], other[two], kind) for one, two, kind in sorted(found)]


def _overlap(one: Example, two: Example, kind: Kind) -> Overlap:
    return Overlap(one.file, one.line, two.file, two.line, kind)


def _fingerprints(examples: Sequence[Example]) -> list[_Fingerprint]:
    rows: list[_Fingerprint] = []
    for start in range(0, len(examples), _BATCH):
        batch = [_texts(example) for example in examples[start : start + _BATCH]]
        pieces = [list(shingles(text)) for *_, text in batch]
        signatures = np.array(RMinHash.digests_from_token_sets(pieces, _PERMUTATIONS, _MINHASH_SEED), dtype=np.uint32)
        for place, (content, users, text) in enumerate(batch):
            user = "\n".join(users)
            rows.append(
                _Fingerprint(
                    place=start + place,
                    content=content,
                    opening=users[0] if users else "",
                    later=tuple(text for text in users[1:] if len(content_words(text)) >= MIN_FOLLOW_UP_WORDS),
                    user=user,
                    text=text,
                    num_user_words=len(words(user)),
                    num_words=len(words(text)),
                    signature=signatures[place],
                )
            )
    return rows


def _texts(example: Example) -> tuple[bytes, list[str], str]:
    """Returns a digest of all that is said, the user's messages, and the user's and assistant's text, normalised."""
    spoken = [message for message in example.messages if message["role"] not in ("system", "developer")]
    said = [(str(message["role"]), normalised(_said(message))) for message in spoken]
    digest = hashlib.blake2b(orjson.dumps(said), digest_size=16).digest()
    users = [text for role, text in said if role == "user"]
    return digest, users, "\n".join(text for role, text in said if role in ("user", "assistant"))


def _said(message: Message) -> str:
    """Returns a message's text with the calls it makes."""
    calls = message.get("tool_calls") or []
    return "\n".join([content_text(message), *(orjson.dumps(call["function"]).decode() for call in calls)]).strip()


def _likeliest(row: _Fingerprint, candidates: list[_Fingerprint]) -> list[_Fingerprint]:
    """Returns the candidates worth comparing: all with a short user text, and the long ones of similar signature."""
    if not candidates:
        return []
    signatures = np.stack([other.signature for other in candidates])
    alike = np.count_nonzero(signatures == row.signature, axis=1) / _PERMUTATIONS
    order = np.argsort(-alike, kind="stable")[:_MAX_COMPARED]
    return [candidates[place] for place in order if alike[place] >= _MIN_ESTIMATE or candidates[place].is_short]


def _near(one: _Fingerprint, two: _Fingerprint) -> bool:
    if one.is_short and two.is_short and reworded(one.user, two.user):
        return True
    if min(one.num_words, two.num_words) < MIN_LONG_WORDS:
        return False
    return jaccard(_shingles(one.text), _shingles(two.text)) >= MIN_JACCARD


@functools.lru_cache(maxsize=1024)
def _shingles(text: str) -> frozenset[str]:
    """Returns a text's shingles; a row is compared with its neighbours one after another."""
    return shingles(text)


def _boilerplate(rows: Sequence[_Fingerprint]) -> dict[str, int]:
    """Returns the later user messages that stand in too many rows to mean anything, with their counts."""
    counts = Counter(text for row in rows for text in set(row.later))
    limit = max(10, len(rows) // 100)
    return {text: count for text, count in counts.most_common() if count > limit}


def _notes(groups: list[int], boilerplate: dict[str, int], num_rows: int) -> Iterator[str]:
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


class _Union:
    """Sets that can be joined."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, place: int) -> int:
        """Returns the place that stands for the set."""
        while self._parent[place] != place:
            self._parent[place] = self._parent[self._parent[place]]
            place = self._parent[place]
        return place

    def same(self, one: int, two: int) -> bool:
        """Whether two places are in one set."""
        return self.root(one) == self.root(two)

    def join(self, one: int, two: int) -> None:
        """Joins two sets."""
        self._parent[self.root(one)] = self.root(two)

    def groups(self) -> list[int]:
        """Returns the number of each place's set, numbered in the order of their first places."""
        numbers: dict[int, int] = {}
        return [numbers.setdefault(self.root(place), len(numbers)) for place in range(len(self._parent))]
