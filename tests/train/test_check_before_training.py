"""Before the first step, our loss is compared with that of transformers' own forward."""

from __future__ import annotations

import math

import pytest
import torch

from luthier.errors import ModelError
from luthier.model.lora import LoraConfig, attach
from luthier.train.engine import open_engine
from luthier.train.exactness import check_against_transformers

pytestmark = pytest.mark.unit


def engine_of(loaded):
    return open_engine(loaded, attach(loaded.network, LoraConfig(r=2, lora_alpha=2), seed=1))


@pytest.mark.parametrize("family", ["Qwen2", "Qwen3", "Mistral", "Gemma", "Phi3", "Olmo2"])
def test_other_families_pass_the_check_before_the_first_step(family, tiny_model_folder, chat, rows):
    import transformers

    from luthier.model.loader import LoadedModel

    shape = {
        "vocab_size": 260,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "pad_token_id": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if family == "Mistral":
        shape["sliding_window"] = 20  # shorter than the rows
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**shape)
    network = getattr(transformers, f"{family}ForCausalLM")(config).eval().requires_grad_(False)
    network.set_attn_implementation("sdpa")
    loaded = LoadedModel(network, chat, tiny_model_folder, "float32", 512, frozenset({2}))
    assert math.isfinite(check_against_transformers(loaded, engine_of(loaded), rows))


def test_a_head_that_scales_its_logits_is_refused_before_training(tiny_model_folder, chat, rows):
    from transformers import CohereConfig, CohereForCausalLM

    from luthier.model.loader import LoadedModel

    config = CohereConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        logit_scale=0.1,
        pad_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    network = CohereForCausalLM(config).eval().requires_grad_(False)
    # Large weights make the scale visible in the loss of a random model.
    torch.nn.init.normal_(network.get_input_embeddings().weight, std=1.0)
    loaded = LoadedModel(network, chat, tiny_model_folder, "float32", 512, frozenset({2}))
    with pytest.raises(ModelError, match="computes something") as caught:
        check_against_transformers(loaded, engine_of(loaded), rows)
    assert caught.value.code == "exactness_check_failed"
