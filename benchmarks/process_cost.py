"""What a command costs as a whole: wall time, and the memory of it and of all processes that it starts. Linux only."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MB = 1e6
_SAMPLE_S = 0.05
_SAMPLING_SHARE = 0.05
"""Of the time, at most, goes into looking: a process that is looked at is held up a little."""


@dataclass(frozen=True)
class Cost:
    """One run of a command.

    Attributes:
        status: its exit status.
        wall_s: from its start to its end.
        cpu_s: that it and the processes it waited for computed.
        tree_mb: the most memory that it and its descendants held at one time: the sum of their proportional set sizes,
            sampled. Shared pages count once, and so do pages of mapped files.
        largest_mb: the most that a single one of them had resident, as the kernel counts it.
        output, errors: what it wrote.
    """

    status: int
    wall_s: float
    cpu_s: float
    tree_mb: float
    largest_mb: float
    output: str
    errors: str


def run(command: Sequence[str], processors: Sequence[int], scratch: Path) -> Cost:
    """Runs a command bound to some processors.

    Args:
        command: and its arguments.
        processors: their numbers.
        scratch: a folder for its output.
    """
    mine = os.sched_getaffinity(0)
    with (scratch / "output").open("w+") as output, (scratch / "errors").open("w+") as errors:
        os.sched_setaffinity(0, processors)  # a process inherits it from the one that starts it
        try:
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=output, stderr=errors)
        finally:
            os.sched_setaffinity(0, mine)
        sampler = _Sampler(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start
        sampler.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        cpu_s, largest_mb = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / MB
        return Cost(
            process.returncode, wall_s, cpu_s, sampler.most_bytes / MB, largest_mb, output.read(), errors.read()
        )


class _Sampler(threading.Thread):
    """Looks at the memory of a process and its descendants until it is told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.most_bytes = 0
        self._pid = pid
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        pause = _SAMPLE_S / 10  # at first it grows fast
        while not self._ended.wait(pause):
            began = time.perf_counter()
            self.most_bytes = max(self.most_bytes, sum(map(_proportional_bytes, _tree(self._pid))))
            pause = max(_SAMPLE_S, (time.perf_counter() - began) / _SAMPLING_SHARE)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _tree(root: int) -> Iterator[int]:
    """Yields a process and all that descend from it."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # ended meanwhile
                continue
            children[parent].append(int(entry.name))
    waiting = [root]
    while waiting:
        yield (pid := waiting.pop())
        waiting += children[pid]


def _proportional_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:  # ended meanwhile
        pass
    return 0
