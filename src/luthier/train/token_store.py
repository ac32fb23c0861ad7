"""Encoded rows on disk, read one at a time, so that a training needs no more memory for a million rows than for a thousand.

```
DIR/rows.bin       each row: its token ids, its mask of trained tokens as bits, its place;
                   each pair: the lengths of its two conversations as uint32, ids and mask of each, its place
    starts.bin     int64 [N + 1]: where each row begins in rows.bin
    lengths.bin    uint32 [N]: the tokens computed for it: of a pair, those of the prompt and of both answers
    store.json     what the rows were made from and what was left out, the type of the ids, sha256 of the other files;
                   written last
```

Of all this only the 12 bytes a row of the two lists are held in memory. Rows are read with `pread` rather than from a
memory map: pages of a map count as the process's own memory until the system wants them back, and a file that shrinks
under a map ends the process without a word.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import orjson
from numpy.typing import NDArray

from luthier.errors import TrainError
from luthier.model.chat_template import EncodedExample
from luthier.runs import Event, Listener, folder_atomically, no_listener, sha256_file
from luthier.train.encode import EncodedPair, TooLong

Row = TypeVar("Row", EncodedExample, EncodedPair)
_ROWS, _STARTS, _LENGTHS, _ABOUT = "rows.bin", "starts.bin", "lengths.bin", "store.json"
_CHUNK_ROWS = 65_536


class TokenStore(Sequence[Row], Generic[Row]):
    """Encoded rows of a folder, conversations or pairs of them, in the order in which they were written.

    Attributes:
        lengths: tokens computed for each row.
        num_tokens, num_trained: of all rows.
        longest_answer_tokens: of all rows' last answers, of pairs the preferred ones.
        too_long: rows that were left out.
        content: a digest of the rows without their places; see `content_digest`.
    """

    def __init__(self, folder: Path) -> None:
        about: dict[str, Any] = orjson.loads((folder / _ABOUT).read_bytes())
        self.path = folder
        self.num_tokens = int(about["num_tokens"])
        self.num_trained = int(about["num_trained"])
        self.longest_answer_tokens = int(about["longest_answer_tokens"])
        self.too_long = tuple(TooLong(*row) for row in about["too_long"])
        self.content = str(about["content"])
        self.lengths: NDArray[np.uint32] = np.fromfile(folder / _LENGTHS, np.uint32)
        self._starts: NDArray[np.int64] = np.fromfile(folder / _STARTS, np.int64)
        self._pairs = bool(about["pairs"])
        self._dtype = np.dtype(about["ids"])
        self._descriptor = os.open(folder / _ROWS, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._row(place) for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._row(index % len(self))

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, range(len(self)))

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def _row(self, index: int) -> Any:
        start, stop = self._starts[index : index + 2].tolist()
        data = os.pread(self._descriptor, stop - start, start)
        if len(data) != stop - start:
            raise TrainError(
                f"{self.path / _ROWS} ends before its row {index + 1:,}.",
                code="token_store_damaged",
                hint=f"Remove {self.path} and resume: the rows are encoded again.",
            )
        if not self._pairs:
            (row,) = _unpacked(data, 0, [int(self.lengths[index])], self._dtype)
            return row
        lengths = np.frombuffer(data, np.uint32, 2)
        return EncodedPair(*_unpacked(data, lengths.nbytes, lengths.tolist(), self._dtype))


def write_token_store(
    folder: Path,
    rows: Iterable[Row],
    *,
    vocabulary_size: int,
    made_from: str,
    pairs: bool = False,
    too_long: Sequence[TooLong] = (),
) -> TokenStore[Row]:
    """Writes rows to a folder, whole or not at all, while they are made one after another, and opens it.

    Args:
        folder: replaced if it exists.
        rows: may be a generator; none of them is kept in memory.
        vocabulary_size: decides the type of the ids; with up to 65,536 tokens each takes two bytes.
        made_from: a digest of all that decides the rows: the data, the tokenizer and template, the options.
        pairs: whether the rows are pairs.
        too_long: rows that were left out, noted in the store; may grow while the rows are made.

    Raises:
        TrainError: the store cannot be written.
        LuthierError: what making the rows raises; nothing is left behind.
    """
    dtype = np.dtype(np.uint16 if vocabulary_size <= 1 << 16 else np.uint32)
    try:
        with folder_atomically(folder) as new:
            about = _write_rows(new, rows, dtype, pairs=pairs)
            about["too_long"] = [[row.number, row.place, row.num_tokens] for row in too_long]
            hashes = {name: sha256_file(new / name) for name in (_ROWS, _STARTS, _LENGTHS)}
            (new / _ABOUT).write_bytes(orjson.dumps({"made_from": made_from, **about, "sha256": hashes}))
    except OSError as error:
        raise TrainError(
            f"The encoded rows cannot be written to {folder}: {error.strerror or error}.",
            code="token_store_not_written",
            param="output.dir",
            hint="Make room or give the folder back its rights, then resume.",
        ) from error
    return TokenStore(folder)


def open_token_store(folder: Path, *, made_from: str, listener: Listener = no_listener) -> TokenStore[Any] | None:
    """Returns the store of a folder, or None where there is none that was made from this; a damaged one is said."""
    if not (folder / _ABOUT).exists():
        return None
    try:
        about = orjson.loads((folder / _ABOUT).read_bytes())
        if about["made_from"] != made_from:
            return None
        changed = [name for name, digest in about["sha256"].items() if sha256_file(folder / name) != digest]
    except (OSError, ValueError, KeyError, TypeError) as error:
        changed = [str(error)]
    if changed:
        problem = f"The encoded rows in {folder} are damaged ({', '.join(changed)}); they are made again."
        listener(Event("warning", problem))
        return None
    return TokenStore(folder)


def digest_of(*parts: str) -> str:
    """Returns one digest of several texts; where one ends and the next begins matters."""
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def content_digest(rows: Iterable[EncodedExample] | Iterable[EncodedPair]) -> str:
    """Returns one digest of what rows hold: token ids and masks, whatever their places."""
    content = hashlib.sha256()
    for row in rows:
        _add_content(content, _conversations(row))
    return content.hexdigest()


def _write_rows(folder: Path, rows: Iterable[Any], dtype: np.dtype[Any], *, pairs: bool) -> dict[str, Any]:
    """Writes the three files and returns what is known of all rows."""
    num_tokens = num_trained = longest_answer = end = 0
    content = hashlib.sha256()
    starts: list[int] = [0]
    lengths: list[int] = []
    with (
        (folder / _ROWS).open("wb") as data,
        (folder / _STARTS).open("wb") as starts_file,
        (folder / _LENGTHS).open("wb") as lengths_file,
    ):

        def flush() -> None:
            starts_file.write(np.array(starts, np.int64).tobytes())
            lengths_file.write(np.array(lengths, np.uint32).tobytes())
            starts.clear()
            lengths.clear()

        for row in rows:
            conversations = _conversations(row)
            header = np.array([len(one) for one in conversations], np.uint32).tobytes() if pairs else b""
            record = b"".join([header, *(_packed(one, dtype) for one in conversations), row.place.encode()])
            data.write(record)
            _add_content(content, conversations)
            end += len(record)
            starts.append(end)
            lengths.append(row.num_tokens if pairs else len(row))
            num_tokens += lengths[-1]
            num_trained += row.num_trained
            longest_answer = max(longest_answer, row.last_answer_tokens)
            if len(lengths) == _CHUNK_ROWS:
                flush()
        flush()
    return {
        "pairs": pairs,
        "ids": dtype.name,
        "num_tokens": num_tokens,
        "num_trained": num_trained,
        "longest_answer_tokens": longest_answer,
        "content": content.hexdigest(),
    }


def _conversations(row: EncodedExample | EncodedPair) -> tuple[EncodedExample, ...]:
    return (row.preferred, row.other) if isinstance(row, EncodedPair) else (row,)


def _add_content(content: hashlib._Hash, conversations: Sequence[EncodedExample]) -> None:
    for row in conversations:
        content.update(len(row).to_bytes(8, "little") + row.ids.tobytes() + row.trained.tobytes())


def _packed(row: EncodedExample, dtype: np.dtype[Any]) -> bytes:
    if int(row.ids.max()) > np.iinfo(dtype).max:
        raise ValueError(f"{row.place} holds token {int(row.ids.max())}, beyond the vocabulary's {dtype.name}")
    return row.ids.astype(dtype).tobytes() + np.packbits(row.trained).tobytes()


def _unpacked(data: bytes, start: int, lengths: Sequence[int], dtype: np.dtype[Any]) -> list[EncodedExample]:
    """Returns the conversations that stand one after another from `start` on, the place of all behind them."""
    found = []
    for length in lengths:
        ids = np.frombuffer(data, dtype, length, start).astype(np.int64)
        start += ids.size * dtype.itemsize
        bits = np.frombuffer(data, np.uint8, (length + 7) // 8, start)
        start += bits.size
        found.append((ids, np.unpackbits(bits, count=length).view(np.bool_)))
    place = data[start:].decode()
    return [EncodedExample(ids, trained, place) for ids, trained in found]
