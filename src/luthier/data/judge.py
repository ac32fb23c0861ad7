"""Rows judged one by one, in blocks that can be judged anywhere and put together afterwards.

A `Judge` is shown the rows of a block and makes a `BlockReport`. Reports merged in the order of the blocks are the report
on the whole: whether one process judged them or many, on one machine or several, the findings are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from luthier.data.chat import Example, Message, content_text
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
_ROWS_AT_ONCE, _CHARS_AT_ONCE = 64, 1 << 18
"""What is judged together: more than one row is faster by a tenth, and a few hundred kilobytes stay within the cache."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What a check looks for.

    Attributes:
        codes: the findings wanted. Whether a row is fit to train on is always found out.
        format: the format that all rows must have; None for the format that each row has.
        column_map: how the columns of flat rows become messages, or None.
        held_out: rows that must not be among these, or None.
        keep: whether to keep the examples and the rejected rows, not only their numbers.
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

    def add_plain(self, messages: list[Message]) -> None:
        """Counts an example that is plain (see `is_plain_chat`): the same as `add`, in a third of the time."""
        lengths = [len(message["content"]) for message in messages]
        system = len(lengths) % 2
        turns = len(lengths) // 2
        if system:
            self.roles[messages[0]["role"]] += 1
        self.roles["user"] += turns
        self.roles["assistant"] += turns
        self.trained_messages += turns
        self.turns.add(turns)
        self.characters.add(sum(lengths))
        self.answer_characters.add(sum(lengths[system + 1 :: 2]))

    def seal(self) -> None:
        """Packs what was counted."""
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
        examples, rejected: the rows themselves where they are kept.
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
    examples: list[Example] = field(default_factory=list)
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
        self.examples += later.examples
        self.rejected += later.rejected
        for mine, theirs in zip(self.set_rules, later.set_rules, strict=True):
            mine.merge(theirs)


def empty_report(questions: Questions) -> BlockReport:
    """Returns the report on no rows."""
    rules: list[SetRule] = [rule() for rule in _SET_RULES if questions.codes & set(rule.codes)]
    if questions.held_out is not None:
        rules.append(Contamination(questions.held_out))
    return BlockReport(FindingBook(), FindingBook(), Totals(), Places(), rules, Column("?"))


@dataclass(slots=True)
class _Waiting:
    """A row that is to be judged together with others."""

    item: RawRow
    conversation: Conversation | None
    problems: list[Problem]


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
        elif item.plain and self._takes_plain and item.value is not None:
            self._wait(item, Conversation(item.value, PLAIN_CHAT, item.value["messages"]), [])
        else:
            row, problems = self._mapped(item)
            found = recognise(row) if row is not None else None
            if row is None or found is None:
                self._wait(item, None, problems)
                return
            problems += message_problems(row, found)
            if self._questions.format not in (None, found.name) and found.is_trainable:
                detail = f"{found.description}, not {self._questions.format} rows; {found.advice}"
                problems.append(catalogue_file.OTHER_FORMAT.problem(detail))
            self._wait(item, Conversation(row, found, found.messages or []), problems)

    def _mapped(self, item: RawRow) -> tuple[dict[str, Any] | None, list[Problem]]:
        """Returns a row with its columns made into messages where that was asked for, and what is wrong with it so far."""
        if item.value is None or self._questions.column_map is None:
            return item.value, list(item.problems)
        mapped = self._questions.column_map.mapped(item.value)
        if isinstance(mapped, Problem):
            return None, [*item.problems, mapped]
        return mapped, list(item.problems)

    def _wait(self, item: RawRow, conversation: Conversation | None, problems: list[Problem]) -> None:
        self._waiting.append(_Waiting(item, conversation, problems))
        self._waiting_size += len(item.source)
        if len(self._waiting) >= _ROWS_AT_ONCE or self._waiting_size >= _CHARS_AT_ONCE:
            self._judge_waiting()

    def _judge_waiting(self) -> None:
        waiting, self._waiting, self._waiting_size = self._waiting, [], 0
        report = self._report
        known = [(one, one.conversation) for one in waiting if one.conversation is not None]
        if self._reads_text or self._reads_mojibake:
            for one, conversation in known:
                one.problems += self._text_problems(conversation.messages)
        if self._reads_leaks:
            for one, conversation in known:
                one.problems += leak_problems(conversation.messages)
        for rule in report.set_rules:
            for _, conversation in known:
                rule.add(conversation)
        for one in waiting:
            self._note(one)

    def _text_problems(self, messages: list[Message]) -> Iterable[Problem]:
        """Returns what is wrong with the texts; looked at also where the row has errors, so that all is said at once."""
        if self._reads_text:
            return text_problems(messages)
        texts = [text for message in messages if not (text := said(message)).isascii()]
        return [problem for text in texts for problem in mojibake(text)]

    def _note(self, one: _Waiting) -> None:
        """Enters a row, once all that is wrong with it is known."""
        report, item, conversation, problems = self._report, one.item, one.conversation, one.problems
        report.rows_read += 1
        errors = [problem for problem in problems if problem.rule.severity == "error"] if problems else []
        if problems:
            report.about_rows.add(item.file, item.line, problems)
        if conversation is not None:
            report.totals.formats[conversation.format.name] += 1
            report.places.add(item.line, item.span, conversation.row if item.value is None else item.value)
            report.fit.add(not errors)
        if errors or conversation is None:
            if self._questions.keep:
                report.rejected.append(_rejected(item, errors))
            return
        row = conversation.row
        report.num_examples += 1
        if item.plain and len(row) == 1 and row is item.value:
            report.totals.add_plain(conversation.messages)
        else:
            report.totals.add(conversation.messages, row.get("tools"))
        if self._questions.keep:
            report.examples.append(Example(row, item.file, item.line, conversation.messages))


def _rejected(item: RawRow, errors: list[Problem]) -> RejectedRow:
    codes = tuple(dict.fromkeys(problem.rule.code for problem in errors))
    reason = "; ".join(dict.fromkeys(problem.message for problem in errors))
    return RejectedRow(item.file, item.line, codes, reason, item.text)
