"""A base that several processes hold together computes what it did whole, and each holds its part."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM as Network
from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig, PhiConfig, Qwen2Config

from luthier.errors import ModelError
from luthier.model.decoder.arena import Arena
from luthier.model.decoder.weights import weight_of
from luthier.model.loader import base_bytes, num_parameters, weight_bytes
from luthier.model.lora import LoraConfig, attach
from luthier.model.sharding import ShardedLinear, Share, shard

pytestmark = pytest.mark.unit
SIZES = {"vocab_size": 80, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 2}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, num_key_value_heads=1),
    "qwen2": Qwen2Config(**SIZES, num_key_value_heads=1),
    "neox": GPTNeoXConfig(**SIZES),
    "phi": PhiConfig(**SIZES),
}


class Holder:
    """One of several processes, all played by this one."""

    def __init__(self, rank, size, parts):
        self.rank, self.size, self.parts = rank, size, parts
        self.in_step, self.meetings, self.asked = False, 0, []

    def gather(self, part, whole, number):
        self.asked.append(number)
        assert torch.equal(part, self.parts[number][self.rank])
        whole.copy_(torch.cat(self.parts[number]))


def split(network, size):
    """Returns what each of several processes has of a network, and the processes."""
    parts, networks, holders = {}, [], []
    for rank in range(size):
        networks.append(copy.deepcopy(network))
        holders.append(Holder(rank, size, parts))
        shard(networks[-1], holders[-1], torch.float32)
        shares = [module for module in networks[-1].modules() if isinstance(module, Share)]
        for number, share in enumerate(shares):
            parts.setdefault(number, []).append(share.part)
    return networks, holders


@pytest.fixture
def ids():
    return torch.arange(12)[None] * 5 % 80


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def network(request):
    torch.manual_seed(3)
    return Network.from_config(request.param).eval().requires_grad_(False)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_computes_what_it_did_whole(network, ids, size):
    expected = network(ids).logits
    networks, holders = split(network, size)
    for one, holder in zip(networks, holders, strict=True):
        assert torch.equal(one(ids).logits, expected)
        assert holder.in_step
        assert holder.asked == [0, 1, 2]  # each layer once


def test_gradients_pass_through_it_layer_by_layer(network, ids):
    def gradient(given):
        adapter = attach(given, LoraConfig(r=2, lora_alpha=4), seed=1)
        with torch.no_grad():
            adapter.flat.copy_(torch.linspace(-0.1, 0.1, len(adapter.flat)))
        given(ids).logits.square().mean().backward()
        return adapter.flat.grad

    networks, holders = split(network, 2)
    holders[0].asked.clear()
    found = gradient(networks[0])
    assert holders[0].asked == [0, 1, 2, 1, 0]
    assert torch.allclose(found, gradient(network), atol=1e-6)


def test_each_holds_its_part_and_counts_the_whole(network):
    whole, parameters = base_bytes(network), num_parameters(network)
    networks, _ = split(network, 2)
    layers = 4 * sum(
        module.in_features * module.out_features
        for module in networks[0].modules()
        if isinstance(module, ShardedLinear)
    )
    assert layers > whole / 3
    for one in networks:
        assert num_parameters(one) == parameters
        assert whole - layers / 2 <= base_bytes(one) <= whole - layers / 2 + 3 * 64 * 4  # filled up to equal parts


def test_a_layer_is_gathered_anew_after_the_processes_have_met(network, ids):
    """One that gave up a pass may stand at another layer than the others."""
    networks, holders = split(network, 2)
    networks[0](ids)
    holders[0].meetings += 1
    networks[0](ids)
    assert holders[0].asked == [0, 1, 2, 0, 1, 2]


def test_matrices_that_share_an_input_are_one_in_memory():
    torch.manual_seed(3)
    network = Network.from_config(CONFIGS["llama"]).eval().requires_grad_(False)
    attention, mlp = network.model.layers[1].self_attn, network.model.layers[1].mlp
    groups = [
        [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight],
        [mlp.gate_proj.weight, mlp.up_proj.weight],
        [mlp.down_proj.weight],
    ]
    networks, _ = split(network, 2)
    attention, mlp = networks[1].model.layers[1].self_attn, networks[1].model.layers[1].mlp
    layers = [[attention.q_proj, attention.k_proj, attention.v_proj], [mlp.gate_proj, mlp.up_proj], [mlp.down_proj]]
    arena = Arena(torch.device("cpu"))
    for weights, linears in zip(groups, layers, strict=True):
        weight = weight_of(linears, 4)
        assert torch.equal(weight.dense(arena), torch.cat(weights))
        assert (weight.num_outputs, weight.num_inputs) == torch.cat(weights).shape
    apart = [attention.o_proj, attention.q_proj]  # not neighbours: put together
    assert torch.equal(weight_of(apart, 4).dense(arena), torch.cat([layer.weight for layer in apart]))


def test_a_network_without_linear_layers_is_refused():
    network = Network.from_config(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20, n_positions=16))
    with pytest.raises(ModelError) as caught:
        shard(network, Holder(0, 2, {}), torch.float32)
    assert caught.value.code == "nothing_to_shard"


def test_the_files_say_how_much_memory_a_base_takes(tiny_model_folder):
    network = Network.from_pretrained(tiny_model_folder)
    expected = 4 * sum(parameter.numel() for parameter in network.parameters())
    assert weight_bytes(tiny_model_folder, "float32") == expected
    assert weight_bytes(tiny_model_folder, "bfloat16") == expected / 2
