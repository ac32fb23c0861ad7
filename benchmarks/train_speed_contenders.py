"""What `benchmarks/train_speed.py` compares: each contender takes the same steps in a process of its own.

    PYTHON benchmarks/train_speed_contenders.py NAME ROWS.json --model FOLDER --adapter FOLDER [--began SECONDS]

Prints one line of JSON: the seconds and the loss of each step, when the first one ended (counted from `--began`), and the
versions of what did it. A peer runs under a Python that has it; Luthier is not imported there. Everybody reads token ids,
starts from the same adapter, and takes AdamW steps at a constant rate without warm-up, weight decay or clipping.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from train_speed_peers import litgpt, llama_factory, torchtune
from train_speed_steps import IGNORED, LEARNING_RATE, Clock, Contender, Row, Steps, padded, watch

MOST_MEMORY = 0.9
"""Of the machine's: whoever wants more fails, and nothing else is killed for it."""


def main() -> None:
    began = time.time()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(CONTENDERS))
    parser.add_argument("rows", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="a folder in Hugging Face's layout")
    parser.add_argument("--adapter", type=Path, required=True, help="a folder in PEFT's layout")
    parser.add_argument("--rows-a-step", type=int, default=8)
    parser.add_argument("--steps", type=int, help="how many to take at most")
    parser.add_argument("--began", type=float, default=began)
    parser.add_argument("--set", action="append", default=[], help="of a contender that can be tuned: name=value")
    arguments = parser.parse_args()
    most_bytes = int(MOST_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    rows = json.loads(arguments.rows.read_text())
    steps = [rows[start : start + arguments.rows_a_step] for start in range(0, len(rows), arguments.rows_a_step)]
    steps, clock = steps[: arguments.steps], Clock(arguments.began)
    about = CONTENDERS[arguments.name](arguments, steps, clock)
    said = {"seconds": clock.seconds, "losses": clock.losses, "others": clock.others, "about": about}
    print(json.dumps(said | {"first_step_s": clock.first_step_s, "versions": _versions()}))


def _versions() -> dict[str, str]:
    wanted = "luthier torch transformers peft trl accelerate llamafactory litgpt torchtune"
    return {name: metadata.version(name) for name in wanted.split() if name in sys.modules}


# --- Luthier ----------------------------------------------------------------------------------------------------------


def _luthier(arguments: argparse.Namespace, steps: Steps, clock: Clock) -> str:
    """The steps that `luthier run` takes, its parts and objective included; without its checkpoints and its metrics.

    May be set: allocator=glibc, which leaves the C library's allocator as it is.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line sets it
    import numpy as np
    import torch

    from luthier.advise.hyperparameters import max_activation_mb
    from luthier.model import loader
    from luthier.model.adapter import load_adapter
    from luthier.model.chat_template import EncodedExample
    from luthier.model.memory import free_memory
    from luthier.recipe import TrainRecipe
    from luthier.train.batch import parts_of_step
    from luthier.train.engine import open_engine
    from luthier.train.objective import Answers
    from luthier.train.training import MEGABYTE

    if "allocator=glibc" in arguments.set:
        loader.keep_freed_memory = lambda: False
    dtype, why = loader.resolve_dtype("auto")
    kept_mb, _ = max_activation_mb(free_memory(torch.device("cpu")))
    model = loader.load_model(arguments.model, dtype)
    adapter = load_adapter(model.network, arguments.adapter)
    adapter.train()
    engine, objective = open_engine(model, adapter, max_tape_bytes=kept_mb * MEGABYTE), Answers()
    optimizer = torch.optim.AdamW([adapter.flat], lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    most_tokens = TrainRecipe.model_fields["max_batch_tokens"].default
    clock.starts()
    for step in steps:
        rows = [EncodedExample(np.array(row["ids"]), np.array(row["trained"], dtype=bool), "") for row in step]
        trained = sum(row.num_trained for row in rows)
        parts = parts_of_step(rows, most_tokens, objective.num_tokens)
        clock.losses.append(sum(objective.accumulate(engine, part, trained)["loss"] for part in parts) / trained)
        optimizer.step()
        adapter.zero_grad()
        engine.refresh()
        clock.ends()
    return f"{dtype} ({why}), engine {engine.name} ({engine.reason})"


# --- TRL and transformers ----------------------------------------------------------------------------------------------


def _trainer_settings(rows_a_step: int, folder: str) -> dict[str, Any]:
    """What all trainers of transformers are told: the task, not how to be fast at it."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": rows_a_step,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,  # no clipping
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }


