"""The engine on a GPU: the same numbers as transformers' padded rows on that GPU, and as the engine on a processor."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from luthier.errors import MissingError
from luthier.model.device import device_of, resolve_device
from luthier.model.loader import load_model, resolve_dtype
from luthier.model.lora import LoraConfig, attach
from luthier.runs import RunFolder, no_listener, read_lines
from luthier.train.batch import flatten
from luthier.train.engine import open_engine
from luthier.train.exactness import check_against_transformers
from luthier.train.loop import train

pytestmark = pytest.mark.gpu

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU on this machine")
METHODS = {
    "lora": LoraConfig(r=4, lora_alpha=8),
    "dora": LoraConfig(r=4, lora_alpha=8, use_dora=True),
    "full": None,
}


def opened(folder, device, config, quantization="none"):
    """Returns a model and an adapter away from its start, the same on each device."""
    model = load_model(folder, "float32", device=device, quantization=quantization)
    adapter = attach(model.network, config, seed=3)
    values_P = torch.randn(adapter.flat.numel(), generator=torch.Generator().manual_seed(1)) * 0.05
    with torch.no_grad():
        adapter.flat.add_(values_P.to(adapter.flat.device))
    adapter.refresh()
    return model, adapter


@needs_gpu
@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_on_a_gpu_is_that_of_a_processor(method, quantization, tiny_model_folder, rows):
    if quantization != "none" and method == "full":
        pytest.skip("what is held in bits is not trained")
    found = {}
    for device in ("cpu", "cuda"):
        model, adapter = opened(tiny_model_folder, device, METHODS[method], quantization)
        engine = open_engine(model, adapter)
        batch = flatten(rows[:5])
        adapter.zero_grad()
        logps = engine.accumulate(batch, torch.full((batch.num_trained,), -1 / batch.num_trained))
        assert logps.device.type == device
        found[device] = logps.cpu(), adapter.flat.grad.cpu()
    torch.testing.assert_close(found["cuda"][0], found["cpu"][0], rtol=1e-4, atol=1e-4)
    assert (found["cuda"][1] - found["cpu"][1]).norm() / found["cpu"][1].norm() < 1e-3


@needs_gpu
@pytest.mark.parametrize("kind", ["fused", "generic"])
def test_the_engine_is_exact_on_a_gpu(kind, tiny_model_folder, rows):
    model, adapter = opened(tiny_model_folder, "cuda", METHODS["lora"])
    assert check_against_transformers(model, open_engine(model, adapter, kind=kind), rows[:2]) < 1e-5


@needs_gpu
def test_a_training_on_a_gpu_learns_and_resumes(tiny_model_folder, rows, settings, tmp_path):
    settings = dataclasses.replace(settings, max_steps=4)
    model, adapter = opened(tiny_model_folder, "cuda", METHODS["lora"])
    run = RunFolder(tmp_path / "run")
    train(model, adapter, rows, rows[:2], settings, run, listener=no_listener)
    more = dataclasses.replace(settings, max_steps=8)
    train(model, adapter, rows, rows[:2], more, run, listener=no_listener)
    losses = [line["train_loss"] for line in read_lines(run.metrics)]
    assert losses[-1] < losses[0]


def test_without_a_gpu_the_processor_computes_and_says_why(tiny_model_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == ("cpu", "there is no GPU that torch can use")
    assert resolve_device("cuda") == ("cuda", "as given")
    assert device_of("cpu") == torch.device("cpu")
    with pytest.raises(MissingError) as caught:
        load_model(tiny_model_folder, "float32", device="cuda")
    assert caught.value.code == "no_gpu"
    assert caught.value.param == "model.device"


def test_each_process_takes_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: not including_emulation)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert resolve_device("auto") == ("cuda", "there is a H100")
    assert device_of("cuda") == torch.device("cuda", 2)
    assert resolve_dtype("auto", "cuda") == ("bfloat16", "this GPU multiplies bfloat16 natively")
