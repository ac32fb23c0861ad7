"""Tables (CSV, TSV, Parquet) as records, one a row, for `--map` to make examples of.

Values stay what they are in the table: all of a CSV's are text. A row that cannot be read exactly is a record with a fault,
never one that was padded or left out. What makes the whole table unreadable is a DataError.
"""

from __future__ import annotations

import csv
import datetime
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

from luthier.data.reading.streams import inner_suffix, opened
from luthier.errors import DataError, MissingError

FaultKind = Literal["blank", "ragged", "encoding", "quoting", "too-long", "value", "damage"]

MAX_RECORD_BYTES = 10 * 2**20
"""A longer record is refused: the limit of a JSONL row. In a CSV it is nearly always a quote that is never closed."""
_DELIMITERS = ",\t;|"
_TAB_SUFFIXES = {".tsv", ".tab"}
_CSV_SUFFIXES = {".csv", *_TAB_SUFFIXES}
_PARQUET_SUFFIXES = {".parquet", ".pq"}
_PARQUET_MAGIC = b"PAR1"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BATCH_ROWS = 128
_BUFFER_BYTES = 2**20
_SAVE_AS = 'Save the table as "CSV UTF-8".'


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record could not be read.

    Attributes:
        kind: "blank" (nothing on the line), "ragged" (more or fewer fields than the header), "encoding" (not UTF-8),
            "quoting", "too-long", "value" (a value that JSON and Python have no word for), or "damage" (the compressed
            stream ends or breaks here).
        detail: what differs from record to record.
    """

    kind: FaultKind
    detail: str


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a table.

    Attributes:
        line: the physical line it starts on (CSV), or its number (Parquet); 1-based.
        values: its columns, JSON values only; None where there is a fault.
        fault: why it could not be read, or None.
    """

    line: int
    values: dict[str, Any] | None
    fault: Fault | None = None


