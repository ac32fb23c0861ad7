"""What a busy neighbour costs a training step, with GNU OpenMP's own spinning and with Luthier's.

    python benchmarks/busy_machine.py [--rounds 2] [--data FOLDER]

Runs the `luthier` contender of `benchmarks/train_speed.py` in processes of its own, with and without another process that
keeps one processor busy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from train_speed import PUBLIC_DATA

HERE = Path(__file__).parent
WORKLOAD = "nba-sql-exec"
SETTINGS = {"GNU default": "300000", "Luthier": "1000"}
LIMIT_S = 180


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--data", type=Path, default=PUBLIC_DATA, help="the folder of the data sets")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        made = [sys.executable, str(HERE / "train_speed_rows.py"), folder, "--data", str(arguments.data)]
        model = json.loads(subprocess.run(made, check=True, capture_output=True, text=True).stdout)["model"]
        call = [sys.executable, str(HERE / "train_speed_contenders.py"), "luthier", f"{folder}/{WORKLOAD}.json"]
        call += ["--model", model, "--adapter", f"{folder}/adapter"]
        for busy in (False, True):
            for number in range(arguments.rounds):
                for name, spins in SETTINGS.items():
                    said = step_seconds(call, spins, busy=busy)
                    print(f"{'busy' if busy else 'idle'}  round {number + 1}  {name:12} {said}", flush=True)


def step_seconds(call: Sequence[str], spins: str, *, busy: bool) -> str:
    """Returns the median seconds a step after the first, or that it took longer than the limit allows."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    environment = os.environ | {"GOMP_SPINCOUNT": spins}
    try:
        output = subprocess.run(
            call, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=True
        ).stdout
        return f"{statistics.median(json.loads(output.splitlines()[-1])['seconds'][1:]):.2f} s a step"
    except subprocess.TimeoutExpired:
        return f"5 steps did not end within {LIMIT_S} s"
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()


if __name__ == "__main__":
    main()
