"""The rules that compare rows with each other by all their text: near duplicates, and rows of held-out data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from luthier.data.chat import Message
from luthier.data.findings import Finding, counted, quoted
from luthier.data.rows import Column, Conversation, Digests, FiledColumn, RowStore, digest, said
from luthier.data.rules import catalogue_leak, catalogue_set
from luthier.data.twins.contamination import HeldOut, Sightings
from luthier.data.twins.likeness import count_words_to_long
from luthier.data.twins.minhash import NUM_MINIMA, signatures
from luthier.data.twins.near import NearResult, clusters, find_near_duplicates, joined

_SAID = {
    "duplicate": "the same text",
    "near-duplicate": "nearly the same text",
    "same-prompt": "the same prompt",
    "passage": "a passage of half its words or more",
    "partial": "13 words in a row",
}


class NearDuplicates:
    """Rows that are nearly the same, by what user and assistant say. The system prompt never counts."""

    codes: ClassVar[tuple[str, ...]] = ("near-duplicate",)

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._signed = FiledColumn("u2", NUM_MINIMA)
        self._num_words = Column("i4")
        self._spoken, self._opening, self._content = Digests(), Digests(), Digests()
        self._found: NearResult | None = None

    def add(self, row: Conversation) -> None:
        """Takes note of a row."""
        text = row.spoken
        self._texts.append(text)
        self._num_words.add(count_words_to_long(text))
        self._spoken.add(digest(text))
        self._opening.add(digest(row.opening or text))
        self._content.add(row.content)

    def seal(self) -> None:
        """Signs the texts and lets go of them."""
        if self._texts:
            self._signed.extend(signatures(self._texts))
            self._texts = []
        self._num_words.seal()
        self._spoken.seal()
        self._opening.seal()
        self._content.seal()

    def merge(self, later: Self) -> None:
        """Takes over the signatures of the rows that follow."""
        self.seal()
        later.seal()
        self._signed.merge(later._signed)
        self._num_words.merge(later._num_words)
        self._spoken.merge(later._spoken)
        self._opening.merge(later._opening)
        self._content.merge(later._content)

    def search(self, rows: RowStore) -> NearResult:
        """Returns which rows are near duplicates.

        Of rows with the same text the first stands for all; those that differ from it in capitals and spaces only are
        near duplicates of it.
        """
        if self._found is None:
            self.seal()
            first = self._spoken.groups()
            again = first != np.arange(len(first))
            num_words = self._num_words.values()
            found = find_near_duplicates(
                rows.moved_out("signatures", self._signed),
                num_words,
                rows.reader().spoken,
                exclude=again | (num_words == 0),
                run=rows.run,
            )
            content = self._content.values()
            others = np.flatnonzero(again & (num_words > 0) & (content != content[first]).any(axis=1))
            respaced = np.array([n for n in others.tolist() if _differ(rows, n, int(first[n]))], dtype=np.int64)
            pairs = np.concatenate([found.pairs, np.stack([first[respaced], respaced], axis=1)])
            self._found = replace(found, pairs=pairs, clusters=clusters(len(first), pairs))
            self._signed = FiledColumn("u2", NUM_MINIMA)  # a quarter of a gigabyte at a million rows, and done with
        return self._found

    def num_groups(self, rows: RowStore, examples: npt.NDArray[np.int64]) -> int:
        """Returns in how many groups the examples fall: rows of one are equal, nearly equal or open alike."""
        same = np.stack(
            [np.arange(len(self._num_words.values()))] * 2 + [self._spoken.groups(), self._opening.groups()]
        )
        pairs = np.concatenate([same[[0, 2]].T, same[[1, 3]].T, self.search(rows).pairs])
        return len(np.unique(joined(len(same[0]), pairs)[examples]))

    def findings(self, rows: RowStore) -> Iterator[Finding]:
        """Yields a finding for each file with rows that are nearly the same as an earlier one."""
        found = self.search(rows)
        first = {number: cluster[0] for cluster in found.clusters for number in cluster[1:]}
        for file, numbers in rows.by_file(list(first)):
            other, other_line = rows.place(first[int(numbers[0])])
            where = f"line {other_line}" + ("" if other == file else f" of {other}")
            lines = rows.lines(numbers)
            detail = (
                f"{counted(len(numbers), 'row')} in {counted(len({first[int(n)] for n in numbers}), 'cluster')}; line "
                f"{lines[0]} is nearly the same as {where}"
            )
            if found.num_unexamined:
                many = counted(found.num_unexamined, "row")
                detail += f"; {many} with very many like them were compared with the likest only"
            text = rows.conversation(int(numbers[0])).spoken
            yield catalogue_set.NEAR_DUPLICATE.finding(file, lines, detail, text=text)


def _differ(rows: RowStore, one: int, other: int) -> bool:
    """Whether user and assistant do not say the same, word for word, in two rows."""
    words = [
        [said(message) for message in rows.conversation(number).messages if message["role"] in ("user", "assistant")]
        for number in (one, other)
    ]
    return words[0] != words[1]


class Contamination:
    """Rows that stand in held-out data, too."""

    codes: ClassVar[tuple[str, ...]] = ("contamination",)

    def __init__(self, held_out: HeldOut) -> None:
        self._held_out: HeldOut | None = held_out
        self._waiting: list[list[Message]] = []
        self._seen = Sightings()

    def add(self, row: Conversation) -> None:
        """Takes note of a row."""
        self._waiting.append(row.messages)

    def seal(self) -> None:
        """Looks for the held-out rows, and lets go of them and of the rows: what was seen is sent, and settled elsewhere."""
        if self._held_out is not None:
            self._seen = self._held_out.look(self._waiting)
        self._waiting, self._held_out = [], None

    def merge(self, later: Self) -> None:
        """Takes over what was seen in the rows that follow."""
        self._seen.merge(later._seen)

    def findings(self, rows: RowStore) -> Iterator[Finding]:
        """Yields a finding for each file with such rows, and one for those that share a passage only."""
        assert self._held_out is not None, "findings are made where the reports are merged"
        found = self._held_out.settle(self._seen)
        for partly in (False, True):
            hits = {number: hit for number, hit in found.items() if (hit.kind == "partial") == partly}
            rule = catalogue_leak.CONTAMINATION_PARTLY if partly else catalogue_leak.CONTAMINATION
            for file, numbers in rows.by_file(list(hits)):
                here = [hits[int(number)] for number in numbers]
                kinds = Counter(_SAID[hit.kind] for hit in here)
                lines = rows.lines(numbers)
                listed = ", ".join(f"{count:,} by {kind}" for kind, count in kinds.most_common())
                others = len({(hit.other_file, hit.other_line) for hit in here})
                detail = (
                    f"{counted(len(here), 'row')} and {counted(others, 'held-out row')} ({listed}); line {lines[0]} stands "
                    f"at {here[0].other_file}:{here[0].other_line}"
                )
                text = quoted(rows.conversation(int(numbers[0])).asked, 100)
                yield rule.finding(file, lines, detail, text=text)
