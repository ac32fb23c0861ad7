"""A Llama in Hugging Face's layout as a GGUF file with BF16 weights and no vocabulary, for llama.cpp to be timed on ids.

python benchmarks/generation_gguf.py MODEL_FOLDER FILE.gguf
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from safetensors import safe_open

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(folder: Path, file: Path) -> None:
    """Writes the weights, rounded to BF16; norms stay float32, as llama.cpp wants them."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    with safe_open(folder / "model.safetensors", "numpy") as weights:
        for name in weights.keys():  # noqa: SIM118 - not a dict
            weight = weights.get_tensor(name).astype(np.float32)
            if name == "lm_head.weight" and config["tie_word_embeddings"]:
                continue
            if name.endswith("q_proj.weight"):
                weight = _interleaved(weight, heads)
            if name.endswith("k_proj.weight"):
                weight = _interleaved(weight, groups)
            if weight.ndim == 1:
                writer.add_tensor(_name(name), weight)
            else:
                rounded = gguf.quants.quantize(weight, GGMLQuantizationType.BF16)
                writer.add_tensor(_name(name), rounded, raw_dtype=GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(weight: Any, heads: int) -> Any:
    """Rows in llama.cpp's order: it turns neighbouring numbers of a head, transformers the two halves."""
    outputs, inputs = weight.shape
    return weight.reshape(heads, 2, outputs // heads // 2, inputs).swapaxes(1, 2).reshape(outputs, inputs)


def _name(name: str) -> str:
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in (*outer, "lm_head.weight"):
        return outer.get(name, "output.weight")
    _, _, number, inner = name.split(".", 3)
    return f"blk.{number}.{NAMES[inner.removesuffix('.weight')]}.weight"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    write_gguf(arguments.folder, arguments.file)
