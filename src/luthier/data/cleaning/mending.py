"""What `luthier clean` does to one row by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from luthier.data.chat import Message
from luthier.data.cleaning.fixes_message import fix_messages
from luthier.data.cleaning.fixes_text import fix_texts
from luthier.data.findings import Problem
from luthier.data.reading.files import RawRow, Remark, source_rows
from luthier.data.reading.streams import opened
from luthier.data.reading.table_rows import table_rows
from luthier.data.reading.tables import is_table
from luthier.data.rules import catalogue_file as rules
from luthier.data.rules.rules_leak import leak_problems
from luthier.data.rules.rules_message import message_problems
from luthier.data.shapes.columns import ColumnMap
from luthier.data.shapes.convert import to_chat
from luthier.data.shapes.formats import recognise
from luthier.data.shapes.roles import known_role
from luthier.errors import DataError

_MAX_ROUNDS = 10
"""A fix may make room for another; two rounds are enough in practice."""


@dataclass(slots=True)
class Entry:
    """A row on its way, or a line that is none.

    Attributes:
        file, line, text: as it stands in the input.
        is_row: whether it counts as a row.
        row: what it is now; None once it is left out.
        done: what was done: the finding's code and a sentence.
        verbatim: whether `text` is still exactly this row's JSON.
    """

    file: str
    line: int
    text: str
    is_row: bool
    row: dict[str, Any] | None
    done: list[tuple[str, str]] = field(default_factory=list)
    verbatim: bool = False

    def did(self, code: str, sentence: str) -> None:
        """Notes a change of the row."""
        self.done.append((code, sentence))
        self.verbatim = False

    def leave_out(self, code: str, reason: str) -> None:
        """Takes the row out."""
        self.did(code, reason)
        self.row = None

    def packed(self) -> bytes:
        """Returns the entry as a line of JSON."""
        values = [self.file, self.line, self.text, self.is_row, self.row, self.done, self.verbatim]
        return orjson.dumps(values) + b"\n"

    @classmethod
    def unpacked(cls, line: bytes) -> Self:
        """Returns the entry that was packed."""
        file, number, text, is_row, row, done, verbatim = orjson.loads(line)
        return cls(file, number, text, is_row, row, [(code, sentence) for code, sentence in done], verbatim)

    def line_out(self) -> bytes:
        """Returns the row as it is written: as it stood in the input, unless it was changed."""
        written = self.text.strip().encode() if self.verbatim else orjson.dumps(self.row)
        return written + b"\n"


class Mender:
    """Mends rows one by one.

    Args:
        codes, convert, column_map, drop_errors: see `clean.clean_files`.
    """

    def __init__(
        self,
        codes: frozenset[str],
        convert: bool,
        column_map: ColumnMap | None,
        drop_errors: bool,
    ) -> None:
        self._codes = codes
        self._convert = convert
        self._column_map = column_map
        self._drop_errors = drop_errors
        self.notes: list[str] = []

    def entries(self, paths: Sequence[str | Path]) -> Iterator[Entry]:
        """Yields all rows of files, mended, and the lines that are none.

        Raises:
            DataError: code "merge_conflict" or "no_rows".
        """
        for path in paths:
            num_rows = 0
            for item in self._items(path):
                if isinstance(item, RawRow):
                    num_rows += 1
                    yield self._mended(item)
                else:
                    yield from self._remark(item)
            if not num_rows:
                raise DataError(
                    f"{path} holds no row, so there is nothing to clean.",
                    code="no_rows",
                    param="data",
                    hint=f"`luthier check {path}` says what it holds.",
                )

    def _items(self, path: str | Path) -> Iterator[RawRow | Remark]:
        with opened(path, param="data") as source:
            if is_table(source.path):
                yield from table_rows(source.path, self._column_map, name=source.name, param="data")
            else:
                yield from source_rows(source)

    def _remark(self, remark: Remark) -> Iterator[Entry]:
        rule = remark.problem.rule
        if rule is rules.MERGE_CONFLICT:
            raise DataError(
                f"{remark.file}:{remark.line}: {rule.says}, and only you know which to keep.",
                code="merge_conflict",
                param="data",
                hint=rule.remedy,
            )
        if rule.fix is None:
            if rule is not rules.EMPTY_FILE:
                self.notes.append(f"{remark.file}:{remark.line}: {remark.problem.message}")
            return
        yield Entry(remark.file, remark.line, remark.problem.shown()[0] or "", False, None, [(rule.code, rule.fix)])

    def _mended(self, item: RawRow) -> Entry:
        entry = Entry(item.file, item.line, item.text, True, item.value, verbatim=item.span is not None)
        if item.value is None:
            for problem in item.problems:
                entry.leave_out(problem.rule.code, problem.message)
            return entry
        for problem in item.problems:
            entry.did(problem.rule.code, problem.rule.fix or problem.message)
        if self._column_map is not None:
            mapped = self._column_map.mapped(item.value)
            if isinstance(mapped, Problem):
                entry.leave_out(mapped.rule.code, mapped.message)
                return entry
            entry.row = mapped
            for sentence in ("made messages of the columns", *self._column_map.notes(item.value)):
                entry.did("unknown-format", sentence)
        elif self._convert:
            self._converted(entry)
        self._fixed(entry)
        self._dropped(entry)
        return entry

    def _converted(self, entry: Entry) -> None:
        assert entry.row is not None
        converted = to_chat(entry.row)
        if converted is not None:
            entry.row, sentences = converted
            for sentence in sentences:
                entry.did("unknown-format", sentence)

    def _fixed(self, entry: Entry) -> None:
        for _ in range(_MAX_ROUNDS):
            before = len(entry.done)
            if entry.row is None:
                return
            if "preference-same" in self._codes and _is_same(entry.row):
                entry.leave_out("preference-same", "the two answers are the same")
                return
            entry.row, done = fix_messages(entry.row, self._codes)
            for code, sentence in done:
                entry.did(code, sentence)
            for code, sentence in _fix_texts(entry.row, self._codes):
                entry.did(code, sentence)
            if len(entry.done) == before:
                return

    def _dropped(self, entry: Entry) -> None:
        """Leaves out a row that still has errors, where that is wanted."""
        if entry.row is not None and self._drop_errors:
            found = recognise(entry.row)
            problems = [*message_problems(entry.row, found), *leak_problems(found.messages or [])]
            errors = [problem for problem in problems if problem.rule.severity == "error"]
            for problem in errors:
                entry.leave_out(problem.rule.code, problem.message)


def _is_same(row: dict[str, Any]) -> bool:
    found = recognise(row)
    return found.name == "preference" and any(
        problem.rule.code == "preference-same" for problem in message_problems(row, found)
    )


def _fix_texts(row: dict[str, Any], codes: frozenset[str]) -> list[tuple[str, str]]:
    """Mends the texts of a row in place, and returns what was done."""
    prompt, completion = row.get("prompt"), row.get("completion")
    if recognise(row).name == "completion" and isinstance(prompt, str) and isinstance(completion, str):
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
        done = fix_texts(messages, codes)
        row["prompt"], row["completion"] = messages[0]["content"], messages[1]["content"]
        return done
    return [change for messages in _conversations(row) for change in _fix_messages_texts(messages, codes)]


def _fix_messages_texts(messages: list[Message], codes: frozenset[str]) -> list[tuple[str, str]]:
    """Mends the texts of messages in place, whatever their roles are called, as the check reads them."""
    read = [{**message, "role": known_role(message.get("role")) or message.get("role")} for message in messages]
    done = fix_texts(read, codes)
    for message, mended in zip(messages, read, strict=True):
        if "content" in message:
            message["content"] = mended["content"]
    return done


def _conversations(row: dict[str, Any]) -> Iterator[list[Message]]:
    """Yields the lists of messages of a row, whose texts may be changed in place."""
    within = row.get("input")
    lists = [row.get("messages"), within.get("messages") if isinstance(within, dict) else None]
    lists += [row.get(key) for key in ("preferred_output", "non_preferred_output")]
    lists += [row.get(key) for key in ("preferred_completion", "non_preferred_completion")]
    for messages in lists:
        if isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages):
            yield messages
