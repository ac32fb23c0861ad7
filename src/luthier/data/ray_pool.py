"""Blocks judged by Ray: many files, many machines, the same findings.

Each block is read where it is judged, so the files must lie where every worker sees them under the same path. What comes
back are reports, a few hundred bytes a row.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from luthier.data.blocks import Block, Pool, cut, judge_block
from luthier.data.judge import BlockReport, Questions
from luthier.data.reading.streams import Source
from luthier.errors import DataError, MissingError


class RayPool(Pool):
    """Judges blocks in a Ray Data pipeline; use it in a `with` statement.

    Connects to the Ray cluster that is running, or starts one on this machine.

    Args:
        questions: what to look for.
        sources: the files, in the order in which their blocks will be asked for.

    Raises:
        MissingError: Ray is not installed.
        DataError: code "not_shared" for standard input and compressed files.
    """

    def __init__(self, questions: Questions, sources: list[Source]) -> None:
        super().__init__(questions, workers=1)
        for source in sources:
            if str(source.path) != source.name:
                raise DataError(
                    f"{source.name} is {'compressed' if source.compression else 'a stream'}, and Ray's workers read files "
                    "by themselves.",
                    code="not_shared",
                    param="engine",
                    hint="Unpack it to a file that all workers see, or check it without --engine ray.",
                )
        try:
            import ray  # noqa: PLC0415 - an extra
            import ray.data  # noqa: PLC0415
        except ImportError:
            raise MissingError(
                "Ray is not installed.", code="ray_missing", param="engine", hint='pip install "luthier[ray]"'
            ) from None
        self._ray = ray
        self._sources = sources
        self._reports: Iterator[tuple[tuple[str, int], BlockReport]] = iter(())

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            self._ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        self._reports = self._run()
        return self

    def __exit__(self, *_: object) -> None:
        self._reports = iter(())

    def submit(self, block: Block) -> Callable[[], BlockReport]:
        """Returns a function that waits for the report on a block; blocks must be asked for in order."""
        place = (block.name, block.offset)

        def result() -> BlockReport:
            for found, report in self._reports:  # reports on blocks that were judged in another way are passed over
                if found == place:
                    return report
            return judge_block(block, self.questions)

        return result

    def _run(self) -> Iterator[tuple[tuple[str, int], BlockReport]]:
        data = self._ray.data
        context = data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        questions = self._ray.put(self.questions)
        blocks = [_described(block) for source in self._sources for block in _blocks(source)]
        judged = data.from_items(blocks, override_num_blocks=max(1, len(blocks))).map(_judge, fn_args=(questions,))
        for row in judged.iter_rows():
            yield (str(row["name"]), int(row["offset"])), pickle.loads(row["report"])


def _blocks(source: Source) -> Iterator[Block]:
    with Path(source.path).open("rb") as file:
        yield from cut(source.name, file)


def _described(block: Block) -> dict[str, Any]:
    size = len(block.data) if block.data is not None else -1
    return {"name": block.name, "number": block.number, "offset": block.offset, "size": size, "last": block.last}


def _judge(row: dict[str, Any], questions: Any) -> dict[str, Any]:
    """Runs on a worker: reads a block and returns its report."""
    import ray  # noqa: PLC0415

    found: Questions = ray.get(questions) if not isinstance(questions, Questions) else questions
    report = None
    if row["size"] >= 0:
        with Path(row["name"]).open("rb") as file:
            file.seek(row["offset"])
            block = Block(row["name"], file.read(row["size"]), row["number"], row["offset"], row["last"])
        report = judge_block(block, found)
    return {"name": row["name"], "offset": row["offset"], "report": pickle.dumps(report)}
