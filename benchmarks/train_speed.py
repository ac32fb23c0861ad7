"""Seconds a training step, memory and loss: Luthier against what people train with, on the same rows, in turn.

    python benchmarks/train_speed.py [--rounds 3] [--workloads nba-sql-exec,snips-json,snips-unshared,tools-glaive]
        [--contenders luthier,trl,trl-tuned,trainer,llama-factory,litgpt,torchtune] [--once llama-factory,…] [--data FOLDER]
        [--write PAGE.md]

Every measurement is a process of its own. A round measures each contender once; ratios are taken within a round, because
these machines drift. All train the same LoRA from the same weights on the same token ids in the same order, and the first
loss of each must be Luthier's within 2 %: otherwise this stops with an error.

The peers go into virtual environments of their own, made at the first call (about 1.5 GB each).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from train_speed_page import page
from train_speed_parts import ATTEMPTS, CONTENDERS, ENVIRONMENTS, MOST_OTHERS, REMOVED, Contender, Measured, Results
from train_speed_rows import WORKLOADS

HERE = Path(__file__).parent
PUBLIC_DATA = HERE.parents[1] / "shared" / "data" / "public"
MOST_LOSS_DIFFERENCE = 0.02
"""Of the first losses, relative; bfloat16 keeps eight bits, and some hold the base in float32."""
INSTALL_LIMIT_S = 900
PEERS = Path(tempfile.gettempdir()) / "luthier-train-peers"
MB = 1e6


class Laboratory:
    """Runs contenders.

    Args:
        scratch: a folder for files.
        environments: the folder of the peers' virtual environments.
        limit_s: after which a process is given up.
    """

    def __init__(self, scratch: Path, environments: Path, limit_s: float) -> None:
        self._scratch = scratch
        self._environments = environments
        self._limit_s = limit_s
        self.model = Path()

    def prepare(self, data: Path, results: Results) -> None:
        """Writes the rows and the adapter that everybody starts from."""
        made = [sys.executable, str(HERE / "train_speed_rows.py"), str(self._scratch), "--data", str(data)]
        said = json.loads(subprocess.run(made, check=True, capture_output=True, text=True).stdout)
        self.model = Path(said.pop("model"))
        results.counts.update(said)

    def measure(self, contender: Contender, workload: str, results: Results, *, steps: int | None = None) -> Measured:
        """Returns what a contender took.

        Args:
            contender: who.
            workload: whose rows.
            results: to which versions are added.
            steps: how many to take at most.

        Raises:
            RuntimeError: it failed; the message is its last words.
        """
        python = str(self.python_of(contender.environment))
        call = [
            python,
            str(HERE / "train_speed_contenders.py"),
            contender.runs,
            str(self._scratch / f"{workload}.json"),
        ]
        call += ["--model", str(self.model), "--adapter", str(self._scratch / "adapter")]
        for setting in contender.settings_for(workload):
            call += ["--set", setting]
        if steps is not None:
            call += ["--steps", str(steps)]
        output, peak_mb = self._run([*call, "--began", str(time.time())], tcmalloc=contender.tcmalloc)
        said = json.loads(output.splitlines()[-1])
        results.versions[contender.name] = said["versions"]
        others = statistics.mean(said["others"][1:] or said["others"])
        return Measured(
            tuple(said["seconds"]), tuple(said["losses"]), said["first_step_s"], peak_mb, others, said["about"]
        )

    def products(self, tokens: float, trained: float) -> dict[str, float]:
        """Returns the machine's rates of matrix products at this many tokens."""
        call = [sys.executable, str(HERE / "train_speed_products.py"), str(self.model)]
        output, _ = self._run([*call, "--tokens", str(round(tokens)), "--trained", str(round(trained))], tcmalloc=False)
        rates: dict[str, float] = json.loads(output.splitlines()[-1])
        return rates

    def python_of(self, name: str | None) -> Path:
        """Returns the Python that has an environment's packages; makes it if need be.

        Raises:
            RuntimeError: they cannot be installed.
        """
        if name is None or _are_here(ENVIRONMENTS[name]):
            return Path(sys.executable)
        folder = self._environments / name
        python, ready = folder / "bin" / "python", folder / "ready.json"
        wanted = list(ENVIRONMENTS[name])
        said = json.loads(ready.read_text()) if ready.exists() else {}
        if said.get("wanted") != wanted:
            print(f"Installing {', '.join(wanted)} into {folder} …", flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            install = [str(python), "-m", "pip", "install", "--quiet", *wanted]
            try:
                tried = subprocess.run(install, check=False, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)
                failed = _last_words(tried.stderr) if tried.returncode else None
            except subprocess.TimeoutExpired:
                failed = f"not installed within {INSTALL_LIMIT_S} s"
            if REMOVED.get(name) and not failed:
                subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *REMOVED[name]], check=True)
            said = {"wanted": wanted, "failed": failed}
            ready.write_text(json.dumps(said))
        if said["failed"]:
            raise RuntimeError(f"cannot be installed: {said['failed']}")
        return python

    def _run(self, command: Sequence[str], *, tcmalloc: bool) -> tuple[str, float]:
        """Runs a command; returns what it printed and the most memory that it had resident, in MB."""
        environment = dict(os.environ)
        if tcmalloc:
            environment["LD_PRELOAD"] = str(find_tcmalloc())
        with (self._scratch / "output").open("w+") as output, (self._scratch / "errors").open("w+") as errors:
            process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
            deadline = time.monotonic() + self._limit_s
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline:
                    process.kill()
                    os.wait4(process.pid, 0)
                    process.returncode = -1
                    raise RuntimeError(f"given up after {self._limit_s:.0f} s")
                time.sleep(0.2)
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            errors.seek(0)
            if process.returncode == -9:
                raise RuntimeError("killed: out of memory")
            if process.returncode:
                raise RuntimeError(_last_words(errors.read()) or f"exit status {process.returncode}")
            return output.read(), usage.ru_maxrss * 1024 / MB


