"""The rules about all rows together. Each is shown every row, keeps a few numbers of it, and says what it found at the end.

A rule's state after two stretches of rows, merged, is its state after both at once: so blocks of a file are looked at by
several processes, and the findings do not depend on how many.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from luthier.data.chat import content_text
from luthier.data.findings import Finding, counted, quoted
from luthier.data.rows import Column, Conversation, Digests, RowStore, digest
from luthier.data.rules import catalogue_file, catalogue_set, catalogue_text
from luthier.data.shapes.formats import Format
from luthier.data.twins.likeness import mistyped

_MIN_ANSWERS = 10
"""Below this many answers, sharing their first or last words proves nothing."""
_MIN_CONSTANT_SHARE = 0.95
_MAX_VARIANTS = 50
"""More system prompts than this are filled in row by row; they are meant to differ."""
_MAX_PROMPTS_KEPT = 1000
_MAX_LISTED = 5
_PROMPTS_REPEAT = ("preference", "reinforcement")
"""Formats in which one prompt may well stand in several rows."""


class SetRule(Protocol):
    """A rule that needs to see all rows.

    Attributes:
        codes: the findings it can make.
    """

    codes: ClassVar[tuple[str, ...]]

    def add(self, row: Conversation) -> None:
        """Takes note of a row."""

    def seal(self) -> None:
        """Packs what was noted, before it is sent to another process."""

    def merge(self, later: Self) -> None:
        """Takes over what was noted of the rows that follow."""

    def findings(self, rows: RowStore) -> Iterator[Finding]:
        """Yields what there is to say once all rows are seen."""


class Duplicates:
    """The same messages and tools, word for word. Other keys of a chat row, such as an id, do not count."""

    codes: ClassVar[tuple[str, ...]] = ("duplicate",)

    def __init__(self) -> None:
        self._content = Digests()

    def add(self, row: Conversation) -> None:
        """Takes note of a row."""
        self._content.add(row.content)

    def seal(self) -> None:
        """Packs the digests."""
        self._content.seal()

    def merge(self, later: Self) -> None:
        """Takes over the digests of the rows that follow."""
        self._content.merge(later._content)

    def first(self) -> npt.NDArray[np.int64]:
        """Returns for each row the first row that is equal to it, int64 [N]."""
        return self._content.groups()

    def findings(self, rows: RowStore) -> Iterator[Finding]:
        """Yields a finding for each file with repeated rows."""
        first = self.first()
        again = np.flatnonzero(first != np.arange(len(first)))
        for file, numbers in rows.by_file(again):
            originals = len(np.unique(first[numbers]))
            other, first_line = rows.place(int(first[numbers[0]]))
            where = f"line {first_line}" + ("" if other == file else f" of {other}")
            lines = rows.lines(numbers)
            detail = (
                f"{counted(len(numbers), 'row')} {'repeats' if len(numbers) == 1 else 'repeat'} {originals:,} earlier "
                f"{'one' if originals == 1 else 'ones'}; line {lines[0]} repeats {where}"
            )
            yield catalogue_set.DUPLICATE.finding(file, lines, detail)


class ConflictingAnswers:
    """The same messages before the last trained answer, but not the same answer."""

    codes: ClassVar[tuple[str, ...]] = ("conflicting-answers",)

    def __init__(self) -> None:
        self._prompt, self._answer = Digests(), Digests()
        self._counts = Column("?")

    def add(self, row: Conversation) -> None:
        """Takes note of a row."""
        last = row.last_answer
        if last is None or row.format.name in _PROMPTS_REPEAT:
            self._prompt.add(bytes(16))
            self._answer.add(bytes(16))
            self._counts.add(False)
            return
        before = [(m["role"], content_text(m).strip(), m.get("tool_calls")) for m in row.messages[:last]]
        self._prompt.add(digest((before, row.row.get("tools"))))
        self._answer.add(digest((content_text(row.messages[last]).strip(), row.messages[last].get("tool_calls"))))
        self._counts.add(True)

    def seal(self) -> None:
        """Packs the digests."""
        for column in (self._prompt, self._answer, self._counts):
            column.seal()

    def merge(self, later: Self) -> None:
        """Takes over the digests of the rows that follow."""
        self._prompt.merge(later._prompt)
        self._answer.merge(later._answer)
        self._counts.merge(later._counts)

    def findings(self, rows: RowStore) -> Iterator[Finding]:
        """Yields a finding for each file in which such prompts first stand."""
        counts = self._counts.values()
        prompt, answer = self._prompt.groups(), self._answer.groups()
        # one row for each pair of prompt and answer; a prompt in several of them has several answers
        pairs = np.unique(np.stack([prompt, answer], axis=1)[counts], axis=0) if counts.any() else np.empty((0, 2), int)
        prompts, num_answers = np.unique(pairs[:, 0], return_counts=True)
        several = dict(zip(prompts[num_answers > 1].tolist(), num_answers[num_answers > 1].tolist(), strict=True))
        members = np.flatnonzero(counts & np.isin(prompt, list(several)))
        for file, firsts in rows.by_file(list(several)):
            here = members[np.isin(prompt[members], firsts)]
            lines = [line for place, numbers in rows.by_file(here) if place == file for line in rows.lines(numbers)]
            worst = max(firsts.tolist(), key=lambda first: (several[first], -first))
            one = pairs[pairs[:, 0] == worst][:, 1][:2]
            answers = [quoted(rows.conversation(int(number)).answer[:200], 40) for number in np.sort(one)]
            detail = (
                f"{counted(len(firsts), 'prompt')} in {len(here):,} rows; {quoted(rows.conversation(worst).asked[:200])} "
                f"has {several[worst]} answers, among them {answers[0]} and {answers[1]}"
            )
            yield catalogue_set.CONFLICTING_ANSWERS.finding(file, lines, detail)


class SystemPrompts:
    """Rows without the system prompt that others have, and system prompts that differ, above all by a slip."""

    codes: ClassVar[tuple[str, ...]] = ("system-prompt-differs",)

    def __init__(self) -> None:
        self._digest = Column("u8")
        self._texts: dict[int, str] = {}
        self._many = False
        self._last = ("", 0)

    def add(self, row: Conversation) -> None:
        """Takes note of a row."""
        text = row.system if row.messages else ""
        if not text.strip():
            self._digest.add(0 if row.messages else 1)
            return
        if text != self._last[0]:  # nearly always it is the one of the row before
            number = int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()) | 2
            self._last = (text, number)
            self._keep(number, text)
        self._digest.add(self._last[1])

    def _keep(self, number: int, text: str) -> None:
        if number not in self._texts:
            if len(self._texts) < _MAX_PROMPTS_KEPT:
                self._texts[number] = text
            else:
                self._many = True

    def seal(self) -> None:
        """Packs the digests."""
        self._digest.seal()

    def merge(self, later: Self) -> None:
        """Takes over what was noted of the rows that follow."""
        self._digest.merge(later._digest)
        for number, text in later._texts.items():
            self._keep(number, text)
        self._many = self._many or later._many

    @property
    def variants(self) -> dict[str, int]:
        """The system prompts with their numbers of rows, the commonest first."""
        digests, counts = np.unique(self._digest.values(), return_counts=True)
        found = {self._texts[d]: n for d, n in zip(digests.tolist(), counts.tolist(), strict=True) if d in self._texts}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def num_prompts(self) -> int:
        """How many different system prompts there are."""
        return int((np.unique(self._digest.values()) > 1).sum())

    def findings(self, rows: RowStore) -> Iterator[Finding]:
        """Yields what differs."""
        digests = self._digest.values()
        missing = np.flatnonzero(digests == 0)
        num_with = int((digests > 1).sum())
        if num_with and len(missing):
            detail = f"{counted(num_with, 'row')} with, {counted(len(missing), 'row')} without"
            file, numbers = next(rows.by_file(missing))
            yield catalogue_set.SYSTEM_PROMPT_MISSING.finding(file, rows.lines(numbers), detail)
        variants = {} if self._many else self.variants
        if not 1 < len(variants) <= _MAX_VARIANTS:
            return
        numbers_of = {text: np.flatnonzero(digests == number) for number, text in self._texts.items()}
        slips = slipped(variants)
        for rare, common in slips.items():
            common_part, rare_part = _difference(common, rare)
            detail = f"{_say(variants[common])} {quoted(common_part)} where {_say(variants[rare])} {quoted(rare_part)}"
            file, numbers = next(rows.by_file(numbers_of[rare]))
            yield catalogue_set.SYSTEM_PROMPT_VARIANTS.finding(file, rows.lines(numbers), detail, text=rare)
        meant = [text for text in variants if text not in slips]
        if len(meant) > 1:
            shown = [f"{counted(variants[text], 'row')} {quoted(text)}" for text in meant[:_MAX_LISTED]]
            more = f"; and {len(meant) - _MAX_LISTED} more" if len(meant) > _MAX_LISTED else ""
            others = np.sort(np.concatenate([numbers_of[text] for text in meant[1:]]))
            file, numbers = next(rows.by_file(others))
            detail = f"{len(meant)} of them: {'; '.join(shown)}{more}"
            yield catalogue_set.SYSTEM_PROMPT_SEVERAL.finding(file, rows.lines(numbers), detail)


def _say(num_rows: int) -> str:
    return f"{counted(num_rows, 'row')} {'says' if num_rows == 1 else 'say'}"


def slipped(variants: dict[str, int]) -> dict[str, str]:
    """Returns the system prompts that look like slips of commoner ones, each with the commoner one.

    Args:
        variants: numbers of rows, the commonest first.
    """
    texts = list(variants)
    found: dict[str, str] = {}
    for place, rare in enumerate(texts):
        common = next((text for text in texts[:place] if text not in found and mistyped(text, rare)), None)
        if common is not None:
            found[rare] = common
    return found


class UniformAnswers:
    """What all answers have in common: their beginning, their end, or everything."""

    codes: ClassVar[tuple[str, ...]] = ("uniform-affix", "constant-answer")

    def __init__(self) -> None:
        self._answer = Digests()
        self._answered = Column("?")
        self._prefix: str | None = None
        self._suffix: str | None = None

    def add(self, row: Conversation) -> None:
        """Takes note of a row."""
        text = row.answer.strip()
        self._answered.add(bool(text))
        self._answer.add(digest(text) if text else bytes(16))
        if text:
            self._narrow(text, text)

    def _narrow(self, prefix: str, suffix: str) -> None:
        if self._prefix is None or self._suffix is None:
            self._prefix, self._suffix = prefix, suffix
            return
        if not prefix.startswith(self._prefix):
            self._prefix = _common_start(self._prefix, prefix)
        if not suffix.endswith(self._suffix):
            self._suffix = _common_start(self._suffix[::-1], suffix[::-1])[::-1]

    def seal(self) -> None:
        """Packs the digests."""
        self._answer.seal()
        self._answered.seal()

    def merge(self, later: Self) -> None:
        """Takes over what was noted of the rows that follow."""
        self._answer.merge(later._answer)
        self._answered.merge(later._answered)
        if later._prefix is not None and later._suffix is not None:
            self._narrow(later._prefix, later._suffix)

    def findings(self, rows: RowStore) -> Iterator[Finding]:
        """Yields what is common, for sets of at least 10 answers."""
        answered = np.flatnonzero(self._answered.values())
        if len(answered) < _MIN_ANSWERS:
            return
        file, numbers = next(rows.by_file(answered))
        first, counts = np.unique(self._answer.groups()[answered], return_counts=True)
        commonest = int(counts.argmax())
        if counts[commonest] >= _MIN_CONSTANT_SHARE * len(answered):
            text = rows.conversation(int(first[commonest])).answer.strip()[:200]
            detail = f"{int(counts[commonest]):,} of {len(answered):,} answers are {quoted(text)}"
            yield catalogue_text.CONSTANT_ANSWER.finding(file, rows.lines(numbers), detail)
            return
        found = [f"they begin with {quoted(text)}" for text in [prefix_artefact(self._prefix or "")] if text]
        found += [f"they end with {quoted(text)}" for text in [suffix_artefact(self._suffix or "")] if text]
        if found:
            yield catalogue_text.UNIFORM_AFFIX.finding(file, rows.lines(numbers), " and ".join(found))


class Shapes:
    """Rows of different shapes in one file."""

    codes: ClassVar[tuple[str, ...]] = ("mixed-formats",)

    def __init__(self) -> None:
        self._shape = Column("i4")
        self._numbers: dict[tuple[str, str], int] = {}
        """For each description, with the format's name if services train on it, the number that stands for it."""
        self._last: Format | None = None
        """The shape of the row before, most often the very one that all plain rows share."""
        self._last_number = 0

    def add(self, row: Conversation) -> None:
        """Takes note of a row."""
        found = row.format
        if found is not self._last:
            self._last = found
            self._last_number = self._number((found.description, found.name if found.is_trainable else ""))
        self._shape.add(self._last_number)

    def _number(self, shape: tuple[str, str]) -> int:
        return self._numbers.setdefault(shape, len(self._numbers))

    def seal(self) -> None:
        """Packs the numbers."""
        self._last = None
        self._shape.seal()

    def merge(self, later: Self) -> None:
        """Takes over the shapes of the rows that follow, in the numbers used here."""
        numbers = np.array([self._number(name) for name in later._numbers] or [0], dtype="i4")
        block = later._shape.values()
        if len(block):
            self._shape.extend(numbers[block])

    def findings(self, rows: RowStore) -> Iterator[Finding]:
        """Yields a finding for each file with more than one shape; its lines are those of the rarer shapes."""
        shapes, names = self._shape.values(), list(self._numbers)
        if len(names) < 2:
            return
        for file, numbers in rows.by_file(np.arange(len(shapes))):
            counts = Counter(shapes[numbers].tolist())
            if len(counts) < 2:
                continue
            common = counts.most_common()
            rarer = numbers[shapes[numbers] != common[0][0]]
            detail = "; ".join(f"{names[shape][0]}: {counted(count, 'row')}" for shape, count in common[:5])
            trainable = {names[shape][1] for shape in counts} - {""}
            rule = catalogue_file.MIXED_TRAINABLE if len(trainable) > 1 else catalogue_file.MIXED_FORMATS
            yield rule.finding(file, rows.lines(rarer), detail)


