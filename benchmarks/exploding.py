"""How far does the loss go when a training explodes? Twenty steps on the sample orders at rising learning rates.

python benchmarks/exploding.py
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from pathlib import Path

ROWS = Path(__file__).parents[1] / "examples" / "orders.jsonl"
RATES = (1.3e-3, 5e-3, 2e-2, 1e-1, 1.0)


def main() -> None:
    from luthier.errors import TrainError
    from luthier.model.chat_template import ChatTokenizer
    from luthier.model.loader import load_model, resolve_dtype
    from luthier.model.lora import LoraConfig, attach
    from luthier.model.sources import pull
    from luthier.recipe import TrainRecipe
    from luthier.runs import RunFolder, no_listener, read_lines
    from luthier.train import training
    from luthier.train.loop import train
    from luthier.train.settings import TrainSettings

    training.EXPLODED = math.inf  # look on instead of stopping
    folder = pull("smollm2-135m")
    chat = ChatTokenizer(folder)
    lines = ROWS.read_text("utf-8").splitlines()[:80]
    rows = [chat.encode_example(json.loads(line)["messages"], place=f"orders:{n}") for n, line in enumerate(lines, 1)]
    model = load_model(folder, resolve_dtype("auto")[0], chat)
    adapter = attach(model.network, LoraConfig(r=16, lora_alpha=32), seed=1)
    start = adapter.state()
    print(f"guessing: {math.log(len(model.network.get_output_embeddings().weight)):.2f}")
    recipe = TrainRecipe(
        n_epochs=1,
        learning_rate=RATES[0],  # the others are past what a recipe takes, or near it
        batch_size=4,
        schedule="constant",
        warmup_ratio=0.0,
        early_stopping_patience=None,
        max_steps=20,
        checkpoint_every_s=1e9,
        max_activation_mb=4096,
    )
    for rate in RATES:
        adapter.load_state(start)
        settings = dataclasses.replace(TrainSettings.from_recipe(recipe, seed=1), learning_rate=rate)
        with tempfile.TemporaryDirectory() as path:
            run = RunFolder(path)
            try:
                train(model, adapter, rows, [], settings, run, listener=no_listener)
            except TrainError as error:
                print(error.message)
            losses = [f"{line['train_loss']:.1f}" for line in read_lines(run.metrics)]
        print(f"{rate:g}: {' '.join(losses)}", flush=True)


if __name__ == "__main__":
    main()
