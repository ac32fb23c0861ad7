"""gzip and zstd streams, unpacked bit by bit: bounded in memory, with nothing readable lost where a stream is damaged.

Python's own readers cannot be used for that: they drop what they had unpacked when the stream breaks, and zstd's takes a
cut-off stream for a whole one.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Literal, Protocol

import zstandard

from luthier.errors import DataError

Compression = Literal["gzip", "zstd"]

MAX_UNPACKED_BYTES = 8 * 2**30
"""More than this is not unpacked. Source: the largest file OpenAI's uploads take (8 GB)."""
MAX_RATIO = 200
"""Past `FREE_BYTES`, output that is more than this many times the input is taken for a bomb. JSONL packs 3- to 20-fold;
gzip can reach 1,032, zstd 32,700 (both measured on zeros)."""
FREE_BYTES = 64 * 2**20
_GZIP_SLICE_BYTES = 16 * 2**10
"""Compressed bytes given to zlib at a time: at most 16.5 MiB come out at once."""
_ZSTD_SLICE_BYTES = 2 * 2**10
"""Compressed bytes given to zstd at a time: at most 64 MiB come out at once."""
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
_LIBRARY_WORDS = re.compile(r"^(Error -?\d+ while decompressing data: |zstd decompressor error: )")


def compression_of(file: BinaryIO) -> Compression | None:
    """Returns how a file is packed, by its first bytes; leaves it at position 0."""
    head = file.read(len(_ZSTD_MAGIC))
    file.seek(0)
    if head.startswith(_GZIP_MAGIC):
        return "gzip"
    # pzstd and others put a skippable frame in front
    return "zstd" if head == _ZSTD_MAGIC or _ZSTD_SKIPPABLE.fullmatch(head) else None


def too_large(name: str, why: str, *, param: str) -> DataError:
    """Returns the refusal to unpack any more of a file."""
    return DataError(
        f"{name} was not unpacked: {why}.",
        code="too_large",
        param=param,
        hint="If that is right, unpack it yourself and give the unpacked file.",
    )


class _Decoder(Protocol):
    """One member of a gzip file or one frame of a zstd file."""

    @property
    def eof(self) -> bool:
        """Whether its end was reached."""

    @property
    def unused_data(self) -> bytes:
        """What was fed past its end."""

    def decompress(self, data: bytes, /) -> bytes:
        """Returns what can be unpacked with these bytes more."""


class Unpacking:
    """The state of unpacking one file.

    Args:
        file: the packed bytes, seekable.
        name, param: the file and the recipe path or option that named it, for errors.

    Attributes:
        damage: why the stream could not be unpacked to its end; None where it could.
    """

    def __init__(self, file: BinaryIO, compression: Compression, *, name: str, param: str) -> None:
        self._file = file
        self._compression = compression
        self._name = name
        self._param = param
        self._slice_bytes = _GZIP_SLICE_BYTES if compression == "gzip" else _ZSTD_SLICE_BYTES
        self._zstd = zstandard.ZstdDecompressor()
        self._num_taken = 0
        self._num_given = 0
        self._member_start = 0
        self._given_before_member = 0
        self.damage: str | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yields all that can be unpacked, then sets `damage`.

        Raises:
            DataError: code "too_large".
        """
        decoder: _Decoder | None = None
        while data := self._file.read(self._slice_bytes):
            while data:
                if decoder is None or decoder.eof:
                    if not self._begins(data):
                        return
                    self._member_start, self._given_before_member = self._num_taken, self._num_given
                    decoder = self._decoder()
                try:
                    output = decoder.decompress(data)
                except (zlib.error, zstandard.ZstdError) as error:
                    self._refuse_large_window(error)
                    yield from self._rescued()
                    return
                rest = decoder.unused_data if decoder.eof else b""
                self._num_taken += len(data) - len(rest)
                if output:
                    yield self._counted(output)
                data = rest
        if decoder is not None and not decoder.eof:
            part = "member" if self._compression == "gzip" else "frame"
            self.damage = f"the {self._compression} stream is cut off after {self._num_taken:,} bytes, inside a {part}"

    def _decoder(self) -> _Decoder:
        if self._compression == "gzip":
            return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        return self._zstd.decompressobj()

    def _counted(self, output: bytes) -> bytes:
        self._num_given += len(output)
        taken = max(1, self._num_taken)
        if self._num_given > FREE_BYTES and self._num_given > MAX_RATIO * taken:
            raise too_large(
                self._name,
                f"{self._num_given:,} bytes came out of its first {taken:,}, {self._num_given // taken:,} times as many. "
                f"A file of examples packs 3- to 20-fold; past {MAX_RATIO} it looks like a decompression bomb",
                param=self._param,
            )
        return output

    def _begins(self, data: bytes) -> bool:
        """Whether a member starts here; tells the damage where something else does."""
        if self._num_taken == 0:
            return True
        head = (data + self._file.read(len(_ZSTD_MAGIC)))[: len(_ZSTD_MAGIC)]
        self._file.seek(self._num_taken + len(data))
        magic = _GZIP_MAGIC if self._compression == "gzip" else _ZSTD_MAGIC
        # a magic number that is itself cut off is a member that is cut off
        if magic.startswith(head[: len(magic)]):
            return True
        if self._compression == "zstd" and _ZSTD_SKIPPABLE.fullmatch(head):
            return True
        if self._compression != "gzip" or not self._only_zeros(data):
            at = self._num_taken
            self.damage = f"after {at:,} bytes of {self._compression} comes something else, which was not read"
        return False

    def _only_zeros(self, data: bytes) -> bool:
        """Whether a gzip file is zeros from here to its end, as padding to a tape's block is."""
        while data and not data.strip(b"\0"):
            data = self._file.read(self._slice_bytes)
        return not data

    def _refuse_large_window(self, error: Exception) -> None:
        if "too much memory" in str(error):
            raise DataError(
                f"{self._name} cannot be unpacked in the 128 MiB that zstd allows: it was packed with --long.",
                code="too_large",
                param=self._param,
                hint="Unpack it yourself (zstd -d --long=31) and give the unpacked file.",
            ) from error

    def _rescued(self) -> Iterator[bytes]:
        """Yields what the damaged member still has to give: an error had taken the output of its whole slice with it.

        The member is unpacked again, up to that slice as before and from there on byte by byte.
        """
        failed_slice, known = self._num_taken, self._num_given - self._given_before_member
        self._file.seek(self._member_start)
        self._num_taken = self._member_start
        decoder = self._decoder()
        try:
            while data := self._file.read(min(self._slice_bytes, max(1, failed_slice - self._num_taken))):
                output = decoder.decompress(data)
                self._num_taken += len(data)
                if len(output) > known:
                    yield self._counted(output[known:])
                known = max(0, known - len(output))
        except (zlib.error, zstandard.ZstdError) as error:
            reason = _LIBRARY_WORDS.sub("", str(error))
            place = f"at byte {self._num_taken + 1:,}"
            self.damage = f"the {self._compression} stream is damaged {place} ({reason}); what follows was not read"
