"""Quantized weights are bitsandbytes' bits, and training over them is training over what they stand for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

bitsandbytes = pytest.importorskip("bitsandbytes", reason='needs pip install "luthier[quantize]"')

from luthier.errors import MissingError, ModelError  # noqa: E402
from luthier.model.kernels import operations  # noqa: E402
from luthier.model.kernels.native import Native, native  # noqa: E402
from luthier.model.loader import base_bytes, load_model, num_parameters  # noqa: E402
from luthier.model.lora import LoraConfig, attach  # noqa: E402
from luthier.model.quantize import Int8Linear, Nf4Linear, QuantizedLinear, by_reference, quantize  # noqa: E402

pytestmark = pytest.mark.unit


@pytest.fixture(params=["compiled", "torch"])
def way(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(operations, "native", lambda: Native(None, "test"))
    elif native().library is None:
        pytest.skip(f"no compiled kernels: {native().reason}")
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64, 128), (24, 40), (48, 64), (7, 9), (1000, 577)])
def test_nf4_is_what_bitsandbytes_packs_and_unpacks(way, dtype, shape):
    torch.manual_seed(2)
    layer = nn.Linear(shape[1], shape[0], bias=False)
    layer.weight.data[0] = 0
    weight = layer.weight.detach().to(dtype)
    packed, state = bitsandbytes.functional.quantize_4bit(
        weight, blocksize=64, quant_type="nf4", compress_statistics=True
    )
    ours = Nf4Linear(layer, dtype)
    assert torch.equal(ours.packed, packed[:, 0])
    assert torch.equal(ours.scale, state.absmax)
    assert torch.equal(ours.weight, bitsandbytes.functional.dequantize_4bit(packed, state))
    assert torch.equal(ours.weight, ours.reference())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_is_what_bitsandbytes_packs_and_unpacks(way, dtype):
    torch.manual_seed(2)
    layer = nn.Linear(40, 24, bias=False)
    packed, most, _ = bitsandbytes.functional.int8_vectorwise_quant(layer.weight.detach().to(dtype))
    ours = Int8Linear(layer, dtype)
    assert torch.equal(ours.packed, packed)
    assert torch.equal(ours.weight, bitsandbytes.functional.int8_vectorwise_dequant(packed, most).to(dtype))
    assert torch.equal(ours.weight, ours.reference())


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_model_is_quantized_but_for_its_head_and_counts_as_before(kind, tiny_model_folder):
    plain = load_model(tiny_model_folder, "float32")
    packed = load_model(tiny_model_folder, "float32", quantization=kind)
    names = {name for name, module in packed.network.named_modules() if isinstance(module, QuantizedLinear)}
    assert len(names) == 2 * 7
    assert "lm_head" not in names
    assert num_parameters(packed.network) == num_parameters(plain.network)
    assert base_bytes(packed.network) < base_bytes(plain.network)


def test_a_layers_own_product_and_gradient_are_those_of_its_weights():
    torch.manual_seed(2)
    layer = Nf4Linear(nn.Linear(32, 48), torch.float32)
    x = torch.randn(5, 32, requires_grad=True)
    gradient = torch.randn(5, 48)
    layer(x).backward(gradient)
    torch.testing.assert_close(x.grad, gradient @ layer.weight)
    torch.testing.assert_close(layer(x), x @ layer.weight.t() + layer.bias)


def dense_twin(model):
    """The same network with each quantized layer replaced by a plain one of its numbers (which the tests above compare with
    bitsandbytes' own)."""
    network = copy.deepcopy(model.network)
    for name, module in list(network.named_modules()):
        if isinstance(module, QuantizedLinear):
            plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
            plain.weight.data = module.weight.clone()
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, plain.requires_grad_(False))
    return network


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("engine_kind", ["fused", "generic"])
def test_training_over_quantized_weights_is_training_over_their_numbers(kind, engine_kind, tiny_model_folder):
    """Also after the base was evaluated, which breaks training in silence with bitsandbytes' own layers."""
    import dataclasses

    import numpy as np

    from luthier.model.chat_template import EncodedExample
    from luthier.train.batch import flatten
    from luthier.train.engine import open_engine

    packed = load_model(tiny_model_folder, "float32", quantization=kind)
    dense = dataclasses.replace(packed, network=dense_twin(packed), quantization="none")
    generator = np.random.default_rng(0)
    rows = [EncodedExample(generator.integers(3, 260, n), np.arange(n) > 9, "x:1") for n in (30, 24)]
    found = []
    for model in (packed, dense):
        adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=1)
        with torch.no_grad():
            adapter.flat.add_(torch.linspace(-0.02, 0.02, len(adapter.flat)))
        engine = open_engine(model, adapter, kind=engine_kind)
        batch = flatten(rows)
        with torch.no_grad(), adapter.disabled():
            engine.logps(batch)
            model.network(torch.from_numpy(rows[0].ids)[None])
        logps = engine.accumulate(batch, torch.ones(batch.num_trained))
        found.append((logps, adapter.flat.grad.clone()))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    assert found[1][1].norm() > 0
    assert (found[0][1] - found[1][1]).norm() / found[1][1].norm() < 2e-4


