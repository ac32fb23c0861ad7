"""Everything there is to say about files of examples, and the examples that are fit to train on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from luthier.data.blocks import MIN_PARALLEL_BYTES, Pool, judge_file, judge_rows, num_workers
from luthier.data.chat import Example
from luthier.data.findings import Finding, RejectedRow, counted
from luthier.data.judge import BlockReport, Questions, empty_report
from luthier.data.ray_pool import RayPool
from luthier.data.reading.files import Remark, empty_file
from luthier.data.reading.streams import STANDARD_INPUT, Source, opened
from luthier.data.reading.table_rows import table_rows
from luthier.data.reading.tables import is_table
from luthier.data.rows import RowStore
from luthier.data.rules import catalogue_file as rules
from luthier.data.rules.catalogue import CODES
from luthier.data.rules.rules_answers import AnswerForms
from luthier.data.rules.rules_set import SystemPrompts
from luthier.data.shapes.columns import ColumnMap
from luthier.data.twins.contamination import HeldOut
from luthier.errors import DataError

MIN_EXAMPLES = 10
"""Source: OpenAI's fine-tuning guide."""
FEW_EXAMPLES = 50
"""Source: OpenAI's fine-tuning guide: improvements show from 50 to 100 examples on."""
_SEVERITIES = ("error", "warning", "info")
_BINS = 12

Look = Callable[["Judged", npt.NDArray[np.int64]], tuple[list[Finding], dict[str, Any]]]
"""Looks at the examples once more (the numbers of their rows), for findings and for entries of the summary."""


@dataclass(frozen=True)
class CheckResult:
    """What a check found. Always `rows_read == num_examples + num_rejected`.

    Attributes:
        findings: what there is to say, errors first.
        blocking: the findings of severity error that no leaving-out of rows can mend: they are about the file or the
            set (a merge conflict, a file cut off, too few examples).
        rows_read: how many rows the files hold, broken ones included.
        num_examples, num_rejected: the rows without and with an error.
        summary: numbers about the examples: rows, formats, turns, roles, lengths, labels.
        examples: the rows without an error, in the order of the files, where they were kept: each is read from its file
            when it is asked for.
        rejected: the rows with an error, where they were kept.
    """

    findings: list[Finding]
    blocking: list[Finding]
    rows_read: int
    num_examples: int
    summary: dict[str, Any]
    examples: Sequence[Example] = ()
    rejected: list[RejectedRow] = field(default_factory=list)

    @property
    def num_rejected(self) -> int:
        """How many rows have an error."""
        return self.rows_read - self.num_examples

    @property
    def has_errors(self) -> bool:
        """Whether any finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "examples": self.num_examples,
            "findings": [finding.to_json() for finding in self.findings],
            "summary": self.summary,
        }


def check_files(
    paths: Sequence[str | Path],
    *,
    minimum: int = MIN_EXAMPLES,
    codes: frozenset[str] = frozenset(CODES),
    row_format: str | None = None,
    column_map: ColumnMap | None = None,
    held_out: HeldOut | None = None,
    look: Look | None = None,
    keep: bool = True,
    workers: int | None = None,
    on_ray: bool = False,
    param: str = "data.train",
) -> CheckResult:
    """Reads and checks files of examples as one set.

    Args:
        paths: JSONL files, also compressed; "-" is standard input.
        minimum: fewer examples than this are an error: 10 for training, 1 for a validation or test file.
        codes: the findings wanted. Which rows are examples does not depend on it, but for `contamination`.
        row_format: the format that all rows must have (chat, preference, reinforcement, completion); otherwise each its own.
        column_map: how the columns of flat rows become messages.
        held_out: rows that must not be among these.
        look: looks at the examples once more at the end.
        keep: whether the result holds the rejected rows, and of each example where it stands.
        workers: processes; by default one for each processor, and none for small files.
        on_ray: whether Ray judges the rows, on as many machines as its cluster has.
        param: the recipe path or option that named the files, for errors.

    Raises:
        DataError: code "file_not_found", "not_a_file", "file_not_readable" or "too_large".
        RecipeError: code "map_needed" for a table without a `column_map`.
        MissingError: Ray, or what reads Parquet, is not installed.
    """
    questions = Questions(codes, row_format, column_map, held_out, keep)
    with judged(paths, questions, workers=workers, on_ray=on_ray, param=param) as found:
        return _result(found, minimum, codes, look, keep=keep)


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found out about all rows, while the files are open.

    Attributes:
        files: as they were given.
        report: on all rows.
        rows: their places; numbered as in the report.
    """

    files: list[str]
    report: BlockReport
    rows: RowStore