def is_table(path: str | Path) -> bool:
    """Whether a file is a CSV, TSV or Parquet table: by its first bytes, and by its name where they look like text."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(64)
    except (OSError, ValueError):
        head = b""
    if head.startswith(_PARQUET_MAGIC):
        return True
    looks_like_json = head.removeprefix(_BYTE_ORDER_MARK).lstrip()[:1] in {b"{", b"["}
    return inner_suffix(path).lower() in _CSV_SUFFIXES | _PARQUET_SUFFIXES and not looks_like_json


def read_records(path: str | Path, *, param: str, name: str | None = None) -> Iterator[Record]:
    """Reads a table row by row, in constant memory.

    Args:
        path: a CSV, TSV or Parquet file, plain or compressed. What is not Parquet by its first bytes is read as CSV, its
            delimiter found in the header line (a tab where the name ends in .tsv).
        param: the recipe path or option that named the file, for errors.
        name: the file's name in errors, where `path` is a copy of it.

    Yields:
        Each row in order. `values` has the header's columns as keys; one column may have an empty name.

    Raises:
        DataError: what `opened` raises; code "empty_table" (no header), "bad_header" (unreadable, or a name that stands
            twice) or "not_a_table" (a damaged Parquet file).
        MissingError: code "missing_tables", for a Parquet file without the extra.
    """
    with opened(path, param=param) as source:
        name, suffix, line = name or source.name, source.path.suffix.lower(), 0
        is_parquet = source.file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
        source.file.seek(0)
        if suffix in _PARQUET_SUFFIXES and not is_parquet:
            raise _not_a_table(name, "it is named like a Parquet table, but is none or is encrypted", param)
        table: _Csv | _Parquet
        if is_parquet:
            table = _Parquet(source.path, name, param)
        else:
            table = _Csv(source.file, name, param, tabs=suffix in _TAB_SUFFIXES)
        for record in table.records():
            line = record.line
            yield record
        if source.damage:
            yield Record(line + 1, None, Fault("damage", source.damage))


def _not_a_table(name: str, why: str, param: str) -> DataError:
    hint = "Write it again, or give it as CSV."
    return DataError(f"{name} cannot be read as a table: {why}.", code="not_a_table", param=param, hint=hint)


def _check_header(columns: Sequence[str], name: str, param: str) -> None:
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise DataError(
            f"{name}: the column name {', '.join(repr(column) for column in twice[:5])} stands more than once in the header.",
            code="bad_header",
            param=param,
            hint="Give every column a name of its own.",
        )


# --- CSV -----------------------------------------------------------------------------------------------------------


class _TooLong(Exception):  # noqa: N818 - it never leaves this module
    """A record that goes on past the limit."""


class _Csv:
    """The state of reading one CSV file: its physical lines, and the record at hand."""

    def __init__(self, file: BinaryIO, name: str, param: str, *, tabs: bool) -> None:
        self._file = file
        self._name = name
        self._param = param
        self._tabs = tabs
        self._number = 0
        self._num_bytes = 0
        self._undecodable: str | None = None

    def records(self) -> Iterator[Record]:
        # The limit is the process's. It is only ever raised: the records' own limit is checked before.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_BYTES))
        columns, reader = self._header()
        while True:
            self._num_bytes, self._undecodable = 0, None
            line = self._number + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(line, None, Fault("quoting", self._reason(error, line)))
            except _TooLong:
                yield Record(line, None, Fault("too-long", self._unread()))
                return
            else:
                yield self._record(line, columns, fields)

    def _record(self, line: int, columns: list[str], fields: list[str]) -> Record:
        if self._undecodable is not None:
            return Record(line, None, Fault("encoding", self._undecodable))
        if not fields:
            return Record(line, None, Fault("blank", ""))
        if len(fields) != len(columns):
            detail = f"{len(fields):,} field{'s'[: len(fields) != 1]}, the header has {len(columns):,}"
            return Record(line, None, Fault("ragged", detail))
        return Record(line, dict(zip(columns, fields, strict=True)))

    def _header(self) -> tuple[list[str], Iterator[list[str]]]:
        at = self._file.tell()
        first = self._file.readline(MAX_RECORD_BYTES)
        self._file.seek(at)
        delimiter = "\t" if self._tabs else _delimiter(first.decode(errors="replace"))
        reader = csv.reader(self._lines(), delimiter=delimiter, strict=True)
        try:
            columns = next(reader)
        except StopIteration:
            self._refuse("empty_table", "the file is empty", "Give a table with a header line.")
        except csv.Error as error:
            self._refuse("bad_header", f"the header cannot be read: {self._reason(error, 1)}", "Mend its quotes.")
        except _TooLong:
            self._refuse(
                "bad_header", "the header is never closed: its line is too long", "Give a table with a header line."
            )
        if self._undecodable is not None:
            self._refuse("bad_header", f"the header is not UTF-8: {self._undecodable}", _SAVE_AS)
        if not columns:
            self._refuse("bad_header", "its first line, which should be the header, is blank", "Remove the line.")
        _check_header(columns, self._name, self._param)
        return columns, reader

    def _lines(self) -> Iterator[str]:
        """Yields the physical lines as text, also those that are not quite text, and takes note of that."""
        while raw := self._file.readline(MAX_RECORD_BYTES + 1 - self._num_bytes):
            self._num_bytes += len(raw)
            if self._num_bytes > MAX_RECORD_BYTES:
                raise _TooLong
            self._number += 1
            if self._number == 1:
                raw = raw.removeprefix(_BYTE_ORDER_MARK)
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                self._note(f"byte 0x{raw[error.start]:02x} is not UTF-8")
                text = raw.decode(errors="surrogateescape")
            if "\0" in text:
                self._note("a NUL byte")
            yield text

    def _note(self, problem: str) -> None:
        self._undecodable = self._undecodable or problem

    def _reason(self, error: csv.Error, line: int) -> str:
        words = str(error)
        if "unexpected end" in words:
            words = "a quote that is never closed"
        elif "new-line character" in words:
            words = "a carriage return inside a field without quotes"
        lines = self._number - line + 1
        return words if lines <= 1 else f"{words} ({lines:,} lines, to line {self._number})"

    def _unread(self) -> str:
        num_lines = 1
        while chunk := self._file.read(_BUFFER_BYTES):
            num_lines += chunk.count(b"\n")
        return (
            f"more than {MAX_RECORD_BYTES:,} bytes in one record, so a quote may never be closed; from line "
            f"{self._number + 1} on, {num_lines:,} line{'s'[: num_lines != 1]} of the file were not read"
        )

    def _refuse(self, code: str, why: str, hint: str) -> NoReturn:
        raise DataError(f"{self._name} cannot be read as a table: {why}.", code=code, param=self._param, hint=hint)


def _delimiter(header: str) -> str:
    """Returns what stands most often between the header's names; Excel writes `;` where the comma is decimal."""
    outside = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=lambda delimiter: (outside.count(delimiter), -_DELIMITERS.index(delimiter)))


