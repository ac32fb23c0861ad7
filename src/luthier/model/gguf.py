"""Converts a GGUF file, once, into a folder in Hugging Face's layout: safetensors, tokenizer, chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import orjson
import torch
import transformers
from gguf import GGUFReader
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from luthier.errors import ModelError
from luthier.runs import folder_atomically

DIGITS_APART = {"smollm"}
"""GGUF pre-tokenizer names whose vocabulary was made with each digit a piece of its own. transformers 5.23 converts
them without that step, and `"\\n\\n1"` becomes other tokens than the model was trained on. Source: llama.cpp,
`LLAMA_VOCAB_PRE_TYPE_SMOLLM` (first expression `\\p{N}`)."""


def convert_gguf(gguf: Path, folder: Path, *, source: Mapping[str, str]) -> None:
    """Writes `folder` from a GGUF file, whole or not at all.

    The weights are the file's own values in float32, dequantized by transformers; nothing is rounded again.
    `save_pretrained` refuses models loaded from GGUF, so the parts are written one by one.

    Raises:
        ModelError: the file cannot be read as a model.
    """
    transformers.logging.disable_progress_bar()  # ours tells of the stages
    try:
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{gguf.name} cannot be read as a model: {error}", code="bad_gguf") from error
    repair_pre_tokenizer(tokenizer, gguf)

    config = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "gguf_file"):
        config.pop(key, None)
    config |= {"architectures": [type(model).__name__], "dtype": "float32", "pad_token_id": tokenizer.pad_token_id}
    tied = set(getattr(model, "all_tied_weights_keys", None) or {}) if model.config.tie_word_embeddings else set()
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}

    with folder_atomically(folder) as new:
        save_file(weights, new / "model.safetensors", metadata={"format": "pt"})
        (new / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        generation = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        (new / "generation_config.json").write_bytes(orjson.dumps(generation, option=orjson.OPT_INDENT_2))
        tokenizer.chat_template = _chat_template(source["name"], tokenizer)
        tokenizer.save_pretrained(new)
        (new / "SOURCE.json").write_bytes(orjson.dumps(dict(source), option=orjson.OPT_INDENT_2))


def repair_pre_tokenizer(tokenizer: PreTrainedTokenizerBase, gguf: Path) -> None:
    """Splits digits apart before byte-level BPE where the GGUF file names a pre-tokenizer that does."""
    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() in DIGITS_APART:
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


def _chat_template(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Our extension of the model's template where it has one: the same text for plain chats, and tools not dropped."""
    extended = resources.files("luthier.model") / "templates" / f"{name}.jinja"
    return extended.read_text("utf-8") if extended.is_file() else str(tokenizer.chat_template)
