"""Held-out files, read to be looked for in the training data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from luthier.data.chat import Message
from luthier.data.reading.files import RawRow, read_rows
from luthier.data.shapes.formats import recognise
from luthier.data.twins.contamination import HeldOut
from luthier.errors import DataError


def read_held_out(paths: Sequence[str | Path]) -> HeldOut:
    """Returns the rows of validation, test or benchmark files, of any known shape.

    Raises:
        DataError: a file cannot be read; code "held_out_not_readable" for a row whose conversation cannot be told: what is
            not read cannot be looked for.
    """
    return HeldOut(conversation for path in paths for conversation in _conversations(path))


def _conversations(path: str | Path) -> Iterator[tuple[str, int, list[Message]]]:
    for item in read_rows(path, param="against"):
        if not isinstance(item, RawRow):
            continue
        messages = recognise(item.value).messages if item.value is not None else None
        if not messages:
            raise DataError(
                f"{item.file}:{item.line}: the held-out row cannot be read as a conversation, so nobody can look for it.",
                code="held_out_not_readable",
                param="against",
                hint=f"`luthier check {path}` says what is wrong with it.",
            )
        yield item.file, item.line, messages
