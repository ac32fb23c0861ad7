"""The compiled kernels against float64 arithmetic of torch, and against the same operations in torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from luthier.model.kernels import operations
from luthier.model.kernels.native import Native, native

pytestmark = pytest.mark.unit
TYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: {"rtol": 2e-6, "atol": 4e-6}, torch.bfloat16: {"rtol": 1e-2, "atol": 1e-2}}


@pytest.fixture(params=["compiled", "torch"])
def way(request, monkeypatch):
    """Computes by the kernels and by torch."""
    if request.param == "torch":
        monkeypatch.setattr(operations, "native", lambda: Native(None, "test"))
    elif native().library is None:
        pytest.skip(f"no compiled kernels: {native().reason}")
    return request.param


@pytest.fixture
def random():
    generator = torch.Generator().manual_seed(3)
    return lambda *shape, dtype=torch.float32: torch.randn(*shape, generator=generator).to(dtype)


def close(found, expected, dtype):
    torch.testing.assert_close(found.double(), expected.double(), **TOLERANCE[dtype])


def rms(x, weight, epsilon=1e-5):
    return x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt() * weight


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("added", [True, False])
def test_the_norm_of_a_sum_and_its_gradient(way, random, dtype, added):
    x, y, weight = random(7, 33), random(7, 33, dtype=dtype), random(33)
    gradient, from_norm = random(7, 33), random(7, 33, dtype=dtype)
    leaf = (x.double() + (y.double() if added else 0)).requires_grad_()
    expected = rms(leaf, weight.double())
    (through,) = torch.autograd.grad(expected, leaf, from_norm.double())
    h, rstd, out = torch.empty(7, 33, dtype=dtype), torch.empty(7), torch.empty(7, 33, dtype=dtype)
    operations.add_norm(x, y if added else None, x, weight, h, rstd, 1e-5)
    close(x, leaf.detach(), torch.float32)
    close(h, expected.detach(), dtype)
    wanted = gradient.double() + through
    operations.norm_backward(gradient, from_norm, x, rstd, weight, out)
    close(gradient, wanted, torch.float32)
    close(out, wanted, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_norm_of_heads_inside_a_wider_row(way, random, dtype):
    wide, weight, gradient = random(5, 40, dtype=dtype), random(8), random(5, 40, dtype=dtype)
    before = wide.clone()
    heads, raw = wide[:, 8:32].unflatten(1, (3, 8)), before[:, 8:32].unflatten(1, (3, 8))
    leaf = raw.double().requires_grad_()
    expected = rms(leaf, weight.double())
    rstd = torch.empty(5, 3)
    operations.head_norm(heads, weight, rstd, 1e-5)
    close(heads, expected.detach(), dtype)
    assert torch.equal(wide[:, :8], before[:, :8])
    assert torch.equal(wide[:, 32:], before[:, 32:])
    (wanted,) = torch.autograd.grad(expected, leaf, gradient[:, 8:32].unflatten(1, (3, 8)).double())
    operations.head_norm_backward(gradient[:, 8:32].unflatten(1, (3, 8)), raw, weight, rstd)
    close(gradient[:, 8:32].unflatten(1, (3, 8)), wanted, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_rotation_is_transformers_and_turns_back(way, random, dtype):
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    x, angle = random(6, 3, 8, dtype=dtype), random(6, 4)
    both = torch.cat([angle, angle], -1).double()
    expected, _ = apply_rotary_pos_emb(
        x.double().transpose(0, 1)[None], x.double().transpose(0, 1)[None], both.cos()[None], both.sin()[None]
    )
    turned = x.clone()
    operations.rotate(turned, angle.cos(), angle.sin())
    close(turned, expected[0].transpose(0, 1), dtype)
    operations.rotate(turned, angle.cos(), angle.sin(), back=True)
    close(turned, x, dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_the_gate_and_its_gradient(way, random, dtype, activation):
    x, gradient = 3 * random(5, 38).to(dtype), random(5, 19, dtype=dtype)
    leaf = x.double().requires_grad_()
    gate, up = leaf.chunk(2, -1)
    expected = (F.silu(gate) if activation == "silu" else F.gelu(gate, approximate="tanh")) * up
    (wanted,) = torch.autograd.grad(expected, leaf, gradient.double())
    out = torch.empty(5, 19, dtype=dtype)
    operations.gated(x, out, activation)
    close(out, expected.detach(), dtype)
    operations.gated_backward(x, gradient, activation)
    close(x, wanted, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_heads_are_gathered_scattered_and_added_up(way, random, dtype):
    wide = random(9, 24, dtype=dtype)
    heads = wide[:, 8:24].unflatten(1, (2, 8))
    place = torch.tensor([[3, 4, -1], [0, 4, 8]])
    out = torch.empty(2, 2, 3, 8, dtype=dtype)
    operations.gather_heads(heads, place, out)
    assert torch.equal(out[1, 1, 2], heads[8, 1])
    assert torch.equal(out[0, 0, 2], torch.zeros(8, dtype=dtype))
    sums = torch.zeros(9, 2, 8)
    operations.add_heads(sums, place, out)
    close(sums[4], 2 * heads[4].float(), torch.float32)
    close(sums[0], heads[0].float(), torch.float32)
    assert not sums[1].any()
    target = torch.zeros(9, 2, 8, dtype=dtype)
    operations.scatter_heads(target, torch.tensor([[3, 5, -1], [0, 4, 8]]), out)
    assert torch.equal(target[5], heads[4])
    assert not target[1].any()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("window", [None, 3])
def test_probabilities_see_the_keys_up_to_their_query(way, random, dtype, window):
    scores, first, gradient = 4 * random(2, 3, 4, 9).to(dtype), torch.tensor([5, 2]), random(2, 3, 4, 9, dtype=dtype)
    limit = first[:, None] + torch.arange(4)
    hidden = torch.arange(9) > limit[..., None]
    if window:
        hidden |= torch.arange(9) <= limit[..., None] - window
    leaf = scores.double().requires_grad_()
    expected = (leaf * 0.3).masked_fill(hidden[:, None], -torch.inf).softmax(-1)
    operations.softmax(scores, first, scaling=0.3, window=window)
    close(scores, expected.detach(), dtype)
    assert not scores[hidden[:, None].expand_as(scores)].any()
    (wanted,) = torch.autograd.grad(expected, leaf, gradient.double())
    operations.softmax_backward(gradient.view(-1, 9), scores.view(-1, 9), scaling=0.3)
    close(gradient, wanted, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_log_probabilities_and_the_gradient_of_their_weighted_sum(way, random, dtype):
    logits, targets, weights = 5 * random(6, 101).to(dtype), torch.tensor([0, 5, 100, 7, 7, 3]), random(6)
    leaf = logits.double().requires_grad_()
    expected = leaf.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (wanted,) = torch.autograd.grad((expected * weights.double()).sum(), leaf)
    logps = torch.empty(6)
    before = logits.clone()
    operations.log_probabilities(logits, targets, None, logps)
    close(logps, expected.detach(), torch.float32)
    assert torch.equal(logits, before)
    operations.log_probabilities(logits, targets, weights, logps)
    close(logits, wanted, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_not_a_number_stays_so(way, random, dtype):
    logits = random(2, 11, dtype=dtype)
    logits[1, 4] = torch.nan
    logps = torch.empty(2)
    operations.log_probabilities(logits, torch.tensor([1, 1]), torch.ones(2), logps)
    assert logps[0].isfinite()
    assert logps[1].isnan()
    x, h, rstd = random(2, 8), torch.empty(2, 8, dtype=dtype), torch.empty(2)
    x[0, 0] = torch.inf
    operations.add_norm(x, None, x, torch.ones(8), h, rstd, 1e-5)
    assert h[0].isnan().any()
    assert h[1].isfinite().all()


def test_the_exponential_is_right_over_its_whole_range():
    if native().library is None:
        pytest.skip(f"no compiled kernels: {native().reason}")
    x = torch.linspace(-87, 87, 20001)
    both = torch.stack([x, torch.zeros_like(x)], 1)
    logps = torch.empty(len(x))
    operations.log_probabilities(both, torch.ones(len(x), dtype=torch.long), torch.ones(len(x)), logps)
    expected = -F.softplus(x.double())
    torch.testing.assert_close(logps.double(), expected, rtol=3e-7, atol=3e-7)


def test_without_a_compiler_the_reason_is_said(monkeypatch):
    monkeypatch.setattr("luthier.model.kernels.native.shutil.which", lambda name: None)
    native.cache_clear()
    try:
        assert native() == Native(None, "there is no C compiler (cc, gcc or clang)")
    finally:
        native.cache_clear()


def test_a_compiler_that_fails_is_said_and_leaves_nothing(monkeypatch, tmp_path):
    broken = tmp_path / "cc"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no space left" >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("luthier.model.kernels.native.shutil.which", lambda name: str(broken))
    native.cache_clear()
    try:
        assert native() == Native(None, "cc failed: no space left")
        assert list((tmp_path / "home" / "kernels").iterdir()) == []
    finally:
        native.cache_clear()
