"""The machine's own rate of matrix products, in the shapes of a model's layers, and what a step needs of them.

    python benchmarks/train_speed_products.py MODEL_FOLDER --tokens T --trained N [--dtype bfloat16]

Prints one line of JSON: GFLOP/s of the products that a step of T tokens with N trained ones takes (forward, and the
gradient of the input), and of a square product of 4096, which the hardware likes best.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SQUARE = 4096
REPEATS = 7
COPIES = 4
"""Of each matrix, used in turn: a step does not meet the same weights twice in a row."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder of the Llama family, by the words of its `config.json`."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int

    @classmethod
    def of(cls, folder: Path) -> Shape:
        config = json.loads((folder / "config.json").read_text())
        return cls(**{name: config[name] for name in cls.__dataclass_fields__})

    @property
    def queries(self) -> int:
        return self.num_attention_heads * self.head_dim

    @property
    def keys(self) -> int:
        return self.num_key_value_heads * self.head_dim


def needed_flops(shape: Shape, positions: Sequence[int], predicting: Sequence[int], rank: int) -> float:
    """Returns the floating-point operations that a step cannot do without, forward and backward.

    Counted are the products of the linear layers and of their adapters, of the head at the positions that predict a
    trained token, and of attention (each token with those before it, nothing above the diagonal). The base is frozen, so
    its weights get no gradient and nothing flows below the first layer's adapters; the last layer works where its output
    is read. Work done twice to save memory does not count, nor does anything that is not a matrix product.

    Args:
        shape: of the model.
        positions: of each token that is computed, in its own example; tokens that examples share are computed once.
        predicting: the positions of those that predict a trained token.
        rank: of the adapters.
    """
    width, hidden = shape.hidden_size, shape.intermediate_size
    entering = [(width, shape.queries), (width, shape.keys), (width, shape.keys)]
    leaving = [(shape.queries, width), (width, hidden), (width, hidden), (hidden, width)]

    def linear(layers: Sequence[tuple[int, int]], tokens: int, *, into_input: bool = True) -> float:
        base = sum(2 * inputs * outputs for inputs, outputs in layers)
        # A and B forward; the gradients of B and of the middle, of A, and of the input.
        adapters = sum(2 * rank * (inputs + outputs) for inputs, outputs in layers)
        inner = sum(2 * rank * (2 * outputs + inputs) for inputs, outputs in layers)
        last = sum(2 * rank * inputs for inputs, _ in layers)
        return tokens * (base + adapters + inner + (base + last if into_input else 0))

    tokens, trained, depth = len(positions), len(predicting), shape.num_hidden_layers
    total = linear(entering, tokens, into_input=False) + (depth - 1) * linear(entering, tokens)
    total += (depth - 1) * linear(leaving, tokens) + linear(leaving, trained)
    total -= linear(entering[:1], tokens) - linear(entering[:1], trained)  # the last layer's queries
    total += 4 * trained * width * shape.vocab_size
    # Scores and values forward, four products backward, each of two operations a pair and dimension.
    seen, seen_last = (sum(position + 1 for position in some) for some in (positions, predicting))
    return total + 12 * shape.queries * ((depth - 1) * seen + seen_last)


def rates(shape: Shape, tokens: int, trained: int, dtype: str) -> dict[str, float]:
    """Returns GFLOP/s of the layers' products, all of them weighted as a step does, and of a square one."""
    import torch

    layers = [
        (shape.hidden_size, shape.queries + 2 * shape.keys, tokens, shape.num_hidden_layers),
        (shape.queries, shape.hidden_size, tokens, shape.num_hidden_layers),
        (shape.hidden_size, 2 * shape.intermediate_size, tokens, shape.num_hidden_layers),
        (shape.intermediate_size, shape.hidden_size, tokens, shape.num_hidden_layers),
        (shape.hidden_size, shape.vocab_size, trained, 1),
    ]

    def seconds(rows: int, inner: int, outer: int, *, transposed: bool) -> float:
        left = torch.randn(rows, inner, dtype=getattr(torch, dtype))
        sizes = (outer, inner) if transposed else (inner, outer)
        weights = [torch.randn(*sizes, dtype=left.dtype) for _ in range(COPIES)]
        out = torch.empty(rows, outer, dtype=left.dtype)
        taken = []
        for number in range(REPEATS + 2):
            weight = weights[number % COPIES]
            start = time.perf_counter()
            torch.mm(left, weight.t() if transposed else weight, out=out)
            taken.append(time.perf_counter() - start)
        return statistics.median(taken[2:])

    flops = time_s = 0.0
    for inputs, outputs, rows, times in layers:
        flops += times * 4 * rows * inputs * outputs
        time_s += times * seconds(rows, inputs, outputs, transposed=True)
        time_s += times * seconds(rows, outputs, inputs, transposed=False)
    square = 2 * SQUARE**3 / seconds(SQUARE, SQUARE, SQUARE, transposed=True)
    return {"layers_gflops": flops / time_s / 1e9, "square_gflops": square / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--trained", type=int, required=True)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    arguments = parser.parse_args()
    print(json.dumps(rates(Shape.of(arguments.model), arguments.tokens, arguments.trained, arguments.dtype)))


if __name__ == "__main__":
    main()