# --- Parquet -------------------------------------------------------------------------------------------------------


class _Parquet:
    """Reads a Parquet file batch by batch, with the columns' pages read as they are needed.

    pyarrow and not polars: 1.2 million rows/s in 112 MB against 0.6 million in 433 MB, measured on a million rows of 290
    bytes in row groups of 250,000.
    """

    def __init__(self, path: Path, name: str, param: str) -> None:
        self._path = path
        self._name = name
        self._param = param
        try:
            self._arrow: Any = import_module("pyarrow")
            self._parquet: Any = import_module("pyarrow.parquet")
        except ImportError as error:
            raise MissingError(
                f"{name} is a Parquet table, and the part that reads them is not installed.",
                code="missing_tables",
                param=param,
                hint='pip install "luthier[tables]"',
            ) from error

    def records(self) -> Iterator[Record]:
        number = 0
        try:
            # pre_buffer would read whole row groups ahead
            with self._parquet.ParquetFile(self._path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
                _check_header(file.schema_arrow.names, self._name, self._param)
                for batch in file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                    yield from self._batch(batch, number)
                    number += batch.num_rows
        except (self._arrow.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise _not_a_table(self._name, f"it is damaged after row {number:,} ({reason})", self._param) from error

    def _batch(self, batch: Any, before: int) -> Iterator[Record]:
        batch = self._as_text(batch)
        unreadable = (ValueError, OverflowError, NotImplementedError, RecursionError)
        try:
            rows = batch.to_pylist()
        except unreadable:  # text that is not UTF-8, a date beyond Python's: found row by row
            rows = [None] * batch.num_rows
        for index, row in enumerate(rows):
            number = before + index + 1
            try:
                values = _json_value(row if row is not None else batch.slice(index, 1).to_pylist()[0])
            except UnicodeDecodeError as error:
                yield Record(number, None, Fault("encoding", f"byte 0x{error.object[error.start]:02x} is not UTF-8"))
            except unreadable as error:
                yield Record(number, None, Fault("value", str(error)[:100]))
            else:
                yield Record(number, values)

    def _as_text(self, batch: Any) -> Any:
        """Writes columns of times and decimal numbers out, with all their digits."""
        types = self._arrow.types
        for index, field in enumerate(batch.schema):
            if types.is_duration(field.type) or not (types.is_temporal(field.type) or types.is_decimal(field.type)):
                continue
            try:
                column = batch.column(index).cast(self._arrow.string())
            except self._arrow.ArrowException:  # an unknown time zone; Python's own way is tried row by row
                continue
            batch = batch.set_column(index, field.name, column)
        return batch


def _json_value(value: Any) -> Any:
    """Returns a value of a table as JSON has it; text for what JSON has no word for, null for not-a-number.

    Raises:
        UnicodeDecodeError: bytes that are not UTF-8.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):  # a tuple is an entry of a map
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
