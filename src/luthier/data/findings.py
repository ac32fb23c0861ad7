"""What a check has to say, and where.

A `Rule` is one line of the catalogue: a code with its severity, what it says and the remedy. A rule function that sees
the fault in one row returns a `Problem`. A `FindingBook` gathers the problems of all rows into one `Finding` per rule
and file, so that one mistake made in 15 rows is said once, with a count, and not 15 times.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from luthier.data.rules.leaks import fit_to_show

Severity = Literal["error", "warning", "info"]
Group = Literal["file", "message", "text", "set", "leak"]

MAX_LINES = 10
"""A finding lists this many lines; `rows.count` always counts all of them."""
MAX_DETAILS = 8
"""A finding's message quotes this many different details, then says how many more there are."""
_MAX_COUNTED_DETAILS = 1000
_EXCERPT_CHARS = 72
"""With an ellipsis on either side, an excerpt and the mark under it fit a terminal of 80 columns."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding.

    Attributes:
        code: stable, kebab-case name. Two rules may share a code with different severities.
        severity: see `Finding`.
        group: what the rule looks at: the file's bytes, a row's messages, their text, or the whole set.
        says: what is wrong, true of every row it is found in.
        remedy: what to do.
        fix: what `luthier clean` would do, or None.
    """

    code: str
    severity: Severity
    group: Group
    says: str
    remedy: str
    fix: str | None = None

    def problem(self, detail: str = "", *, text: str | None = None, column: int = 0) -> Problem:
        """Returns this rule's problem in one row, quoting `text` around its 0-based `column`."""
        return Problem(self, detail, text, column)

    def finding(self, file: str, lines: Iterable[int], detail: str = "", *, text: str | None = None) -> Finding:
        """Returns the finding about these rows of a file, for rules that see all rows at once."""
        lines = list(lines)
        problem = self.problem(detail, text=text)
        excerpt, column = problem.shown()
        return Finding(
            code=self.code,
            severity=self.severity,
            file=file,
            line=lines[0] if lines else 1,
            rows=Rows(len(lines), tuple(lines[:MAX_LINES])),
            message=problem.message,
            remedy=self.remedy,
            fix=self.fix,
            excerpt=excerpt,
            column=column,
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule broken in one row.

    Attributes:
        detail: the words that differ from row to row: a key, a role, a column.
        text: the offending text, if there is one to quote.
        place: where in it the fault stands, 0-based.
    """

    rule: Rule
    detail: str = ""
    text: str | None = None
    place: int = 0

    @property
    def message(self) -> str:
        """What is wrong in this row."""
        return f"{self.rule.says}: {self.detail}" if self.detail else self.rule.says

    def shown(self) -> tuple[str | None, int | None]:
        """Returns the text shortened around the place, with secrets masked, and the place in what is left."""
        return (None, None) if self.text is None else _around(fit_to_show(self.text), self.place)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows a finding concerns.

    Attributes:
        count: how many rows; 0 where the finding is about the file or the set as such.
        lines: physical, 1-based lines of the first of them.
    """

    count: int
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or worth knowing, with its place and its remedy.

    Attributes:
        code: stable, kebab-case name.
        severity: an error keeps a row (or the file) out of training; a warning is likely to hurt; an info is a fact.
        file: the file as it was given.
        line: physical, 1-based line of the first place.
        rows: how many rows, with the first lines.
        message: what is wrong.
        remedy: what to do.
        fix: what `luthier clean` would do, or None.
        excerpt: the offending text, shortened around the place; `column` is the 0-based place inside it.
    """

    code: str
    severity: Severity
    file: str
    line: int
    rows: Rows
    message: str
    remedy: str
    fix: str | None = None
    excerpt: str | None = None
    column: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "code": self.code,
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "rows": {"count": self.rows.count, "lines": list(self.rows.lines)},
            "message": self.message,
            "remedy": self.remedy,
            "fix": self.fix,
            "excerpt": self.excerpt,
            "column": self.column,
        }


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row (or a stretch of text that should have been one) that did not become an example.

    Attributes:
        file, line: where it starts.
        codes: the findings that rejected it.
        reason: their messages.
        text: the row as it stands in the file.
    """

    file: str
    line: int
    codes: tuple[str, ...]
    reason: str
    text: str

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values, as a line of `rejected.jsonl`."""
        return {
            "file": self.file,
            "line": self.line,
            "codes": list(self.codes),
            "reason": self.reason,
            "text": self.text,
        }


@dataclass(slots=True)
class _Entry:
    excerpt: str | None
    column: int | None
    count: int = 0
    lines: list[int] = field(default_factory=list)
    details: dict[str, list[int]] = field(default_factory=dict)
    """For each detail: its rows, and the line of the first of them."""


class FindingBook:
    """Gathers problems into findings; its size does not grow with the number of rows."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, Rule], _Entry] = {}

    def add(self, file: str, line: int, problems: Iterable[Problem]) -> None:
        """Notes the problems of one row. A rule broken twice in a row counts one row."""
        seen: set[Rule] = set()
        for problem in {(problem.rule, problem.detail): problem for problem in reversed([*problems])}.values():
            entry = self._entries.get((file, problem.rule))
            if entry is None:
                entry = self._entries[file, problem.rule] = _Entry(*problem.shown())
            if problem.rule not in seen:
                seen.add(problem.rule)
                entry.count += 1
                if len(entry.lines) < MAX_LINES:
                    entry.lines.append(line)
            if problem.detail in entry.details:
                entry.details[problem.detail][0] += 1
            elif len(entry.details) < _MAX_COUNTED_DETAILS:
                entry.details[problem.detail] = [1, line]

    def merge(self, later: FindingBook) -> None:
        """Takes over what was found in the rows that follow; the same as if they had been added here one by one."""
        for key, entry in later._entries.items():
            mine = self._entries.get(key)
            if mine is None:
                self._entries[key] = entry
                continue
            mine.count += entry.count
            mine.lines += entry.lines[: MAX_LINES - len(mine.lines)]
            for detail, (count, line) in entry.details.items():
                if detail in mine.details:
                    mine.details[detail][0] += count
                elif len(mine.details) < _MAX_COUNTED_DETAILS:
                    mine.details[detail] = [count, line]

    def findings(self) -> list[Finding]:
        """Returns one finding per rule and file, in the order of their first lines."""
        return [_finding(file, rule, entry) for (file, rule), entry in self._entries.items()]


def _finding(file: str, rule: Rule, entry: _Entry) -> Finding:
    details = _said(entry)
    return Finding(
        code=rule.code,
        severity=rule.severity,
        file=file,
        line=entry.lines[0],
        rows=Rows(entry.count, tuple(entry.lines)),
        message=f"{rule.says}: {details}" if details else rule.says,
        remedy=rule.remedy,
        fix=rule.fix,
        excerpt=entry.excerpt,
        column=entry.column,
    )


def _said(entry: _Entry) -> str:
    """Returns the details, the commonest first; a detail of a single row is given with its line."""
    if len(entry.details) == 1:
        return next(iter(entry.details))
    common = sorted(entry.details.items(), key=lambda item: -item[1][0])
    said = [
        f"{detail} ({count} rows)"
        if count > 1
        else f"line {line}{', ' if detail.startswith('column') else ': '}{detail}"
        for detail, (count, line) in common[:MAX_DETAILS]
    ]
    more = len(common) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more else "")


def _around(text: str, column: int) -> tuple[str, int]:
    """Returns the text shortened around a 0-based column, and the column's place in what is left."""
    start = max(0, min(column - _EXCERPT_CHARS // 2, len(text) - _EXCERPT_CHARS))
    end = start + _EXCERPT_CHARS
    before, after = "…" if start else "", "…" if end < len(text) else ""
    # one character for one character, so that the column stays true
    shown = "".join(char if char.isprintable() else "·" for char in text[start:end])
    return before + shown + after, column - start + len(before)


def quoted(text: str, limit: int = 60) -> str:
    """Returns a short, one-line quotation of a text, with secrets masked."""
    line = " ".join(fit_to_show(text).split())
    return f"“{line if len(line) <= limit else line[: limit - 1] + '…'}”"


def counted(number: int, noun: str) -> str:
    """Returns the number with its noun: `1 row`, `1,400 rows`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
