"""Both engines compute what padded rows through transformers' own forward and autograd compute."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from luthier.errors import ModelError
from luthier.model.kernels import operations
from luthier.model.kernels.native import Native
from luthier.model.loader import LoadedModel
from luthier.model.lora import LoraConfig, attach
from luthier.train.batch import flatten
from luthier.train.engine import open_engine

pytestmark = pytest.mark.unit
SHAPE = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FUSED = {
    "Llama": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
                                  "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
    "Mistral": {"sliding_window": 20},
    "Qwen2": {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1},
    "Qwen3": {},
    "Gemma": {"hidden_act": "gelu_pytorch_tanh"},
}  # fmt: skip
GENERIC = {
    "Phi3": {},
    "Olmo2": {},
    "Granite": {},
    "Starcoder2": {},
    "Qwen3Moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}


def make(family, chat, folder, **more):
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
    return LoadedModel(network, chat, folder, "float32", 512, frozenset({2}))


def with_adapter(model, **more):
    """An adapter away from its start, so that each of its matrices matters."""
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8, **more), seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for matrix in adapter.parameters():
            matrix.copy_(torch.randn(matrix.shape, generator=generator) * 0.05)
    return adapter


def padded_logps(model, rows):
    """The reference: right-padded rows, attention mask, transformers' forward; log-probabilities of trained tokens."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row.ids, *[2] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    logits = model.network(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
    found = []
    for number, row in enumerate(rows):
        trained = torch.from_numpy(np.flatnonzero(row.trained))
        logps = F.log_softmax(logits[number, trained - 1], -1)
        found.append(logps.gather(1, ids[number, trained][:, None])[:, 0])
    return torch.cat(found)


