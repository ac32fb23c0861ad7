"""The contenders of `benchmarks/train_speed.py` that bring their own training loops. Each has a Python of its own."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

from train_speed_steps import IGNORED, LEARNING_RATE, Clock, Steps, padded, watch

PADDING = 2


def llama_factory(arguments: argparse.Namespace, steps: Steps, clock: Clock) -> str:
    """LLaMA-Factory through its own entry point, with its defaults (gradient checkpointing among them) and bf16.

    It imports torchaudio whatever it trains on, and the package index has that for CUDA only: an empty module stands in.
    """
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)
    from datasets import Dataset, DatasetDict
    from llamafactory.train.tuner import run_exp

    columns: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for row in (row for step in steps for row in step):
        columns["input_ids"].append(row["ids"])
        columns["attention_mask"].append([1] * len(row["ids"]))
        pairs = zip(row["ids"], row["trained"], strict=True)
        columns["labels"].append([token if trained else IGNORED for token, trained in pairs])
    with tempfile.TemporaryDirectory() as folder:
        DatasetDict({"train": Dataset.from_dict(columns)}).save_to_disk(f"{folder}/rows")
        settings = {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": str(arguments.model),
            "adapter_name_or_path": str(arguments.adapter),
            "finetuning_type": "lora",
            "template": "chatml",  # of no effect, as the next: the rows are token ids
            "dataset": "rows",
            "tokenized_path": f"{folder}/rows",
            "disable_shuffling": True,
            "output_dir": f"{folder}/run",
            "per_device_train_batch_size": arguments.rows_a_step,
            "num_train_epochs": 1,
            "learning_rate": LEARNING_RATE,
            "lr_scheduler_type": "constant",
            "weight_decay": 0.0,
            "max_grad_norm": 0.0,
            "bf16": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "remove_unused_columns": True,
        }
        run_exp(settings, callbacks=[watch(clock)])
    return clock.about


def litgpt(arguments: argparse.Namespace, steps: Steps, clock: Clock) -> str:
    """LitGPT's model, LoRA and chunked loss, in the manner of its `finetune_lora`, with `bf16-true`.

    Its own command reads texts and shuffles them, so the loop is written here. Its LoRA holds the adapters of queries, keys
    and values in one pair of matrices; A is filled from the adapter, B is zero in both.
    """
    import lightning
    import torch
    from litgpt.lora import GPT, Config, mark_only_lora_as_trainable
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint
    from litgpt.utils import chunked_cross_entropy
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder, clock.uncounted():
        for file in arguments.model.iterdir():
            shutil.copy(file, folder)
        convert_hf_checkpoint(Path(folder), model_name="SmolLM2-135M-Instruct")
        base = torch.load(f"{folder}/lit_model.pth", mmap=False)
    which = {f"lora_{part}": True for part in ("query", "key", "value", "projection", "mlp")}
    about = json.loads((arguments.adapter / "adapter_config.json").read_text())
    config = Config.from_name(
        "SmolLM2-135M-Instruct", lora_r=about["r"], lora_alpha=about["lora_alpha"], lora_dropout=0.0, **which
    )
    fabric = lightning.Fabric(devices=1, accelerator="cpu", precision="bf16-true")
    with fabric.init_module(empty_init=False):
        network = GPT(config)
    mark_only_lora_as_trainable(network)
    network = fabric.setup_module(network)
    weights = load_file(arguments.adapter / "adapter_model.safetensors")
    for layer in range(config.n_layer):
        start = f"base_model.model.model.layers.{layer}."
        joined = [weights[f"{start}self_attn.{name}_proj.lora_A.weight"] for name in "qkv"]
        base[f"transformer.h.{layer}.attn.qkv.lora_A"] = torch.cat(joined)
        for theirs, ours in (("attn.proj", "self_attn.o_proj"), ("mlp.fc_1", "mlp.gate_proj"), ("mlp.fc_2", "mlp.up_proj"),
                             ("mlp.proj", "mlp.down_proj")):  # fmt: skip
            base[f"transformer.h.{layer}.{theirs}.lora_A"] = weights[f"{start}{ours}.lora_A.weight"]
    missing, unexpected = network.load_state_dict(base, strict=False)
    unloaded = [name for name in missing if not name.endswith(("lora_B", "lora_ind"))]
    assert not unexpected, unexpected
    assert not unloaded, unloaded
    network.max_seq_length = max(len(row["ids"]) for step in steps for row in step)
    optimizer = torch.optim.AdamW(
        [p for p in network.parameters() if p.requires_grad], lr=LEARNING_RATE, weight_decay=0.0, fused=True
    )
    optimizer = fabric.setup_optimizers(optimizer)
    clock.starts()
    for step in steps:
        batch = padded(step, PADDING)
        logits = network(batch["input_ids"], lm_head_chunk_size=128)
        logits[-1] = logits[-1][..., :-1, :]
        loss = chunked_cross_entropy(logits, batch["labels"][..., 1:], ignore_index=IGNORED)
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        clock.losses.append(float(loss.detach()))
        clock.ends()
    return (
        "its model, LoRA and loss with a loop of ours, bf16-true (base and adapter bfloat16), no gradient checkpointing"
    )


def torchtune(arguments: argparse.Namespace, steps: Steps, clock: Clock) -> str:
    """torchtune's model and chunked loss, in the manner of its `lora_finetune_single_device` recipe, in bfloat16.

    Its `mistral` builder is the one that makes this architecture with this rotary base. The head is a copy of the embedding
    instead of the embedding itself, which is all one where both are frozen.
    """
    import torch
    from safetensors.torch import load_file
    from torchtune import training
    from torchtune.models.convert_weights import hf_to_tune
    from torchtune.models.mistral import lora_mistral
    from torchtune.modules.loss import CEWithChunkedOutputLoss
    from torchtune.modules.peft import get_adapter_params, set_trainable_params

    config = json.loads((arguments.model / "config.json").read_text())
    about = json.loads((arguments.adapter / "adapter_config.json").read_text())
    with training.set_default_dtype(torch.bfloat16):
        network = lora_mistral(
            ["q_proj", "k_proj", "v_proj", "output_proj"],
            apply_lora_to_mlp=True,
            vocab_size=config["vocab_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            num_kv_heads=config["num_key_value_heads"],
            embed_dim=config["hidden_size"],
            intermediate_dim=config["intermediate_size"],
            max_seq_len=config["max_position_embeddings"],
            norm_eps=config["rms_norm_eps"],
            rope_base=int(config["rope_parameters"]["rope_theta"]),
            lora_rank=about["r"],
            lora_alpha=about["lora_alpha"],
            lora_dropout=0.0,
        )
    adapter = get_adapter_params(network)
    set_trainable_params(network, adapter)
    base = load_file(arguments.model / "model.safetensors")
    base["lm_head.weight"] = base["model.embed_tokens.weight"]
    sizes = ("num_attention_heads", "num_key_value_heads", "hidden_size")
    state = hf_to_tune(base, *(config[size] for size in sizes))
    start = load_file(arguments.adapter / "adapter_model.safetensors")
    parts = {"self_attn.q_proj": "attn.q_proj", "self_attn.k_proj": "attn.k_proj", "self_attn.v_proj": "attn.v_proj",
             "self_attn.o_proj": "attn.output_proj", "mlp.gate_proj": "mlp.w1", "mlp.down_proj": "mlp.w2",
             "mlp.up_proj": "mlp.w3"}  # fmt: skip
    for layer in range(config["num_hidden_layers"]):
        for ours, theirs in parts.items():
            ours = f"base_model.model.model.layers.{layer}.{ours}.lora_A.weight"
            state[f"layers.{layer}.{theirs}.lora_a.weight"] = start[ours]
    missing, unexpected = network.load_state_dict(state, strict=False)
    unloaded = [name for name in missing if not name.endswith("lora_b.weight")]
    assert not unexpected, unexpected
    assert not unloaded, unloaded
    loss_of = CEWithChunkedOutputLoss(ignore_index=IGNORED)
    network.set_num_output_chunks(loss_of.num_output_chunks)
    optimizer = torch.optim.AdamW(list(adapter.values()), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    clock.starts()
    for step in steps:
        batch = padded(step, PADDING)
        labels = torch.hstack((batch["labels"][:, 1:], torch.full((len(step), 1), IGNORED)))
        loss = loss_of(network(batch["input_ids"]), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.losses.append(float(loss.detach()))
        clock.ends()
    return "its model, LoRA and loss with a loop of ours, base and adapter bfloat16, no gradient checkpointing"
