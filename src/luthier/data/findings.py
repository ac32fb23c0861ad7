"""What a check has to say, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows a finding concerns.

    Attributes:
        count: how many rows.
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


@dataclass(frozen=True, slots=True)
class FindingCounts:
    """How many findings of each severity."""

    errors: int = 0
    warnings: int = 0
    infos: int = 0
    by_code: dict[str, int] = field(default_factory=dict)
