"""QLoRA against LoRA: validation loss, memory of the base, time of a step, loading.

    python benchmarks/qlora.py [--seeds 1,2,3] [--rows 400] [--epochs 1] [--kinds none,nf4,int8] [--data FOLDER]

The same rows, order, adapter and settings over the same base in bfloat16 (float32 where the processor has no bfloat16
products), in 4 and in 8 bits; one process each, the kinds in turn. Every seed gives another adapter to begin with and another
order of the rows. For each kind and seed, the gradient check that a quantized run begins with is also made on many pairs of
rows, to see how far apart two ways of rounding can be.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data" / "public" / "snips-json"
KINDS = ("none", "nf4", "int8")
LEARNING_RATE = 1e-3
CHECKED_PAIRS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(KINDS), help="none first")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--measure", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    found: dict[str, list[dict]] = {kind: [] for kind in arguments.kinds.split(",")}
    for seed in arguments.seeds.split(","):
        for kind in found:
            call = [sys.executable, __file__, "--measure", kind, "--seeds", seed, "--rows", str(arguments.rows)]
            call += ["--epochs", str(arguments.epochs), "--data", str(arguments.data)]
            said = subprocess.run(
                call,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ
                | {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "1000")},  # as the command line does
            ).stdout
            found[kind].append(json.loads(said.splitlines()[-1]))
            print(f"seed {seed} {kind}: {found[kind][-1]}", flush=True)
    show(found)


def show(found: dict[str, list[dict]]) -> None:
    print()
    print("| base | its bytes | of plain | validation loss, by seed | ratio to plain, by seed | s a step | load s |")
    print("|---|---|---|---|---|---|---|")
    plain = found["none"]
    for kind, runs in found.items():
        losses = ", ".join(f"{run['valid_loss']:.4f}" for run in runs)
        ratios = [run["valid_loss"] / other["valid_loss"] for run, other in zip(runs, plain, strict=True)]
        shown = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        middle = {key: statistics.median(run[key] for run in runs) for key in ("step_s", "load_s")}
        print(
            f"| {kind} | {runs[0]['base_mb']:.1f} MB | {runs[0]['base_mb'] / plain[0]['base_mb']:.1%} | {losses} | {shown} "
            f"(mean {statistics.mean(ratios):.3f}) | {middle['step_s']:.3f} | {middle['load_s']:.1f} |"
        )


def measure(arguments: argparse.Namespace) -> dict:
    from luthier.model.chat_template import ChatTokenizer
    from luthier.model.loader import base_bytes, load_model, resolve_dtype
    from luthier.model.lora import LoraConfig, attach
    from luthier.model.sources import pull
    from luthier.recipe import TrainRecipe
    from luthier.runs import RunFolder, no_listener, read_lines
    from luthier.train.engine import open_engine
    from luthier.train.gradient_check import check_quantized_gradient
    from luthier.train.loop import train
    from luthier.train.settings import TrainSettings

    kind, seed = arguments.measure, int(arguments.seeds)
    folder = pull("smollm2-135m")
    chat = ChatTokenizer(folder)
    parts = {}
    for part in ("train", "valid"):
        lines = (arguments.data / f"{part}.jsonl").read_text("utf-8").splitlines()[: arguments.rows]
        parts[part] = [
            chat.encode_example(json.loads(x)["messages"], place=f"{part}:{n}") for n, x in enumerate(lines, 1)
        ]
    dtype = resolve_dtype("auto")[0]
    before_mb, started = anonymous_mb(), time.perf_counter()
    model = load_model(folder, dtype, chat, quantization=kind)
    load_s, loaded_mb = time.perf_counter() - started, anonymous_mb() - before_mb
    adapter = attach(model.network, LoraConfig(r=16, lora_alpha=32), seed=seed)
    recipe = TrainRecipe(
        n_epochs=arguments.epochs,
        learning_rate=LEARNING_RATE,
        batch_size=8,
        early_stopping_patience=None,
        checkpoint_every_s=1e9,
        max_activation_mb=4096,
    )
    settings = TrainSettings.from_recipe(recipe, seed=seed)
    with tempfile.TemporaryDirectory() as path:
        run = RunFolder(path)
        progress = train(model, adapter, parts["train"], parts["valid"], settings, run, listener=no_listener)
        steps = [line["seconds"] for line in read_lines(run.metrics)]
    peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    apart = []
    if kind != "none":
        engine = open_engine(model, adapter)
        rows = parts["train"][: 2 * CHECKED_PAIRS]
        apart = [
            check_quantized_gradient(model, engine, adapter, rows[start : start + 2])
            for start in range(0, len(rows), 2)
        ]
    return {
        "valid_loss": progress.best_valid_loss,
        "loss_before": progress.base_valid_loss,
        "base_mb": base_bytes(model.network) / 1e6,
        "dtype": dtype,
        "step_s": statistics.median(steps[1:-1]),
        "load_s": round(load_s, 2),
        "loaded_mb": loaded_mb,
        "peak_mb": peak_mb,
        "gradients_apart": round(max(apart), 4) if apart else None,
    }


def anonymous_mb() -> int:
    """Memory of the process that is not a mapped file, MB; 0 where /proc does not say."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1000 for line in lines if line.startswith("RssAnon")), 0)


if __name__ == "__main__":
    main()