def _run_trainer(trainer: Any, clock: Clock) -> None:
    trainer.add_callback(watch(clock))
    trainer.train()


def _with_adapter(arguments: argparse.Namespace, *, autocast_adapter: bool = True, **options: Any) -> Any:
    """Returns transformers' model with PEFT's adapter, to be trained."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(arguments.model, **options)
    return PeftModel.from_pretrained(
        network, arguments.adapter, is_trainable=True, autocast_adapter_dtype=autocast_adapter
    )


def _trl(arguments: argparse.Namespace, steps: Steps, clock: Clock) -> str:
    """TRL's SFTTrainer; what is not set stays as TRL has it.

    May be set: weights (float32, as TRL loads them, or bfloat16), autocast (yes, no), checkpointing (yes, no), adapter
    (float32, as PEFT keeps it, or bfloat16), attention (sdpa, eager), padding_free (yes), packing (tokens of a pack),
    group (yes: rows of like length in a step).
    """
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    asked = dict(setting.split("=", 1) for setting in arguments.set)
    settings: dict[str, Any] = {"max_length": None}  # its default cuts rows at 1024 tokens
    if "autocast" in asked:
        settings["bf16"] = asked["autocast"] == "yes"
    if "checkpointing" in asked:
        settings["gradient_checkpointing"] = asked["checkpointing"] == "yes"
    if "packing" in asked:
        settings |= {"packing": True, "per_device_train_batch_size": 1, "max_length": int(asked["packing"])}
    if asked.get("padding_free") == "yes":
        settings["padding_free"] = True
    if asked.get("group") == "yes":
        settings["train_sampling_strategy"] = "group_by_length"
    rows = [row for step in steps for row in step]
    columns = {
        "input_ids": [row["ids"] for row in rows],
        "labels": [
            [token if trained else IGNORED for token, trained in zip(row["ids"], row["trained"], strict=True)]
            for row in rows
        ],
    }
    attention = {"attn_implementation": asked["attention"]} if "attention" in asked else {}
    network = _with_adapter(
        arguments,
        dtype=getattr(torch, asked.get("weights", "float32")),
        autocast_adapter=asked.get("adapter", "float32") == "float32",
        **attention,
    )
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(**(_trainer_settings(arguments.rows_a_step, folder) | settings))
        trainer = SFTTrainer(
            model=network,
            args=config,
            train_dataset=Dataset.from_dict(columns),
            processing_class=AutoTokenizer.from_pretrained(arguments.model),
        )
        _run_trainer(trainer, clock)
    return clock.about


def _trainer(arguments: argparse.Namespace, steps: Steps, clock: Clock) -> str:
    """transformers' Trainer with batches padded to their longest row, a bfloat16 base and autocast."""
    import torch
    from torch.utils.data import Dataset
    from transformers import Trainer, TrainingArguments

    class Rows(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return sum(map(len, steps))

        def __getitem__(self, index: int) -> Row:
            return steps[index // arguments.rows_a_step][index % arguments.rows_a_step]

    network = _with_adapter(arguments, dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        config = TrainingArguments(
            **_trainer_settings(arguments.rows_a_step, folder), remove_unused_columns=False, bf16=True
        )
        pad = network.config.pad_token_id or 0
        trainer = Trainer(
            model=network, args=config, train_dataset=Rows(), data_collator=lambda batch: padded(batch, pad)
        )
        _run_trainer(trainer, clock)
    return clock.about


CONTENDERS: dict[str, Contender] = {
    "luthier": _luthier,
    "trl": _trl,
    "trainer": _trainer,
    "llama-factory": llama_factory,
    "litgpt": litgpt,
    "torchtune": torchtune,
}

if __name__ == "__main__":
    main()
