"""What was trained, on disk: adapters in PEFT's format (`adapter_config.json` and `adapter_model.safetensors`), whole
models in Hugging Face's layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from luthier.errors import ModelError
from luthier.model.lora import PEFT_PREFIX, Adapter, LoraConfig, attach
from luthier.model.whole import read_network, save_network
from luthier.runs import folder_atomically, write_atomically

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_READ = frozenset(
    {
        "r",
        "lora_alpha",
        "lora_dropout",
        "target_modules",
        "use_rslora",
        "use_dora",
        "layers_to_transform",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "exclude_modules",
        "layers_pattern",
    }
)
_WITHOUT_EFFECT = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "fan_in_fan_out",
        "inference_mode",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "task_type",
    }
)
"""Keys of PEFT 0.21 that say where an adapter came from, or shape only what other keys turn on."""
_PLAIN = {"bias": ("none",), "init_lora_weights": (True, "gaussian", "orthogonal", "eva")}
"""Values that leave the base as it is; `pissa` and its like change it before training."""
_PEFT_RANK, _PEFT_ALPHA = 8, 8.0
"""What a config that leaves them out means. Source: PEFT's LoraConfig."""
_SHAPE = ("r", "lora_alpha", "target_modules", "use_rslora", "use_dora", "layers_to_transform", "modules_to_save")


