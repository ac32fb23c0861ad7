"""Adapters on disk, in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from luthier.errors import ModelError
from luthier.model.lora import Adapter, LoraConfig, attach
from luthier.runs import folder_atomically, write_atomically

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def save_adapter(adapter: Adapter, folder: Path, *, base: str) -> None:
    """Writes the adapter so that `peft.PeftModel.from_pretrained` reads it, whole or not at all.

    Args:
        adapter: what to write.
        folder: replaced if it exists.
        base: the base model's folder or name, noted as `base_model_name_or_path`.
    """
    config = adapter.config
    record = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in adapter.layers}),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
    }
    with folder_atomically(folder) as new:
        (new / CONFIG).write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))
        # Sorted, so that the same adapter is the same bytes.
        (new / WEIGHTS).write_bytes(save(dict(sorted(adapter.state().items())), metadata={"format": "pt"}))


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Returns `adapter_config.json`.

    Raises:
        ModelError: the folder is not a LoRA adapter that can be used.
    """
    try:
        record: dict[str, Any] = orjson.loads((folder / CONFIG).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ModelError(
            f"{folder} is not an adapter: {CONFIG} cannot be read ({error}).", code="not_an_adapter"
        ) from None
    unsupported = [
        key for key in ("use_dora", "use_rslora", "modules_to_save", "rank_pattern", "alpha_pattern") if record.get(key)
    ]
    if record.get("peft_type") != "LORA" or unsupported:
        what = ", ".join(unsupported) or f"peft_type {record.get('peft_type')!r}"
        raise ModelError(
            f"The adapter in {folder} uses {what}, which Luthier cannot load yet.",
            code="unsupported_adapter",
            hint="Plain LoRA adapters can be loaded.",
        )
    return record


def load_adapter(network: Any, folder: Path) -> Adapter:
    """Attaches an adapter from disk to a frozen base network.

    Raises:
        ModelError: it is not a plain LoRA adapter, is damaged, or was made for another base.
    """
    record = read_adapter_config(folder)
    targets = record["target_modules"]
    config = LoraConfig(
        r=int(record["r"]),
        lora_alpha=float(record["lora_alpha"]),
        lora_dropout=float(record.get("lora_dropout") or 0.0),
        target_modules=targets if targets == "all-linear" else tuple(targets),
    )
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The adapter in {folder} has no readable {WEIGHTS}: {error}", code="damaged_adapter"
        ) from None
    adapter = attach(network, config, seed=0)
    adapter.load_state({name: tensor.float() for name, tensor in state.items()})
    adapter.train(False)
    return adapter


def write_chat_template(folder: Path, template: str) -> None:
    """Puts the chat template beside the adapter, so that whoever serves it renders what it was trained on."""
    write_atomically(folder / "chat_template.jinja", template.encode())
