"""Mends what the check finds and can be mended, and writes down every row it touched.

First each row by itself: converted, renamed, stripped (`mending`). Then the rows as a set: system prompts that differ by a
slip, and duplicates. What is written is one JSON object a line; the input is only ever read. Every row that was read is
written or listed as left out.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import orjson

from luthier.data.check import CheckResult, check_files, judged
from luthier.data.cleaning.mending import Entry, Mender
from luthier.data.judge import Questions
from luthier.data.rows import seen as seen_row
from luthier.data.rules.catalogue import FIXABLE
from luthier.data.rules.rules_near import NearDuplicates
from luthier.data.rules.rules_set import slipped
from luthier.data.shapes.columns import ColumnMap
from luthier.data.twins.contamination import HeldOut, Hit, Sightings
from luthier.errors import DataError, RecipeError

ONLY_BY_NAME = frozenset(("near-duplicate", "pii"))
"""Fixes that may throw away what was meant; they are made only when `--only` names them."""
DEFAULT_FIXES = FIXABLE - ONLY_BY_NAME

_BATCH_ROWS = 1000

Action = Literal["changed", "left out", "line removed"]


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to one row, or to a line that is none.

    Attributes:
        file, line: where it stands in the input.
        action: whether it was changed or left out; "line removed" is about blank lines, comments and the like.
        codes: the findings that were mended.
        reason: what was done, or why it was left out.
        output_line: the row's line in the output, or None.
        text: as it stands in the input; of a line too long to be read, its beginning.
    """

    file: str
    line: int
    action: Action
    codes: tuple[str, ...]
    reason: str
    output_line: int | None
    text: str

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values, as a line of the change log."""
        return {
            "file": self.file,
            "line": self.line,
            "action": self.action,
            "codes": list(self.codes),
            "reason": self.reason,
            "output_line": self.output_line,
            "text": self.text,
        }


@dataclass
class CleanResult:
    """What cleaning did. Always `rows_read == rows_written + rows_left_out`.

    Attributes:
        rows_read, rows_written, rows_changed, rows_left_out: how many rows; the changed ones are among the written ones.
        by_code: for each code how many rows were changed and left out for it, and lines removed.
        first: the first change of each code, with the sentence about that code.
        notes: what must be known of the input as a whole.
        out, log: where the rows and the changes were written; None for a dry run.
        remaining: what the check says of the result.
    """

    rows_read: int = 0
    rows_written: int = 0
    rows_changed: int = 0
    rows_left_out: int = 0
    by_code: dict[str, Counter[Action]] = field(default_factory=dict)
    first: dict[str, tuple[Change, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    out: str | None = None
    log: str | None = None
    remaining: CheckResult | None = None

    def count(self, change: Change, done: list[tuple[str, str]]) -> None:
        """Counts a change under each of its codes."""
        for code in change.codes:
            self.by_code.setdefault(code, Counter())[change.action] += 1
            if code not in self.first:
                self.first[code] = change, "; ".join(sentence for other, sentence in done if other == code)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "rows_read": self.rows_read,
            "rows_written": self.rows_written,
            "rows_changed": self.rows_changed,
            "rows_left_out": self.rows_left_out,
            "by_code": {code: dict(counts) for code, counts in self.by_code.items()},
            "notes": list(self.notes),
            "out": self.out,
            "log": self.log,
            "remaining": self.remaining.to_json() if self.remaining else None,
        }


def clean_files(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    codes: frozenset[str] = DEFAULT_FIXES,
    convert: bool = False,
    column_map: ColumnMap | None = None,
    held_out: HeldOut | None = None,
    drop_errors: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
) -> CleanResult:
    """Cleans files of examples into one.

    Args:
        paths: JSONL files; "-" is standard input.
        out: the file to write; the change log goes to `OUT.changes.jsonl` beside it.
        codes: what to mend. Rows that cannot be read as JSON are left out whatever it holds, and listed.
        convert: whether to convert rows of other known shapes to OpenAI's format.
        column_map: how the columns of flat rows become messages.
        held_out: rows that must not be among these; they are left out if `codes` has "contamination".
        drop_errors: whether to leave out rows that have an error that cannot be mended, too.
        dry_run: whether to write nothing.
        overwrite: whether files of those names may be replaced.

    Raises:
        DataError: code "merge_conflict" or "no_rows"; a file that cannot be read or written.
        RecipeError: code "out_exists" or "out_is_input".
    """
    out, log = Path(out), Path(f"{out}.changes.jsonl")
    if not dry_run:
        _refuse(paths, out, log, overwrite)
    mender = Mender(codes, convert, column_map, drop_errors)
    with ExitStack() as stack:
        try:
            # beside the output, so that the result can take its name in one step
            parent = None if dry_run else out.parent
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".luthier-clean-", dir=parent)))
            entries = _Entries(folder, mender.entries(paths))
            _mend_set(entries, codes, held_out)
            rows, changes = folder / "rows.jsonl", folder / "changes.jsonl"
            result = _write(entries, rows, changes)
            found = check_files([rows], minimum=1, held_out=held_out, keep=False)
            named = [replace(finding, file=str(out)) for finding in found.findings]
            result.remaining = replace(found, findings=named)
            result.notes = tuple(mender.notes)
            if not dry_run:
                rows.replace(out)
                changes.replace(log)
                result.out, result.log = str(out), str(log)
        except OSError as error:
            raise DataError(
                f"{out} cannot be written: {error.strerror or error}.",
                code="file_not_written",
                param="out",
                hint="Check that the folder exists, that it may be written to, and that the disk is not full. The input "
                "is as it was.",
            ) from error
    return result


def _refuse(paths: Sequence[str | Path], out: Path, log: Path, overwrite: bool) -> None:
    for path in paths:
        if Path(path).exists() and out.exists() and out.samefile(path):
            raise RecipeError(
                f"{out} is the input itself, which is never modified.",
                code="out_is_input",
                param="out",
                hint="Choose another --out.",
            )
    existing = next((path for path in (out, log) if path.exists()), None)
    if existing is not None and not overwrite:
        raise RecipeError(
            f"{existing} exists already; nothing was overwritten.",
            code="out_exists",
            param="out",
            hint="Choose another --out, or give --overwrite.",
        )


class _Entries:
    """All rows on their way, in a temporary file that is rewritten by each pass."""

    def __init__(self, folder: Path, entries: Iterable[Entry]) -> None:
        self.folder = folder
        self._path = folder / "entries"
        self.rewrite(entries)

    def __iter__(self) -> Iterator[Entry]:
        with self._path.open("rb") as file:
            for line in file:
                yield Entry.unpacked(line)

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Replaces the entries by those that come out of a pass over them."""
        new = self.folder / "entries.new"
        with new.open("wb") as file:
            file.writelines(entry.packed() for entry in entries)
        new.replace(self._path)

    def write_rows(self, path: Path) -> None:
        """Writes the rows that are kept as JSONL."""
        with path.open("wb") as file:
            file.writelines(entry.line_out() for entry in self if entry.row is not None)


