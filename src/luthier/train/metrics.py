"""What each step measured: a line a step in the run's `metrics.jsonl`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from luthier.errors import TrainError
from luthier.runs import append_line, read_lines, write_atomically


class Metrics:
    """The file of a run's metrics.

    Args:
        path: of the file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds the line of a step.

        Raises:
            TrainError: it cannot be written.
        """
        with self._written():
            append_line(self._path, record)

    def forget_after(self, step: int) -> None:
        """Takes back the lines of steps that will be taken again, and a line torn by a crash.

        Raises:
            TrainError: the file cannot be written.
        """
        with self._written():
            kept = [line for line in read_lines(self._path) if line["step"] <= step]
            if kept:
                write_atomically(self._path, b"".join(orjson.dumps(line) + b"\n" for line in kept))
            else:
                self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainError(
                f"{self._path} cannot be written: {error.strerror or error}.",
                code="metrics_not_written",
                param="output.dir",
                hint="The last checkpoint stands. Make room or give the folder back its rights, then resume.",
            ) from error
