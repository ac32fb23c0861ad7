"""What does sorting the rows of a window by length win, and what does it cost in the validation loss?

    python benchmarks/length_window.py DATA.jsonl [--train 160] [--valid 80] [--epochs 2] [--seeds 4]

Steps of a window of 1 (shuffled alone) and of 8 are taken in turn, on the same rows with the same seeds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

WINDOWS = (1, 8)
LONGEST = 1024


def main() -> None:
    from luthier.model.chat_template import ChatTokenizer
    from luthier.model.loader import load_model, resolve_dtype
    from luthier.model.lora import LoraConfig, attach
    from luthier.model.sources import pull
    from luthier.recipe import TrainRecipe
    from luthier.runs import RunFolder, no_listener, read_lines
    from luthier.train.loop import train
    from luthier.train.settings import TrainSettings

    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", type=int, default=160)
    parser.add_argument("--valid", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=4)
    asked = parser.parse_args()
    folder = pull("smollm2-135m")
    chat = ChatTokenizer(folder)
    rows = []
    for number, line in enumerate(asked.data.read_text("utf-8").splitlines(), 1):
        record = json.loads(line)
        row = chat.encode_example(record["messages"], record.get("tools"), place=f"{asked.data.name}:{number}")
        if len(row) <= LONGEST and len(rows) < asked.train + asked.valid:
            rows.append(row)
    model = load_model(folder, resolve_dtype("auto")[0], chat)
    adapter = attach(model.network, LoraConfig(r=16, lora_alpha=32), seed=1)
    start = adapter.state()
    for seed in range(1, asked.seeds + 1):
        told = []
        for window in WINDOWS:
            adapter.load_state(start)
            recipe = TrainRecipe(
                n_epochs=asked.epochs,
                learning_rate=1.3e-3,
                batch_size=8,
                early_stopping_patience=None,
                checkpoint_every_s=1e9,
                max_activation_mb=4096,
                length_window=window,
            )
            settings = TrainSettings.from_recipe(recipe, seed=seed)
            with tempfile.TemporaryDirectory() as path:
                run = RunFolder(path)
                sides = rows[: asked.train], rows[asked.train :]
                progress = train(model, adapter, *sides, settings, run, listener=no_listener)
                seconds = sum(line["seconds"] for line in read_lines(run.metrics))
            told.append(f"window {window}: {seconds:.1f} s of steps, validation loss {progress.best_valid_loss:.4f}")
        print(f"seed {seed}: {'; '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
