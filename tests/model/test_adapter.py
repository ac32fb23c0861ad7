"""LoRA layers and adapters on disk."""

from __future__ import annotations

import json

import pytest
import torch

from luthier.errors import ModelError
from luthier.model.adapter import load_adapter, save_adapter
from luthier.model.loader import load_model, num_parameters
from luthier.model.lora import LoraConfig, attach

pytestmark = pytest.mark.unit
IDS = torch.tensor([[5, 9, 30, 31, 7]])


@pytest.fixture
def network(tiny_model_folder):
    return load_model(tiny_model_folder, "float32").network


def test_a_new_adapter_changes_nothing_and_adapts_all_but_the_head(network):
    before = network(IDS).logits
    adapter = attach(network, LoraConfig(r=4, lora_alpha=8), seed=1)
    assert torch.equal(network(IDS).logits, before)
    assert len(adapter.layers) == 2 * 7
    assert not any("lm_head" in name for name in adapter.layers)
    assert num_parameters(network)[0] == sum(p.numel() for p in adapter.parameters())


def test_disabled_is_the_base_alone(network):
    before = network(IDS).logits
    adapter = attach(network, LoraConfig(r=4, lora_alpha=8), seed=1)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_B.fill_(0.1)
    changed = network(IDS).logits
    assert not torch.equal(changed, before)
    with adapter.disabled():
        assert torch.equal(network(IDS).logits, before)
    assert torch.equal(network(IDS).logits, changed)


def test_an_adapter_survives_the_disk_and_the_same_adapter_is_the_same_bytes(network, tiny_model_folder, tmp_path):
    adapter = attach(network, LoraConfig(r=4, lora_alpha=8, target_modules=("q_proj", "v_proj")), seed=1)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_B.normal_()
    save_adapter(adapter, tmp_path / "a", base="tiny")
    save_adapter(adapter, tmp_path / "b", base="tiny")
    assert (tmp_path / "a/adapter_model.safetensors").read_bytes() == (
        tmp_path / "b/adapter_model.safetensors"
    ).read_bytes()
    other = load_model(tiny_model_folder, "float32").network
    load_adapter(other, tmp_path / "a")
    assert torch.equal(other(IDS).logits, network(IDS).logits)


def test_what_is_saved_means_the_adapted_layers_and_no_others(network, tmp_path):
    """A last word such as `up_proj` would mean the layers of every block."""
    adapter = attach(network, LoraConfig(r=4, lora_alpha=8, target_modules=("1.mlp.up_proj", "q_proj")), seed=1)
    save_adapter(adapter, tmp_path, base="tiny")
    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert targets == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
        "model.layers.1.self_attn.q_proj",
    ]


def test_unknown_target_modules_name_what_there_is(network):
    with pytest.raises(ModelError, match="query_proj") as caught:
        attach(network, LoraConfig(r=4, lora_alpha=8, target_modules=("query_proj",)), seed=1)
    assert "q_proj" in str(caught.value.hint)


def test_an_adapter_of_another_base_is_refused(network, tiny_model_folder, tmp_path):
    adapter = attach(network, LoraConfig(r=4, lora_alpha=8), seed=1)
    save_adapter(adapter, tmp_path / "a", base="tiny")
    config = json.loads((tmp_path / "a/adapter_config.json").read_text())
    (tmp_path / "a/adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    with pytest.raises(ModelError) as caught:
        load_adapter(load_model(tiny_model_folder, "float32").network, tmp_path / "a")
    assert caught.value.code == "adapter_mismatch"


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "IA3"},
        {"bias": "all"},
        {"lora_bias": True},
        {"init_lora_weights": "pissa"},
        {"trainable_token_indices": [3]},
        {"a_key_of_tomorrow": {"x": 1}},
    ],
)
def test_what_cannot_be_loaded_yet_is_refused_by_name(network, tmp_path, change):
    adapter = attach(network, LoraConfig(r=4, lora_alpha=8), seed=1)
    save_adapter(adapter, tmp_path, base="tiny")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=next(iter(change))) as caught:
        load_adapter(network, tmp_path)
    assert caught.value.code == "unsupported_adapter"


def test_a_damaged_file_is_a_readable_error(network, tmp_path):
    adapter = attach(network, LoraConfig(r=4, lora_alpha=8), seed=1)
    save_adapter(adapter, tmp_path, base="tiny")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(ModelError) as caught:
        load_adapter(network, tmp_path)
    assert caught.value.code == "damaged_adapter"
