"""Every kind of adapter, and full fine-tuning, against PEFT and transformers in float32, on tiny random models."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig as PeftConfig
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from luthier.model.adapter import adapter_shape, load_adapter, save_adapter
from luthier.model.chat_template import ChatTokenizer, EncodedExample
from luthier.model.loader import LoadedModel, num_parameters
from luthier.model.lora import LoraConfig, attach
from luthier.train.batch import flatten
from luthier.train.engine import open_engine

pytestmark = [
    pytest.mark.reference,
    # PEFT about copies of tied weights, which are meant here.
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
]
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FUSED = {
    "lora": {},
    "some layers": {"target_modules": ("q_proj", "up_proj")},
    "one layer": {"target_modules": ("layers.1.mlp.up_proj",)},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora of some": {"use_dora": True, "use_rslora": True, "target_modules": ("k_proj", "down_proj", "gate_proj")},
    "layers_to_transform": {"layers_to_transform": (0, 2)},
    "dora in one layer": {"use_dora": True, "layers_to_transform": (1,)},
}
GENERIC = {
    "head": {"modules_to_save": ("lm_head",)},
    "embedding and head": {"modules_to_save": ("embed_tokens", "lm_head")},
    "embedding": {"modules_to_save": ("embed_tokens",), "target_modules": ("v_proj",)},
    "norms": {"modules_to_save": ("norm",), "use_dora": True},
    "a whole block": {"modules_to_save": ("layers.1.mlp",)},
}
OPTIONS = FUSED | GENERIC
ELSEWHERE = {
    "patterns": {
        "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 6},
        "alpha_pattern": {"q_proj": 32, "down_proj": 1},
    },
    "patterns and rslora": {"rank_pattern": {"v_proj": 2}, "use_rslora": True},
    "an expression": {"target_modules": r".*\.(q|o)_proj"},
    "all-linear": {"target_modules": "all-linear"},
    "all but some": {"exclude_modules": ["layers.1.mlp.up_proj", "q_proj"]},
    "layers of a list": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "a single layer": {"layers_to_transform": 2},
    "other starts": {"init_lora_weights": "gaussian"},
}


def network(family="Llama", *, tied=False, dtype=torch.float32):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=90,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        pad_token_id=2,
        tie_word_embeddings=tied,
    )
    made = getattr(transformers, f"{family}ForCausalLM")(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(4)
    for name, parameter in made.named_parameters():
        if "norm" in name or name.endswith("bias"):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        else:
            parameter.mul_(3)
    for parameter in made.parameters():  # not its tables of rotations
        parameter.data = parameter.data.to(dtype)
    made.set_attn_implementation("sdpa")
    return made


def theirs(made, options):
    """The same network with PEFT's adapter."""
    defaults = {"r": 4, "lora_alpha": 8.0, "target_modules": LINEAR, "bias": "none", "task_type": "CAUSAL_LM"}
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in (defaults | options).items()}
    return get_peft_model(copy.deepcopy(made), PeftConfig(**given)).eval()


def ours(made, options):
    return attach(made, LoraConfig(r=4, lora_alpha=8.0, **options), seed=3)


def shake(parameters):
    """Moves trained values away from their start, so that each matters."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def named(peft):
    """PEFT's trained parameters by the names it gives them on disk."""
    return {
        name.replace(".modules_to_save.default", "")
        .replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector")
        .replace(".default", ""): parameter
        for name, parameter in peft.named_parameters()
        if parameter.requires_grad
    }


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    shared = generator.integers(3, 90, 20)
    made = []
    for length in (11, 30, 17, 24):
        ids = np.concatenate([shared, generator.integers(3, 90, length)])
        made.append(EncodedExample(ids, (np.arange(len(ids)) > 24) & (ids % 3 > 0), f"rows:{length}"))
    return made


@pytest.fixture
def loaded(tiny_model_folder):
    def load(made):
        return LoadedModel(made, ChatTokenizer(tiny_model_folder), tiny_model_folder, "float32", 256, frozenset({2}))

    return load


