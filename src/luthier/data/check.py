"""Everything there is to say about files of examples, and the examples that are fit to train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.data import catalogue_text as rules
from luthier.data.chat import Example, content_text, is_trained
from luthier.data.files import RawRow, Remark, read_rows
from luthier.data.findings import Finding, FindingBook, Problem, RejectedRow, counted
from luthier.data.formats import Format, recognise
from luthier.data.rules_message import message_problems
from luthier.data.rules_set import (
    Answers,
    ConflictingAnswers,
    Conversation,
    Duplicates,
    Formats,
    SetRule,
    SystemPrompts,
)
from luthier.data.rules_text import text_problems

MIN_EXAMPLES = 10
"""Source: OpenAI's fine-tuning guide."""
FEW_EXAMPLES = 50
"""Source: OpenAI's fine-tuning guide: improvements show from 50 to 100 examples on."""
_SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class CheckResult:
    """What a check found. Always `rows_read == len(examples) + len(rejected)`.

    Attributes:
        examples: the rows without an error, in the order of the files.
        findings: what there is to say, errors first.
        rejected: the rows with an error.
        blocking: the findings of severity error that no leaving-out of rows can mend: they are about the file or the
            set (a merge conflict, a file cut off, too few examples).
        rows_read: how many rows the files hold, broken ones included.
        summary: numbers about the examples: rows, formats, turns, roles, lengths.
    """

    examples: list[Example]
    findings: list[Finding]
    rejected: list[RejectedRow]
    blocking: list[Finding]
    rows_read: int
    summary: dict[str, Any]

    @property
    def has_errors(self) -> bool:
        """Whether any finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "examples": len(self.examples),
            "findings": [finding.to_json() for finding in self.findings],
            "summary": self.summary,
        }


def check_files(paths: Sequence[str | Path], *, minimum: int = MIN_EXAMPLES, param: str = "data.train") -> CheckResult:
    """Reads and checks files of examples as one set.

    Args:
        paths: JSONL files.
        minimum: fewer examples than this are an error: 10 for training, 1 for a validation or test file.
        param: the recipe path or option that named the files, for errors.

    Raises:
        DataError: code "file_not_found", "not_a_file" or "file_not_readable".
    """
    check = _Check()
    for path in paths:
        for item in read_rows(path, param=param):
            check.take(item)
    return check.result([str(path) for path in paths], minimum)


class _Check:
    """The state of checking one set."""

    def __init__(self) -> None:
        self._examples: list[Example] = []
        self._rejected: list[RejectedRow] = []
        self._about_rows = FindingBook()
        self._about_files = FindingBook()
        self._formats: Counter[str] = Counter()
        self._shapes = Formats()
        self._system = SystemPrompts()
        self._set_rules: tuple[SetRule, ...] = (Duplicates(), ConflictingAnswers(), self._system, Answers())

    def take(self, item: RawRow | Remark) -> None:
        """Judges one row, or notes a remark about the file."""
        if isinstance(item, Remark):
            self._about_files.add(item.file, item.line, [item.problem])
            return
        problems = list(item.problems)
        if item.value is not None:
            found = recognise(item.value)
            self._formats[found.name] += 1
            problems += message_problems(item.value, found)
            problems += self._see(item, item.value, found)
        self._about_rows.add(item.file, item.line, problems)
        errors = [problem for problem in problems if problem.rule.severity == "error"]
        if errors or item.value is None:
            self._rejected.append(_rejected(item, errors))
        else:
            self._examples.append(Example(item.value, item.file, item.line))

    def _see(self, item: RawRow, row: dict[str, Any], found: Format) -> Iterator[Problem]:
        """Shows a row's text to the rules that need no error-free row: all that is wrong shall be said at once."""
        conversation = Conversation(item.file, item.line, row, found, found.messages or [])
        self._shapes.add(conversation)
        if found.messages:
            yield from text_problems(found.messages)
            for rule in self._set_rules:
                rule.add(conversation)

    def result(self, files: list[str], minimum: int) -> CheckResult:
        """Closes the set."""
        count = len(self._examples)
        rows_read = count + len(self._rejected)
        about_set = [finding for rule in (self._shapes, *self._set_rules) for finding in rule.findings()]
        about_set += _too_few(files, count, len(self._rejected), minimum) if rows_read else []
        about_set += self._about_files.findings()
        findings = sorted(
            [*self._about_rows.findings(), *about_set],
            key=lambda finding: (_SEVERITIES.index(finding.severity), files.index(finding.file), finding.line),
        )
        return CheckResult(
            examples=self._examples,
            findings=findings,
            rejected=self._rejected,
            blocking=[finding for finding in about_set if finding.severity == "error"],
            rows_read=rows_read,
            summary=_summary(self._examples, rows_read, self._formats, self._system.num_prompts),
        )


def _rejected(item: RawRow, errors: list[Problem]) -> RejectedRow:
    codes = tuple(dict.fromkeys(problem.rule.code for problem in errors))
    reason = "; ".join(dict.fromkeys(problem.message for problem in errors))
    return RejectedRow(item.file, item.line, codes, reason, item.text)


def _too_few(files: list[str], count: int, num_rejected: int, minimum: int) -> list[Finding]:
    training = minimum >= MIN_EXAMPLES
    if count < minimum:
        # the words of OpenAI's own service, so that a search for them finds help
        file = "Training file" if training else "File"
        detail = f"{file} has {count} example(s), but must have at least {minimum} examples"
        if num_rejected:
            detail += f" ({counted(num_rejected, 'row')} with an error not counted)"
        return [rules.TOO_FEW.finding(files[0], [], detail)]
    if training and count < FEW_EXAMPLES:
        detail = (
            f"{count}. A tenth of them held out as the test is {counted(max(1, round(count / 10)), 'row')}, and a test "
            "in which fewer than 6 rows change, all one way, shows nothing (p < 0.05, two-sided)"
        )
        return [rules.FEW.finding(files[0], [], detail)]
    return []


def _summary(examples: list[Example], rows_read: int, formats: Counter[str], num_system_prompts: int) -> dict[str, Any]:
    roles: Counter[str] = Counter()
    turns: list[int] = []
    characters: list[int] = []
    answers: list[int] = []
    for example in examples:
        roles.update(message["role"] for message in example.messages)
        turns.append(sum(message["role"] == "assistant" for message in example.messages))
        characters.append(sum(len(content_text(message)) for message in example.messages))
        answers += [len(content_text(message)) for message in example.messages if is_trained(message)]
    return {
        "rows": rows_read,
        "examples": len(examples),
        "rejected": rows_read - len(examples),
        "formats": dict(formats.most_common()),
        "roles": dict(roles.most_common()),
        "system_prompts": num_system_prompts,
        "with_tools": sum(bool(example.tools) for example in examples),
        "turns": _spread(turns),
        "characters": _spread(characters),
        "trained_messages": len(answers),
        "answer_characters": _spread(answers),
    }


def _spread(values: list[int]) -> dict[str, float]:
    """Returns the smallest, mean and largest value."""
    if not values:
        return {"min": 0, "mean": 0.0, "max": 0}
    return {"min": min(values), "mean": round(sum(values) / len(values), 1), "max": max(values)}
