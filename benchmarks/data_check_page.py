"""The page about `benchmarks/data_check.py`, made of its measurements: no figure in it is typed by hand."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_check_parts import (
    ALL,
    CHECKED,
    CHECKED_BY_ALL,
    COMMAND_CHECKS,
    COMMAND_PARSES,
    PARSED,
    PARTS,
    Contender,
    Part,
)
from process_cost import MB, Cost


@dataclass(frozen=True)
class Measured:
    """One process.

    Attributes:
        rate: rows a second, without imports; of the command, all in all.
        cpu_rate: rows a second that was computed; where other programs take turns with this one, the steadier figure.
        cost: of the whole process.
        found: what it found, for the table.
    """

    rate: float
    cpu_rate: float
    cost: Cost
    found: str


@dataclass
class Results:
    """All measurements of a file and the versions of what was measured."""

    measured: dict[tuple[str, str, Contender], list[Measured]] = field(default_factory=lambda: defaultdict(list))
    files: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    failed: dict[tuple[str, str, Contender], str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def page(results: Results, arguments: argparse.Namespace, seconds: float, load: float) -> str:
    """Returns the page for docs/measurements.

    Args:
        results: all measurements.
        arguments: of the command line.
        seconds: that they took.
        load: the machine's load average before they began.
    """
    call = (
        f"python benchmarks/data_check.py --rows {arguments.rows} --rounds {arguments.rounds} --parts {arguments.parts}"
    )
    call += f" --kinds {','.join(arguments.kinds)}" if arguments.kinds else ""
    lines = [
        "# `luthier check`: time and memory",
        "",
        f"Written by `{call} --write {arguments.write}`; each figure is the median of the rounds, with the "
        "least and the greatest in brackets. Ratios are taken within a round: Luthier's rate over the contender's, on as "
        "many cores. A million rows are measured once.",
        "",
        "Files are made by `benchmarks/data_check_rows.py` (seed 1): one system prompt, 1 % of the rows repeated word for "
        "word, 2 % with 3 % of their letters exchanged. *texts*: prose, every row different. *template*: one form filled in "
        "again and again, answered by JSON. *tools*: a declared function, its call, its result, an answer.",
        "",
        *_demands(results),
    ]
    for name, part in PARTS.items():
        if any(key[0] == name for key in results.files):
            lines += ["", f"## {part.title}", "", *_table(name, part, results)]
    lines += [
        "",
        "## How it was measured",
        "",
        "Each measurement is a process of its own, and the contenders take turns. The rate leaves imports out; of the "
        "command it counts everything. Memory: the most that the process and its children held at one time, as the kernel "
        "divides shared pages among them (PSS, sampled every 50 ms or rarer; pages of files that are mapped, as `datasets` "
        "maps its own, count), and the largest resident size of a single process (`getrusage`). One core is one processor "
        "that the process is bound to. Rows a CPU second count only what was computed: where that is far above rows/s, "
        "other programs ran at the same time.",
        "",
        "- cookbook: the seven format errors of OpenAI's notebook, and its turns and tokens (cl100k, counted by tiktoken), "
        "written anew from their description. It loads the whole file.",
        "- datasets + TRL: `load_dataset(\"json\")`, then `SFTTrainer`'s own preparation with the embedded model's tokenizer "
        "and chat template. The trainer is given a tiny model with random weights, whose making is not counted.",
        "- datasketch: the same normalised texts without the system prompt, character 5-grams hashed by xxhash, "
        "`MinHashLSH(threshold=0.5)`: rows with an earlier candidate. Candidates are not confirmed, as ours are.",
        "- *all* is every finding of the catalogue (`docs/findings/`), near duplicates and secrets among them; what Luthier "
        "does and the others do not is not taken off. The command does more again: it counts tokens.",
        "",
        f"{_machine()}, {', '.join(f'{name} {version}' for name, version in sorted(results.versions.items()))}, "
        f"{datetime.datetime.now(tz=datetime.UTC).date()}; {seconds / 60:.0f} minutes in all; load average before: "
        f"{load:.1f}.",
        "",
    ]
    return "\n".join(lines)


def _table(name: str, part: Part, results: Results) -> Iterator[str]:
    yield (
        "| file | contender | cores | rows/s | Luthier's rate / this | rows a CPU second | whole process, s | memory, MB "
        "| largest process, MB | found |"
    )
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---|"
    for kind in part.kinds:
        if (name, kind) not in results.files:
            continue
        file = results.files[name, kind]
        for contender in part.contenders:
            key = (name, kind, contender)
            start = f"| {kind}, {file['rows']:,} rows, {file['bytes'] / MB:,.0f} MB | {contender.title} | {contender.cores} |"
            runs = results.measured[key]
            if key in results.failed or not runs:
                yield f"{start} failed: {results.failed.get(key, 'not run')} | | | | | | |"
                continue
            ratio = ""
            base = _ours(part, contender)
            if base is not None and len(results.measured[name, kind, base]) == len(runs):
                pairs = zip(results.measured[name, kind, base], runs, strict=True)
                ratio = _spread([one.rate / other.rate for one, other in pairs], digits=2)
            columns = (
                _spread([run.rate for run in runs]),
                ratio,
                _spread([run.cpu_rate for run in runs]),
                _spread([run.cost.wall_s for run in runs], digits=1),
                _spread([run.cost.tree_mb for run in runs]),
                _spread([run.cost.largest_mb for run in runs]),
                runs[-1].found,
            )
            yield f"{start} {' | '.join(columns)} |"


def _spread(values: list[float], *, digits: int = 0) -> str:
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def _ours(part: Part, contender: Contender) -> Contender | None:
    """Returns what a peer is compared with."""
    found = (c for c in part.contenders if c.is_ours and c.name and c.cores == contender.cores)
    return next(found, None) if contender.peer else None


def _demands(results: Results) -> Iterator[str]:
    """Yields what the project demands of itself, and whether it holds."""
    demands: list[tuple[str, str, Contender, Callable[[Measured], float], float, bool]] = [
        ("read and validate, rows/s on one core", "parse", PARSED, lambda run: run.rate, 100_000, True),
        ("the full check, rows/s on one core", "full", CHECKED, lambda run: run.rate, 5_000, True),
        (
            f"the full check, rows/s a core on {ALL} cores",
            "full",
            CHECKED_BY_ALL,
            lambda run: run.rate / ALL,
            5_000,
            True,
        ),
        (
            "read and validate a million rows, rows/s on one core",
            "million",
            PARSED,
            lambda run: run.rate,
            100_000,
            True,
        ),
        (
            f"the full check of a million rows, rows/s a core on {ALL} cores",
            "million",
            CHECKED_BY_ALL,
            lambda run: run.rate / ALL,
            5_000,
            True,
        ),
        ("read and validate a million rows: MB", "million", PARSED, _peak_mb, 300, False),
        ("the same by the command: MB", "million", COMMAND_PARSES, _peak_mb, 300, False),
        ("the full check of a million rows: MB", "million", CHECKED_BY_ALL, _peak_mb, 1_500, False),
        ("the same by the command, tokens counted: MB", "million", COMMAND_CHECKS, _peak_mb, 1_500, False),
    ]
    rows = []
    for title, part, contender, value, limit, at_least in demands:
        for kind in PARTS[part].kinds:
            runs = results.measured.get((part, kind, contender))
            if runs:
                middle = statistics.median(map(value, runs))
                holds = middle >= limit if at_least else middle <= limit
                demand = f"{'at least' if at_least else 'at most'} {limit:,}"
                rows.append(f"| {title} | {kind} | {demand} | {middle:,.0f} | {'holds' if holds else '**missed**'} |")
    if rows:
        yield from (
            "## What is demanded",
            "",
            "| what | file | demanded | measured, median | |",
            "|---|---|---:|---:|---|",
            *rows,
        )


def _peak_mb(run: Measured) -> float:
    return max(run.cost.tree_mb, run.cost.largest_mb)


def _machine() -> str:
    """Returns processor, system and Python in words."""
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    about = {name.strip(): value.strip() for name, _, value in lines}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = (
        f"{about.get('model name', platform.machine())} (family {about.get('cpu family')}, model {about.get('model')})"
    )
    return f"{ALL} processors {model}, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