def padded_loss(made, rows):
    """The reference: right-padded rows, transformers' forward, the mean loss of trained tokens."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row.ids, *[2] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    labels = torch.full_like(ids, -100)
    for number, row in enumerate(rows):
        labels[number, : len(row)] = torch.where(torch.from_numpy(row.trained), torch.from_numpy(row.ids), -100)
    logits = made(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def check(engine, adapter, expected, gradients, rows, *, share_prefix):
    batch = flatten(rows, share_prefix=share_prefix)
    assert (len(batch.segments) > len(rows)) == share_prefix
    adapter.zero_grad()
    logps = engine.accumulate(batch, torch.full((batch.num_trained,), -1 / batch.num_trained))
    assert abs(-logps.mean().item() - expected) < 1e-5
    assert abs(-engine.logps(batch).mean().item() - expected) < 1e-5
    assert set(adapter.named) == set(gradients)
    for name, parameter in adapter.named.items():
        assert gradients[name].norm() > 0, name
        assert (parameter.grad - gradients[name]).norm() / gradients[name].norm() < 2e-4, name


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("kind", ["generic", "fused", "recomputing"])
@pytest.mark.parametrize("option", OPTIONS)
def test_loss_and_gradient_are_those_of_peft(option, kind, share_prefix, rows, loaded):
    if option in GENERIC and kind == "recomputing":
        kind, wanted = "auto", "generic"
    else:
        wanted = "generic" if option in GENERIC or kind == "generic" else "fused"
    made = network("Qwen2")
    peft = theirs(made, OPTIONS[option])
    reference = named(peft)
    adapter = ours(made, OPTIONS[option])
    shake(adapter.parameters())
    adapter.refresh()
    with torch.no_grad():
        for name, parameter in adapter.named.items():
            reference[name].copy_(parameter)
    loss = padded_loss(peft, rows)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in reference.items()}
    engine = open_engine(
        loaded(made),
        adapter,
        kind="generic" if wanted == "generic" else "auto",
        max_tape_bytes=0 if kind == "recomputing" else None,
    )
    assert engine.name == wanted
    check(engine, adapter, loss.item(), gradients, rows, share_prefix=share_prefix)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_automatic_engine_is_the_fast_one_where_it_is_exact(option, loaded):
    made = network()
    engine = open_engine(loaded(made), ours(made, OPTIONS[option]))
    assert (engine.name == "fused") == (option in FUSED)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("option", OPTIONS)
def test_parameters_are_counted_and_named_as_peft_counts_and_names_them(option, tied):
    made = network(tied=tied)
    peft = theirs(made, OPTIONS[option])
    adapter = ours(made, OPTIONS[option])
    assert num_parameters(made) == peft.get_nb_trainable_parameters()
    assert {name: value.shape for name, value in adapter.named.items()} == {
        name: value.shape for name, value in named(peft).items()
    }


@pytest.mark.parametrize("option", OPTIONS)
def test_a_new_adapter_changes_nothing_and_has_the_magnitudes_of_peft(option, rows):
    made = network()
    reference = named(theirs(made, OPTIONS[option]))
    before = made(torch.from_numpy(rows[0].ids)[None]).logits
    adapter = ours(made, OPTIONS[option])
    torch.testing.assert_close(made(torch.from_numpy(rows[0].ids)[None]).logits, before, rtol=1e-5, atol=1e-5)
    for name, value in adapter.state().items():
        if "lora_A" not in name:
            torch.testing.assert_close(value, reference[name].detach())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("option", OPTIONS)
def test_peft_reads_ours(option, tied, rows, tmp_path):
    made = network(tied=tied)
    base = copy.deepcopy(made)
    adapter = ours(made, OPTIONS[option])
    shake(adapter.parameters())
    adapter.refresh()
    save_adapter(adapter, tmp_path / "adapter", base="")
    ids = torch.from_numpy(rows[1].ids)[None]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        peft = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "adapter").eval()
    with torch.no_grad():
        assert (peft(ids).logits - base(ids).logits).abs().max() > 0.1
        assert (peft(ids).logits - made(ids).logits).abs().max() < 1e-4
        other = copy.deepcopy(base)
        load_adapter(other, tmp_path / "adapter")
        assert torch.equal(other(ids).logits, made(ids).logits)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("option", OPTIONS | ELSEWHERE)
def test_we_read_what_peft_wrote(option, tied, rows, tmp_path):
    made = network(tied=tied)
    peft = theirs(made, (OPTIONS | ELSEWHERE)[option])
    shake(parameter for parameter in peft.parameters() if parameter.requires_grad)
    peft.save_pretrained(tmp_path / "adapter")
    adapter = load_adapter(made, tmp_path / "adapter")
    ids = torch.from_numpy(rows[1].ids)[None]
    with torch.no_grad():
        assert (peft(ids).logits - made(ids).logits).abs().max() < 1e-4
        with adapter.disabled(), peft.disable_adapter():
            assert torch.equal(peft(ids).logits, made(ids).logits)
    save_adapter(adapter, tmp_path / "again", base="")
    with torch.no_grad():
        again = PeftModel.from_pretrained(network(tied=tied), tmp_path / "again").eval()
        assert (again(ids).logits - made(ids).logits).abs().max() < 1e-4
    assert adapter_shape(tmp_path / "again")["use_dora"] == adapter.config.use_dora


def test_dropout_does_nothing_outside_training_and_dora_drops_as_in_peft(rows, monkeypatch):
    """Both sides are given the same masks: in DoRA, PEFT drops the input of the rescaled base product, too."""

    def drop(x, p, training, inplace=False):
        places = torch.arange(x.numel()).view_as(x) * 7919 % 10
        return x * (places >= 10 * p) / (1 - p) if training else x

    for options in ({"use_dora": True}, {}):
        made = network("Qwen2")
        peft = theirs(made, options | {"lora_dropout": 0.3})
        adapter = attach(made, LoraConfig(r=4, lora_alpha=8.0, lora_dropout=0.3, **options), seed=3)
        shake(adapter.parameters())
        with torch.no_grad():
            for name, parameter in named(peft).items():
                parameter.copy_(adapter.named[name])
        ids = torch.from_numpy(rows[1].ids)[None]
        adapter.train(False)
        with torch.no_grad(), monkeypatch.context() as patch:
            patch.setattr(torch.nn.functional, "dropout", drop)
            still = made(ids).logits
            assert (peft(ids).logits - still).abs().max() < 1e-4
            adapter.train()
            peft.train()
            assert (peft(ids).logits - made(ids).logits).abs().max() < 1e-4
            assert (made(ids).logits - still).abs().max() > 1e-2


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize(("family", "tied"), [("Llama", True), ("Llama", False), ("Qwen3", True), ("Gemma", True)])
def test_full_fine_tuning_has_the_gradient_of_transformers(family, tied, share_prefix, rows, loaded):
    made = network(family, tied=tied)
    reference = copy.deepcopy(made).requires_grad_(True)
    adapter = attach(made, None, seed=3)
    loss = padded_loss(reference, rows)
    loss.backward()
    engine = open_engine(loaded(made), adapter)
    assert engine.name == "generic"
    gradients = {name: parameter.grad for name, parameter in reference.named_parameters()}
    check(engine, adapter, loss.item(), gradients, rows, share_prefix=share_prefix)
    assert num_parameters(made) == (reference.num_parameters(), reference.num_parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_reads_a_model_tuned_in_full(tied, dtype, rows, tmp_path, tiny_tokenizer_folder):
    made = network(tied=tied, dtype=dtype)
    base = copy.deepcopy(made)
    adapter = attach(made, None, seed=3)
    shake(adapter.parameters())
    adapter.refresh()
    save_adapter(adapter, tmp_path / "model", base=str(tiny_tokenizer_folder))
    assert (tmp_path / "model" / "tokenizer.json").exists()
    ids = torch.from_numpy(rows[1].ids)[None]
    with torch.no_grad():
        read = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="sdpa")
        assert read.dtype == dtype
        assert torch.equal(read(ids).logits, made(ids).logits)
        other = load_adapter(copy.deepcopy(base), tmp_path / "model")
        assert torch.equal(other.network(ids).logits, made(ids).logits)
        assert not torch.equal(base(ids).logits, made(ids).logits)
        with other.disabled(), adapter.disabled():
            assert torch.equal(other.network(ids).logits, base(ids).logits)
            assert torch.equal(made(ids).logits, base(ids).logits)


@pytest.mark.parametrize("family", ["Phi3", "Starcoder2", "Olmo2", "Gemma", "Qwen3"])
def test_other_families_are_those_of_peft(family, rows, loaded):
    """Stacked projections, biases, norms elsewhere: `all-linear` means the same layers, and all is computed alike."""
    made = network(family)
    options = {"use_dora": True, "target_modules": "all-linear"}
    peft = theirs(made, options)
    adapter = ours(made, options)
    shake(adapter.parameters())
    reference = named(peft)
    with torch.no_grad():
        for name, parameter in adapter.named.items():
            reference[name].copy_(parameter)
    loss = padded_loss(peft, rows)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in reference.items()}
    check(open_engine(loaded(made), adapter), adapter, loss.item(), gradients, rows, share_prefix=True)
    assert num_parameters(made) == peft.get_nb_trainable_parameters()
