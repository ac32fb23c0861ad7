"""Flat rows, attention and loss compute what padded rows through transformers' own forward compute."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from luthier.errors import ModelError
from luthier.model.lora import LoraConfig, attach
from luthier.train.attention import flat_attention_in
from luthier.train.batch import flatten
from luthier.train.loop import check_against_transformers, loss_sum
from luthier.train.loss import CHUNK_POSITIONS, head_loss

pytestmark = pytest.mark.unit


@pytest.fixture
def trained_adapter(model):
    """An adapter away from its start, so that each of its matrices matters."""
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for matrix in adapter.parameters():
            matrix.normal_(0, 0.05, generator=generator)
    return adapter


def padded_loss(model, rows):
    """The reference: right-padded rows, attention mask, transformers' forward, cross-entropy of every position."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row.ids, *[2] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        labels[i, : len(row)] = torch.where(torch.from_numpy(row.trained), torch.from_numpy(row.ids), -100)
    logits = model.network(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")


def gradients(adapter):
    return [matrix.grad.clone() for matrix in adapter.parameters()]


@pytest.mark.parametrize("share_prefix", [True, False])
def test_loss_and_gradients_equal_the_padded_reference(model, rows, trained_adapter, share_prefix):
    expected = padded_loss(model, rows[:5])
    expected.backward()
    wanted = gradients(trained_adapter)
    for matrix in trained_adapter.parameters():
        matrix.grad = None
    batch = flatten(rows[:5], share_prefix=share_prefix)
    assert (batch.prefix_tokens > 0) is share_prefix
    with flat_attention_in(model.network):
        loss = loss_sum(model, batch)
        loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, reference in zip(gradients(trained_adapter), wanted, strict=True):
        assert (ours - reference).norm() / reference.norm() < 2e-5


def test_rows_never_see_each_other(model, rows, trained_adapter):
    with flat_attention_in(model.network), torch.inference_mode():
        alone = [loss_sum(model, flatten([row])).item() for row in rows[:4]]
        together = loss_sum(model, flatten(rows[:4])).item()
    assert together == pytest.approx(sum(alone), rel=1e-6)


def test_another_row_does_not_move_a_rows_gradient(model, rows, trained_adapter):
    """Only row 0 is trained on; what stands beside it must not matter."""
    silent = [dataclasses.replace(row, trained=np.arange(len(row)) >= len(row) - 1) for row in rows[1:3]]

    def gradient_of_first(neighbour):
        batch = flatten([rows[0], neighbour], share_prefix=False)
        first = rows[0].num_trained
        kept = dataclasses.replace(batch, predict_N=batch.predict_N[:first], targets_N=batch.targets_N[:first])
        for matrix in trained_adapter.parameters():
            matrix.grad = None
        with flat_attention_in(model.network):
            loss_sum(model, kept).backward()
        return gradients(trained_adapter)

    for one, other in zip(gradient_of_first(silent[0]), gradient_of_first(silent[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_the_head_loss_equals_cross_entropy_across_chunks():
    generator = torch.Generator().manual_seed(0)
    positions = 2 * CHUNK_POSITIONS + 7
    hidden = torch.randn(positions, 16, generator=generator, requires_grad=True)
    head = torch.randn(50, 16, generator=generator)
    targets = torch.randint(0, 50, (positions,), generator=generator)
    loss = head_loss(hidden, head, targets)
    (loss / positions).backward()
    ours = hidden.grad.clone()
    hidden.grad = None
    expected = F.cross_entropy(hidden @ head.t(), targets)
    expected.backward()
    assert loss.item() / positions == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(ours, hidden.grad, rtol=1e-4, atol=1e-8)


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
    assert math.isfinite(check_against_transformers(loaded, rows))


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
        check_against_transformers(loaded, rows)
    assert caught.value.code == "exactness_check_failed"
