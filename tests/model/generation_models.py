"""Tiny random models of each family, and what transformers' own `generate` answers with them."""

from __future__ import annotations

import contextlib

import torch

from luthier.model.loader import LoadedModel
from luthier.model.lora import LoraConfig, attach

SHAPE = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NATIVE = {
    "Llama": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
                                  "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
    "Mistral": {"sliding_window": 20, "num_attention_heads": 8, "num_key_value_heads": 1},
    "Qwen2": {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1},
    "Qwen3": {"head_dim": 24},
    "Gemma": {"hidden_act": "gelu_pytorch_tanh", "num_attention_heads": 10, "num_key_value_heads": 1},
}  # fmt: skip
GENERIC = {
    "Phi3": {},
    "Olmo2": {},
    "Granite": {},
    "Starcoder2": {},
    "Qwen3Moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}
SYSTEM = "Carve the back from maple."
TEXTS = [
    "spruce",
    "a maple back, and sides",
    "eb",
    "the scroll of a viola da gamba",
    "the scroll",
    "the scroll of a violin",
    "spruce",
    "z",
]


def make(family, chat, folder, dtype="float32", **more):
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SHAPE | more)
    network = getattr(transformers, f"{family}ForCausalLM")(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(4)
    for name, parameter in network.named_parameters():
        if "norm" in name or name.endswith("bias"):  # away from ones and zeros, so that each matters
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        else:
            parameter.mul_(3)
    network.set_attn_implementation("sdpa")
    return LoadedModel(network.to(getattr(torch, dtype)), chat, folder, dtype, 512, frozenset({2}))


def with_adapter(model, **more):
    """An adapter away from its start, so that each of its matrices matters."""
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8, **more), seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for matrix in adapter.parameters():
            matrix.add_(torch.randn(matrix.shape, generator=generator) * 0.1)
    return adapter


def prompts_of(chat):
    system = {"role": "system", "content": SYSTEM}
    return [chat.encode_prompt([system, {"role": "user", "content": text}]) for text in TEXTS]


@torch.inference_mode()
def their_answer(model, ids, count, adapter=None):
    """The tokens of transformers' `generate`; with an adapter given, those without it."""
    ids = torch.tensor([list(ids)])
    with adapter.disabled() if adapter else contextlib.nullcontext():
        out = model.network.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=2
        )
    return out[0, ids.shape[1] :].tolist()


@torch.inference_mode()
def their_logprobs(model, ids, answer):
    """Log-probabilities of an answer's tokens, from one forward pass."""
    whole = torch.tensor([[*ids, *answer]])
    logits = model.network(input_ids=whole, use_cache=False).logits[0].float()
    logps = torch.log_softmax(logits[len(ids) - 1 : -1], -1)
    return logps.gather(1, whole[0, len(ids) :, None])[:, 0]