def prefix_artefact(prefix: str) -> str:
    """Returns a common beginning that looks left over: a label with a colon, or several words.

    One word is often the answer's language (SELECT, def), and brackets open JSON or markup: they are meant.
    """
    if prefix[:1] in tuple("{[<`("):
        return ""
    whole_words = (
        prefix[: len(prefix.rstrip()) - len(prefix.rstrip().split(" ")[-1])] if prefix[-1:].isalnum() else prefix
    )
    label = whole_words.rstrip()
    return label if label.endswith(":") or len(label.split()) >= 2 else ""


def suffix_artefact(suffix: str) -> str:
    """Returns a common end that looks left over: whole words, or more than a full stop or closing brackets."""
    start = 0
    while start < len(suffix) and suffix[start].isalnum():
        start += 1  # the end of a word that may differ further left
    end = suffix[start:].strip()
    if end.startswith("</"):
        return ""  # markup that closes what the answer opened
    return end if end.strip("}])>`\"'.;") and len(end) >= 2 else ""


def _common_start(one: str, other: str) -> str:
    same = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return min(one, other, key=len) if same is None else one[:same]


def _difference(one: str, other: str) -> tuple[str, str]:
    """Returns the parts of two texts around where they differ, at whole words."""
    start = len(_common_start(one, other))
    start = max(0, one.rfind(" ", 0, start)) if start < min(len(one), len(other)) else max(0, start - 20)
    end = len(_common_start(one[start:][::-1], other[start:][::-1]))
    after = one.find(" ", len(one) - end) if end else -1
    end = len(one) - after if after >= 0 else 0
    return one[start : len(one) - end].strip(), other[start : len(other) - end].strip()
