"""Is training flat in the number of examples? Memory and seconds a step with 10^3 to 10^6 rows read from disk.

Each number of rows is a process of its own: it writes a token store of random rows, opens it, and trains a tiny random
network for the same number of steps, so that what differs is what the number of rows costs. The file is in the system's
cache, as it would be after it was written.

That is what training costs. `--whole` measures `luthier train` from the file on instead: what is held while rows are checked
and split, while they are encoded one by one, and while they are trained on. `own` is the part of it that is no file's: what
is seen of a file the system takes back where memory is short. `--template` makes rows that are fillings of one template.

    python benchmarks/many_rows.py [--rows 1000,10000,100000,1000000] [--steps 200] [--whole [--template]] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

VOCABULARY = 4096
SETTINGS = {
    "n_epochs": 50,
    "learning_rate": 1e-3,
    "batch_size": 8,
    "max_batch_tokens": 4096,
    "max_activation_mb": 4096,
    "schedule": "constant",
    "warmup_ratio": 0.0,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "early_stopping_patience": None,
    "checkpoint_every_s": 1e9,
    "seed": 1,
    "length_window": 8,
}


def random_rows(count: int):
    import numpy as np

    from luthier.model.chat_template import EncodedExample

    draw = np.random.default_rng(1)
    for number in range(count):
        length = int(draw.integers(20, 120))
        yield EncodedExample(
            draw.integers(0, VOCABULARY, length), np.arange(length) >= length // 2, f"rows.jsonl:{number + 1}"
        )


def memory_now() -> float:
    """Returns the MiB this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(num_rows: int, steps: int) -> dict[str, float]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from luthier.model.loader import LoadedModel
    from luthier.model.lora import LoraConfig, attach
    from luthier.runs import RunFolder, no_listener, read_lines
    from luthier.train.loop import train
    from luthier.train.settings import TrainSettings
    from luthier.train.token_store import open_token_store, write_token_store

    torch.manual_seed(1)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    network = LlamaForCausalLM(config).eval().requires_grad_(False)
    adapter = attach(network, LoraConfig(r=8, lora_alpha=16), seed=1)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        write_token_store(Path(folder) / "tokens", random_rows(num_rows), vocabulary_size=VOCABULARY, made_from="x")
        written = time.perf_counter()
        store = open_token_store(Path(folder) / "tokens", made_from="x")
        assert store is not None
        opened = time.perf_counter()
        before = memory_now()
        run = RunFolder(Path(folder) / "run")
        run.path.mkdir()
        model = LoadedModel(network, None, Path(folder), "float32", 512, frozenset({2}))
        settings = TrainSettings(**SETTINGS, max_steps=steps)
        train(model, adapter, store, [], settings, run, listener=no_listener)
        trained = time.perf_counter()
        seconds = sorted(line["seconds"] for line in read_lines(run.metrics))
        return {
            "rows": num_rows,
            "disk_bytes_a_row": sum(file.stat().st_size for file in store.path.iterdir()) / num_rows,
            "write_s": written - started,
            "open_s": opened - written,
            "before_first_step_s": trained - opened - sum(seconds),
            "median_step_ms": 1000 * seconds[len(seconds) // 2],
            "training_mib": memory_now() - before,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_model(folder: Path) -> None:
    """A random network of two layers with a byte-level tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|im_start|>", pad_token="<|im_end|>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


class Watch:
    """Looks every few milliseconds at how much memory is this process's own, and remembers the most, in MiB."""

    def __init__(self) -> None:
        self.most = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(0.005):
            self.most = max(self.most, own_memory())


def own_memory() -> float:
    """Returns the MiB this process holds that are no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def write_template_rows(path: Path, count: int) -> None:
    """Chat rows of some 290 bytes that are fillings of one template."""
    draw = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(3, 9))) for _ in range(5000)]
    with path.open("w") as stream:
        for _ in range(count):
            one, two, three = draw.choices(words, k=3)
            asked = (
                f"Please tell the customer {one} politely that the order of {two} has left our store, and that it will "
            )
            asked += f"be there within {draw.randint(2, 400)} hours; leave out all prices."
            answer = f"Dear {one}, your order of {two} is on its way, by {three}."
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            stream.write(json.dumps({"messages": messages}) + "\n")


def write_rows(path: Path, count: int) -> None:
    """Chat rows of some 210 bytes, none like another."""
    draw = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(3, 9))) for _ in range(5000)]
    with path.open("w") as stream:
        for _ in range(count):
            turns = (("user", 12), ("assistant", 6))
            messages = [{"role": role, "content": " ".join(draw.choices(words, k=many))} for role, many in turns]
            stream.write(json.dumps({"messages": messages}) + "\n")


def measure_whole(num_rows: int, steps: int, template: bool) -> dict[str, float]:
    import torch

    import luthier.stages.training  # noqa: F401 - what it loads is no part of what rows cost
    from luthier import sdk

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tiny_model(Path(folder) / "model")
        (write_template_rows if template else write_rows)(Path(folder) / "rows.jsonl", num_rows)
        started, before, own_before = time.perf_counter(), memory_now(), own_memory()
        found: dict[str, float] = {"rows": num_rows}

        def hear(event) -> None:
            stage = {"Checking": "start", "Loading": "prepared", "Training, ": "encoded"}
            for beginning, name in stage.items():
                if event.kind == "stage" and event.message.startswith(beginning):
                    found[f"{name}_s"] = time.perf_counter() - started
                    found[f"{name}_mib"] = memory_now() - before
                    found[f"{name}_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
                    found[f"{name}_own_peak_mib"] = watch.most - own_before

        overrides = {
            "model.base": str(Path(folder) / "model"),
            "model.dtype": "float32",
            "adapter.r": 4,
            "train.n_epochs": 1,
            "train.batch_size": 8,
            "train.max_steps": steps,
        }
        with Watch() as watch:
            sdk.train(Path(folder) / "rows.jsonl", out=Path(folder) / "run", overrides=overrides, listener=hear)
        found["trained_s"] = time.perf_counter() - started
        found["trained_mib"] = memory_now() - before
        found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="1000,10000,100000,1000000")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--whole", action="store_true", help="from the file on, as `luthier train` does it")
    parser.add_argument("--template", action="store_true", help="rows that are fillings of one template")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help="measure this number of rows in this process")
    asked = parser.parse_args()
    if asked.one:
        whole = asked.whole
        print(
            json.dumps(
                measure_whole(asked.one, asked.steps, asked.template) if whole else measure(asked.one, asked.steps)
            )
        )
        return
    found = []
    for count in map(int, asked.rows.split(",")):
        command = [sys.executable, __file__, "--one", str(count), "--steps", str(asked.steps)]
        command += ["--whole"] * asked.whole + ["--template"] * asked.template
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found.append(json.loads(output.splitlines()[-1]))
        print("  ".join(f"{name} {value:,.1f}" for name, value in found[-1].items()), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
