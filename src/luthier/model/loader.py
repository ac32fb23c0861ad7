"""Loads a base model for training and generation."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from luthier.errors import MissingError, ModelError
from luthier.model.allocator import keep_freed_memory
from luthier.model.chat_template import ChatTokenizer
from luthier.model.device import Device, device_of
from luthier.model.quantize import Quantization, QuantizedLinear, quantize
from luthier.model.sharding import Holders, ShardedLinear, shard

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A frozen base model with its tokenizer.

    Attributes:
        network: transformers' causal language model, in eval mode, no parameter requiring a gradient.
        chat: its tokenizer and chat template.
        folder: where it came from.
        dtype: of the weights and their products.
        context_length: the longest sequence it was made for, in tokens.
        stop_ids: tokens that end an answer.
        quantization: how the weights of linear layers are held.
    """

    network: Any
    chat: ChatTokenizer
    folder: Path
    dtype: Dtype
    context_length: int
    stop_ids: frozenset[int]
    quantization: Quantization = "none"


def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices natively (AVX512-BF16 or AMX); emulation is slower than
    float32."""
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    avx = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool((avx and avx()) or (amx and amx()))


def resolve_dtype(dtype: Literal["auto", "float32", "bfloat16"], device: Device = "cpu") -> tuple[Dtype, str]:
    """Returns the type to compute in on a device, and the reason in a few words."""
    if dtype != "auto":
        return dtype, "as given"
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", "this GPU multiplies bfloat16 natively"
        return "float32", "this GPU has no native bfloat16 products"
    if native_bfloat16():
        return "bfloat16", "this processor multiplies bfloat16 natively"
    return "float32", "this processor has no native bfloat16 products"


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the rules need to know of a model before its weights are loaded.

    Attributes:
        width: of the residual stream, D.
        context_length: the longest sequence it was made for, in tokens.
    """

    width: int
    context_length: int


def model_shape(folder: Path) -> ModelShape:
    """Returns the shape of the model in a folder, from its config alone.

    Raises:
        ModelError: the config does not say.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"The config of {folder} cannot be read: {error}", code="not_a_model") from error
    lengths = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions", "max_sequence_length")]
    length = next((value for value in lengths if isinstance(value, int)), None)
    if length is None or not isinstance(getattr(config, "hidden_size", None), int):
        raise ModelError(
            f"The config of {folder} does not say how wide the model is or how long a sequence may be.",
            code="not_a_decoder",
            param="model.base",
        )
    return ModelShape(config.hidden_size, length)


def load_model(
    folder: Path,
    dtype: Dtype,
    chat: ChatTokenizer | None = None,
    *,
    quantization: Quantization = "none",
    holders: Holders | None = None,
    device: Device = "cpu",
) -> LoadedModel:
    """Returns the model in a folder, frozen.

    Args:
        folder: in Hugging Face's layout.
        dtype: of the weights and their products.
        chat: its tokenizer, where there is one already.
        quantization: how to hold the weights of all linear layers but the output head. They are quantized one by one, from
            files mapped into memory: the whole is never held in another form.
        holders: processes that are to hold the weights of decoder layers together, each a part. They are split one layer
            after another, from mapped files as well.
        device: where it is to lie.

    Raises:
        ModelError: the architecture is not a decoder that transformers knows, the files are damaged, or there is nothing
            to quantize.
        MissingError: not enough memory, no such device, or bitsandbytes is not installed.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingError(
            "There is no GPU that torch can use here.",
            code="no_gpu",
            param="model.device",
            hint="Set model.device=cpu, or install a build of torch for your GPU: https://pytorch.org/get-started.",
        )
    keep_freed_memory()
    transformers.logging.disable_progress_bar()  # ours tells of the stages
    try:
        network = AutoModelForCausalLM.from_pretrained(
            folder,
            # As it lies in the files, nothing is copied before it is quantized.
            dtype=getattr(torch, dtype) if quantization == "none" and holders is None else "auto",
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
        )
    except MemoryError:
        raise MissingError(f"There is not enough memory for the model in {folder}.", code="out_of_memory") from None
    except Exception as error:
        raise ModelError(
            f"The model in {folder} cannot be loaded: {str(error).strip().splitlines()[0]}",
            code="unloadable_model",
            param="model.base",
            hint="It must be a decoder (causal language model) whose architecture transformers knows, in safetensors.",
        ) from error
    network.eval()
    network.requires_grad_(False)
    if quantization != "none" or holders is not None:
        _hold_otherwise(network, quantization, holders, getattr(torch, dtype))
    network.to(device_of(device))
    chat = chat or ChatTokenizer(folder)
    declared = network.generation_config.eos_token_id
    stop_ids = {
        chat.end_of_turn_id,
        chat.tokenizer.eos_token_id,
        *(declared if isinstance(declared, list) else [declared]),
    }
    return LoadedModel(
        network=network,
        chat=chat,
        folder=folder,
        dtype=dtype,
        context_length=model_shape(folder).context_length,
        stop_ids=frozenset(index for index in stop_ids if index is not None),
        quantization=quantization,
    )


def _hold_otherwise(network: Any, kind: Quantization, holders: Holders | None, dtype: torch.dtype) -> None:
    """Quantizes or splits the linear layers, and turns what else there is into the type of the products."""
    keep = [
        name
        for list_ in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
        for name in getattr(network, list_, None) or ()
    ]
    if holders is None:
        quantize(network, kind, dtype, keep=keep)
    else:
        shard(network, holders, dtype, keep=tuple(keep))
    for name, parameter in network.named_parameters():
        if not any(part in name for part in keep):
            # A copy even where the type is right, so that nothing holds on to the mapped files.
            parameter.data = parameter.data.to(dtype, copy=True)
    network.config.dtype = dtype


def versions() -> dict[str, str]:
    """Returns what a result depends on: versions, processor, threads."""
    return {
        "luthier": metadata.version("luthier"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
    }


def num_parameters(network: nn.Module) -> tuple[int, int]:
    """Returns trainable and all parameters, shared ones counted once and quantized or split ones as weights, as PEFT counts
    them."""
    parameters = list(network.parameters())
    elsewhere = (QuantizedLinear, ShardedLinear)
    packed = sum(m.in_features * m.out_features for m in network.modules() if isinstance(m, elsewhere))
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters) + packed


def weight_bytes(folder: Path, dtype: str) -> int:
    """Returns the bytes that the weights in a folder take in a type, by what their files say of themselves."""
    count = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            count += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return count * int(getattr(torch, dtype).itemsize)


def base_bytes(network: nn.Module) -> int:
    """Returns the bytes of what is not trained: weights, packed or not, and tables."""
    frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    return sum(tensor.numel() * tensor.itemsize for tensor in {*frozen, *network.buffers()})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