def save_adapter(adapter: Adapter, folder: Path, *, base: str) -> None:
    """Writes the adapter so that `peft.PeftModel.from_pretrained` reads it, whole or not at all.

    Where every weight was trained, a whole model is written instead, with all else that lies in the base model's folder.

    Args:
        adapter: what to write.
        folder: replaced if it exists.
        base: the base model's folder or name, noted as `base_model_name_or_path`.
    """
    with folder_atomically(folder) as new:
        if adapter.config is None:
            save_network(adapter.network, new, base=Path(base))
            return
        record = _record(adapter, adapter.config, base)
        (new / CONFIG).write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))
        # Sorted, so that the same adapter is the same bytes.
        (new / WEIGHTS).write_bytes(save(dict(sorted(adapter.state().items())), metadata={"format": "pt"}))


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Returns `adapter_config.json`.

    Raises:
        ModelError: the folder is not an adapter that can be used.
    """
    try:
        record: dict[str, Any] = orjson.loads((folder / CONFIG).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ModelError(
            f"{folder} is not an adapter: {CONFIG} cannot be read ({error}).", code="not_an_adapter"
        ) from None
    if not isinstance(record, dict):
        raise ModelError(f"{folder} is not an adapter: {CONFIG} holds no object.", code="not_an_adapter")
    unsupported = [
        key
        for key, value in record.items()
        if value and key not in _READ | _WITHOUT_EFFECT and value not in _PLAIN.get(key, ())
    ]
    if record.get("peft_type") != "LORA" or unsupported:
        what = ", ".join(unsupported) or f"peft_type {record.get('peft_type')!r}"
        raise ModelError(
            f"The adapter in {folder} uses {what}, which Luthier cannot load yet.",
            code="unsupported_adapter",
            hint="LoRA adapters can be loaded, with rsLoRA, DoRA and modules_to_save.",
        )
    return record


def adapter_config(folder: Path) -> LoraConfig:
    """Returns what an adapter on disk looks like.

    Raises:
        ModelError: the folder is not an adapter that can be used.
    """
    record = read_adapter_config(folder)
    targets, layers = record.get("target_modules"), record.get("layers_to_transform")
    # An expression, or what goes beyond our own rules: the weights themselves say which layers are meant.
    by_name = isinstance(targets, list) and not record.get("exclude_modules") and not record.get("layers_pattern")
    return LoraConfig(
        r=int(record.get("r") or _PEFT_RANK),
        lora_alpha=float(record.get("lora_alpha") or _PEFT_ALPHA),
        lora_dropout=float(record.get("lora_dropout") or 0.0),
        target_modules=tuple(sorted(targets or ())) if by_name else _adapted(folder),
        use_rslora=bool(record.get("use_rslora")),
        use_dora=bool(record.get("use_dora")),
        layers_to_transform=None if not by_name or layers in (None, []) else _numbers(layers),
        modules_to_save=tuple(record.get("modules_to_save") or ()),
        rank_pattern=record.get("rank_pattern") or {},
        alpha_pattern=record.get("alpha_pattern") or {},
    )


def adapter_shape(folder: Path) -> dict[str, Any]:
    """Returns the keys of a recipe's `adapter` section that the adapter in a folder decides, with its values.

    Raises:
        ModelError: the folder is not an adapter that can be used.
    """
    config = adapter_config(folder)
    return {key: getattr(config, key) for key in _SHAPE}


def load_adapter(network: Any, folder: Path) -> Adapter:
    """Attaches what was trained, from disk, to its frozen base network: an adapter, or a whole model.

    Raises:
        ModelError: it is neither, is damaged, or was made for another base.
    """
    if not (folder / CONFIG).exists() and (folder / "config.json").exists():
        adapter = attach(network, None, seed=0)
        adapter.load_state(read_network(folder))
    else:
        config, state = adapter_config(folder), _read_weights(folder)
        adapter = attach(network, config, seed=0)
        adapter.load_state(state)
    return adapter


def start_adapter(network: Any, config: LoraConfig | None, *, seed: int, start_from: Path | None) -> Adapter:
    """Attaches an adapter to train: a new one, or one that goes on from an adapter on disk.

    Raises:
        ModelError: what is on disk is not of the shape that is asked for, or cannot be used; and as `attach`.
    """
    if start_from is None:
        return attach(network, config, seed=seed)
    found = adapter_config(start_from)
    if config is None:
        raise ModelError(
            "Full fine-tuning cannot go on from an adapter.",
            code="adapter_mismatch",
            param="adapter.start_from",
            hint="Give the model that was fine-tuned in full as model.base.",
        )
    differing = [key for key in _SHAPE if _comparable(getattr(found, key)) != _comparable(getattr(config, key))]
    if differing:
        key = differing[0]
        raise ModelError(
            f"adapter.{key}={_readable(getattr(config, key))} is not that of the adapter in {start_from}, "
            f"{_readable(getattr(found, key))}.",
            code="adapter_mismatch",
            param=f"adapter.{key}",
            hint="Leave it out: what is not given is taken from the adapter.",
        )
    state = _read_weights(start_from)
    adapter = attach(network, dataclasses.replace(found, lora_dropout=config.lora_dropout), seed=seed)
    adapter.load_state(state)
    return adapter


def weights_file(folder: Path) -> Path:
    """Returns the file, or the first of the files, that holds what was trained."""
    adapter = folder / WEIGHTS
    return adapter if adapter.exists() else min(folder.glob("*.safetensors"), default=adapter)


def write_chat_template(folder: Path, template: str) -> None:
    """Puts the chat template beside the adapter, so that whoever serves it renders what it was trained on."""
    write_atomically(folder / "chat_template.jinja", template.encode())


def _record(adapter: Adapter, config: LoraConfig, base: str) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": _target_modules(adapter, config),
        "layers_to_transform": list(config.layers_to_transform) if config.layers_to_transform is not None else None,
        "rank_pattern": dict(config.rank_pattern),
        "alpha_pattern": dict(config.alpha_pattern),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "use_dora": config.use_dora,
        "use_rslora": config.use_rslora,
        "modules_to_save": list(config.modules_to_save) or None,
    }


def _target_modules(adapter: Adapter, config: LoraConfig) -> list[str]:
    """Returns the last words of the adapted layers' names, or the whole names where others end in these words, too."""
    leaves = sorted({name.rsplit(".", 1)[-1] for name in adapter.layers})
    short = dataclasses.replace(config, target_modules=tuple(leaves))
    meant = {name for name, _ in adapter.network.named_modules() if short.targets(name)}
    return leaves if meant == set(adapter.layers) else sorted(adapter.layers)


def _adapted(folder: Path) -> tuple[str, ...]:
    """Returns the names of the layers that have weights in an adapter's file."""
    end = ".lora_A.weight"
    names = [name.removeprefix(PEFT_PREFIX) for name in _read_weights(folder) if name.endswith(end)]
    return tuple(sorted(name.removesuffix(end) for name in names))


def _numbers(value: int | list[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The adapter in {folder} has no readable {WEIGHTS}: {error}", code="damaged_adapter"
        ) from None
    return {name: tensor.float() for name, tensor in state.items()}


def _comparable(value: Any) -> Any:
    return frozenset(value) if isinstance(value, tuple) else value


def _readable(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
