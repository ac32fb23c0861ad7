"""Generated tokens a second: Luthier against transformers' `generate` and llama.cpp, on the same prompts, in turn.

    python benchmarks/generation.py [--rounds 3] [--data FOLDER] [--llama-python PYTHON] [--write PAGE.md]

Every measurement is a process of its own, after loading and a first small call: end to end, prompts included. A round
measures each contender once; ratios are taken within a round, because these machines drift. Where other programs took too
much of the processors, a measurement is repeated. llama.cpp is compiled for this processor into a virtual environment of
its own, at the first call (about ten minutes), unless a Python that has llama-cpp-python is given.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generation_gguf import write_gguf

HERE = Path(__file__).parent
PUBLIC_DATA = HERE.parents[1] / "shared" / "data" / "public"
LLAMA_CPP = "llama-cpp-python==0.3.36"
LLAMA_FOLDER = Path(tempfile.gettempdir()) / "luthier-llama-cpp"
LLAMA_FLAGS = "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF"
PROMPTS, ALONE, NEW = 64, 6, 64
MOST_OTHERS, ATTEMPTS = 0.08, 3
MOST_PAUSE_S = 2.0
"""A process that stood still for longer was stopped by somebody, and is measured again."""


@dataclass(frozen=True)
class Contender:
    """Who answers, and how many prompts at a time.

    Attributes:
        name: in `generation_contenders.py`.
        rows: at a time.
        alone: whether it answers a few prompts one after another instead of all.
    """

    name: str
    rows: int
    alone: bool = False

    @property
    def title(self) -> str:
        return TITLES[self.name]


TITLES = {
    "luthier": "Luthier, bfloat16",
    "luthier-adapter": "Luthier, bfloat16, with a LoRA (r 16, all linear layers)",
    "luthier-float32": "Luthier, float32",
    "transformers": "transformers `generate`, bfloat16",
    "llama.cpp": "llama.cpp, BF16",
}
CONTENDERS = [
    Contender("luthier", 16),
    Contender("llama.cpp", 16),
    Contender("transformers", 16),
    Contender("luthier", 32),
    Contender("llama.cpp", 32),
    Contender("transformers", 32),
    Contender("luthier-adapter", 32),
    Contender("luthier-float32", 32),
    Contender("luthier", 64),
    Contender("transformers", 64),
    Contender("luthier", 1, alone=True),
    Contender("llama.cpp", 1, alone=True),
    Contender("luthier-adapter", 1, alone=True),
    Contender("transformers", 1, alone=True),
]
Measured = dict[str, Any]
Rounds = dict[Contender, list[Measured]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=PUBLIC_DATA)
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help="where other programs disturb a measurement")
    parser.add_argument("--llama-python", type=Path)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = prepare(scratch, arguments.data)
        pythons = {"llama.cpp": arguments.llama_python or llama_python()}
        rounds: Rounds = {contender: [] for contender in CONTENDERS}
        for number in range(arguments.rounds):
            for contender in CONTENDERS:
                python = pythons.get(contender.name, Path(sys.executable))
                found = measure(contender, python, scratch, model, arguments.attempts)
                rounds[contender].append(found)
                print(
                    f"{number + 1}/{arguments.rounds} {contender.title}, {contender.rows} at a time: "
                    f"{rate(found):.1f} tokens/s, others {found['others']:.0%}",
                    flush=True,
                )
    text = page(rounds, arguments.rounds)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


def prepare(scratch: Path, data: Path) -> Path:
    """Writes the prompts' ids and the weights for llama.cpp; returns the model's folder."""
    from luthier.model.chat_template import ChatTokenizer
    from luthier.model.sources import resolve_model

    model = resolve_model("smollm2-135m")
    chat = ChatTokenizer(model)
    lines = (data / "snips-json" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:PROMPTS]
    prompts = [chat.encode_prompt(json.loads(line)["messages"][:-1]) for line in lines]
    (scratch / "many.json").write_text(json.dumps(prompts))
    (scratch / "alone.json").write_text(json.dumps(prompts[:ALONE]))
    write_gguf(model, scratch / "model.gguf")
    return model


def llama_python() -> Path:
    """Returns a Python that has llama-cpp-python; compiles it if need be."""
    python = LLAMA_FOLDER / "bin" / "python"
    if not (LLAMA_FOLDER / "ready").exists():
        print(f"Compiling {LLAMA_CPP} into {LLAMA_FOLDER} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(LLAMA_FOLDER)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", LLAMA_CPP]
        subprocess.run(install, check=True, env=os.environ | {"CMAKE_ARGS": LLAMA_FLAGS})
        (LLAMA_FOLDER / "ready").touch()
    return python


def measure(contender: Contender, python: Path, scratch: Path, model: Path, attempts: int) -> Measured:
    """Returns what a contender took, of some attempts the one least disturbed."""
    call = [str(python), str(HERE / "generation_contenders.py"), contender.name]
    call += [str(scratch / ("alone.json" if contender.alone else "many.json")), "--model", str(model)]
    call += ["--gguf", str(scratch / "model.gguf"), "--rows", str(contender.rows), "--new", str(NEW)]
    tried: list[Measured] = []
    while len(tried) < attempts and not (tried and tried[-1]["others"] <= MOST_OTHERS):
        output = subprocess.run(call, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        found = json.loads(output.splitlines()[-1])
        if found["pause"] <= MOST_PAUSE_S:
            tried.append(found)
    return min(tried, key=lambda found: float(found["others"]))


def rate(found: Measured) -> float:
    """Returns generated tokens a second."""
    return float(found["tokens"] / found["seconds"])


def page(rounds: Rounds, num_rounds: int) -> str:
    """Returns the page for docs/measurements; no figure in it is typed by hand."""
    from luthier.model.loader import versions

    about = versions()
    packages = {name: version for found in rounds.values() for name, version in found[0]["versions"].items()}
    others = [found["others"] for runs in rounds.values() for found in runs]
    lines = [
        "# Generation: speed",
        "",
        f"Written by `python benchmarks/generation.py --rounds {num_rounds}`. Each figure is the median of the rounds, with "
        "the least and the greatest in brackets. Ratios are taken within a round.",
        "",
        *_demands(rounds),
        "",
        f"## {PROMPTS} prompts",
        "",
        *_table(rounds, alone=False),
        "",
        f"## One prompt at a time, {ALONE} of them",
        "",
        *_table(rounds, alone=True),
        "",
        "## How it was measured",
        "",
        f"SmolLM2-135M-Instruct answers the first prompts of `snips-json`'s test rows greedily, {NEW} tokens at most. The "
        "base is not tuned to them, so most answers are long. Tokens a second are generated ones, over the whole time from "
        "the first prompt's ids to the last answer; loading and a first call on two prompts are left out. transformers gets "
        "prompts sorted by length in padded batches, and the setting of the C library that makes it faster. llama.cpp is "
        "compiled for this processor and driven as its server does: rows enter and leave at any step, the beginning that "
        "all prompts share is computed once. *Answers as in float32*: the share that equals Luthier's own in float32, which "
        "equal transformers' `generate` in float32 token for token (`tests/model/test_generation_smollm2.py`); in bfloat16 "
        "this base is often undecided, and everybody rounds elsewhere.",
        "",
        f"{about['processor']}, {os.cpu_count()} processors, {datetime.datetime.now(tz=datetime.UTC).date()}; "
        f"{', '.join(f'{name} {version}' for name, version in sorted(packages.items()))}. Other programs took "
        f"{statistics.median(others):.0%} of the processors in the median, {max(others):.0%} at most.",
        "",
    ]
    return "\n".join(lines)


def _demands(rounds: Rounds) -> Iterator[str]:
    """Yields what issue 5 asks for, and what was found."""
    best = max((c for c in CONTENDERS if c.name == "transformers" and not c.alone), key=lambda c: _median(rounds[c]))
    yield "| demanded | found |"
    yield "|---|---|"
    for rows in (16, 32, 64):
        found = _ratios(rounds[Contender("luthier", rows)], rounds[best])
        yield (
            f"| at least 2 × transformers at its best batch size ({best.rows}), Luthier at {rows} | "
            f"{_spread(found, '.1f')} × {_met(found, 2)} |"
        )
    for rows in (16, 32):
        found = _ratios(rounds[Contender("luthier", rows)], rounds[Contender("llama.cpp", rows)])
        yield f"| at least llama.cpp's rate at {rows} | {_spread(found, '.2f')} × {_met(found, 1)} |"
    found = _ratios(rounds[Contender("luthier", 1, alone=True)], rounds[Contender("llama.cpp", 1, alone=True)])
    yield f"| a single stream at 1 / 1.5 of llama.cpp's rate or more | {_spread(found, '.2f')} × {_met(found, 1 / 1.5)} |"


def _met(ratios: list[float], least: float) -> str:
    return "(met)" if statistics.median(ratios) >= least else "(**not met**)"


def _table(rounds: Rounds, *, alone: bool) -> Iterator[str]:
    exact = rounds[Contender("luthier-float32", 32)][0]["answers"]
    yield "| contender | at a time | tokens/s | Luthier's rate / its, at the same number | answers as in float32 |"
    yield "|---|---:|---:|---:|---:|"
    for contender in CONTENDERS:
        if contender.alone != alone:
            continue
        runs, ours = rounds[contender], rounds[Contender("luthier", contender.rows, alone)]
        against = "" if contender.name == "luthier" else _spread(_ratios(ours, runs), ".2f")
        answers = runs[0]["answers"]
        same = sum(one == other for one, other in zip(answers, exact, strict=False)) / len(answers)
        yield (
            f"| {contender.title} | {contender.rows} | {_spread(list(map(rate, runs)), ',.0f')} | {against} | {same:.0%} |"
        )


def _ratios(ours: list[Measured], theirs: list[Measured]) -> list[float]:
    return [rate(one) / rate(other) for one, other in zip(ours, theirs, strict=True)]


def _median(runs: list[Measured], of: Callable[[Measured], float] = rate) -> float:
    return statistics.median(map(of, runs))


def _spread(values: list[float], form: str) -> str:
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{statistics.median(values):{form}} [{min(values):{form}}–{max(values):{form}}]"


if __name__ == "__main__":
    main()
