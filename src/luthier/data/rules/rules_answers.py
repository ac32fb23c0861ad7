"""The rules about the answers of the whole set: their form, their labels, their language, the cases that are missing."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from luthier.data.chat import content_text
from luthier.data.findings import Finding, counted, quoted
from luthier.data.rows import Column, Conversation, RowStore
from luthier.data.rules import catalogue_set, catalogue_text
from luthier.data.rules.answer_form import AnswerForm, form_of
from luthier.data.rules.language import language_of

MIN_ROWS = 20
"""Fewer answers show no common form."""
MIN_SHARE = 0.9
"""The share of answers that makes a form the common one. What a tenth or more of the rows do is meant."""
MAX_KINDS = 5000
MAX_LABELS = 1000
_KINDS = ("text", "label", "date", "json", "broken json")
_RARE_LABEL_SHARE = 0.05
_RARE_LABEL_ROWS = 10
_MIN_LENGTHS = 100
"""Among fewer inputs, a long one may be missing by chance."""
_MAX_LISTED = 5
_SAID = {"json": "JSON", "date": "dates", "label": "labels", "text": "free text", "broken json": "broken JSON"}


class _Names:
    """Numbers for texts, up to a limit; 0 is what came after it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.numbers: dict[Any, int] = {}

    def number(self, name: Any) -> int:
        """Returns the number of a name, from 1."""
        if name not in self.numbers and len(self.numbers) < self._limit:
            self.numbers[name] = len(self.numbers) + 1
        return self.numbers.get(name, 0)

    def translation(self, later: _Names) -> npt.NDArray[np.int32]:
        """Returns for each number used elsewhere the number used here, int32 [n + 1]."""
        return np.array([0, *(self.number(name) for name in later.numbers)], dtype="i4")

    def name(self, number: int) -> Any:
        """Returns the name of a number."""
        return next(name for name, other in self.numbers.items() if other == number)


