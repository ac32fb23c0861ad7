"""Which settings make TRL fastest here: what `trl-tuned` of `benchmarks/train_speed.py` was chosen from.

    python benchmarks/train_speed_search.py [--rounds 2] [--workloads nba-sql-exec,tools-glaive] [--data FOLDER]
        [--write PAGE.md]

All take turns, each in a process of its own.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
from collections.abc import Iterator
from pathlib import Path

from train_speed import PEERS, PUBLIC_DATA, Laboratory, measure
from train_speed_page import MB_A_GB, machine, said_of_versions, spread
from train_speed_parts import Contender, Results

AUTOCAST = ("checkpointing=no", "weights=bfloat16", "autocast=yes")
PURE = ("checkpointing=no", "weights=bfloat16", "autocast=no", "adapter=bfloat16")
EAGER = "attention=eager"
STEPS = {"nba-sql-exec": 5, "snips-json": 5, "snips-unshared": 5, "tools-glaive": 1}
"""Of each workload, at most; steps of long rows take a minute."""


def _candidate(title: str, *settings: str, tcmalloc: bool = True) -> Contender:
    return Contender(title, title, "trl", settings=settings, tcmalloc=tcmalloc)


CANDIDATES = (
    _candidate("its defaults", tcmalloc=False),
    _candidate("its defaults, tcmalloc"),
    _candidate("no checkpointing", "checkpointing=no", tcmalloc=False),
    _candidate("no checkpointing, tcmalloc", "checkpointing=no"),
    _candidate("no checkpointing, bfloat16 base, tcmalloc", *AUTOCAST),
    _candidate("no checkpointing, bfloat16 base, eager attention, tcmalloc", *AUTOCAST, EAGER),
    _candidate("no checkpointing, bfloat16 base and adapter, no autocast, tcmalloc (below: *pure*)", *PURE),
    _candidate("pure, eager attention", *PURE, EAGER),
    _candidate("pure, padding-free", *PURE, "padding_free=yes"),
    _candidate("pure, grouped by length", *PURE, "group=yes"),
    _candidate("pure, packs of 1,024 tokens", *PURE, "packing=1024"),
    _candidate("pure, but checkpointing", "checkpointing=yes", *PURE[1:]),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workloads", default="nba-sql-exec,tools-glaive")
    parser.add_argument("--data", type=Path, default=PUBLIC_DATA, help="the folder of the data sets")
    parser.add_argument("--write", type=Path, help="the page to write")
    parser.add_argument("--limit-s", type=float, default=600, help="after which a process is given up")
    parser.add_argument("--peers", type=Path, default=PEERS)
    arguments = parser.parse_args()
    results, workloads = Results(), arguments.workloads.split(",")
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        laboratory = Laboratory(Path(folder), arguments.peers, arguments.limit_s)
        laboratory.prepare(arguments.data, results)
        for number in range(arguments.rounds):
            for workload in workloads:
                for candidate in CANDIDATES:
                    measure(number, workload, candidate, laboratory, results, steps=STEPS[workload])
    text = "\n".join(_page(results, workloads, arguments))
    if arguments.write:
        arguments.write.write_text(text)
    print("\n" + text)


def _page(results: Results, workloads: list[str], arguments: argparse.Namespace) -> Iterator[str]:
    yield from (
        "# TRL's settings, tried",
        "",
        f"Written by `python benchmarks/train_speed_search.py --rounds {arguments.rounds} --write {arguments.write}`. "
        "Seconds that all the steps took together, the first included (packed or grouped rows make other steps); the "
        "median of the rounds, with the least and the greatest in brackets. The rest is as in `train-speed.md`.",
    )
    for workload in workloads:
        counts = results.counts[workload]
        tokens = sum(counts["real_tokens"][: STEPS[workload]])
        yield from ("", f"## `{workload}`, {tokens:,} real tokens in {STEPS[workload]} steps of 8 rows", "")
        yield from ("| settings | s | real tokens/s | memory, GB | first loss |", "|---|---:|---:|---:|---:|")
        for candidate in CANDIDATES:
            runs = results.measured.get((workload, candidate.name), [])
            if (workload, candidate.name) in results.failed:
                yield f"| {candidate.title} | failed: {results.failed[workload, candidate.name]} | | | |"
            elif runs:
                columns = (
                    spread((sum(run.seconds) for run in runs), 1),
                    spread((tokens / sum(run.seconds) for run in runs), 0),
                    spread((run.peak_mb / MB_A_GB for run in runs), 2),
                    spread((run.losses[0] for run in runs), 3),
                )
                yield f"| {candidate.title} | {' | '.join(columns)} |"
    versions = next(iter(results.versions.values()))
    day = datetime.datetime.now(tz=datetime.UTC).date()
    yield from ("", f"{machine()}, {said_of_versions(versions)}, {day}.", "")


if __name__ == "__main__":
    main()
