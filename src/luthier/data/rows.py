"""What is remembered of rows once they have passed by: a few numbers each, and where to read them again.

A million rows are never held. What a rule needs to know of every row stands in columns (a `Column` holds one number a
row); what it needs of a few rows is read again from the file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import orjson

from luthier.data.chat import Message, content_text, is_trained
from luthier.data.rows_on_disk import PLACE, Files, RowsOnDisk
from luthier.data.shapes.columns import ColumnMap
from luthier.data.shapes.formats import Format, recognise
from luthier.data.twins.likeness import normalised
from luthier.data.twins.rare_search import Run

_READ_AGAIN = 256
"""Rows read again that are kept at hand."""
_JOINED_BYTES = 33 * 2**20
"""Of blocks that are joined in one. glibc gives what is larger than 32 MiB back to the system as soon as it is let go; small
blocks leave holes that nothing large fits into."""
_HELD_BYTES = 16 * 2**20
"""Of a column that goes to a file."""
_SPOOLED = -1
_NOT_ASKED = -1


@dataclass(slots=True)  # made for every row, and a frozen one takes three times as long
class Conversation:
    """A row as the rules about the set see it.

    Attributes:
        row: the JSON object.
        format: its shape.
        messages: its conversation in OpenAI's words; empty where it cannot be told.
    """

    row: dict[str, Any]
    format: Format
    messages: list[Message]
    _last_answer: int | None = _NOT_ASKED
    _content: bytes = b""
    _said: list[tuple[str, str]] | None = None

    @property
    def last_answer(self) -> int | None:
        """The place of the last message that is learned, or None."""
        if self._last_answer == _NOT_ASKED:
            messages = self.messages
            places = range(len(messages) - 1, -1, -1)
            self._last_answer = next((place for place in places if is_trained(messages[place])), None)
        return self._last_answer

    @property
    def answer(self) -> str:
        """The text that is learned last, or an empty string."""
        last = self.last_answer
        return content_text(self.messages[last]) if last is not None else ""

    @property
    def asked(self) -> str:
        """The last user message before the answer, or an empty string."""
        before = self.messages[: self.last_answer]
        return next((content_text(message) for message in reversed(before) if message["role"] == "user"), "")

    @property
    def opening(self) -> str:
        """The first user message, normalised, or an empty string."""
        return next((text for role, text in self._normalised() if role == "user"), "")

    @property
    def system(self) -> str:
        """The system messages, an empty line between them; an empty string where there are none."""
        return "\n\n".join(content_text(m) for m in self.messages if m["role"] in ("system", "developer"))

    @property
    def spoken(self) -> str:
        """What user and assistant say, calls included, normalised; what two rows are compared by. Never the system prompt:
        where all rows share it, it would make every row a twin of every other."""
        return "\n".join([text for _, text in self._normalised()])

    @property
    def content(self) -> bytes:
        """A digest of all that the row teaches; rows that are duplicates have the same."""
        if not self._content:
            is_chat = self.format.name in ("chat", "reinforcement")
            self._content = digest((self.row["messages"], self.row.get("tools")) if is_chat else self.row)
        return self._content

    def _normalised(self) -> list[tuple[str, str]]:
        if self._said is None:
            self._said = [(m["role"], normalised(said(m))) for m in self.messages if m["role"] in ("user", "assistant")]
        return self._said


def said(message: Message) -> str:
    """Returns a message's text with the calls it makes."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not calls:
        return content_text(message)
    functions = [call.get("function") for call in calls if isinstance(call, dict)]
    return "\n".join([content_text(message), *(orjson.dumps(function).decode() for function in functions)]).strip()


def seen(row: dict[str, Any]) -> Conversation:
    """Returns a row as the rules see it."""
    found = recognise(row)
    return Conversation(row, found, found.messages or [])


def digest(value: Any) -> bytes:
    """Returns 128 bits of a JSON value; the order of keys does not count."""
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


