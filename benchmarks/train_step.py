"""Seconds a training step: Luthier against a plain PEFT + transformers loop, in turn, in one process each.

    python benchmarks/train_step.py [--data FILE] [--rounds 3] [--steps 6] [--rows 8] [--dtype bfloat16]

Same rows in the same order, LoRA r 16 on all linear layers, AdamW. The peer pads its batches to the longest row, lets
PEFT hold the adapter, and asks transformers' own forward for the loss: what a person writes by hand. Each measurement
is a process of its own; the two take turns, and the ratio is taken round by round, because these machines drift.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
SAMPLE = Path(__file__).parents[1] / "examples" / "orders.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(SAMPLE))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--glibc-default", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--measure", choices=["luthier", "peft"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    results: dict[str, list[dict[str, float]]] = {"luthier": [], "peft": []}
    for number in range(arguments.rounds):
        for name, found in results.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", name]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(json.loads(output.splitlines()[-1]))
            print(f"round {number + 1} {name:8} {json.dumps(found[-1])}", flush=True)
    ratios = [p["seconds"] / o["seconds"] for o, p in zip(results["luthier"], results["peft"], strict=True)]
    memory = [o["peak_gb"] / p["peak_gb"] for o, p in zip(results["luthier"], results["peft"], strict=True)]
    losses = [abs(o["first_loss"] - p["first_loss"]) for o, p in zip(results["luthier"], results["peft"], strict=True)]
    print(
        f"\nspeed ratio, round by round: {', '.join(f'{r:.2f}' for r in ratios)}; median {statistics.median(ratios):.2f}"
    )
    print(f"peak memory of ours / of the peer: {statistics.median(memory):.2f}")
    print(f"largest difference of the first loss: {max(losses):.1e}")


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Returns the median seconds a step after the first, real tokens a second, peak memory, and the first loss."""
    import torch

    from luthier.model.chat_template import ChatTokenizer
    from luthier.model.sources import pull

    folder = pull("smollm2-135m")
    chat = ChatTokenizer(folder)
    with open(arguments.data, encoding="utf-8") as file:
        records = [json.loads(line) for _, line in zip(range(arguments.rows * arguments.steps), file, strict=False)]
    rows = [chat.encode_example(r["messages"], r.get("tools"), place=str(n)) for n, r in enumerate(records)]
    batches = [rows[start : start + arguments.rows] for start in range(0, len(rows), arguments.rows)]
    backward, parameters = (ours if arguments.measure == "luthier" else peft_loop)(
        folder, chat, arguments.dtype, arguments.glibc_default
    )
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)
    seconds, losses = [], []
    for batch in batches:
        start = time.perf_counter()
        losses.append(backward(batch))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        seconds.append(time.perf_counter() - start)
    tokens = sum(len(row) for row in rows) / len(batches)
    median = statistics.median(seconds[1:])
    return {
        "seconds": round(median, 3),
        "tokens_per_s": round(tokens / median, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "first_loss": losses[0],
    }


def ours(folder, chat, dtype, glibc_default):
    import torch

    from luthier.model import loader
    from luthier.model.lora import LoraConfig, attach
    from luthier.train.batch import flatten
    from luthier.train.engine import open_engine

    if glibc_default:
        loader.keep_freed_memory = lambda: False
    model = loader.load_model(folder, dtype, chat)
    adapter = attach(model.network, LoraConfig(r=16, lora_alpha=32), seed=1)
    adapter.train()
    engine = open_engine(model, adapter)

    def backward(rows):
        engine.refresh()
        batch = flatten(rows)
        return -engine.accumulate(batch, torch.full((batch.num_trained,), -1 / batch.num_trained)).mean().item()

    return backward, [adapter.flat]


def peft_loop(folder, chat, dtype, glibc_default):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    network = get_peft_model(network, config)

    def backward(batch):
        longest = max(len(row) for row in batch)
        ids = torch.tensor([[*row.ids, *[2] * (longest - len(row))] for row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
        labels = torch.full_like(ids, -100)
        for n, row in enumerate(batch):
            labels[n, : len(row)] = torch.where(torch.from_numpy(row.trained), torch.from_numpy(row.ids), -100)
        loss = network(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        return loss.item()

    return backward, [p for p in network.parameters() if p.requires_grad]


if __name__ == "__main__":
    main()
