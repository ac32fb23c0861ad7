"""A JSONL file as rows, each with its physical line, and nothing skipped without a word.

What is exactly one JSON object a line is a row. What is not is looked at again: rows that can be read exactly (a JSON
array, pretty-printed objects, several on a line, comments) are read and named; what cannot is a row with an error, or a
remark about the file. No input makes this raise, but a file that cannot be opened.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from luthier.data.findings import Problem
from luthier.data.reading.json_scan import BrokenJSON, ObjectScanner
from luthier.data.reading.json_value import is_surely_whole, value_problem
from luthier.data.reading.lines import BOM, MAX_ROW_BYTES, SHOWN_BYTES, Line, Lines
from luthier.data.reading.long_array import ArrayElements, Element
from luthier.data.reading.python_text import MAX_SOURCE_BYTES, is_program, literal_row
from luthier.data.reading.streams import Source, opened
from luthier.data.rules import catalogue_file as rules
from luthier.data.rules.plain_rows import plain_chat

_SPACE = " \t\r\n"
_CONFLICT = re.compile(r"(<{7}|>{7}|\|{7})( |$)")
_CONFLICT_MIDDLE = "======="
_MAGIC = (
    (b"PK\x03\x04", "a zip archive (.xlsx and .docx are, too)"),
    (b"PAR1", "a Parquet table"),
    (b"\xff\xfe", "UTF-16 text, as PowerShell's `>` and Excel write it"),
    (b"\xfe\xff", "UTF-16 text"),
)
_ARRAY = "a JSON array of rows"
_NEVER_CLOSED = "the row is never closed"
_LONG_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?[ \t]*\[[ \t]*\{")
_ROW_KEY = re.compile(r"""["'](messages|prompt|conversations|instruction|input)["']""")


@dataclass(slots=True)
class RawRow:
    """One row, or a stretch of text that should have been one.

    Attributes:
        file, line: where it starts (physical, 1-based).
        source: as it stands in the file; of a line that is refused unread, its beginning.
        value: the JSON object, also where it could only be guessed at (a problem then says so); None where it is lost.
        problems: what is wrong with the row as a piece of JSONL. One of severity error rejects it.
        span: (offset, size) of the bytes that are exactly this row's JSON; None where there are no such bytes.
        plain: whether it is known to be a chat row without fault.
    """

    file: str
    line: int
    source: str | bytes
    value: dict[str, Any] | None
    problems: tuple[Problem, ...] = ()
    span: tuple[int, int] | None = None
    plain: bool = False

    @property
    def text(self) -> str:
        """The row as it stands in the file, without its line end."""
        return self.source if isinstance(self.source, str) else self.source.rstrip(b"\r\n").decode()


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about the file that is not a row: a comment line, a byte-order mark, a merge marker."""

    file: str
    line: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class _Scanned:
    row: RawRow
    remarks: list[Remark]
    last: Line
    end: int
    """The column after the row, in its last line."""


@dataclass(frozen=True, slots=True)
class _Break:
    line: int
    column: int
    reason: str


def read_rows(path: str | Path, *, param: str = "data.train") -> Iterator[RawRow | Remark]:
    """Reads a file row by row, in constant memory but for the row at hand.

    Args:
        path: a JSONL file, also compressed; "-" is standard input.
        param: the recipe path or option that named the file, for the error.

    Raises:
        DataError: code "file_not_found", "not_a_file", "file_not_readable" or "too_large".
    """
    with opened(path, param=param) as source:
        yield from source_rows(source)


def source_rows(source: Source) -> Iterator[RawRow | Remark]:
    """Reads an open file row by row; see `read_rows`."""
    found = False
    for item in RowReader(source.name, source.file):
        found = found or isinstance(item, RawRow)
        yield item
    if not found:
        yield empty_file(source.name)
    if source.damage:
        yield Remark(source.name, 1, rules.TRUNCATED_FILE.problem(source.damage))


class RowReader:
    """Reads a file, or a block of whole lines out of it.

    Args:
        name: the file's, for people.
        file: positioned at the first byte.
        number, offset: how many lines and bytes of the file lie before it.
        whole: whether nothing follows.
    """

    def __init__(self, name: str, file: BinaryIO, *, number: int = 0, offset: int = 0, whole: bool = True) -> None:
        self._name = name
        self._file = file
        self._lines = Lines(file, number=number, offset=offset)
        self._whole = whole
        self._in_array = False
        self._array_line = 0
        self._conflict_open = False
        self._cut = False
        self._first_block = offset == 0
        self.stopped = False
        """Whether the rest of the file was left unread, because none of it is rows."""

    @property
    def leaks(self) -> bool:
        """Whether the block cannot be judged without the lines that follow it."""
        return self._cut or (not self._whole and (self._in_array or self._conflict_open))

    def __iter__(self) -> Iterator[RawRow | Remark]:
        """Yields all there is."""
        yield from self._binary() or self._text()

    # --- lines ---------------------------------------------------------------------------------------------------

    def _binary(self) -> list[RawRow | Remark]:
        if self._lines.offset:
            return []
        head = self._file.read(4)
        self._file.seek(0)
        for magic, kind in _MAGIC:
            if head.startswith(magic):
                self.stopped = True
                text = self._file.read(64).hex(" ")
                return [RawRow(self._name, 1, text, None, (rules.ENCODING.problem(f"the file is {kind}"),))]
        return []

    def _remark(self, line: Line) -> Remark | None:
        """Returns what there is to say of a line that cannot be part of a row, or None."""
        text = line.text.strip(_SPACE)
        problem = None
        if not text:
            problem = rules.BLANK_LINE.problem()
        elif text.startswith(("//", "#")):
            problem = rules.COMMENT_LINE.problem(text=line.text)
        elif _CONFLICT.match(text) or (text == _CONFLICT_MIDDLE and self._conflict_open):
            self._conflict_open = not text.startswith(">")
            problem = rules.MERGE_CONFLICT.problem(text[:40], text=line.text)
        return Remark(self._name, line.number, problem) if problem else None

    # --- rows ----------------------------------------------------------------------------------------------------

    def _text(self) -> Iterator[RawRow | Remark]:
        lines, name = self._lines, self._name
        if self._first_block and self._file.read(len(BOM)) == BOM:
            yield Remark(name, 1, rules.BYTE_ORDER_MARK.problem())
        if self._first_block:
            self._file.seek(0)
        first = self._first_block
        while True:
            raw = None if self._in_array else lines.raw()
            if raw is not None and raw[:1] == b"{" and len(raw) <= MAX_ROW_BYTES:
                # nearly every row of nearly every file: known to be whole after one decoding
                value = plain_chat(raw)
                plain = value is not None
                if plain or (value := _whole(raw)) is not None:
                    span = (lines.offset, len(raw))
                    lines.passed(raw)
                    first = False
                    yield RawRow(name, lines.number, raw, value, (), span, plain)
                    continue
            if raw is not None and len(raw) > MAX_ROW_BYTES and _LONG_ARRAY.match(raw) is not None:
                first = False
                yield from self._long_array(raw)
                continue
            line = self._next() if raw is None else lines.decoded(raw)
            if line is None:
                break
            if line.problem is not None:
                yield self._row(line.number, line.text, None, line.problem)
            elif (remark := self._remark(line)) is not None:
                yield remark
            elif first and (source := self._python_source(line)) is not None:
                yield source
                self.stopped = True
                return
            else:
                first = False
                yield from self._content(line)
        if self._in_array and self._whole:
            detail = f"the JSON array that opens on line {self._array_line} is never closed"
            yield Remark(self._name, lines.number, rules.TRUNCATED_FILE.problem(detail))

    def _next(self) -> Line | None:
        return self._lines.next()

    def _ahead(self) -> Line | None:
        """Returns the next line for a row that is not done yet; at a block's end, the row may go on in the next block."""
        line = self._lines.next()
        if line is None and not self._whole:
            self._cut = True
        return line

    def _content(self, line: Line) -> Iterator[RawRow | Remark]:
        try:
            value = orjson.loads(line.text)
        except orjson.JSONDecodeError as error:
            if line.text.lstrip(_SPACE).startswith("{") and (found := literal_row(line.text, error.pos)) is not None:
                problem = rules.PYTHON_LITERAL.problem(text=line.text, column=error.pos)
                yield self._row(line.number, line.text, found, problem)
            else:
                yield from self._recover(line)
        else:
            yield from self._decoded(line, value)

    def _decoded(self, line: Line, value: Any) -> Iterator[RawRow]:
        """The rows of a line that is one JSON value."""
        number, text = line.number, line.text
        if isinstance(value, dict):
            problem = value_problem(text, value)
            if problem is not None:
                yield self._row(number, text, None, problem)
            elif self._in_array:
                yield self._row(number, text, value, rules.NOT_JSONL.problem(_ARRAY))
            else:
                yield RawRow(self._name, number, text, value, (), (line.offset, line.size))
        elif isinstance(value, list) and value and not _is_message_list(value):
            # judged by the line's own text: a key that stood twice is gone from the elements
            problem = value_problem(text, value)
            for item in value:
                element = text if problem else orjson.dumps(item).decode()
                if problem is not None:
                    yield self._row(number, element, None, problem)
                    return
                if isinstance(item, dict):
                    yield self._row(number, element, item, rules.NOT_JSONL.problem(_ARRAY))
                else:
                    yield self._row(number, element, None, rules.NOT_AN_OBJECT.problem(_kind(item), text=element))
        else:
            yield self._row(number, text, None, rules.NOT_AN_OBJECT.problem(_kind(value), text=text))

    def _long_array(self, raw: bytes) -> Iterator[RawRow | Remark]:
        """The rows of an array that stands on one line and is too long to be decoded at once."""
        lines, skipped = self._lines, raw.index(b"[")
        before, number = lines.offset + skipped, lines.number + 1
        pieces = lines.pieces(raw)
        next(pieces)
        elements = ArrayElements(itertools.chain((raw[skipped:],), pieces), MAX_ROW_BYTES)
        for element in elements:
            yield self._element(element, number, before)
        if not elements.closed:
            detail = f"the JSON array that opens on line {number} is never closed"
            yield Remark(self._name, number, rules.TRUNCATED_FILE.problem(detail))

    def _element(self, element: Element, number: int, before: int) -> RawRow:
        if not element.whole or not element.inside:
            text = element.data[:SHOWN_BYTES].decode(errors="backslashreplace")
            problem = rules.NOT_JSON.problem(f"{element.size:,} bytes behind the array's end", text=text)
            if element.inside:
                size = f"an element of {element.size:,} bytes; the limit is {MAX_ROW_BYTES:,}"
                problem = rules.OVER_LIMIT.problem(size, text=text)
            return self._row(number, text, None, problem)
        try:
            value = orjson.loads(element.data)
        except orjson.JSONDecodeError as error:
            text = element.data.decode(errors="backslashreplace")
            return self._row(number, text, None, _decode_problem(text, error))
        if not isinstance(value, dict):
            text = element.data.decode()
            return self._row(number, text, None, rules.NOT_AN_OBJECT.problem(_kind(value), text=text))
        if not is_surely_whole(element.data, value):
            text = element.data.decode()
            if (lost := value_problem(text, value)) is not None:
                return self._row(number, text, None, lost)
        span = (before + element.offset, element.size)
        return RawRow(self._name, number, element.data, value, (rules.NOT_JSONL.problem(_ARRAY),), span)

    def _recover(self, line: Line) -> Iterator[RawRow | Remark]:
        """The rows of a line that is not one JSON value: several, a part of one, an array's bracket, or none."""
        at, first = 0, True
        while True:
            at = _skip_space(line.text, at)
            if at == len(line.text):
                return
            char = line.text[at]
            if char == "{":
                scanned = self._object(line, at)
                if isinstance(scanned, _Break):
                    yield self._broken(line, at, scanned)
                    return
                yield self._named(scanned, first)
                yield from scanned.remarks
                line, at, first = scanned.last, scanned.end, False
            elif char == "," and (not first or self._in_array):
                at += 1
            elif char == "[" and not self._in_array and line.text[at + 1 :].strip(_SPACE)[:1] in {"", "{"}:
                self._in_array, self._array_line = True, line.number
                at += 1
            elif char == "]" and self._in_array:
                self._in_array = False
                at += 1
            elif line.text.startswith("//", at):
                yield Remark(self._name, line.number, rules.COMMENT_LINE.problem(text=line.text, column=at))
                return
            else:
                yield self._broken(line, at, None)
                return

    def _object(self, line: Line, start: int) -> _Scanned | _Break:
        """Scans one object from a column on, over as many lines as it takes; where it breaks, they are put back."""
        scanner, first, size = ObjectScanner(), line, 0
        taken: list[Line] = []
        remarks: list[Remark] = []
        while True:
            try:
                end = scanner.feed(line.text, start if line is first else 0)
            except BrokenJSON as error:
                found = _Break(line.number, error.column, error.reason)
                break
            if end is not None and self._may_follow(line.text[end:].strip(_SPACE)):
                return _Scanned(self._scanned_row(scanner, first, start, end, taken), remarks, line, end)
            if end is not None:
                found = _Break(line.number, end, "the row ends here, and something that is not a row follows")
                break
            size += len(line.text)
            following = self._ahead()
            while following is not None and (remark := self._remark(following)) is not None:
                remarks.append(remark)
                taken.append(following)
                following = self._ahead()
            if following is None or following.problem is not None or size > MAX_ROW_BYTES:
                reason = f"the row is longer than {MAX_ROW_BYTES:,} bytes" if size > MAX_ROW_BYTES else _NEVER_CLOSED
                found = _Break(line.number, len(line.text), reason)
                taken += [following] if following else []
                break
            line = following
            taken.append(line)
        self._lines.put_back(taken)
        return found

    def _may_follow(self, rest: str) -> bool:
        """Whether this may stand on a line after a row: another row, a comment, or the end of an array."""
        if rest.startswith(","):
            rest = rest[1:].lstrip(_SPACE)
        return not rest or rest.startswith(("{", "//")) or (rest.startswith("]") and self._in_array)

    def _scanned_row(self, scanner: ObjectScanner, first: Line, start: int, end: int, taken: list[Line]) -> RawRow:
        if taken:
            text = "\n".join([first.text[start:], *(line.text for line in taken[:-1]), taken[-1].text[:end]])
        else:
            text = first.text[start:end]
        try:
            value = orjson.loads(scanner.text)
        except orjson.JSONDecodeError as error:  # the scanner knows brackets, not every escape
            return self._row(first.number, text, None, _decode_problem(scanner.text, error))
        problem = value_problem(scanner.text, value)
        if problem is not None:
            return self._row(first.number, text, None, problem)
        if scanner.num_comments:
            return self._row(first.number, text, value, rules.COMMENT_LINE.problem("inside a row", text=text))
        return self._row(first.number, text, value)

    def _named(self, scanned: _Scanned, first: bool) -> RawRow:
        """Returns a row that was read from more or less than a line, saying from what."""
        row, rest = scanned.row, scanned.last.text[scanned.end :].strip(_SPACE)
        if row.value is None:
            return row
        if self._in_array:
            how = _ARRAY
        elif scanned.last.number != row.line:
            how = "rows that run over several lines (pretty-printed)"
        elif first and rest.startswith("//"):
            return row
        else:
            how = "a comma after the row" if first and rest == "," else "several rows on one line"
        return self._row(row.line, row.text, row.value, *row.problems, rules.NOT_JSONL.problem(how))

    def _broken(self, line: Line, start: int, found: _Break | None) -> RawRow:
        """Returns the stretch from here to where the next row can start, as a row with an error."""
        stretch, size = [line.text[start:]], 0
        while (following := self._ahead()) is not None:
            size += len(following.text)
            if following.problem is not None or self._starts_anew(following, line) or size > MAX_ROW_BYTES:
                self._lines.put_back([following])
                break
            stretch.append(following.text)
        text = "\n".join(stretch)
        about = ""
        if len(stretch) > 1:
            about = (
                f" ({len(stretch):,} lines" + ("" if _ROW_KEY.search(text) else ', with no "messages" in them') + ")"
            )
        if found is None:
            problem = rules.NOT_JSON.problem(f"text that is not JSON{about}", text=line.text, column=start)
        else:
            problem = self._cause(line, start, found, about, at_end=following is None)
        return self._row(line.number, text, None, problem)

    def _starts_anew(self, line: Line, broken: Line) -> bool:
        text = line.text.strip(_SPACE)
        if not text or text.startswith(("//", "#")) or _CONFLICT.match(text) or text == _CONFLICT_MIDDLE:
            return True
        # inside a broken pretty-printed row, a deeper `{` is a part of it
        inside = broken.text.lstrip(_SPACE).startswith("{") and _indentation(line.text) > _indentation(broken.text)
        return text[0] in "{[]" and not inside

    def _cause(self, line: Line, start: int, found: _Break, about: str, *, at_end: bool) -> Problem:
        if found.line != line.number and found.reason == _NEVER_CLOSED and at_end and about:
            return rules.TRUNCATED_ROW.problem(f"the file ends inside it{about}", text=line.text, column=start)
        if not about:
            try:
                orjson.loads(line.text[start:])
            except orjson.JSONDecodeError as error:
                if error.msg.startswith("unexpected end"):
                    where = f"it ends at column {len(line.text)}"
                    return rules.TRUNCATED_ROW.problem(where, text=line.text, column=len(line.text))
                return _decode_problem(line.text, error, start)
        where = f"column {found.column + 1}"
        if found.line != line.number:
            where = f"line {found.line}, {where}"
        return rules.NOT_JSON.problem(f"{where}: {found.reason}{about}", text=line.text, column=start)

    def _row(self, number: int, text: str, value: dict[str, Any] | None, *problems: Problem) -> RawRow:
        return RawRow(self._name, number, text, value, problems)

    def _python_source(self, line: Line) -> RawRow | None:
        """Returns the whole file as one refused row where it is a Python program."""
        if line.text.lstrip(_SPACE)[:1] in "{[":
            return None
        after = self._file.tell()
        self._file.seek(0)
        source = self._file.read(MAX_SOURCE_BYTES)
        self._file.seek(after)
        if not self._whole and len(source) < MAX_SOURCE_BYTES:
            self._cut = True  # whether it is a program, more of it must tell
        if not is_program(source):
            return None
        text = source.decode(errors="backslashreplace")
        return self._row(line.number, text, None, rules.PYTHON_SOURCE.problem(text=line.text))


def _whole(raw: bytes) -> dict[str, Any] | None:
    """Returns the object that a line of JSON holds, if decoding it certainly lost nothing."""
    try:
        value: dict[str, Any] = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return value if is_surely_whole(raw, value) else None


def empty_file(name: str) -> Remark:
    """Returns what there is to say of a file without any row."""
    return Remark(name, 1, rules.EMPTY_FILE.problem())


def _decode_problem(text: str, error: orjson.JSONDecodeError, start: int = 0) -> Problem:
    column = start + error.pos
    if "surrogate" in error.msg:
        escape = re.match(r"\\u[0-9a-fA-F]{4}", text[column:])
        detail = f"half of a surrogate pair ({escape.group() if escape else 'escape'}) that stands for no character"
        return rules.ENCODING.problem(detail, text=text, column=column)
    if "depth" in error.msg:
        return rules.OVER_LIMIT.problem(error.msg, text=text, column=column)
    before = text[:column].rstrip(_SPACE)
    hint = ' (an unescaped " inside a string?)' if before.endswith('"') and "expected ','" in error.msg else ""
    return rules.NOT_JSON.problem(f"column {column + 1}: {error.msg}{hint}", text=text, column=column)


def _is_message_list(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) and "role" in item for item in value)


def _kind(value: Any) -> str:
    if _is_message_list(value):
        return 'a list of messages without its object {"messages": […]}'
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _indentation(text: str) -> int:
    return len(text) - len(text.lstrip(_SPACE))