class Column:
    """One number a row, or several, in blocks.

    Args:
        dtype: NumPy's name of the type.
        width: numbers a row.

    Attributes:
        dtype, width: as given.
    """

    def __init__(self, dtype: str, width: int = 1) -> None:
        self.dtype = dtype
        self.width = width
        self._open: list[Any] = []
        self._blocks: list[npt.NDArray[Any]] = []
        self._num_joined = self._loose_bytes = 0

    def add(self, value: Any) -> None:
        """Adds a row's number or numbers."""
        self._open.append(value)

    def extend(self, block: npt.NDArray[Any]) -> None:
        """Adds the numbers of several rows."""
        self.seal()
        self._blocks.append(block)

    def seal(self) -> None:
        """Packs what was added."""
        if self._open:
            self._blocks.append(np.array(self._open, dtype=self.dtype))
            self._open = []

    def merge(self, later: Column) -> None:
        """Takes over the rows that follow."""
        self.seal()
        later.seal()
        self._blocks += later._blocks
        self._loose_bytes += sum(block.nbytes for block in later._blocks)
        if self._loose_bytes > _JOINED_BYTES:
            self._blocks[self._num_joined :] = [np.concatenate(self._blocks[self._num_joined :])]
            self._num_joined, self._loose_bytes = len(self._blocks), 0

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """Yields all of them, block by block, and lets go of each."""
        self.seal()
        self._blocks.reverse()
        self._num_joined = self._loose_bytes = 0
        while self._blocks:
            yield self._blocks.pop()

    def values(self) -> npt.NDArray[Any]:
        """Returns all of them, [N] or [N, width]."""
        self.seal()
        if len(self._blocks) != 1:
            count = sum(len(block) for block in self._blocks)
            whole = np.empty((count, self.width) if self.width > 1 else count, dtype=self.dtype)
            start = 0
            for block in self.blocks():  # each is let go once it is copied, so that nothing is held twice
                whole[start : start + len(block)] = block
                start += len(block)
            self._blocks = [whole]
        return self._blocks[0]


class FiledColumn(Column):
    """A column of wide numbers; where they are many, they lie in a temporary file, which all processes can open."""

    def __init__(self, dtype: str, width: int) -> None:
        super().__init__(dtype, width)
        self._path: Path | None = None
        self._held_bytes = 0

    @property
    def is_filed(self) -> bool:
        """Whether they lie in a file."""
        return self._path is not None

    def merge(self, later: Column) -> None:
        """Takes over the rows that follow."""
        self.seal()
        later.seal()
        self._blocks += later._blocks
        self._held_bytes += sum(block.nbytes for block in later._blocks)
        if self._held_bytes > _HELD_BYTES:
            self._write()

    def values(self) -> npt.NDArray[Any]:
        """Returns all of them, [N, width]. The file is removed with the column; what was returned can still be read."""
        if self._path is None:
            return super().values()
        self._write()
        num_rows = self._path.stat().st_size // (np.dtype(self.dtype).itemsize * self.width)
        return np.memmap(self._path, self.dtype, "r", shape=(num_rows, self.width))

    def _write(self) -> None:
        if self._path is None:
            handle, name = tempfile.mkstemp(prefix="luthier-check-")
            os.close(handle)
            self._path = Path(name)
            weakref.finalize(self, self._path.unlink, missing_ok=True)
        with self._path.open("ab") as file:
            for block in self.blocks():
                file.write(block.tobytes())
        self._held_bytes = 0


