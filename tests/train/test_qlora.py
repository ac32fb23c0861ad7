"""Training over a quantized base, against bitsandbytes' and PEFT's own layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("bitsandbytes", reason='needs pip install "luthier[quantize]"')

from luthier.errors import ModelError
from luthier.model.loader import load_model, num_parameters
from luthier.model.lora import LoraConfig, attach
from luthier.model.quantize import Nf4Linear
from luthier.train.batch import flatten
from luthier.train.engine import open_engine
from luthier.train.gradient_check import check_quantized_gradient

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def folder(make_tiny_model):
    """Rows as wide as a block: narrower ones are dequantized wrongly by bitsandbytes 0.50.2 on a CPU. Scaled, away from a
    network that says next to nothing."""
    return make_tiny_model(seed=3, width=64, scale=3)


def with_adapter(model):
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        adapter.flat.copy_(torch.randn(adapter.flat.shape, generator=generator) * 0.05)
    return adapter


@pytest.fixture(scope="module")
def theirs(folder, chat, rows):
    """PEFT over bitsandbytes' layers, which train before anything else: the mean loss of two rows, its gradient, counts."""
    import peft
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    network = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=how, device_map={"": "cpu"}
    )
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(network, config)
    ours = with_adapter(load_model(folder, "float32", chat)).state()
    named = {name.replace(".default", ""): p for name, p in wrapped.named_parameters() if p.requires_grad}
    assert set(named) == set(ours)
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(ours[name])
    wrapped.train()
    total = sum(row.num_trained for row in rows[:2])
    mean = 0.0
    for row in rows[:2]:
        ids = torch.from_numpy(row.ids)
        logits = wrapped(input_ids=ids[None], use_cache=False).logits[0].float()
        trained = torch.from_numpy(row.trained).nonzero()[:, 0]
        loss = F.cross_entropy(logits[trained - 1], ids[trained], reduction="sum") / total
        loss.backward()
        mean += float(loss.detach())
    return mean, {name: parameter.grad for name, parameter in named.items()}, wrapped.get_nb_trainable_parameters()


@pytest.mark.parametrize("evaluated_first", [False, True])
@pytest.mark.parametrize("engine_kind", ["fused", "generic"])
def test_loss_and_gradient_are_those_of_peft_over_bitsandbytes(
    theirs, folder, chat, rows, engine_kind, evaluated_first
):
    """Also after the base was evaluated, which breaks training in silence with the layers of bitsandbytes 0.50.2."""
    loss, gradients, counts = theirs
    model = load_model(folder, "float32", chat, quantization="nf4")
    if evaluated_first:
        from luthier.model.generation.generator import Generator
        from luthier.model.generation.prompt import Options, Prompt

        prompts = [Prompt(rows[0].ids[:12].tolist()), Prompt(rows[1].ids[:9].tolist())]
        for engine in ("native", "generic"):
            assert len(list(Generator(model, engine=engine).answer(prompts, Options(4)))) == 2
    adapter = with_adapter(model)
    assert num_parameters(model.network) == counts
    engine = open_engine(model, adapter, kind=engine_kind)
    batch = flatten(rows[:2])
    if evaluated_first:
        with adapter.disabled():
            engine.logps(batch)
        engine.logps(batch)
    logps = engine.accumulate(batch, torch.full((batch.num_trained,), -1 / batch.num_trained))
    assert abs(float(-logps.mean()) - loss) < 1e-5
    for name, parameter in adapter.named.items():
        reference = gradients[name]
        assert reference.norm() > 0, name
        assert (parameter.grad - reference).norm() / reference.norm() < 2e-4, name


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("engine_kind", ["fused", "generic"])
def test_the_check_before_the_first_step_passes_and_leaves_nothing(folder, chat, rows, kind, engine_kind):
    model = load_model(folder, "float32", chat, quantization=kind)
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1), seed=3)
    assert check_quantized_gradient(model, open_engine(model, adapter, kind=engine_kind), adapter, rows) < 1e-4
    assert not adapter.flat.grad.any()


def test_an_adapter_that_has_hardly_any_gradient_left_is_no_false_alarm(folder, chat, rows):
    """Of the right tokens, what is left of the gradient in bfloat16 is rounding: after this training, another computation
    of it is 0.59 apart."""
    model = load_model(folder, "bfloat16", chat, quantization="nf4")
    model.network.get_output_embeddings().weight.data.mul_(10)  # so that it can be sure of a token
    adapter = attach(model.network, LoraConfig(r=16, lora_alpha=16), seed=3)
    engine = open_engine(model, adapter)
    optimizer = torch.optim.AdamW([adapter.flat], lr=3e-3, weight_decay=0.0)
    batch = flatten(rows[:2])
    for _ in range(250):
        engine.accumulate(batch, torch.full((batch.num_trained,), -1 / batch.num_trained))
        torch.nn.utils.clip_grad_norm_([adapter.flat], 1.0)
        optimizer.step()
        adapter.zero_grad()
        engine.refresh()
    assert check_quantized_gradient(model, engine, adapter, rows[:2]) < 0.1


@pytest.mark.parametrize("engine_kind", ["fused", "generic"])
def test_a_base_that_is_right_forward_and_wrong_backward_is_refused(folder, chat, rows, engine_kind, monkeypatch):
    """As bitsandbytes' is after a forward pass without gradients: the loss is right, the gradient is not."""
    model = load_model(folder, "float32", chat, quantization="nf4")
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=3)
    engine = open_engine(model, adapter, kind=engine_kind)
    right, calls = Nf4Linear.dequantize, [0]

    def wrong_later(layer, out):
        calls[0] += 1
        return right(layer, out) if calls[0] <= 14 else right(layer, out).mul_(0.5)

    monkeypatch.setattr(Nf4Linear, "dequantize", wrong_later)
    with pytest.raises(ModelError) as caught:
        check_quantized_gradient(model, engine, adapter, rows)
    assert caught.value.code == "quantized_gradient_check_failed"
    assert "nothing was trained" in str(caught.value).lower()