def _mend_set(entries: _Entries, codes: frozenset[str], held_out: HeldOut | None) -> None:
    """Mends what only all rows together show."""
    if "system-prompt-differs" in codes:
        prompts = Counter(seen_row(entry.row).system for entry in entries if entry.row is not None)
        del prompts[""]
        renamed = slipped(dict(prompts.most_common()))
        if renamed:
            entries.rewrite(_with_system(entry, renamed) for entry in entries)
    if "contamination" in codes and held_out is not None:
        while hits := _contaminated(entries, held_out):  # what is boilerplate depends on the rows that are left
            entries.rewrite(_without_hits(entries, hits))
    if "duplicate" in codes:
        entries.rewrite(_without_repeats(entries))
    if "near-duplicate" in codes:
        rows = entries.folder / "kept.jsonl"
        while True:  # each round leaves rows out, so it ends; what one round left unexamined the next one sees
            entries.write_rows(rows)
            twins = _near_twins(rows)
            if not twins:
                break
            entries.rewrite(_without_twins(entries, twins))


def _contaminated(entries: _Entries, held_out: HeldOut) -> dict[int, Hit]:
    """Returns for each kept row that gives a held-out row away, counted from 0, which."""
    seen = Sightings()
    kept = (seen_row(entry.row).messages for entry in entries if entry.row is not None)
    while batch := list(islice(kept, _BATCH_ROWS)):
        seen.merge(held_out.look(batch))
    return {number: hit for number, hit in held_out.settle(seen).items() if hit.kind != "partial"}


