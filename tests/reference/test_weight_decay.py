"""What weight decay acts on, and a step with it, against transformers' Trainer."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from peft import LoraConfig as PeftConfig
from peft import get_peft_model
from transformers import Trainer, TrainingArguments

from luthier.model.lora import LoraConfig, attach
from luthier.train.optimizer import adamw, spared

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
]
RATE, DECAY = 0.01, 0.3
FAMILIES = ["Llama", "Qwen2", "Qwen3", "Gemma", "GPT2", "Phi", "Olmo2"]
ADAPTERS = {
    "lora": {},
    "dora": {"use_dora": True},
    "norms": {"modules_to_save": ("norm", "input_layernorm")},
    "a block with biases": {"modules_to_save": ("layers.1.self_attn",), "target_modules": ("up_proj",)},
}


def network(family):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    made = getattr(transformers, f"{family}ForCausalLM" if family != "GPT2" else "GPT2LMHeadModel")(config).eval()
    return made.requires_grad_(False)


def theirs_of(model, folder):
    arguments = TrainingArguments(
        output_dir=str(folder), weight_decay=DECAY, learning_rate=RATE, use_cpu=True, report_to=[]
    )
    return Trainer(model=model, args=arguments)


def as_ours(name):
    name = name.replace(".modules_to_save.default", "").replace(".default", "")
    return name.replace("magnitude_vector.weight", "magnitude_vector")


def compare(adapter, model, folder):
    """Whether both decay the same weights, and take the same three steps along the same gradients."""
    trainer = theirs_of(model, folder)
    optimizer = trainer.create_optimizer()
    named = {as_ours(name): parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(named) == set(adapter.named)
    decayed = {
        id(parameter) for group in optimizer.param_groups if group["weight_decay"] for parameter in group["params"]
    }
    assert spared(adapter) == {name for name, parameter in named.items() if id(parameter) not in decayed}
    ours = adamw(adapter, rate=1.0, weight_decay=DECAY)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        adapter.flat.add_(torch.randn(adapter.flat.shape, generator=generator))
        for name, parameter in named.items():
            parameter.copy_(adapter.named[name])
    start = adapter.flat.detach().clone()
    for _ in range(3):
        with torch.no_grad():
            adapter.flat.grad.copy_(torch.randn(adapter.flat.shape, generator=generator))
        for name, parameter in named.items():
            parameter.grad = adapter.named[name].grad.clone()
        for group in ours.param_groups:
            group["lr"] = RATE
        ours.step()
        optimizer.step()
    assert (adapter.flat.detach() - start).abs().max() > 0.01
    for name, parameter in named.items():
        torch.testing.assert_close(adapter.named[name].detach(), parameter.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_full_fine_tuning_decays_what_transformers_trainer_decays(family, tmp_path):
    made = network(family)
    model = copy.deepcopy(made).requires_grad_(True)
    adapter = attach(made, None, seed=1)
    compare(adapter, model, tmp_path)
    assert spared(adapter)


@pytest.mark.parametrize("options", ADAPTERS)
def test_adapters_decay_what_transformers_trainer_decays(options, tmp_path):
    made = network("Qwen2")
    config = PeftConfig(
        r=2,
        lora_alpha=4,
        task_type="CAUSAL_LM",
        **{"target_modules": "all-linear"}
        | {key: list(value) if isinstance(value, tuple) else value for key, value in ADAPTERS[options].items()},
    )
    model = get_peft_model(copy.deepcopy(made), config)
    adapter = attach(made, LoraConfig(r=2, lora_alpha=4, **ADAPTERS[options]), seed=1)
    compare(adapter, model, tmp_path)
    assert bool(spared(adapter)) == ("modules_to_save" in ADAPTERS[options])