def _are_here(wanted: Sequence[str]) -> bool:
    """Whether this Python has these very versions."""
    try:
        return all(metadata.version(name).split("+")[0] == version for name, version in map(_parted, wanted))
    except metadata.PackageNotFoundError:
        return False


def _parted(requirement: str) -> tuple[str, str]:
    name, _, version = requirement.partition("==")
    return name, version


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def find_tcmalloc() -> Path:
    """Returns the allocator's library (Debian's libtcmalloc-minimal4).

    Raises:
        RuntimeError: it is not installed.
    """
    for folder in (Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib")):
        for found in sorted(folder.rglob("libtcmalloc_minimal.so.4")):
            return found
    raise RuntimeError("libtcmalloc_minimal.so.4 is not installed (Debian: libtcmalloc-minimal4)")


def check_loss(workload: str, name: str, loss: float, results: Results) -> None:
    """Compares a first loss with that of whoever was the first to be measured on these rows.

    Raises:
        SystemExit: the two do not train the same.
    """
    other, expected = results.first_losses.setdefault(workload, (name, loss))
    if not abs(loss - expected) <= MOST_LOSS_DIFFERENCE * abs(expected):
        raise SystemExit(
            f"{workload}: the first loss is {expected:.4f} by {other} and {loss:.4f} by {name}: they do not train the same "
            "rows, or not the same model. Nothing was written."
        )


def run_round(
    number: int, workload: str, chosen: Sequence[Contender], laboratory: Laboratory, results: Results
) -> None:
    """Measures each contender once, and the machine."""
    turn = number % len(chosen)  # nobody is always the first
    for contender in (*chosen[turn:], *chosen[:turn]):
        measure(number, workload, contender, laboratory, results)
    counts = results.counts[workload]
    tokens, trained = statistics.mean(counts["flat_tokens"]), statistics.mean(counts["trained_tokens"])
    results.products.setdefault(workload, []).append(laboratory.products(tokens, trained))


def measure(
    number: int,
    workload: str,
    contender: Contender,
    laboratory: Laboratory,
    results: Results,
    *,
    steps: int | None = None,
) -> None:
    """Measures a contender once, unless it failed before; again where other programs were in the way."""
    key = (workload, contender.name)
    if key in results.failed:
        return
    tried: list[Measured] = []
    while len(tried) < ATTEMPTS and all(attempt.others > MOST_OTHERS for attempt in tried):
        try:
            tried.append(laboratory.measure(contender, workload, results, steps=steps))
        except RuntimeError as error:
            results.failed[key] = str(error)
            print(f"{workload} round {number + 1}: {contender.name} failed: {error}", flush=True)
            return
        print(f"{workload} round {number + 1}: {contender.name}: {_line(tried[-1])}", flush=True)
    measured = min(tried, key=lambda attempt: attempt.others)
    results.measured.setdefault(key, []).append(measured)
    if not contender.makes_other_steps:
        check_loss(workload, contender.name, measured.losses[0], results)


def _line(measured: Measured) -> str:
    seconds = " ".join(f"{value:.2f}" for value in measured.seconds)
    losses = " ".join(f"{value:.3f}" for value in measured.losses)
    return (
        f"s/step {seconds}; loss {losses}; first step after {measured.first_step_s:.1f} s; {measured.peak_mb:,.0f} MB; "
        f"others took {measured.others:.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--contenders", default=",".join(contender.name for contender in CONTENDERS))
    parser.add_argument("--once", default="", help="contenders that take part in the first round only")
    parser.add_argument("--data", type=Path, default=PUBLIC_DATA, help="the folder of the data sets")
    parser.add_argument("--write", type=Path, help="the page to write")
    parser.add_argument("--limit-s", type=float, default=900, help="after which a process is given up")
    parser.add_argument("--peers", type=Path, default=PEERS)
    arguments = parser.parse_args()
    wanted = arguments.contenders.split(",")
    once = [name for name in arguments.once.split(",") if name]
    unknown = {*wanted, *once} - {contender.name for contender in CONTENDERS} | {*arguments.workloads.split(",")} - {
        *WORKLOADS
    }
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}")
    if not arguments.data.is_dir():
        raise SystemExit(f"There are no data sets in {arguments.data}; give their folder with --data.")
    chosen = [contender for contender in CONTENDERS if contender.name in wanted]
    results, start, load = Results(), time.perf_counter(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        laboratory = Laboratory(Path(folder), arguments.peers, arguments.limit_s)
        laboratory.prepare(arguments.data, results)
        for number in range(arguments.rounds):
            taking_part = [one for one in chosen if number == 0 or one.name not in arguments.once.split(",")]
            for workload in arguments.workloads.split(","):
                run_round(number, workload, taking_part, laboratory, results)
    text = page(results, arguments, time.perf_counter() - start, load)
    if arguments.write:
        arguments.write.write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    main()
