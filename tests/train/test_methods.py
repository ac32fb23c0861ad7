"""Kinds of adapters, dropout and full fine-tuning in the engines and in the loop."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from luthier.advise.hyperparameters import Facts, full_learning_rate, learning_rate, lora_alpha, resolve
from luthier.errors import Interrupted, ModelError, RecipeError
from luthier.model.adapter import adapter_shape, load_adapter, save_adapter, start_adapter, weights_file
from luthier.model.decoder import linear
from luthier.model.loader import load_model
from luthier.model.lora import LoraConfig, attach
from luthier.model.targets import layer_number
from luthier.recipe import Recipe
from luthier.recipe_io import load_recipe
from luthier.runs import RunFolder, no_listener, read_lines
from luthier.stages.training import lora_config
from luthier.train.batch import flatten
from luthier.train.engine import open_engine
from luthier.train.loop import train

pytestmark = pytest.mark.unit
PLAIN = LoraConfig(r=4, lora_alpha=8)
METHODS = {
    "dropout": dataclasses.replace(PLAIN, lora_dropout=0.2),
    "dora": dataclasses.replace(PLAIN, use_dora=True, use_rslora=True),
    "dora and dropout": dataclasses.replace(PLAIN, use_dora=True, lora_dropout=0.2),
    "modules_to_save": dataclasses.replace(PLAIN, modules_to_save=("lm_head", "norm"), layers_to_transform=(1,)),
    "full": None,
}
ENGINES = {"dropout": "fused", "dora": "fused"}


@pytest.fixture
def make(tiny_model_folder, chat):
    """Makes a model with an adapter away from its start, as a new process would."""

    def made(config, dtype="float32"):
        model = load_model(tiny_model_folder, dtype, chat)
        adapter = attach(model.network, config, seed=5)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
        adapter.refresh()
        adapter.train()
        return model, adapter

    return made


def gradient(engine, adapter, rows, *, seed=None):
    batch = flatten(rows)
    if seed is not None:
        torch.manual_seed(seed)
    adapter.zero_grad()
    logps = engine.accumulate(batch, torch.full((batch.num_trained,), -1 / batch.num_trained))
    return logps, adapter.flat.grad.clone()


def distance(one, other):
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("kind", ["fused", "generic"])
def test_the_same_seed_drops_the_same_inputs_and_another_does_not(kind, make, rows):
    model, adapter = make(METHODS["dropout"])
    engine = open_engine(model, adapter, kind=kind)
    one, two, other = (gradient(engine, adapter, rows[:5], seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], other[0])
    again = gradient(engine, adapter, rows[:5])
    assert not torch.equal(other[0], again[0])  # the next batch of a step drops others


def test_a_layer_computed_again_drops_the_same_inputs(make, rows):
    model, adapter = make(METHODS["dropout"])
    keeping = gradient(open_engine(model, adapter), adapter, rows[:5], seed=1)
    again = gradient(open_engine(model, adapter, max_tape_bytes=0), adapter, rows[:5], seed=1)
    assert torch.equal(keeping[0], again[0])
    assert torch.equal(keeping[1], again[1])


@pytest.mark.parametrize("kind", ["fused", "generic"])
def test_no_dropout_is_dropout_of_nothing_and_none_outside_training(kind, make, rows):
    model, adapter = make(PLAIN)
    wanted = gradient(open_engine(model, adapter, kind=kind), adapter, rows[:5])
    model, adapter = make(dataclasses.replace(PLAIN, lora_dropout=0.0))
    assert torch.equal(gradient(open_engine(model, adapter, kind=kind), adapter, rows[:5])[1], wanted[1])
    model, adapter = make(METHODS["dropout"])
    engine = open_engine(model, adapter, kind=kind)
    assert not torch.equal(gradient(engine, adapter, rows[:5])[1], wanted[1])
    adapter.train(False)
    assert torch.equal(gradient(engine, adapter, rows[:5])[1], wanted[1])


def test_both_engines_agree_where_they_drop_the_same_inputs(make, rows, monkeypatch):
    """Masks that depend on the place in the input alone, for both."""

    def mask(shape):
        return torch.arange(shape.numel()).view(shape) * 7919 % 10 >= 2

    def fused(_self, _number, x, _arena):
        return mask(x.shape).to(x.dtype), 0.8

    def generic(x, p, training, inplace=False):
        assert p == 0.2
        return x * mask(x.shape[1:]) / 0.8 if training else x

    monkeypatch.setattr(linear.FusedLinear, "_mask", fused)
    monkeypatch.setattr(torch.nn.functional, "dropout", generic)
    model, adapter = make(METHODS["dropout"])
    # Every position is kept: the fused engine drops inputs of its last layer where there are fewer positions.
    everywhere = [dataclasses.replace(rows[0], trained=torch.arange(len(rows[0])).numpy() > 0)]
    found = [gradient(open_engine(model, adapter, kind=kind), adapter, everywhere) for kind in ("fused", "generic")]
    torch.testing.assert_close(found[0][0][:-1], found[1][0][:-1], rtol=1e-5, atol=1e-5)
    attention = [name for name in adapter.named if "layers.0." in name]
    assert attention
    assert distance(found[0][1], found[1][1]) < 1e-4


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_of_inputs_seen_is_that_of_the_recipe(p, make, rows):
    model, _ = make(dataclasses.replace(PLAIN, lora_dropout=p))
    layer = model.network.model.layers[0]
    product = linear.FusedLinear([layer.self_attn.q_proj, layer.self_attn.k_proj], torch.float32)
    product.pack()
    product.draw()
    from luthier.model.decoder.arena import Arena

    arena, x = Arena(torch.device("cpu")), torch.ones(2000, 32)
    masks = [product._mask(number, x, arena)[0].clone() for number in (0, 1)]
    assert set(torch.cat(masks).unique().tolist()) == {0.0, 1.0}
    for seen in masks:  # five standard errors of 64,000 draws
        assert abs(seen.mean() - (1 - p)) < 5 * (p * (1 - p) / seen.numel()) ** 0.5
    assert not torch.equal(*masks)
    assert abs(product._mask(0, x, arena)[1] - (1 - p)) < 1e-5
    # What A sees is the input in the mean over masks.
    mean = torch.zeros(3, 8)
    for _ in range(4000):
        product.draw()
        inputs = product.take_inputs(3, arena)
        inputs[:, :32] = x[:3]
        product.project(inputs, arena)
        mean += inputs[:, 32:] / 4000
        arena.reset()
    whole = x[:3] @ torch.cat([layer.self_attn.q_proj.lora_A, layer.self_attn.k_proj.lora_A]).t()
    spread = (p / (1 - p) * 32 * 0.2**2 / 4000) ** 0.5
    assert (mean - whole).abs().max() < 6 * spread


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_is_near_float32(method, make, rows):
    config = METHODS[method]
    if config is not None:
        config = dataclasses.replace(config, lora_dropout=0.0)
    found = []
    for dtype in ("float32", "bfloat16"):
        model, adapter = make(config, dtype)
        assert adapter.flat.dtype == torch.float32
        engine = open_engine(model, adapter)
        assert engine.name == ENGINES.get(method, "generic" if config is None or config.modules_to_save else "fused")
        found.append(gradient(engine, adapter, rows[:5]))
        assert found[-1][0].dtype == torch.float32
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0.02, atol=0.05)
    assert distance(found[1][1], found[0][1]) < 0.05


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["modules_to_save", "full"])
def test_small_steps_are_not_lost_in_the_type_of_the_network(method, dtype, make, rows):
    """A step below what bfloat16 can tell apart is kept in float32, and shows once there are enough of them."""
    model, adapter = make(METHODS[method], dtype)
    engine = open_engine(model, adapter)
    batch = flatten(rows[:3])
    before = engine.logps(batch)
    start = adapter.flat.detach().clone()
    for _ in range(64):
        with torch.no_grad():
            adapter.flat.mul_(1 + 2**-13)
        engine.refresh()
    assert distance(adapter.flat.detach(), start) > 0.005
    assert not torch.equal(engine.logps(batch), before)
    for weight in adapter.whole:
        master = adapter.named[weight.name if adapter.config is None else f"base_model.model.{weight.name}"]
        assert torch.equal(weight.parameter.data, master.data.to(weight.parameter.dtype))


@pytest.mark.parametrize("method", METHODS)
def test_disabled_is_the_base(method, make, tiny_model_folder, chat, rows):
    base = load_model(tiny_model_folder, "float32", chat).network
    model, adapter = make(METHODS[method])
    adapter.train(False)
    ids = torch.from_numpy(rows[0].ids)[None]
    engine = open_engine(model, adapter)
    batch = flatten(rows[:3])
    tuned = engine.logps(batch)
    with torch.no_grad():
        changed = model.network(ids).logits
        with adapter.disabled():
            assert torch.equal(model.network(ids).logits, base(ids).logits)
            assert not torch.allclose(engine.logps(batch), tuned, atol=1e-3)
        assert not torch.equal(changed, base(ids).logits)
        assert torch.equal(model.network(ids).logits, changed)
    assert torch.equal(engine.logps(batch), tuned)


def finish(make, config, rows, settings, folder, **kwargs):
    model, adapter = make(config)
    adapter.train(False)
    run = RunFolder(folder)
    run.data.mkdir(parents=True, exist_ok=True)
    progress = train(model, adapter, rows[:11], rows[11:], settings, run, listener=no_listener, **kwargs)
    save_adapter(adapter, run.adapter, base=str(model.folder))
    return run, progress, weights_file(run.adapter).read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_a_method_learns_and_an_interrupted_run_ends_in_the_same_bytes(method, make, rows, settings, tmp_path):
    config = METHODS[method]
    if config is None:
        settings = dataclasses.replace(settings, learning_rate=settings.learning_rate / 3)
    run, _, whole = finish(make, config, rows, settings, tmp_path / "a")
    losses = [line["train_loss"] for line in read_lines(run.metrics)]
    assert losses[-1] < losses[0]
    asked = iter([False, True])
    with pytest.raises(Interrupted):
        finish(make, config, rows, settings, tmp_path / "b", stop_requested=lambda: next(asked))
    _, _, resumed = finish(make, config, rows, settings, tmp_path / "b")
    assert resumed == whole


def test_training_goes_on_from_an_adapter(make, tiny_model_folder, chat, rows, tmp_path):
    config = dataclasses.replace(METHODS["dora"], target_modules=("q_proj", "up_proj"), modules_to_save=("lm_head",))
    model, adapter = make(config)
    save_adapter(adapter, tmp_path, base=str(tiny_model_folder))
    asked = dataclasses.replace(config, target_modules=("up_proj", "q_proj"), lora_dropout=0.1)
    other = load_model(tiny_model_folder, "float32", chat).network
    started = start_adapter(other, asked, seed=9, start_from=tmp_path)
    assert torch.equal(started.flat, adapter.flat)
    assert started.config.lora_dropout == 0.1
    ids = torch.from_numpy(rows[0].ids)[None]
    assert torch.equal(other(ids).logits, model.network(ids).logits)
    fresh = load_model(tiny_model_folder, "float32", chat).network
    assert not torch.equal(start_adapter(fresh, asked, seed=9, start_from=None).flat, adapter.flat)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"r": 8}, "r"),
        ({"lora_alpha": 4.0}, "lora_alpha"),
        ({"use_rslora": False}, "use_rslora"),
        ({"use_dora": False}, "use_dora"),
        ({"target_modules": ("q_proj",)}, "target_modules"),
        ({"layers_to_transform": (0,)}, "layers_to_transform"),
        ({"modules_to_save": ("norm",)}, "modules_to_save"),
        (None, "start_from"),
    ],
)
def test_an_adapter_of_another_shape_is_refused(change, key, make, tiny_model_folder, chat, tmp_path):
    _, adapter = make(METHODS["dora"])
    save_adapter(adapter, tmp_path, base=str(tiny_model_folder))
    config = None if change is None else dataclasses.replace(METHODS["dora"], **change)
    if config is not None and "target_modules" not in change:
        config = dataclasses.replace(config, target_modules=adapter_shape(tmp_path)["target_modules"])
    with pytest.raises(ModelError) as caught:
        start_adapter(load_model(tiny_model_folder, "float32", chat).network, config, seed=1, start_from=tmp_path)
    assert caught.value.code == "adapter_mismatch"
    assert caught.value.param == f"adapter.{key}"


FACTS = Facts(
    num_train=500,
    model_width=2000,
    context_length=512,
    longest_answer_tokens=9,
    dtype="float32",
    dtype_reason="test",
    free_bytes=8 * 10**9,
)


def test_the_recipe_takes_the_shape_of_the_adapter_it_starts_from(make, tiny_model_folder, tmp_path):
    _, adapter = make(METHODS["modules_to_save"])
    save_adapter(adapter, tmp_path, base=str(tiny_model_folder))
    recipe = load_recipe([f"adapter.start_from={tmp_path}", "adapter.lora_dropout=0.1"]).recipe
    facts = dataclasses.replace(FACTS, started_from=adapter_shape(tmp_path))
    resolved, choices = resolve(recipe, facts)
    said = {choice.path for choice in choices if str(tmp_path) in choice.rule}
    wanted = {"r", "lora_alpha", "target_modules", "layers_to_transform", "modules_to_save"}
    assert said == {f"adapter.{key}" for key in wanted}
    config = lora_config(resolved)
    assert config.modules_to_save == ("lm_head", "norm")
    assert config.layers_to_transform == (1,)
    assert config.lora_dropout == 0.1
    network = load_model(tiny_model_folder, "float32").network
    assert torch.equal(start_adapter(network, config, seed=1, start_from=tmp_path).flat, adapter.flat)
    given = load_recipe([f"adapter.start_from={tmp_path}", "adapter.r=64"]).recipe
    assert lora_config(resolve(given, facts)[0]).r == 64  # and is refused by start_adapter


def test_the_rules_of_full_fine_tuning_and_rslora():
    resolved, choices = resolve(load_recipe(["adapter.method=full"]).recipe, FACTS)
    assert lora_config(resolved) is None
    assert resolved.train.learning_rate == pytest.approx(learning_rate(2000)[0] / 10)
    assert full_learning_rate(5e-4, "x")[0] == 5e-5
    assert not {"adapter.r", "adapter.lora_alpha"} & {choice.path for choice in choices}
    resolved, _ = resolve(load_recipe(["adapter.use_rslora=true"]).recipe, FACTS)
    assert lora_config(resolved).scaling_of("any") == lora_alpha(16, use_rslora=False)[0] / 16 == 2.0
    assert lora_config(resolve(Recipe(), FACTS)[0]) == LoraConfig(r=16, lora_alpha=32.0)


@pytest.mark.parametrize(
    "given", ["r=8", "lora_dropout=0.1", "use_dora=true", "modules_to_save=[norm]", "start_from=x"]
)
def test_what_only_an_adapter_has_is_refused_with_full_fine_tuning(given):
    recipe = load_recipe(["adapter.method=full", f"adapter.{given}"]).recipe
    with pytest.raises(RecipeError) as caught:
        lora_config(recipe)
    assert caught.value.param == f"adapter.{given.partition('=')[0]}"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"modules_to_save": ("lm_haed",)}, "unknown_modules_to_save"),
        ({"layers_to_transform": (0, 2)}, "unknown_layers"),
        ({"target_modules": ("lm_head",)}, "unknown_target_modules"),
        ({"modules_to_save": ("_proj",)}, "adapted_and_saved"),
    ],
)
def test_names_that_mean_nothing_are_refused(change, code, make):
    with pytest.raises(ModelError) as caught:
        make(dataclasses.replace(PLAIN, **change))
    assert caught.value.code == code
    assert caught.value.hint


def test_the_layers_chosen_do_not_change_the_first_values(make):
    _, every = make(PLAIN)
    _, some = make(dataclasses.replace(PLAIN, target_modules=("down_proj",), layers_to_transform=(1,)))
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"
    assert set(some.named) == {name, name.replace("lora_A", "lora_B")}
    start = attach(make(PLAIN)[0].network, None, seed=5)  # any network; only its names are looked at
    assert layer_number("model.layers.12.mlp.experts.3.up_proj") == 12
    assert layer_number("model.norm") is None
    assert start.config is None
    assert every.named[name].shape == some.named[name].shape


def test_a_model_tuned_in_full_can_be_loaded_beside_its_base(make, tiny_model_folder, rows, tmp_path):
    model, adapter = make(None)
    save_adapter(adapter, tmp_path / "model", base=str(tiny_model_folder))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        file.name for file in (tmp_path / "model").iterdir()
    }
    assert weights_file(tmp_path / "model") == tmp_path / "model" / "model.safetensors"
    base = load_model(tiny_model_folder, "float32").network
    read = load_adapter(base, tmp_path / "model")
    assert torch.equal(read.flat, adapter.flat)
    alone = load_model(Path(tmp_path / "model"), "float32").network
    ids = torch.from_numpy(rows[0].ids)[None]
    assert torch.equal(alone(ids).logits, model.network(ids).logits)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_dora_and_dropout_beside_quantized_weights(kind, make, tiny_model_folder, chat, rows):
    """The same as beside dense weights that hold the dequantized numbers; nothing quantized is trained itself."""
    pytest.importorskip("bitsandbytes")
    found = []
    for config in (METHODS["dora"], dataclasses.replace(METHODS["dora"], lora_dropout=0.2)):
        quantized = load_model(tiny_model_folder, "float32", chat, quantization=kind)
        dense = load_model(tiny_model_folder, "float32", chat)
        for name, module in quantized.network.named_modules():
            if isinstance(module, torch.nn.Linear):
                dense.network.get_submodule(name).weight.data = module.weight.detach().clone()
        for model in (quantized, dense):
            adapter = attach(model.network, config, seed=5)
            with torch.no_grad():
                adapter.flat.add_(torch.randn(adapter.flat.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
            adapter.train()
            engines = ("generic",) if config.lora_dropout else ("fused", "generic")
            found.append([gradient(open_engine(model, adapter, kind=k), adapter, rows[:5], seed=1) for k in engines])
    for results in (found[0] + found[1], found[2] + found[3]):
        for logps, slope in results[1:]:
            torch.testing.assert_close(logps, results[0][0], rtol=1e-5, atol=1e-5)
            assert distance(slope, results[0][1]) < 1e-4
    for config in (None, dataclasses.replace(PLAIN, modules_to_save=("down_proj",))):
        network = load_model(tiny_model_folder, "float32", chat, quantization=kind).network
        with pytest.raises(ModelError) as caught:
            attach(network, config, seed=1)
        assert caught.value.code == "quantized_weight"
