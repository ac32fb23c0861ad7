"""What decides the shapes of a training step's matrix products: three measurements in one run, each against its alternative.

    python benchmarks/product_shapes.py [--write docs/measurements/product-shapes.md]

New shapes: the first product of a number of rows against a later one. Long sums: whole against two halves. Adapters: one
product over inputs and ranks against three. Shapes are those of the embedded model's layers.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line sets it

import torch

from luthier.model.loader import resolve_dtype

COPIES = 16
"""Of each weight, used in turn, so that none is in the cache."""
ROUNDS, REPEATS = 7, 16
TOKENS = (256, 448, 512, 576, 640, 704, 1024, 2048)
HIDDEN, INNER, RANKS = 576, 1536, 16


def median_ms(*ways: Callable[[int], object]) -> list[float]:
    """Returns the median time of each way, taken in turn."""
    times: list[list[float]] = [[] for _ in ways]
    for way in ways:
        way(0)
    for _ in range(ROUNDS):
        for spent, way in zip(times, ways, strict=True):
            start = time.perf_counter()
            for number in range(REPEATS):
                way(number % COPIES)
            spent.append((time.perf_counter() - start) / REPEATS * 1e3)
    return [statistics.median(spent) for spent in times]


def new_shapes(dtype: torch.dtype) -> tuple[float, float]:
    """Returns the medians, in ms, of the first products of 16 numbers of rows, and of the same again."""
    weight = torch.randn(2 * INNER, HIDDEN).to(dtype)
    first, later = [], []
    for rows in range(1001, 1017):
        x = torch.randn(rows, HIDDEN).to(dtype)
        for times in (first, later):
            start = time.perf_counter()
            torch.mm(x, weight.t())
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(first), statistics.median(later)


def long_sums(tokens: int, dtype: torch.dtype) -> list[float]:
    """Returns the times of the product that takes the gradient of gate and up to their input: whole, and in two halves."""
    depth = 2 * INNER + 2 * RANKS
    weights = [torch.randn(depth, HIDDEN).to(dtype) for _ in range(COPIES)]
    gradient, out, half = torch.randn(tokens, depth).to(dtype), torch.empty(tokens, HIDDEN, dtype=dtype), HIDDEN // 2

    def halves(number: int) -> None:
        torch.mm(gradient, weights[number][:, :half], out=out[:, :half])
        torch.mm(gradient, weights[number][:, half:], out=out[:, half:])

    return median_ms(lambda number: torch.mm(gradient, weights[number], out=out), halves)


def adapters(tokens: int, dtype: torch.dtype) -> list[float]:
    """Returns the times of gate and up with their adapters: three products, and two with room behind the input."""
    ranks, outputs = 2 * RANKS, 2 * INNER
    wholes = [torch.randn(outputs + ranks, HIDDEN + ranks).to(dtype) for _ in range(COPIES)]
    apart = [
        (
            whole[:outputs, :HIDDEN].contiguous(),
            whole[outputs:, :HIDDEN].contiguous(),
            whole[:outputs, HIDDEN:].contiguous(),
        )
        for whole in wholes
    ]
    rows = torch.randn(tokens, HIDDEN + ranks).to(dtype)
    x, h, out = (
        rows[:, :HIDDEN].contiguous(),
        torch.empty(tokens, ranks, dtype=dtype),
        torch.empty(tokens, outputs, dtype=dtype),
    )

    def three(number: int) -> None:
        weight, a, b = apart[number]
        torch.mm(x, weight.t(), out=out)
        torch.mm(x, a.t(), out=h)
        out.addmm_(h, b.t())

    def joint(number: int) -> None:
        whole = wholes[number]
        torch.mm(rows[:, :HIDDEN], whole[outputs:, :HIDDEN].t(), out=rows[:, HIDDEN:])
        torch.mm(rows, whole[:outputs].t(), out=out)

    return median_ms(three, joint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="the page to write")
    arguments = parser.parse_args()
    name, reason = resolve_dtype("auto")
    dtype = getattr(torch, name)
    first, later = new_shapes(dtype)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {name} ({reason})"
    lines = [
        "# The shapes of a step's matrix products",
        "",
        f"`benchmarks/product_shapes.py --write …`, {datetime.now(UTC).date()}. {machine}.",
        f"Medians of {ROUNDS} rounds in turn, {COPIES} copies of each weight. Shapes of SmolLM2-135M, LoRA of rank {RANKS}.",
        "",
        f"**A number of rows that did not come up before** costs {first:.1f} ms at its first product and {later:.1f} ms at",
        "the next: the library compiles a kernel for it. So flat rows are filled up to multiples of 64 (`ROW_MULTIPLE`):",
        "of 64 numbers of rows one is left, for 5 percent of filling at 640 tokens.",
        "",
        "**Long sums** (`_LONG_SUM`, `_MANY_ROWS`), the gradient of gate and up to their input, 3,104 numbers to 576; and",
        "**adapters joined to their weights**, gate and up forward:",
        "",
        "| tokens | whole, ms | two halves, ms | ratio | three products, ms | joined, ms | ratio |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for tokens in TOKENS:
        whole, halves = long_sums(tokens, dtype)
        three, joint = adapters(tokens, dtype)
        ratios = whole / halves, three / joint
        lines.append(
            f"| {tokens:,} | {whole:.2f} | {halves:.2f} | {ratios[0]:.2f} | {three:.2f} | {joint:.2f} | {ratios[1]:.2f} |"
        )
    page = "\n".join(lines) + "\n"
    print(page)
    if arguments.write:
        arguments.write.write_text(page)


if __name__ == "__main__":
    main()
