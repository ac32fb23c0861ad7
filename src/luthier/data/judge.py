"""Rows judged one by one, in blocks that can be judged anywhere and put together afterwards.

A `Judge` is shown the rows of a block and makes a `BlockReport`. Reports merged in the order of the blocks are the report
on the whole: whether one process judged them or many, on one machine or several, the findings are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from luthier.data.chat import Message, content_text
from luthier.data.findings import FindingBook, Problem, RejectedRow
from luthier.data.reading.files import RawRow, Remark
from luthier.data.rows import Column, Conversation, Places
from luthier.data.rules import catalogue_file
from luthier.data.rules.catalogue import CODES
from luthier.data.rules.rules_answers import AnswerForms, Languages
from luthier.data.rules.rules_leak import leak_problems
from luthier.data.rules.rules_message import message_problems
from luthier.data.rules.rules_near import Contamination, NearDuplicates
from luthier.data.rules.rules_set import ConflictingAnswers, Duplicates, SetRule, Shapes, SystemPrompts, UniformAnswers
from luthier.data.rules.rules_text import mojibake, said, text_problems
from luthier.data.shapes.columns import ColumnMap
from luthier.data.shapes.formats import PLAIN_CHAT, recognise
from luthier.data.twins.contamination import HeldOut

_SET_RULES = (
    Shapes,
    Duplicates,
    NearDuplicates,
    ConflictingAnswers,
    SystemPrompts,
    UniformAnswers,
    AnswerForms,
    Languages,
)
_TEXT_CODES = frozenset(code for code, group in CODES.items() if group == "text")
_LEAK_CODES = frozenset(("secret", "pii"))
_ROWS_AT_ONCE, _CHARS_AT_ONCE = 24, 1 << 18
"""What is judged together: more than one row is faster by a tenth, and a few hundred kilobytes stay within the cache. Rows
so few hold fewer than the 700 objects at which Python's garbage collector sets out: with 64 it took a tenth of the time."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What a check looks for.

    Attributes:
        codes: the findings wanted. Whether a row is fit to train on is always found out.
        format: the format that all rows must have; None for the format that each row has.
        column_map: how the columns of flat rows become messages, or None.
        held_out: rows that must not be among these, or None.
        keep: whether to keep the rejected rows, not only their number.
    """

    codes: frozenset[str] = frozenset(CODES)
    format: str | None = None
    column_map: ColumnMap | None = None
    held_out: HeldOut | None = None
    keep: bool = False


@dataclass(slots=True)
class Totals:
    """Numbers about the examples.

    Attributes:
        formats, roles: how many rows and messages of each.
        with_tools, trained_messages: how many rows and messages.
        turns, characters, answer_characters: a number for each example.
    """

    formats: Counter[str] = field(default_factory=Counter)
    roles: Counter[str] = field(default_factory=Counter)
    with_tools: int = 0
    trained_messages: int = 0
    turns: Column = field(default_factory=lambda: Column("i4"))
    characters: Column = field(default_factory=lambda: Column("i8"))
    answer_characters: Column = field(default_factory=lambda: Column("i8"))
    _named: list[str] = field(default_factory=list)
    _spoken: list[str] = field(default_factory=list)
    """What `formats` and `roles` do not count yet: counted all at once it takes a fifth of the time."""

    def add_format(self, name: str) -> None:
        """Counts a row."""
        self._named.append(name)

    def add(self, messages: list[Message], tools: Any) -> None:
        """Counts an example."""
        characters = answers = turns = 0
        for message in messages:
            content = message.get("content")
            length = len(content) if type(content) is str else len(content_text(message))
            role = message["role"]
            self.roles[role] += 1
            characters += length
            if role == "assistant":
                turns += 1
                if message.get("weight", 1) != 0:
                    self.trained_messages += 1
                    answers += length
        self.with_tools += bool(tools)
        self.turns.add(turns)
        self.characters.add(characters)
        self.answer_characters.add(answers)

    def add_plain(self, messages: list[Message], tools: Any) -> None:
        """Counts an example that is plain (see `plain_chat`): the same as `add`, in a third of the time."""
        spoken = self._spoken
        others = answers = turns = 0
        for message in messages:
            role = message["role"]
            spoken.append(role)
            if role != "assistant":
                others += len(message["content"])
            else:
                turns += 1
                if content := message.get("content"):
                    answers += len(content)
        self.trained_messages += turns
        self.with_tools += bool(tools)
        self.turns.add(turns)
        self.characters.add(others + answers)
        self.answer_characters.add(answers)

    def seal(self) -> None:
        """Packs what was counted."""
        self.formats.update(self._named)
        self.roles.update(self._spoken)
        self._named, self._spoken = [], []
        for column in (self.turns, self.characters, self.answer_characters):
            column.seal()

    def merge(self, later: Totals) -> None:
        """Takes over the numbers of the rows that follow."""
        self.formats.update(later.formats)
        self.roles.update(later.roles)
        self.with_tools += later.with_tools
        self.trained_messages += later.trained_messages
        self.turns.merge(later.turns)
        self.characters.merge(later.characters)
        self.answer_characters.merge(later.answer_characters)


@dataclass(slots=True)
class BlockReport:
    """What is known of a block of rows, or of all.

    Attributes:
        about_rows, about_files: problems of rows, and of the file as such.
        rows_read, num_examples: `rows_read - num_examples` rows have an error.
        rejected: the rows with an error, where they are kept.
        fit: for each row that has a shape, whether it is an example.
        places: where they stand; see `RowStore`.
        set_rules: the state of the rules about the set.
        leaks, stopped: see `RowReader`.
    """

    about_rows: FindingBook
    about_files: FindingBook
    totals: Totals
    places: Places
    set_rules: list[SetRule]
    fit: Column
    rows_read: int = 0
    num_examples: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    leaks: bool = False
    stopped: bool = False

    def seal(self) -> Self:
        """Packs what was noted."""
        self.totals.seal()
        self.fit.seal()
        for rule in self.set_rules:
            rule.seal()
        return self

    def merge(self, later: BlockReport) -> None:
        """Takes over the report on the rows that follow; their places go to the `RowStore`."""
        self.about_rows.merge(later.about_rows)
        self.about_files.merge(later.about_files)
        self.totals.merge(later.totals)
        self.fit.merge(later.fit)
        self.rows_read += later.rows_read
        self.num_examples += later.num_examples
        self.rejected += later.rejected
        for mine, theirs in zip(self.set_rules, later.set_rules, strict=True):
            mine.merge(theirs)


def empty_report(questions: Questions) -> BlockReport:
    """Returns the report on no rows."""
    rules: list[SetRule] = [rule() for rule in _SET_RULES if questions.codes & set(rule.codes)]
    if questions.held_out is not None:
        rules.append(Contamination(questions.held_out))
    return BlockReport(FindingBook(), FindingBook(), Totals(), Places(), rules, Column("?"))


_Waiting = tuple[RawRow, Conversation | None, list[Problem]]
"""A row that is to be judged together with others, and what is wrong with it so far."""


class Judge:
    """Judges the rows of a block, a few at a time: one rule after the other is shown all of them."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._report = empty_report(questions)
        self._takes_plain = questions.column_map is None and questions.format in (None, "chat")
        self._reads_text = bool(questions.codes & _TEXT_CODES)
        self._reads_mojibake = "mojibake" in questions.codes
        self._reads_leaks = bool(questions.codes & _LEAK_CODES)
        self._waiting: list[_Waiting] = []
        self._waiting_size = 0

    def report(self) -> BlockReport:
        """Returns what was found, ready to be sent."""
        self._judge_waiting()
        return self._report.seal()

    def take(self, item: RawRow | Remark) -> None:
        """Judges one row, or notes a remark about the file."""
        if isinstance(item, Remark):
            self._report.about_files.add(item.file, item.line, [item.problem])
            return
        if item.plain and self._takes_plain and item.value is not None:
            one: _Waiting = item, Conversation(item.value, PLAIN_CHAT, item.value["messages"]), []
        else:
            one = self._recognised(item)
        self._waiting.append(one)
        self._waiting_size += len(item.source)
        if len(self._waiting) >= _ROWS_AT_ONCE or self._waiting_size >= _CHARS_AT_ONCE:
            self._judge_waiting()

    def _recognised(self, item: RawRow) -> _Waiting:
        """Returns a row that may be of any shape, judged by itself."""
        row, problems = self._mapped(item)
        if row is None:
            return item, None, problems
        found = recognise(row)
        problems += message_problems(row, found)
        if self._questions.format not in (None, found.name) and found.is_trainable:
            detail = f"{found.description}, not {self._questions.format} rows; {found.advice}"
            problems.append(catalogue_file.OTHER_FORMAT.problem(detail))
        return item, Conversation(row, found, found.messages or []), problems

    def _mapped(self, item: RawRow) -> tuple[dict[str, Any] | None, list[Problem]]:
        """Returns a row with its columns made into messages where that was asked for, and what is wrong with it so far."""
        if item.value is None or self._questions.column_map is None:
            return item.value, list(item.problems)
        mapped = self._questions.column_map.mapped(item.value)
        if isinstance(mapped, Problem):
            return None, [*item.problems, mapped]
        return mapped, list(item.problems)

    def _judge_waiting(self) -> None:
        waiting, self._waiting, self._waiting_size = self._waiting, [], 0
        known = [(conversation, problems) for _, conversation, problems in waiting if conversation is not None]
        if self._reads_text:
            for conversation, problems in known:
                problems += text_problems(conversation.messages)
        elif self._reads_mojibake:
            for conversation, problems in known:
                if conversation.format is not PLAIN_CHAT or not _is_ascii(conversation.messages):
                    problems += _mojibake(conversation.messages)
        if self._reads_leaks:
            for conversation, problems in known:
                problems += leak_problems(conversation.messages)
        for rule in self._report.set_rules:
            for conversation, _ in known:
                rule.add(conversation)
        self._note(waiting)

    def _note(self, judged: list[_Waiting]) -> None:
        """Enters rows, once all that is wrong with them is known."""
        report, totals, keep = self._report, self._report.totals, self._questions.keep
        report.rows_read += len(judged)
        for item, conversation, problems in judged:
            errors = [problem for problem in problems if problem.rule.severity == "error"] if problems else []
            if problems:
                report.about_rows.add(item.file, item.line, problems)
            if conversation is not None:
                totals.add_format(conversation.format.name)
                report.places.add(item.line, item.span, conversation.row if item.value is None else item.value)
                report.fit.add(not errors)
            if errors or conversation is None:
                if keep:
                    report.rejected.append(_rejected(item, errors))
                continue
            row = conversation.row
            report.num_examples += 1
            if conversation.format is PLAIN_CHAT:
                totals.add_plain(conversation.messages, row.get("tools"))
            else:
                totals.add(conversation.messages, row.get("tools"))


def _is_ascii(messages: list[Message]) -> bool:
    """Whether what the messages of a plain row say is ASCII (see `said`); the names of functions are anyway."""
    for message in messages:
        content = message.get("content")
        if content is not None and not content.isascii():
            return False
        if "tool_calls" in message:
            for call in message["tool_calls"]:
                if not call["function"]["arguments"].isascii():
                    return False
    return True


def _mojibake(messages: list[Message]) -> Iterator[Problem]:
    """Yields what the wrong code page did; looked at also where the row has errors, so that all is said at once."""
    for message in messages:
        if not (text := said(message)).isascii():
            yield from mojibake(text)


def _rejected(item: RawRow, errors: list[Problem]) -> RejectedRow:
    codes = tuple(dict.fromkeys(problem.rule.code for problem in errors))
    reason = "; ".join(dict.fromkeys(problem.message for problem in errors))
    return RejectedRow(item.file, item.line, codes, reason, item.text)