class AnswerForms:
    """Most answers have one form, and some have another; labels that are rare; cases that are missing."""

    codes: ClassVar[tuple[str, ...]] = ("answer-format-differs", "label-imbalance", "missing-edge-cases")

    def __init__(self) -> None:
        self._kind, self._shape, self._fields = Column("i1"), Column("i4"), Column("i4")
        self._empty, self._prompt_chars = Column("?"), Column("i4")
        self._shapes, self._field_sets = _Names(MAX_KINDS), _Names(MAX_KINDS)

    @property
    def _columns(self) -> tuple[Column, ...]:
        return self._kind, self._shape, self._fields, self._empty, self._prompt_chars

    def add(self, row: Conversation) -> None:
        """Takes note of a row."""
        answer = row.answer
        form = form_of(answer) if answer.strip() else None
        if form is None:
            form, kind = AnswerForm("text"), -1
        else:
            kind = _KINDS.index(form.kind)
        self._kind.add(kind)
        self._shape.add(self._shapes.number((form.kind, form.shape)) if form.shape else 0)
        self._fields.add(self._field_sets.number(form.fields) if form.fields else 0)
        self._empty.add(form.empty)
        self._prompt_chars.add(sum(len(content_text(m)) for m in row.messages if m["role"] == "user"))

    def seal(self) -> None:
        """Packs what was noted."""
        for column in self._columns:
            column.seal()

    def merge(self, later: Self) -> None:
        """Takes over what was noted of the rows that follow."""
        for mine, theirs in ((self._shape, later._shape), (self._fields, later._fields)):
            names = (self._shapes, later._shapes) if mine is self._shape else (self._field_sets, later._field_sets)
            block = theirs.values()
            if len(block):
                mine.extend(names[0].translation(names[1])[block])
        self._kind.merge(later._kind)
        self._empty.merge(later._empty)
        self._prompt_chars.merge(later._prompt_chars)

    def labels(self) -> dict[str, int]:
        """Returns the closed set of labels that the answers are, with their numbers of rows, the commonest first; empty
        where they are none."""
        kinds, shapes = self._kind.values(), self._shape.values()
        num_answers = int((kinds >= 0).sum())
        is_label = (kinds == _KINDS.index("label")) & (shapes > 0)
        if num_answers < MIN_ROWS or is_label.sum() < MIN_SHARE * num_answers:
            return {}
        numbers, counts = np.unique(shapes[is_label], return_counts=True)
        repeated = counts >= 2
        closed = counts[repeated].sum() >= MIN_SHARE * num_answers and 2 <= repeated.sum() <= MAX_LABELS
        if not closed:
            return {}
        by_number = {number: name for name, number in self._shapes.numbers.items()}
        found = {by_number[n][1]: c for n, c in zip(numbers.tolist(), counts.tolist(), strict=True)}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def findings(self, rows: RowStore) -> Iterator[Finding]:
        """Yields what there is to say of sets of at least 20 answers."""
        kinds = self._kind.values()
        answered = np.flatnonzero(kinds >= 0)
        if len(answered) < MIN_ROWS:
            return
        labels = self.labels()
        yield from self._odd_forms(rows, answered, labels)
        if labels:
            yield from self._imbalance(rows, answered, labels)
        yield from self._missing(rows, answered, labels)

    def _odd_forms(self, rows: RowStore, answered: npt.NDArray[np.int64], labels: dict[str, int]) -> Iterator[Finding]:
        kinds = self._kind.values()
        counts = Counter(kinds[answered].tolist())
        common, count = counts.most_common(1)[0]
        name = _KINDS[common]
        if name == "label" and not labels:
            return  # short answers, but to open questions
        if name == "text" or count < MIN_SHARE * len(answered):
            return
        others = answered[kinds[answered] != common]
        said = f"{count:,} of {len(answered):,} answers are {_SAID[name]}"
        if len(others):
            odd = ", ".join(f"{n:,} {_SAID[_KINDS[kind]]}" for kind, n in counts.most_common() if kind != common)
            yield from self._odd(rows, others, f"{said}; {odd}")
        same = answered[kinds[answered] == common]
        if name == "label":
            yield from self._odd_labels(rows, same, labels)
        else:
            yield from self._odd_shapes(rows, same, name)
            yield from self._odd_fields(rows, same)

    def _odd(self, rows: RowStore, numbers: npt.NDArray[np.int64], detail: str) -> Iterator[Finding]:
        for file, here in rows.by_file(numbers):
            text = rows.conversation(int(here[0])).answer[:1000]
            yield catalogue_set.ANSWER_FORMAT.finding(file, rows.lines(here), detail, text=text)

    def _odd_shapes(self, rows: RowStore, same: npt.NDArray[np.int64], kind: str) -> Iterator[Finding]:
        shapes = self._shape.values()[same]
        common, count = Counter(shapes.tolist()).most_common(1)[0]
        if common == 0 or not MIN_SHARE * len(same) <= count < len(same):
            return
        odd = same[shapes != common]
        shape = str(self._shapes.name(common)[1])
        form = f"are written like {shape}" if kind == "date" else f"have the keys {shape}"
        other = self._shape.values()[odd[0]]
        example = f", line {rows.lines(odd[:1])[0]} has {self._shapes.name(int(other))[1]}" if other else ""
        if kind == "json" and shape[:1] != "[":
            form = f"are {shape}"
        yield from self._odd(rows, odd, f"{count:,} of {len(same):,} {form}{example}"[:600])

    def _odd_fields(self, rows: RowStore, same: npt.NDArray[np.int64]) -> Iterator[Finding]:
        """Values under one key that are of another kind than nearly all values under it."""
        fields = self._fields.values()[same]
        by_number = {number: dict(names) for names, number in self._field_sets.numbers.items()}
        kinds: dict[str, Counter[str]] = defaultdict(Counter)
        for number, count in Counter(fields.tolist()).items():
            for key, kind in by_number.get(number, {}).items():
                kinds[key][kind] += count
        for key, counts in kinds.items():
            common, count = counts.most_common(1)[0]
            total = counts.total()
            if total < MIN_ROWS or not MIN_SHARE * total <= count < total:
                continue
            wrong = [n for n, names in by_number.items() if names.get(key, common) != common]
            odd = same[np.isin(fields, wrong)]
            others = ", ".join(f"{n:,} {kind}" for kind, n in counts.most_common()[1:4])
            yield from self._odd(rows, odd, f'under "{key}" {count:,} of {total:,} answers have {common}; {others}')

    def _odd_labels(self, rows: RowStore, same: npt.NDArray[np.int64], labels: dict[str, int]) -> Iterator[Finding]:
        """Labels that differ from a commoner one only in case, spaces or punctuation, and answers outside the set."""
        plain: dict[str, list[str]] = defaultdict(list)
        for label in labels:
            plain["".join(char for char in label.casefold() if char.isalnum())].append(label)
        meant = {label: same_name[0] for same_name in plain.values() for label in same_name[1:]}
        shapes = self._shape.values()
        if meant:
            wrong = [self._shapes.numbers["label", label] for label in meant]
            odd = same[np.isin(shapes[same], wrong)]
            listed = [f"{quoted(label)} beside {quoted(common)}" for label, common in list(meant.items())[:_MAX_LISTED]]
            more = f"; and {len(meant) - _MAX_LISTED} more" if len(meant) > _MAX_LISTED else ""
            yield from self._odd(rows, odd, f"a label is spelt in two ways: {'; '.join(listed)}{more}")
        once = [label for label, count in labels.items() if count == 1 and label not in meant]
        if once and len(once) <= (1 - MIN_SHARE) / 2 * len(same):
            odd = same[np.isin(shapes[same], [self._shapes.numbers["label", label] for label in once])]
            listed = [quoted(label) for label in once[:_MAX_LISTED]]
            num_labels = len(labels) - len(once) - len(meant)
            detail = (
                f"{num_labels} labels stand in nearly all rows; {counted(len(once), 'answer')} stands in no other row: "
            )
            yield from self._odd(rows, odd, detail + ", ".join(listed) + (", …" if len(once) > _MAX_LISTED else ""))

    def _imbalance(self, rows: RowStore, answered: npt.NDArray[np.int64], labels: dict[str, int]) -> Iterator[Finding]:
        most = max(labels.values())
        rare = {
            label: count
            for label, count in labels.items()
            if count < _RARE_LABEL_ROWS and count <= _RARE_LABEL_SHARE * most and count > 1
        }
        if not rare:
            return
        common = next(iter(labels))
        listed = ", ".join(f"{quoted(label, 40)} {count}" for label, count in list(rare.items())[-_MAX_LISTED:])
        detail = (
            f"{counted(len(rare), 'label')} of {len(labels)} with fewer than {_RARE_LABEL_ROWS} rows, among them {listed}; "
            f"{quoted(common, 40)} has {most:,}"
        )
        numbers = [self._shapes.numbers["label", label] for label in rare]
        odd = answered[np.isin(self._shape.values()[answered], numbers)]
        for file, here in rows.by_file(odd):
            yield catalogue_set.LABEL_IMBALANCE.finding(file, rows.lines(here), detail)

    def _missing(self, rows: RowStore, answered: npt.NDArray[np.int64], labels: dict[str, int]) -> Iterator[Finding]:
        """What the rest shows will come: extraction meets inputs with nothing to extract, classification meets inputs that
        belong to no label, and inputs that all have one length will some day be longer."""
        kinds, empty = self._kind.values()[answered], self._empty.values()[answered]
        missing = []
        if not empty.any():
            if labels and len(labels) > 2:
                missing.append('no input that fits none of the labels (no answer such as "other" or "none")')
            elif (kinds == _KINDS.index("json")).mean() >= MIN_SHARE:
                missing.append("no input with nothing to extract (no answer whose values are all null or empty)")
        chars = self._prompt_chars.values()[answered]
        chars = chars[chars > 0]
        if len(chars) >= _MIN_LENGTHS and chars.max() < 2 * np.median(chars):
            longest, median = int(chars.max()), float(np.median(chars))
            missing.append(
                f"no long input (the longest has {longest:,} characters, half of them {median:,.0f} or more)"
            )
        if missing:
            file = rows.place(int(answered[0]))[0]
            yield catalogue_set.MISSING_EDGE_CASES.finding(file, [], "; ".join(missing))


