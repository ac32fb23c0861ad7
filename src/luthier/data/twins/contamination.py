"""Training rows that stand in held-out data, too: equal, nearly equal, the same prompt, or a passage of it.

What user and assistant say is compared; the system prompt never counts. Whether a row is another filling of a template, or
a passage is boilerplate, can be told only once all training rows are seen; so rows are looked at first, in any number of
processes, and the sightings, merged in order, are settled together.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from luthier.data.chat import Message
from luthier.data.rows import said
from luthier.data.twins.copies import Comparison, compare, verdict
from luthier.data.twins.likeness import MIN_LONG_WORDS, content_words, count_words, normalised, rewording, tokens
from luthier.data.twins.near import BestCopies
from luthier.data.twins.passages import Commonness, Passages, Quotation, boilerplate_limit
from luthier.data.twins.rare_pieces import PieceIndex
from luthier.data.twins.rewordings import are_known

Kind = Literal["duplicate", "near-duplicate", "same-prompt", "passage", "partial"]

MIN_PROMPT_WORDS = 4
"""A message with fewer content words ("Thanks, that's all!") says nothing of what a conversation is about."""
_MIN_SHARED = 0.3
"""Share of a held-out row's rare shingles that a row has to have to be compared with it. 5 % of the characters edited
leave 0.77 of them (measured), fewer where few are rare."""
_MAX_COMPARED = 2
"""Held-out rows that a row is compared with; the original of a copy is nearly always the first."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A held-out row that a training row gives away.

    Attributes:
        kind: equal text; a few edits apart; an equal prompt, or its user's first or last message; half of its words or
            more in passages of eight; thirteen words in a row only ("partial").
        other_file, other_line: the held-out row.
    """

    kind: Kind
    other_file: str
    other_line: int


@dataclass(slots=True)
class Sightings:
    """What was seen of held-out rows in a number of rows.

    Attributes:
        num_rows: how many rows were looked at.
        equal: pairs of a row and a held-out one with the same text, or the same prompt as a whole.
        messages: pairs of a row and one of the messages by which held-out rows are known.
        alike: a row, a held-out one, and how they differ; short texts have the word that is spelt otherwise.
        candidates: to how many rows a held-out one seemed alike.
        words: in how many of these a word stands.
        quotations, grams, whole: passages, and how many rows have each run of eight words, or a whole message.
    """

    num_rows: int = 0
    equal: list[tuple[int, int, Kind]] = field(default_factory=list)
    messages: list[tuple[int, int]] = field(default_factory=list)
    alike: list[tuple[int, int, Comparison | tuple[str, ...]]] = field(default_factory=list)
    candidates: Counter[int] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    quotations: list[Quotation] = field(default_factory=list)
    grams: Counter[int] = field(default_factory=Counter)
    whole: Counter[int] = field(default_factory=Counter)

    def merge(self, later: Sightings) -> None:
        """Takes over what was seen in the rows that follow."""
        before = self.num_rows
        self.num_rows += later.num_rows
        self.equal += [(row + before, known, kind) for row, known, kind in later.equal]
        self.messages += [(row + before, message) for row, message in later.messages]
        self.alike += [(row + before, known, how) for row, known, how in later.alike]
        self.quotations += [replace(quotation, row=quotation.row + before) for quotation in later.quotations]
        self.candidates.update(later.candidates)
        self.words.update(later.words)
        self.grams.update(later.grams)
        self.whole.update(later.whole)


@dataclass(frozen=True, slots=True)
class _Said:
    """What is compared of a conversation: the messages of user and assistant, normalised."""

    messages: list[tuple[str, str]]

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(text for _, text in self.messages)

    def prompts(self) -> Iterator[bytes]:
        """Yields a digest of what comes before each answer, or of all where there is none."""
        state = hashlib.blake2b(digest_size=16)
        asked = False
        for role, text in self.messages:
            if role == "assistant" and asked:
                yield state.digest()
            asked = asked or (role == "user" and bool(text))
            state.update(f"{role}\0{text}\0".encode("utf-8", "surrogatepass"))
        if asked and all(role != "assistant" for role, _ in self.messages):
            yield state.digest()

    def asked(self) -> list[str]:
        """Returns the messages of the user, each once."""
        return list(dict.fromkeys(text for role, text in self.messages if role == "user" and text))


class HeldOut:
    """Held-out rows to be looked for in training rows.

    Args:
        conversations: of each held-out row the file, the line and the messages in OpenAI's words. Rows in which nothing is
            said are no rows to look for.
    """

    def __init__(self, conversations: Iterable[tuple[str, int, list[Message]]]) -> None:
        self._places: list[tuple[str, int]] = []
        self._texts: list[str] = []
        self._by_text: dict[bytes, int] = {}
        self._by_prompt: dict[bytes, int] = {}
        self._with_prompt: Counter[int] = Counter()
        self._by_message: dict[bytes, int] = {}
        self._says_something: list[bool] = []
        self._messages: list[list[int]] = []
        spoken = []
        for file, line, messages in conversations:
            found = _spoken(messages)
            text = found.text
            if not text.strip():
                continue
            known = len(self._places)
            self._places.append((file, line))
            self._texts.append(text)
            spoken.append(found.messages)
            self._by_text.setdefault(_digest(text), known)
            for prompt in list(found.prompts())[-1:]:
                self._with_prompt[self._by_prompt.setdefault(prompt, known)] += 1
            asked = [text for role, text in found.messages if role == "user"]
            telling = [text for text in {*asked[:1], *asked[-1:]} if len(content_words(text)) >= MIN_PROMPT_WORDS]
            self._says_something.append(bool(telling))
            for message in sorted(telling):
                self._of_message(message).append(known)
        self._pieces = PieceIndex(self._texts)
        self._passages = Passages(
            [[text for _, text in messages] for messages in spoken],
            [[role == "user" for role, _ in messages] for messages in spoken],
        )
        self._words = Counter(word for text in self._texts for word in set(tokens(text)))
        self._is_long = [count_words(text) >= MIN_LONG_WORDS for text in self._texts]
        sisters = self._pieces.alike(self._texts, least=_MIN_SHARED, most=3)
        self._num_sisters = np.bincount(sisters[:, 1], minlength=len(self._texts))

    def __len__(self) -> int:
        return len(self._places)

    def _of_message(self, message: str) -> list[int]:
        """Returns the held-out rows known by a message, to be added to."""
        number = self._by_message.setdefault(_digest(message), len(self._messages))
        if number == len(self._messages):
            self._messages.append([])
        return self._messages[number]

    def look(self, rows: Sequence[Sequence[Message]]) -> Sightings:
        """Returns what is seen of the held-out rows in a number of rows, each given by its messages."""
        seen = Sightings(num_rows=len(rows))
        if not self._places:
            return seen
        spoken = [_spoken(messages) for messages in rows]
        texts = [found.text for found in spoken]
        equal = set()
        for row, (found, text) in enumerate(zip(spoken, texts, strict=True)):
            known = self._by_text.get(_digest(text))
            if known is not None:
                equal.add(row)
                seen.equal.append((row, known, "duplicate"))
                continue
            prompt = next((self._by_prompt[prompt] for prompt in found.prompts() if prompt in self._by_prompt), None)
            if prompt is not None:
                seen.equal.append((row, prompt, "same-prompt"))
            numbers = [self._by_message.get(_digest(message)) for message in found.asked()]
            seen.messages += [(row, number) for number in numbers if number is not None]
        self._look_for_copies(texts, equal, seen)
        seen.quotations, grams, seen.whole = self._passages.look(
            [[text for _, text in found.messages] for found in spoken]
        )
        seen.quotations = [quotation for quotation in seen.quotations if quotation.row not in equal]
        seen.grams = Counter(dict(zip(*(some.tolist() for some in np.unique(grams, return_counts=True)), strict=True)))
        return seen

    def _look_for_copies(self, texts: list[str], equal: set[int], seen: Sightings) -> None:
        counted = set()
        for row, known in self._pieces.alike(texts, least=_MIN_SHARED, most=_MAX_COMPARED).tolist():
            if row in equal:
                continue
            seen.candidates[known] += 1
            text, other = texts[row], self._texts[known]
            if row not in counted:
                counted.add(row)
                seen.words.update(set(tokens(text)))
            if self._is_long[known] or count_words(text) >= MIN_LONG_WORDS:
                # what was added or moved is found by its passages
                compared = compare(text, other, by_jaccard=False)
                if compared is not None:
                    seen.alike.append((row, known, compared))
            elif (word := rewording(text, other)) is not None:
                seen.alike.append((row, known, word))

    def settle(self, seen: Sightings) -> dict[int, Hit]:
        """Returns for each row that gives a held-out row away which one, in ascending order.

        Args:
            seen: what `look` returned for all rows, merged.
        """
        common = self._commonness(seen)
        hits: dict[int, tuple[int, Kind]] = {}
        for row, known, kind in [
            *(pair for pair in seen.equal if pair[2] == "duplicate"),
            *self._copies(seen, common),
            *self._same_prompts(seen),
            *self._same_messages(seen),
            *self._quoted(seen, common),
        ]:
            hits.setdefault(row, (known, kind))
        return {row: Hit(kind, *self._places[known]) for row, (known, kind) in sorted(hits.items())}

    def probe_many(self, rows: Sequence[Sequence[Message]]) -> list[Hit | None]:
        """Returns for each row the held-out row it gives away, if any, judged by these rows alone."""
        hits = self.settle(self.look(rows))
        return [hits.get(row) for row in range(len(rows))]

    def probe(self, messages: Sequence[Message]) -> Hit | None:
        """Returns the held-out row that a row gives away, if any, judged by this row alone."""
        return self.probe_many([messages])[0]

    def _copies(self, seen: Sightings, common: Commonness) -> Iterator[tuple[int, int, Kind]]:
        count = self._words + seen.words
        best = BestCopies()
        for row, known, how in seen.alike:
            if isinstance(how, Comparison):
                alike = max(self._num_alike(known, seen), self._passages.num_alike(known, common))
                best.add(row, -1 - known, how, verdict(how, alike, count))
            elif not are_known(how, count):
                yield row, known, "near-duplicate"
        for row, other in best.pairs():
            yield row, -1 - other, "near-duplicate"

    def _same_prompts(self, seen: Sightings) -> Iterator[tuple[int, int, Kind]]:
        pairs = [pair for pair in seen.equal if pair[2] == "same-prompt"]
        rows = Counter(known for _, known, _ in pairs)
        for pair in pairs:
            known = pair[1]
            # "Go on." before hundreds of answers is no prompt to know them by
            usual = rows[known] > boilerplate_limit(seen.num_rows)
            usual = usual or self._with_prompt[known] > boilerplate_limit(len(self))
            if not usual or self._says_something[known]:
                yield pair

    def _same_messages(self, seen: Sightings) -> Iterator[tuple[int, int, Kind]]:
        rows = Counter(number for _, number in seen.messages)
        for row, number in seen.messages:
            known = self._messages[number]
            if rows[number] <= boilerplate_limit(seen.num_rows) and len(known) <= boilerplate_limit(len(self)):
                yield row, known[0], "same-prompt"

    def _quoted(self, seen: Sightings, common: Commonness) -> Iterator[tuple[int, int, Kind]]:
        found = [
            (self._passages.kind(quotation, common, self._num_alike(quotation.known, seen)), quotation)
            for quotation in seen.quotations
        ]
        for wanted in ("passage", "partial"):
            yield from ((quotation.row, quotation.known, wanted) for kind, quotation in found if kind == wanted)

    def _num_alike(self, known: int, seen: Sightings) -> int:
        """Returns how many rows are like a held-out one at least, itself included."""
        return int(self._num_sisters[known]) + seen.candidates[known]

    def _commonness(self, seen: Sightings) -> Commonness:
        others = np.zeros(self._passages.num_grams, np.int64)
        others[list(seen.grams)] = list(seen.grams.values())
        return Commonness(others, seen.whole, seen.num_rows)


def _spoken(messages: Sequence[Message]) -> _Said:
    spoken = [message for message in messages if message["role"] in ("user", "assistant")]
    return _Said([(message["role"], normalised(said(message))) for message in spoken])


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