@pytest.mark.parametrize("width", [16, 32, 48, 96, 160])
def test_each_block_has_its_own_scale_however_wide_the_rows_are(way, width):
    """bitsandbytes 0.50.2 on a CPU takes others for rows of these widths, unless they are asked for block by block."""
    torch.manual_seed(2)
    layer = nn.Linear(width, 64, bias=False)
    layer.weight.data *= torch.rand(64, 1) * 5
    ours = Nf4Linear(layer, torch.float32)
    most = ours.weight.flatten().view(-1, 64).abs().amax(1)
    torch.testing.assert_close(most, layer.weight.detach().flatten().view(-1, 64).abs().amax(1), rtol=5e-2, atol=5e-2)
    assert torch.equal(ours.weight, ours.reference())


def test_the_reference_way_is_another_computation_of_the_same():
    torch.manual_seed(2)
    layer = Nf4Linear(nn.Linear(128, 64), torch.float32)
    x = torch.randn(5, 128, requires_grad=True)
    gradient = torch.randn(5, 64)
    ours = layer(x)
    (ours_x,) = torch.autograd.grad(ours, x, gradient)
    with by_reference(nn.Sequential(layer)):
        theirs = layer(x)
        (theirs_x,) = torch.autograd.grad(theirs, x, gradient)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours_x, theirs_x, rtol=1e-5, atol=1e-5)


def test_nothing_is_read_twice_and_the_type_asked_for_is_what_computes(tiny_model_folder):
    model = load_model(tiny_model_folder, "bfloat16", quantization="nf4")
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.bfloat16}
    assert model.network.config.dtype == torch.bfloat16
    assert model.network.model.rotary_emb.inv_freq.dtype == torch.float32
    assert model.network.lm_head.weight is model.network.model.embed_tokens.weight
    assert model.quantization == "nf4"


def test_layers_that_must_stay_in_float32_do_so(tiny_model_folder):
    network = load_model(tiny_model_folder, "float32").network
    assert quantize(network, "int8", torch.float32, keep=["o_proj.weight"]) == 2 * 6
    assert type(network.model.layers[0].self_attn.o_proj) is nn.Linear


def test_a_damaged_weight_is_told(tiny_model_folder):
    network = load_model(tiny_model_folder, "float32").network
    network.model.layers[1].mlp.up_proj.weight.data[3, 4] = torch.nan
    with pytest.raises(ModelError, match="up_proj") as caught:
        quantize(network, "nf4", torch.float32)
    assert caught.value.code == "weights_not_finite"


def test_a_network_without_linear_layers_is_refused():
    import transformers

    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    with pytest.raises(ModelError) as caught:
        quantize(transformers.GPT2LMHeadModel(config), "nf4", torch.float32)
    assert caught.value.code == "nothing_to_quantize"


@pytest.mark.parametrize("kind", [Nf4Linear, Int8Linear])
def test_the_type_of_a_quantized_layer_cannot_be_changed(kind):
    with pytest.raises(ModelError) as caught:
        kind(nn.Linear(64, 8), torch.float32).to(torch.bfloat16)
    assert caught.value.code == "quantized_type_is_fixed"


def test_a_missing_bitsandbytes_is_told_with_its_remedy(monkeypatch):
    import sys

    from luthier.model import quantize as module

    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    module._functional.cache_clear()
    try:
        with pytest.raises(MissingError) as caught:
            Int8Linear(nn.Linear(8, 8), torch.float32)
    finally:
        module._functional.cache_clear()
    assert caught.value.code == "bitsandbytes_missing"
    assert "luthier[quantize]" in str(caught.value)