def check(model, adapter, rows, *, kind, share_prefix=True, recompute=False):
    """Compares log-probabilities and the gradient of a weighted sum of them."""
    expected = padded_logps(model, rows)
    weights = torch.linspace(-1.0, 0.5, len(expected))
    adapter.zero_grad()
    (expected * weights).sum().backward()
    wanted = adapter.flat.grad.clone()
    adapter.zero_grad()
    engine = open_engine(model, adapter, kind=kind, max_tape_bytes=0 if recompute else None)
    assert engine.name == kind
    batch = flatten(rows, share_prefix=share_prefix)
    logps = engine.accumulate(batch, weights)
    torch.testing.assert_close(logps, expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(engine.logps(batch), expected.detach(), rtol=1e-5, atol=1e-5)
    for name, parameter in adapter.named.items():
        start = parameter.storage_offset()
        reference = wanted[start : start + parameter.numel()].view_as(parameter)
        assert reference.norm() > 0, name
        assert (parameter.grad - reference).norm() / reference.norm() < 2e-4, name
    assert (adapter.flat.grad - wanted).norm() / wanted.norm() < 2e-5


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("family", FUSED)
def test_the_fused_engine_is_exact(family, recompute, share_prefix, chat, tiny_model_folder, rows):
    model = make(family, chat, tiny_model_folder, **FUSED[family])
    check(model, with_adapter(model), rows[:5], kind="fused", share_prefix=share_prefix, recompute=recompute)


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
def test_the_fused_engine_is_exact_without_a_compiler(family, chat, tiny_model_folder, rows, monkeypatch):
    monkeypatch.setattr(operations, "native", lambda: Native(None, "test"))
    model = make(family, chat, tiny_model_folder, **FUSED[family])
    check(model, with_adapter(model), rows[:5], kind="fused")


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("family", FUSED | GENERIC)
def test_the_generic_engine_is_exact(family, share_prefix, chat, tiny_model_folder, rows):
    model = make(family, chat, tiny_model_folder, **(FUSED | GENERIC)[family])
    check(model, with_adapter(model), rows[:5], kind="generic", share_prefix=share_prefix)


@pytest.mark.parametrize(
    "targets", [("q_proj", "v_proj"), ("down_proj",), ("k_proj", "up_proj"), ("layers.1.mlp.up_proj",)]
)
def test_any_layers_can_be_adapted(targets, chat, tiny_model_folder, rows):
    model = make("Llama", chat, tiny_model_folder, attention_bias=True, mlp_bias=False)
    check(model, with_adapter(model, target_modules=targets), rows[:5], kind="fused")


@pytest.mark.parametrize("kind", ["fused", "generic"])
def test_rows_never_see_each_other(kind, chat, tiny_model_folder, rows):
    """What stands beside a row does not move its losses by a bit."""
    model = make("Llama", chat, tiny_model_folder)
    engine = open_engine(model, with_adapter(model), kind=kind)
    changed = dataclasses.replace(rows[1], ids=np.where(rows[1].trained, rows[1].ids + 1, rows[1].ids))
    one, other = (flatten([rows[0], neighbour, rows[2]]) for neighbour in (rows[1], changed))
    outside = one.example_N != 1
    before, after = engine.logps(one), engine.logps(other)
    assert torch.equal(before[outside], after[outside])
    assert not torch.equal(before, after)


@pytest.mark.parametrize("kind", ["fused", "generic"])
def test_the_composition_of_a_batch_does_not_matter(kind, chat, tiny_model_folder, rows):
    model = make("Qwen3", chat, tiny_model_folder)
    adapter = with_adapter(model)
    engine = open_engine(model, adapter, kind=kind)

    def gradient(parts):
        adapter.zero_grad()
        logps = [engine.accumulate(batch, torch.ones(batch.num_trained)) for batch in map(flatten, parts)]
        return torch.cat(logps), adapter.flat.grad.clone()

    together, one_by_one = gradient([rows[:6]]), gradient([[row] for row in rows[:6]])
    torch.testing.assert_close(together[0], one_by_one[0], rtol=1e-5, atol=1e-5)
    assert (together[1] - one_by_one[1]).norm() / together[1].norm() < 2e-5


def test_weights_may_depend_on_the_log_probabilities(chat, tiny_model_folder, rows):
    model = make("Llama", chat, tiny_model_folder)
    adapter = with_adapter(model)
    batch = flatten(rows[:3])
    found = []
    for kind in ("fused", "generic"):
        engine = open_engine(model, adapter, kind=kind)
        adapter.zero_grad()
        engine.accumulate(batch, lambda logps: 2 * logps)
        found.append(adapter.flat.grad.clone())
    adapter.zero_grad()
    padded_logps(model, rows[:3]).square().sum().backward()
    for gradient in found:
        assert (gradient - adapter.flat.grad).norm() / adapter.flat.grad.norm() < 2e-5


def test_a_disabled_adapter_is_the_base(chat, tiny_model_folder, rows):
    model = make("Llama", chat, tiny_model_folder)
    batch = flatten(rows[:3])
    adapter = with_adapter(model)
    engine = open_engine(model, adapter, kind="fused")
    with adapter.disabled():
        base = engine.logps(batch)
        torch.testing.assert_close(base, padded_logps(model, rows[:3]), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(base, engine.logps(batch), atol=1e-3)


def test_long_rows_are_cut_into_blocks_of_queries(chat, tiny_model_folder, monkeypatch):
    from luthier.model.chat_template import EncodedExample
    from luthier.train import attention

    monkeypatch.setattr(attention, "_MAX_QUERIES", 24)
    generator = np.random.default_rng(0)
    shared = generator.integers(3, 260, 30)
    long = []
    for length in (100, 61, 47):
        ids = np.concatenate([shared, generator.integers(3, 260, length)])
        long.append(EncodedExample(ids, (np.arange(len(ids)) > 35) & (ids % 3 > 0), "x:1"))
    for family in ("Llama", "Mistral"):
        model = make(family, chat, tiny_model_folder, **FUSED[family])
        check(model, with_adapter(model), long, kind="fused")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_batch_gives_the_same_bits(dtype, chat, tiny_model_folder, rows):
    model = make("Llama", chat, tiny_model_folder)
    model.network.to(dtype)
    adapter = with_adapter(model)
    engine = open_engine(model, adapter, kind="fused")
    found = []
    for _ in range(2):
        adapter.zero_grad()
        logps = engine.accumulate(flatten(rows[:5]), torch.ones(sum(row.num_trained for row in rows[:5])))
        engine.accumulate(flatten(rows[5:7]), torch.ones(sum(row.num_trained for row in rows[5:7])))
        found.append((logps, adapter.flat.grad.clone()))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_the_fused_engine_is_refused_with_the_reason_where_it_cannot_compute(chat, tiny_model_folder):
    model = make("Llama", chat, tiny_model_folder)
    whole = attach(model.network, LoraConfig(r=2, lora_alpha=4, modules_to_save=("norm",)), seed=1)
    with pytest.raises(ModelError, match="whole weights are trained") as caught:
        open_engine(model, whole, kind="fused")
    assert caught.value.code == "not_fused"
    assert open_engine(model, whole).name == "generic"
    other = make("Phi3", chat, tiny_model_folder)
    with pytest.raises(ModelError, match="Phi3ForCausalLM is not of the Llama family"):
        open_engine(other, with_adapter(other), kind="fused")
