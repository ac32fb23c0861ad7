"""What is compared of examples, told once: digests and a few numbers in memory, texts and signatures in temporary files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import islice
from typing import IO, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from luthier.data.chat import Example
from luthier.data.rows import Column, Digests, said
from luthier.data.twins.likeness import MIN_LONG_WORDS, content_words, count_words_to_long, normalised, words
from luthier.data.twins.minhash import NUM_MINIMA, Indices, Signatures, signatures
from luthier.data.twins.shared_array import let_go

MIN_FOLLOW_UP_WORDS = 4
"""Follow-ups with fewer content words ("Thanks, that's all!") say nothing of what a conversation is about."""
_ROWS_AT_ONCE, _SIGNED_AT_ONCE = 1 << 10, 1 << 15


class Told(NamedTuple):
    """What an example says, normalised.

    Attributes:
        content: a digest of all of it.
        users: the user's messages.
        text: what user and assistant say.
    """

    content: bytes
    users: list[str]
    text: str

    @property
    def opening(self) -> str:
        """The user's first message, or an empty string."""
        return self.users[0] if self.users else ""

    @property
    def laters(self) -> list[str]:
        """The user's other messages, but for those that mean nothing."""
        return [text for text in self.users[1:] if len(content_words(text)) >= MIN_FOLLOW_UP_WORDS]


def told(example: Example) -> Told:
    """Returns what an example says; the system prompt never counts."""
    spoken = [message for message in example.messages if message["role"] not in ("system", "developer")]
    texts = [(str(message["role"]), normalised(said(message))) for message in spoken]
    whole = "\0".join(part for said in texts for part in said)
    users = [text for role, text in texts if role == "user"]
    return Told(digest_of(whole), users, "\n".join(text for role, text in texts if role in ("user", "assistant")))


def digest_of(text: str) -> bytes:
    """Returns 128 bits that are equal for equal texts."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class _Texts:
    """Texts in a temporary file, by their numbers."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sizes = Column("i8")
        self._ends: Indices | None = None

    def add(self, text: str) -> None:
        self._sizes.add(self._file.write(text.encode("utf-8", "surrogatepass")))

    def seal(self) -> None:
        self._sizes.seal()

    def __getitem__(self, number: int) -> str:
        if self._ends is None:
            self._file.flush()
            self._ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(self._sizes.values())])
            self._sizes = Column("i8")
        start, end = self._ends[number : number + 2].tolist()
        return os.pread(self._file.fileno(), end - start, start).decode("utf-8", "surrogatepass")


class ToldTexts:
    """What was told of examples, numbered in the order in which they came; use it in a `with` statement.

    Attributes:
        contents, openings: digests of all that is said, and of the user's first message, [N, 2].
        has_opening: whether there is such a message with a text.
        laters, later_rows: digests of the user's other messages that mean something, [L, 2], and whose they are.
        num_words: of what user and assistant say; of long texts, as many as make a text long.
        asks_little: whether the user says something, and in fewer words than that.
        texts, users: what user and assistant say, and what the user says where that is little.
    """

    def __init__(self, examples: Iterable[Example]) -> None:
        self._closing = ExitStack()
        signed = self._temporary()
        self.texts, self.users = _Texts(self._temporary()), _Texts(self._temporary())
        contents, openings, laters = Digests(), Digests(), Digests()
        has_opening, asks_little = Column("?"), Column("?")
        later_rows, num_words = Column("i8"), Column("i4")
        columns = (contents, openings, laters, has_opening, asks_little, later_rows, num_words, self.texts, self.users)
        row, rest = 0, iter(examples)
        while some := list(map(told, islice(rest, _ROWS_AT_ONCE))):
            for one in some:
                contents.add(one.content)
                openings.add(digest_of(one.opening))
                has_opening.add(bool(one.opening))
                for text in one.laters:
                    laters.add(digest_of(text))
                    later_rows.add(row)
                num_words.add(count_words_to_long(one.text))
                self.texts.add(one.text)
                asked = "\n".join(one.users)
                little = 0 < len(words(asked)) < MIN_LONG_WORDS
                asks_little.add(little)
                self.users.add(asked if little else "")
                row += 1
            signed.write(signatures([one.text for one in some]).tobytes())
            for column in columns:
                column.seal()
        signed.flush()
        self._signed = signed
        self.contents, self.openings, self.laters = contents.values(), openings.values(), laters.values()
        self.has_opening, self.asks_little = has_opening.values(), asks_little.values()
        self.later_rows: Indices = later_rows.values()
        self.num_words: npt.NDArray[np.int32] = num_words.values()

    def __len__(self) -> int:
        return len(self.contents)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def signatures(self, order: Indices) -> Signatures:
        """Returns the signatures of `texts` in an order, in a temporary file."""
        if not len(self):
            return np.empty((0, NUM_MINIMA), np.uint16)
        ordered = self._temporary()
        signed = np.memmap(self._signed, np.uint16, "r", shape=(len(self), NUM_MINIMA))
        for start in range(0, len(order), _SIGNED_AT_ONCE):
            ordered.write(signed[order[start : start + _SIGNED_AT_ONCE]].tobytes())
            let_go(signed)
        ordered.flush()
        return np.memmap(ordered, np.uint16, "r", shape=(len(order), NUM_MINIMA))

    def _temporary(self) -> IO[bytes]:
        return self._closing.enter_context(tempfile.TemporaryFile(prefix="luthier-twins-"))
