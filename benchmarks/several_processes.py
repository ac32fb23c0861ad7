"""What do several processes win on one machine, and what does a base that they hold together cost and save?

    python benchmarks/several_processes.py [--processes 2] [--rounds 4] [--dtype auto]

Gradients of the same steps are computed in turn by one process with all cores while the others wait, by all of them with
their share of the cores, and by all of them with the base split among them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import time
from pathlib import Path

import numpy as np

SYSTEM_TOKENS, OWN_TOKENS, TRAINED_TOKENS, ROWS = 60, 120, 30, 8


def anonymous_bytes() -> int:
    """Returns the memory that is this process's own, without what is mapped from files."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    return 0


def steps(count: int):
    from luthier.model.chat_template import EncodedExample

    draw = np.random.default_rng(1)
    system = draw.integers(10, 40_000, SYSTEM_TOKENS)
    for _ in range(count):
        rows = [np.concatenate([system, draw.integers(10, 40_000, OWN_TOKENS)]) for _ in range(ROWS)]
        length = SYSTEM_TOKENS + OWN_TOKENS
        yield [EncodedExample(ids, np.arange(length) >= length - TRAINED_TOKENS, "x:1") for ids in rows]


def work(rank: int, size: int, port: int, rounds: int, dtype: str) -> None:
    os.environ["GOMP_SPINCOUNT"] = "1000"  # as the command line sets it
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    import torch

    from luthier.model.loader import base_bytes, load_model, resolve_dtype
    from luthier.model.lora import LoraConfig, attach
    from luthier.model.sources import pull
    from luthier.recipe import TrainRecipe
    from luthier.runs import no_listener
    from luthier.train.engine import open_engine
    from luthier.train.objective import ANSWERS
    from luthier.train.parts import Budget
    from luthier.train.process_group import joined
    from luthier.train.processes import ALONE
    from luthier.train.settings import TrainSettings
    from luthier.train.step import Stepper

    cores = len(os.sched_getaffinity(0))
    recipe = TrainRecipe(n_epochs=1, learning_rate=1e-3, batch_size=ROWS, max_activation_mb=4096)
    settings = TrainSettings.from_recipe(recipe, seed=1)
    with joined() as processes:
        steppers, held = {}, {}
        for name, together, holders in (
            ("split", processes, processes),
            ("whole", processes, None),
        ):
            before = anonymous_bytes()
            model = load_model(pull("smollm2-135m"), resolve_dtype(dtype)[0], holders=holders)
            held[name] = anonymous_bytes() - before, base_bytes(model.network)
            adapter = attach(model.network, LoraConfig(r=16, lora_alpha=32), seed=1)
            optimizer = torch.optim.AdamW([adapter.flat], fused=True)
            engine = open_engine(model, adapter)
            rest = engine, adapter, optimizer, ANSWERS, settings, Budget(4096, no_listener)
            steppers[name] = Stepper(*rest, together)
            if holders is None:
                steppers["alone"] = Stepper(*rest, ALONE)
        spent: dict[str, list[float]] = {name: [] for name in ("alone", "whole", "split")}
        losses = {}
        for number, rows in enumerate(steps(rounds + 1)):
            for name, seconds in spent.items():
                torch.set_num_threads(cores if name == "alone" else max(1, cores // size))
                processes.in_step = name == "split"
                processes.exchange(None)
                started = time.perf_counter()
                if name != "alone" or processes.is_first:
                    losses[name] = steppers[name].gradient(rows, step=0)["train_loss"]
                processes.exchange(None)
                if number:  # the first one warms up
                    seconds.append(time.perf_counter() - started)
        if processes.is_first:
            print(f"loss of the last step: {losses}")
            for name, (own, base) in held.items():
                print(
                    f"{name} base: {base / 1e6:.0f} MB held by a process, {own / 1e6:.0f} MB more memory after loading"
                )
            for name, seconds in spent.items():
                ratios = [alone / its for alone, its in zip(spent["alone"], seconds, strict=True)]
                told = ", ".join(f"{s:.2f}" for s in seconds)
                print(f"{name:>6}: {told} s a step; {statistics.median(ratios):.2f} x one process")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--dtype", default="auto")
    asked = parser.parse_args()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    arguments = [(rank, asked.processes, port, asked.rounds, asked.dtype) for rank in range(asked.processes)]
    members = [spawn.Process(target=work, args=each) for each in arguments]
    for member in members:
        member.start()
    for member in members:
        member.join()


if __name__ == "__main__":
    main()