@contextmanager
def judged(
    paths: Sequence[str | Path],
    questions: Questions,
    *,
    workers: int | None = None,
    on_ray: bool = False,
    param: str,
) -> Iterator[Judged]:
    """Judges all rows of files; see `check_files`."""
    if sum(str(path) == STANDARD_INPUT for path in paths) > 1:
        raise DataError(
            "Standard input (-) can be read only once.", code="stdin_twice", param=param, hint="Give - once."
        )
    with ExitStack() as stack:
        sources = [stack.enter_context(opened(path, param=param)) for path in paths]
        size = sum(source.path.stat().st_size for source in sources)
        if workers is None:
            workers = num_workers() if size >= MIN_PARALLEL_BYTES else 1
        pool = stack.enter_context(RayPool(questions, sources) if on_ray else Pool(questions, workers))
        rows = RowStore(questions.column_map, pool.run)
        stack.callback(rows.close)
        report = empty_report(questions)
        for source in sources:
            _judge_source(source, pool, report, rows, param)
        yield Judged([source.name for source in sources], report, rows)


def _judge_source(source: Source, pool: Pool, report: BlockReport, store: RowStore, param: str) -> None:
    number = store.open(source.name, source.path)
    rows_before = report.rows_read
    remarks: list[Remark] = []
    if is_table(source.path):
        blocks = judge_rows(
            table_rows(source.path, pool.questions.column_map, name=source.name, param=param), pool.questions
        )
    else:
        blocks = judge_file(source.name, source.file, pool)
    for block in blocks:
        report.merge(block)
        store.add(number, block.places)
    if report.rows_read == rows_before:
        remarks.append(empty_file(source.name))
    if source.damage:
        remarks.append(Remark(source.name, 1, rules.TRUNCATED_FILE.problem(source.damage)))
    for remark in remarks:
        report.about_files.add(remark.file, remark.line, [remark.problem])


def _result(found: Judged, minimum: int, codes: frozenset[str], look: Look | None, *, keep: bool) -> CheckResult:
    files, report, store = found.files, found.report, found.rows
    count = report.num_examples
    about_set = [finding for rule in report.set_rules for finding in rule.findings(store)]
    about_set += _too_few(files, count, report.rows_read - count, minimum) if report.rows_read else []
    about_set += report.about_files.findings()
    more, more_summary = look(found, np.flatnonzero(report.fit.values())) if look is not None else ([], {})
    places = {file: place for place, file in reversed(list(enumerate(files)))}
    findings = sorted(
        (f for f in [*report.about_rows.findings(), *about_set, *more] if f.code in codes),
        key=lambda finding: (_SEVERITIES.index(finding.severity), places[finding.file], finding.line),
    )
    return CheckResult(
        findings=findings,
        blocking=[finding for finding in about_set if finding.severity == "error"],
        rows_read=report.rows_read,
        num_examples=count,
        summary={**_summary(report), **more_summary},
        examples=store.examples(np.flatnonzero(report.fit.values())) if keep else (),
        rejected=report.rejected,
    )


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


def _summary(report: BlockReport) -> dict[str, Any]:
    totals = report.totals
    system = next((rule for rule in report.set_rules if isinstance(rule, SystemPrompts)), None)
    forms = next((rule for rule in report.set_rules if isinstance(rule, AnswerForms)), None)
    return {
        "rows": report.rows_read,
        "examples": report.num_examples,
        "rejected": report.rows_read - report.num_examples,
        "formats": dict(totals.formats.most_common()),
        "roles": dict(totals.roles.most_common()),
        "system_prompts": system.num_prompts if system else None,
        "with_tools": totals.with_tools,
        "turns": _spread(totals.turns.values()),
        "characters": _spread(totals.characters.values()),
        "trained_messages": totals.trained_messages,
        "answer_characters": _spread(totals.answer_characters.values()),
        "labels": forms.labels() if forms else None,
    }


def _spread(values: npt.NDArray[Any]) -> dict[str, Any]:
    """Returns the smallest, mean, median, 95th percentile and largest value, and how many values lie in equal steps."""
    if not len(values):
        return {"min": 0, "mean": 0.0, "median": 0, "p95": 0, "max": 0, "total": 0, "histogram": []}
    middle, high = np.percentile(values, [50, 95], method="nearest").tolist()
    least, most = int(values.min()), int(values.max())
    # past the 99th percentile a few rows would squeeze all others into one bar; the last bar holds them
    edge = max(least + 1, int(np.percentile(values, 99)))
    counts, _ = np.histogram(np.minimum(values, edge), bins=_BINS, range=(least, edge))
    return {
        "min": least,
        "mean": round(float(values.mean()), 1),
        "median": middle,
        "p95": high,
        "max": most,
        "total": int(values.sum()),
        "histogram": [
            {"from": round(least + (edge - least) * place / _BINS), "rows": int(rows)}
            for place, rows in enumerate(counts)
        ],
    }
