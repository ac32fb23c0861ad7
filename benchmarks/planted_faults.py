"""Prints how many planted faults the check finds, and its false alarms.

    python benchmarks/planted_faults.py [--seeds 1,2,3] [--write PAGE]

The rows, the faults and the way they are counted are those of `tests/data/test_planted.py`, which holds the bars in CI; here
other seeds can be tried.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data"))

import test_planted as bars
from planted import KINDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3,4,5,6")
    parser.add_argument("--write", type=Path, help="the page to write")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    lines = [f"| | {' | '.join(f'seed {seed}' for seed in seeds)} | bar |", "|---|" + "---|" * (len(seeds) + 1)]
    for group, least in bars.LEAST_FOUND.items():
        cells = [_found(seed, group) for seed in seeds]
        lines.append(f"| {group}: found of planted | {' | '.join(cells)} | {least:.0%} |")
    for which in ("templated_lines", "clean_lines"):
        cells = [_alarms(seed, which) for seed in seeds]
        name = which.removesuffix("_lines")
        lines.append(f"| false alarms among {name} rows | {' | '.join(cells)} | {bars.MAX_FALSE_ALARMS:.1%} |")
    table = "\n".join(lines)
    print(table)
    if arguments.write:
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("rensa", "rapidfuzz", "numpy"))
        today = datetime.datetime.now(datetime.UTC).date()
        num_codes = len({kind.code for kind in KINDS})
        arguments.write.write_text(
            "# Planted faults: how many the check finds\n\n"
            f"A seeded generator (`tests/data/planted.py`) puts 500 faults of {len(KINDS)} kinds over {num_codes} codes\n"
            "into 10,000 rows, half of them fillings of templates, half prose. A fault is found if a finding of its code\n"
            "covers its line; a false alarm is a clean row that an error or a warning covers.\n\n"
            f"{table}\n\n"
            f"Script: `benchmarks/planted_faults.py --seeds {arguments.seeds}`, {today}, {versions}. Seeds 1 to 3 are held\n"
            "in CI.\n",
            encoding="utf-8",
        )


def _found(seed: int, group: str) -> str:
    covered = bars.lines_of(seed, "error", "warning", "info")
    faults = [fault for fault in bars.planted(seed).faults if bars.group_of(fault.code) == group]
    return f"{sum(fault.line in covered[fault.code] for fault in faults)} of {len(faults)}"


def _alarms(seed: int, which: str) -> str:
    clean = getattr(bars.planted(seed), which)
    covered = set().union(*bars.lines_of(seed, "error", "warning").values())
    return f"{len(covered & clean)} of {len(clean):,}"


if __name__ == "__main__":
    main()