def _without_hits(entries: Iterable[Entry], hits: dict[int, Hit]) -> Iterator[Entry]:
    number = 0
    for entry in entries:
        if entry.row is not None:
            if number in hits:
                hit = hits[number]
                entry.leave_out("contamination", f"{hit.kind} of {hit.other_file}:{hit.other_line}")
            number += 1
        yield entry


def _near_twins(rows: Path) -> dict[int, int]:
    """Returns for each row that is nearly the same as an earlier one that earlier one, both counted from 0."""
    with judged([rows], Questions(codes=frozenset(NearDuplicates.codes)), param="out") as found:
        rule = next(rule for rule in found.report.set_rules if isinstance(rule, NearDuplicates))
        clusters = rule.search(found.rows).clusters
    return {number: cluster[0] for cluster in clusters for number in cluster[1:]}


def _with_system(entry: Entry, renamed: dict[str, str]) -> Entry:
    if entry.row is None:
        return entry
    common = renamed.get(seen_row(entry.row).system)
    if common is None:
        return entry
    messages = entry.row["input"]["messages"] if "input" in entry.row else entry.row.get("messages", [])
    system = [message for message in messages if message["role"] in ("system", "developer")]
    if len(system) == 1:
        system[0]["content"] = common
        entry.did("system-prompt-differs", "wrote the system prompt of the other rows")
    return entry


def _without_repeats(entries: Iterable[Entry]) -> Iterator[Entry]:
    first: dict[bytes, tuple[str, int]] = {}
    for entry in entries:
        if entry.row is not None:
            digest = seen_row(entry.row).content
            if digest in first:
                file, line = first[digest]
                entry.leave_out("duplicate", f"repeats {file}:{line}")
            else:
                first[digest] = entry.file, entry.line
        yield entry


def _without_twins(entries: Iterable[Entry], twins: dict[int, int]) -> Iterator[Entry]:
    """Leaves rows out by their numbers among the kept ones; `twins` gives for each the row that stays."""
    places: dict[int, tuple[str, int]] = {}
    number = 0
    stays = set(twins.values())
    for entry in entries:
        if entry.row is not None:
            if number in stays:
                places[number] = entry.file, entry.line
            if number in twins:
                file, line = places[twins[number]]
                entry.leave_out("near-duplicate", f"nearly the same as {file}:{line}")
            number += 1
        yield entry


def _write(entries: _Entries, rows: Path, changes: Path) -> CleanResult:
    result = CleanResult()
    with rows.open("wb") as kept, changes.open("wb") as log:
        for entry in entries:
            if entry.is_row:
                result.rows_read += 1
                if entry.row is not None:
                    result.rows_written += 1
                    kept.write(entry.line_out())
                else:
                    result.rows_left_out += 1
            if not entry.done:
                continue
            action: Action = "line removed" if not entry.is_row else "left out" if entry.row is None else "changed"
            result.rows_changed += action == "changed"
            change = Change(
                file=entry.file,
                line=entry.line,
                action=action,
                codes=tuple(dict.fromkeys(code for code, _ in entry.done)),
                reason="; ".join(dict.fromkeys(sentence for _, sentence in entry.done)),
                output_line=result.rows_written if action == "changed" else None,
                text=entry.text,
            )
            result.count(change, entry.done)
            log.write(orjson.dumps(change.to_json()) + b"\n")
        for file in (kept, log):
            file.flush()
            os.fsync(file.fileno())
    return result