_ASKS_FOR_A_LANGUAGE = re.compile(
    r"translat|übersetz|tradu[ciz]|перевед|翻译|翻訳|"
    r"\b(?:arabic|bengali|bulgarian|chinese|croatian|czech|danish|dutch|english|finnish|french|german|greek|hebrew|hindi|"
    r"hungarian|indonesian|italian|japanese|korean|latin|mandarin|norwegian|persian|polish|portuguese|romanian|russian|"
    r"serbian|slovak|spanish|swahili|swedish|tamil|thai|turkish|ukrainian|urdu|vietnamese|language|deutsch|français|"
    r"español|italiano|português)\b",
    re.IGNORECASE,
)
"""A prompt that speaks of a language or of translating asks for what the answer is in."""


class Languages:
    """Answers in another language than most, though nobody asked for it."""

    codes: ClassVar[tuple[str, ...]] = ("language-mix",)

    def __init__(self) -> None:
        self._answered = Column("i2")
        self._names = _Names(MAX_KINDS)

    def add(self, row: Conversation) -> None:
        """Takes note of a row."""
        answer = language_of(row.answer)
        self._answered.add(self._names.number(answer) if answer else 0)

    def seal(self) -> None:
        """Packs what was noted."""
        self._answered.seal()

    def merge(self, later: Self) -> None:
        """Takes over what was noted of the rows that follow."""
        numbers, block = self._names.translation(later._names), later._answered.values()
        if len(block):
            self._answered.extend(numbers[block])

    def findings(self, rows: RowStore) -> Iterator[Finding]:
        """Yields the odd ones where at least nine of ten answers of known language are in one."""
        answered = self._answered.values()
        known = answered[answered > 0]
        if len(known) < MIN_ROWS:
            return
        common, count = Counter(known.tolist()).most_common(1)[0]
        if count < MIN_SHARE * len(known):
            return
        others_too = np.flatnonzero((answered > 0) & (answered != common))
        odd = np.array([number for number in others_too.tolist() if self._is_unasked(rows, number)], dtype=np.int64)
        if not len(odd):
            return
        others = Counter(str(self._names.name(number)) for number in answered[odd].tolist())
        listed = ", ".join(f"{name} {n:,}" for name, n in others.most_common(_MAX_LISTED))
        detail = f"{count:,} of {len(known):,} answers are in {self._names.name(common)}; here {listed}"
        for file, here in rows.by_file(odd):
            text = rows.conversation(int(here[0])).answer[:200]
            yield catalogue_text.LANGUAGE_MIX.finding(file, rows.lines(here), detail, text=text)

    def _is_unasked(self, rows: RowStore, number: int) -> bool:
        """Whether a row's prompt is not in the language of its answer, and asks for no language."""
        row = rows.conversation(number)
        if _ASKS_FOR_A_LANGUAGE.search(f"{row.system}\n{row.asked}"):
            return False
        answered = str(self._names.name(int(self._answered.values()[number])))
        return language_of(row.asked) != answered
