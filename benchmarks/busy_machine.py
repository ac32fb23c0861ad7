"""What a busy neighbour costs a training step, with GNU OpenMP's own spinning and with Luthier's.

    python benchmarks/busy_machine.py [--rounds 2]

Runs `benchmarks/train_step.py --measure luthier` in processes of its own, with and without another process that keeps
one processor busy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

STEP = Path(__file__).parent / "train_step.py"
SETTINGS = {"GNU default": "300000", "Luthier": "1000"}
LIMIT_S = 180


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    for busy in (False, True):
        for number in range(rounds):
            for name, spins in SETTINGS.items():
                print(
                    f"{'busy' if busy else 'idle'}  round {number + 1}  {name:12} {step_seconds(spins, busy)}",
                    flush=True,
                )


def step_seconds(spins: str, busy: bool) -> str:
    """Returns the median seconds a step, or that it took longer than the limit allows."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    command = [sys.executable, str(STEP), "--steps", "5", "--measure", "luthier"]
    try:
        output = subprocess.run(
            command,
            env=os.environ | {"GOMP_SPINCOUNT": spins},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=True,
        ).stdout
        return f"{json.loads(output.splitlines()[-1])['seconds']} s a step"
    except subprocess.TimeoutExpired:
        return f"5 steps did not end within {LIMIT_S} s"
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()


if __name__ == "__main__":
    main()