class Digests(Column):
    """A 128-bit digest a row."""

    def __init__(self) -> None:
        super().__init__("u8", 2)

    def add(self, value: bytes) -> None:
        """Adds the 16 bytes of a row's digest."""
        self._open.append(value)

    def seal(self) -> None:
        """Packs what was added."""
        if self._open:
            self._blocks.append(np.frombuffer(b"".join(self._open), dtype="u8").reshape(-1, 2))
            self._open = []

    def groups(self) -> npt.NDArray[np.int64]:
        """Returns for each row the number of the first row with the same digest, int64 [N]."""
        values = self.values()
        order = np.lexsort((values[:, 1], values[:, 0]))  # stable: equal digests stay in the order of the rows
        ordered = values[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        first = np.empty(len(order), dtype=np.int64)
        first[order] = order[new][np.cumsum(new) - 1] if len(order) else order
        return first


class RowReader:
    """Reads rows again by their numbers. Sent to another process it is small, and opens the files there for itself.

    Args:
        files: the paths that places speak of.
        places: a NumPy file with a row's file, offset and size each, int64 [N, 3].
        column_map: how columns become messages, or None.
    """

    def __init__(self, files: Sequence[str], places: str, column_map: ColumnMap | None) -> None:
        self._files = tuple(files)
        self._places_file = places
        self._column_map = column_map
        self._open: dict[int, BinaryIO] = {}
        self._places: npt.NDArray[np.int64] = np.load(places, mmap_mode="r")

    def __reduce__(self) -> tuple[Any, ...]:
        return RowReader, (self._files, self._places_file, self._column_map)

    def raw(self, number: int) -> bytes:
        """Returns a row's JSON."""
        file, offset, size = self._places[number].tolist()
        if file not in self._open:
            self._open[file] = open(self._files[file], "rb")  # noqa: SIM115, PTH123 - closed with the reader
        return os.pread(self._open[file].fileno(), size, offset)

    def conversation(self, number: int) -> Conversation:
        """Returns a row."""
        row: dict[str, Any] = orjson.loads(self.raw(number))
        return seen(row if self._column_map is None else self._column_map.row(row))

    def spoken(self, number: int) -> str:
        """Returns what is compared of a row; see `Conversation.spoken`."""
        return self.conversation(number).spoken

    def close(self) -> None:
        """Closes the files."""
        for file in self._open.values():
            file.close()
        self._open = {}


class RowStore:
    """The places of all rows, numbered from 0, and the rows themselves, read again when asked for.

    Rows that have no bytes of their own in the file (elements of an array, rows with comments in them) are kept in a
    temporary file.

    Attributes:
        files: their names, for people.
        file, line: where each row stands.
        run: does what `map` does, perhaps in other processes.
    """

    def __init__(self, column_map: ColumnMap | None = None, run: Run = map) -> None:
        self.files: list[str] = []
        self.file, self.line = Column("i4"), Column("i8")
        self.run = run
        self._place = Column("i8", 3)
        self._column_map = column_map
        self._paths: list[str] = []
        self._closing = ExitStack()
        self._folder: Path | None = None
        self._spool: BinaryIO | None = None
        self._spool_size = 0
        self._reader: RowReader | None = None
        self._recent: OrderedDict[int, Conversation] = OrderedDict()

    def __len__(self) -> int:
        return len(self.line.values())

    def open(self, name: str, path: Path) -> int:
        """Returns the number of a file whose rows follow; it must stay as it is until `close`."""
        self.files.append(name)
        self._paths.append(str(path))
        return len(self.files) - 1

    def close(self) -> None:
        """Deletes the temporary files."""
        self._closing.close()

    def add(self, file: int, places: Places) -> None:
        """Takes over the places of a block."""
        count = len(places.lines)
        if not count:
            return
        self.file.extend(np.full(count, file, dtype="i4"))
        self.line.extend(np.array(places.lines, dtype="i8"))
        place = np.empty((count, 3), dtype="i8")
        kept = np.array(places.kept, dtype=bool)
        place[:, 0] = np.where(kept, _SPOOLED, file)
        place[:, 1] = np.array(places.offsets, dtype="i8") + np.where(kept, self._spool_size, 0)
        place[:, 2] = places.sizes
        self._place.extend(place)
        if places.texts:
            if self._spool is None:
                self._spool = self._closing.enter_context((self._scratch() / "rows").open("wb"))
            self._spool_size += self._spool.write(b"".join(places.texts))

    def _scratch(self) -> Path:
        if self._folder is None:
            self._folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="luthier-check-")))
        return self._folder

    def reader(self) -> RowReader:
        """Returns what reads the rows again, once all are known."""
        if self._reader is None:
            places = self._place.values()
            places[places[:, 0] == _SPOOLED, 0] = len(self._paths)
            np.save(self._scratch() / "places.npy", places)
            if self._spool is not None:
                self._spool.flush()
            paths = [*self._paths, str(self._scratch() / "rows")]
            self._reader = RowReader(paths, str(self._scratch() / "places.npy"), self._column_map)
            self._closing.callback(self._reader.close)
        return self._reader

    def examples(self, numbers: npt.NDArray[np.int64]) -> RowsOnDisk:
        """Returns rows as examples. Their files are held open, so that they can be read when the store is closed, too."""
        self.reader()
        places = np.empty(len(numbers), PLACE)
        for number, name in enumerate(("file", "offset", "size")):
            places[name] = self._place.values()[numbers, number]
        places["name"], places["line"] = self.file.values()[numbers], self.line.values()[numbers]
        files = Files([*self._paths, self._scratch() / "rows"])
        files.hold(np.unique(places["file"]).tolist())
        return RowsOnDisk(files, self.files, places, self._column_map)

    def moved_out(self, name: str, column: Column) -> npt.NDArray[Any]:
        """Returns a column's numbers; where other processes work on them, they lie in a file that all of them see."""
        if self.run is map or (isinstance(column, FiledColumn) and column.is_filed):
            return column.values()
        path = self._scratch() / name
        with path.open("wb") as file:
            for block in column.blocks():
                file.write(block.tobytes())
        num_rows = path.stat().st_size // (np.dtype(column.dtype).itemsize * column.width)
        if not num_rows:
            return column.values()
        return np.memmap(path, column.dtype, "r", shape=(num_rows, column.width))

    def place(self, number: int) -> tuple[str, int]:
        """Returns the file and the physical line of a row."""
        return self.files[self.file.values()[number]], int(self.line.values()[number])

    def by_file(self, numbers: Iterable[int] | npt.NDArray[np.int64]) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
        """Yields for each file the numbers of those rows that stand in it, in order."""
        rows = np.sort(np.fromiter(numbers, dtype=np.int64) if not isinstance(numbers, np.ndarray) else numbers)
        files = self.file.values()[rows]
        for file in np.unique(files):
            yield self.files[file], rows[files == file]

    def lines(self, numbers: npt.NDArray[np.int64]) -> list[int]:
        """Returns the physical lines of rows."""
        found: list[int] = self.line.values()[numbers].tolist()
        return found

    def sizes(self) -> npt.NDArray[np.int64]:
        """Returns the bytes of each row's JSON, int64 [N]: never fewer than those of its texts."""
        sizes: npt.NDArray[np.int64] = self._place.values()[:, 2]
        return sizes

    def conversation(self, number: int) -> Conversation:
        """Returns a row."""
        if (known := self._recent.get(number)) is not None:
            self._recent.move_to_end(number)
            return known
        found = self._recent[number] = self.reader().conversation(number)
        if len(self._recent) > _READ_AGAIN:
            self._recent.popitem(last=False)
        return found


class Places:
    """The places of a block's rows; see `RowStore.add`."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.offsets: list[int] = []
        self.sizes: list[int] = []
        self.kept: list[bool] = []
        self.texts: list[bytes] = []
        self._size = 0

    def add(self, line: int, span: tuple[int, int] | None, row: dict[str, Any]) -> None:
        """Notes where a row stands; one without a span of its own is kept as text."""
        text = b"" if span is not None else orjson.dumps(row)
        offset, size = span if span is not None else (self._size, len(text))
        self.lines.append(line)
        self.offsets.append(offset)
        self.sizes.append(size)
        self.kept.append(span is None)
        if span is None:
            self.texts.append(text)
            self._size += size
