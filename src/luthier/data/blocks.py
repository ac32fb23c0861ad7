"""A file cut into blocks of whole lines, judged on all cores, and put together in order.

A block is judged as if nothing stood before it. Where that is not so (a row, an array or a merge conflict goes on past its
end), it is judged again together with what follows. So the findings are those of one reader going through the file from
its first line to its last, however many processes judged it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, BinaryIO, Self

import numpy as np

from luthier.data.judge import BlockReport, Judge, Questions
from luthier.data.reading.files import RawRow, Remark, RowReader
from luthier.data.reading.lines import MAX_ROW_BYTES

BLOCK_BYTES = 2**20
"""About a thousand rows: what is packed together, and judged by one process."""
MIN_PARALLEL_BYTES = 8 * 2**20
"""Smaller files are judged in less time than a process takes to start."""
_MAX_JOINED = 16
"""Blocks judged again as one before the rest of the file is read by one reader, which holds only a row at a time."""
_ROWS_A_REPORT = 1000
_LINE_END = ord("\n")
_AHEAD = 3
"""Blocks waiting for each process: enough to keep it busy, and few enough for memory."""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file.

    Attributes:
        name: the file's.
        data: the lines; None where the next line is longer than any that is read whole.
        number, offset: how many lines and bytes lie before them.
        last: whether nothing follows.
    """

    name: str
    data: bytes | None
    number: int
    offset: int
    last: bool


def judge_block(block: Block, questions: Questions) -> BlockReport:
    """Returns the report on a block as if nothing stood before it."""
    assert block.data is not None
    reader = RowReader(block.name, BytesIO(block.data), number=block.number, offset=block.offset, whole=block.last)
    judge = Judge(questions)
    for item in reader:
        judge.take(item)
    report = judge.report()
    report.leaks, report.stopped = reader.leaks, reader.stopped
    return report


def cut(name: str, file: BinaryIO) -> Iterator[Block]:
    """Yields a file's blocks. A line longer than a block makes a longer one, unless it is longer than a row may be."""
    number = offset = 0
    data = file.read(BLOCK_BYTES)
    while data:
        rest = file.readline(MAX_ROW_BYTES + 1) if not data.endswith(b"\n") else b""
        if len(rest) > MAX_ROW_BYTES and not rest.endswith(b"\n"):
            end = data.rfind(b"\n") + 1
            if end:
                yield Block(name, data[:end], number, offset, last=False)
            yield Block(name, None, number + data.count(b"\n", 0, end), offset + end, last=False)
            return
        data += rest
        following = file.read(BLOCK_BYTES)
        yield Block(name, data, number, offset, last=not following)
        number += int(np.count_nonzero(np.frombuffer(data, "u1") == _LINE_END))  # bytes.count takes seven times as long
        offset += len(data)
        data = following


def num_workers() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Judges blocks, here or in other processes; use it in a `with` statement.

    Args:
        questions: what to look for.
        workers: how many processes; 1 judges here.
    """

    def __init__(self, questions: Questions, workers: int) -> None:
        self.questions = questions
        self.workers = workers
        self._processes: Any = None

    def __enter__(self) -> Self:
        if self.workers > 1:
            # loky's processes import neither the caller's script nor its state, as those of multiprocessing do
            from loky import ProcessPoolExecutor  # noqa: PLC0415 - small files need none

            self._processes = ProcessPoolExecutor(
                max_workers=self.workers, initializer=_begin, initargs=(self.questions,)
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._processes is not None:
            self._processes.shutdown(kill_workers=True)

    def submit(self, block: Block) -> Callable[[], BlockReport]:
        """Returns a function that waits for the report on a block."""
        future = self._sent(_judge, block) if block.data is not None else None
        if future is None:
            return lambda: judge_block(block, self.questions)

        def result() -> BlockReport:
            try:
                report: BlockReport = future.result()
            except BrokenExecutor:  # a process was killed, for its memory perhaps; its block is judged here
                self._processes = None
                report = judge_block(block, self.questions)
            return report

        return result

    def run(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """Does what `map` does, here or in the processes, with few results waiting at a time."""
        if self._processes is None:
            yield from map(function, tasks)
            return
        waiting: deque[tuple[Any, Future[Any] | None]] = deque()
        todo = iter(tasks)
        while True:
            while len(waiting) < _AHEAD * self.workers and (task := next(todo, None)) is not None:
                waiting.append((task, self._sent(_call, function, task)))
            if not waiting:
                return
            task, future = waiting.popleft()
            try:
                found = future.result() if future is not None else function(task)
            except BrokenExecutor:  # a process was killed; what it had is done here
                self._processes = None
                found = function(task)
            yield found

    def _sent(self, function: Callable[..., Any], *arguments: Any) -> Future[Any] | None:
        """Sends work to the processes; returns None where there are none, or no more."""
        try:
            return self._processes.submit(function, *arguments) if self._processes is not None else None
        except BrokenExecutor:
            self._processes = None
            return None


def _call(function: Callable[[Any], Any], task: Any) -> Any:
    return function(task)


_asked: list[Questions] = []
"""What a worker process is to look for; it is told once."""


def _begin(questions: Questions) -> None:
    _asked[:] = [questions]


def _judge(block: Block) -> BlockReport:
    return judge_block(block, _asked[0])


def judge_file(name: str, file: BinaryIO, pool: Pool) -> Iterator[BlockReport]:
    """Yields the reports on a file's blocks, in order.

    Args:
        name: the file's, for people.
        file: seekable, positioned at its first byte.
        pool: who judges them.
    """
    blocks = cut(name, file)
    waiting: deque[tuple[Block, Callable[[], BlockReport]]] = deque()

    def following() -> tuple[Block, Callable[[], BlockReport]] | None:
        while len(waiting) < (_AHEAD * pool.workers if pool.workers > 1 else 1):
            block = next(blocks, None)
            if block is None:
                break
            waiting.append((block, pool.submit(block)))
        return waiting.popleft() if waiting else None

    while (pair := following()) is not None:
        block, result = pair
        report = result() if block.data is not None else None
        joined = 1
        while report is not None and report.leaks:
            pair = following()
            assert pair is not None, "the last block has nothing to leak into"
            joined += 1
            if pair[0].data is None or block.data is None or joined > _MAX_JOINED:
                report = None
                break
            block = replace(block, data=block.data + pair[0].data, last=pair[0].last)
            report = judge_block(block, pool.questions)
        if report is None:
            yield from _serially(block, file, pool.questions)
            return
        yield report
        if report.stopped:
            return


def _serially(block: Block, file: BinaryIO, questions: Questions) -> Iterator[BlockReport]:
    """Yields reports on all that stands from a block on, as one reader reads it."""
    file.seek(block.offset)
    reader = RowReader(block.name, file, number=block.number, offset=block.offset)
    yield from judge_rows(reader, questions)


def judge_rows(items: Iterable[RawRow | Remark], questions: Questions) -> Iterator[BlockReport]:
    """Yields reports on rows, a thousand at a time."""
    judge = Judge(questions)
    for count, item in enumerate(items, 1):
        judge.take(item)
        if count % _ROWS_A_REPORT == 0:
            yield judge.report()
            judge = Judge(questions)
    yield judge.report()
