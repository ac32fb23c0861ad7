"""The elementwise operations of a decoder, forward and backward, mostly in place.

Each is one call into the compiled kernels on a CPU that has them, and the same arithmetic in torch elsewhere. Arithmetic
is in float32 whatever the type of the tensors. Tensor legend: T tokens, D width, F inner width, H heads, K head width, B
rows of a block, M heads of a row, L queries, S keys, C positions, V vocabulary.
"""

from __future__ import annotations

import ctypes
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.model.kernels.native import native

Activation = Literal["silu", "gelu_tanh"]
_KINDS: dict[Activation, int] = {"silu": 0, "gelu_tanh": 1}


def add_norm(
    x_TD: Tensor,
    y_TD: Tensor | None,
    sum_TD: Tensor,
    weight_D: Tensor,
    h_TD: Tensor,
    rstd_T: Tensor,
    epsilon: float,
) -> None:
    """Writes x + y in float32, which may be x itself, and the root-mean-square norm of the sum times `weight` to h."""
    if _compiled(x_TD):
        T, D = x_TD.shape
        call("add_norm", h_TD, x_TD, y_TD, sum_TD, weight_D, h_TD, rstd_T, T, D, h_TD.stride(0), float(epsilon))
        return
    if y_TD is not None:
        torch.add(x_TD, y_TD, out=sum_TD)
    elif sum_TD is not x_TD:
        sum_TD.copy_(x_TD)
    rstd_T.copy_((sum_TD.square().mean(-1) + epsilon).rsqrt())
    h_TD.copy_(sum_TD * rstd_T[:, None] * weight_D)


def norm_backward(
    gradient_TD: Tensor, gh_TD: Tensor, x_TD: Tensor, rstd_T: Tensor, weight_D: Tensor, out_TD: Tensor | None
) -> None:
    """Adds to the float32 gradient of x what reaches it through the norm; `out` gets the sum in its own type."""
    if _compiled(gradient_TD):
        T, D = x_TD.shape
        stride = D if out_TD is None else out_TD.stride(0)
        call("norm_backward", gh_TD, gradient_TD, gh_TD, x_TD, rstd_T, weight_D, out_TD, T, D, stride)
        return
    scaled_TD = gh_TD.float() * weight_D
    normed_TD = x_TD * rstd_T[:, None]
    gradient_TD += rstd_T[:, None] * (scaled_TD - normed_TD * (scaled_TD * normed_TD).mean(-1, keepdim=True))
    if out_TD is not None:
        out_TD.copy_(gradient_TD)


def head_norm(x_THK: Tensor, weight_K: Tensor, rstd_TH: Tensor, epsilon: float) -> None:
    """Replaces each head by its root-mean-square norm times `weight`; the heads may be part of a wider row."""
    if _compiled(x_THK):
        T, H, K = x_THK.shape
        call("head_norm", x_THK, x_THK, weight_K, rstd_TH, T, x_THK.stride(0), H, K, float(epsilon))
        return
    wide_THK = x_THK.float()
    rstd_TH.copy_((wide_THK.square().mean(-1) + epsilon).rsqrt())
    x_THK.copy_(wide_THK * rstd_TH[..., None] * weight_K)


def head_norm_backward(gradient_THK: Tensor, x_THK: Tensor, weight_K: Tensor, rstd_TH: Tensor) -> None:
    """Turns the gradient behind `head_norm` into that before it, in place; x is what went in."""
    if _compiled(gradient_THK):
        T, H, K = x_THK.shape
        strides = gradient_THK.stride(0), x_THK.stride(0)
        call("head_norm_backward", x_THK, gradient_THK, x_THK, weight_K, rstd_TH, T, *strides, H, K)
        return
    scaled_THK = gradient_THK.float() * weight_K
    normed_THK = x_THK.float() * rstd_TH[..., None]
    mean_TH1 = (scaled_THK * normed_THK).mean(-1, keepdim=True)
    gradient_THK.copy_(rstd_TH[..., None] * (scaled_THK - normed_THK * mean_TH1))


def rotate(x_THK: Tensor, cosine_TR: Tensor, sine_TR: Tensor, *, back: bool = False) -> None:
    """Rotates the first 2 R numbers of each head by its position, in place; `back` is the transpose, which is the
    backward pass."""
    half = cosine_TR.shape[1]
    direction = -1.0 if back else 1.0
    if _compiled(x_THK):
        T, H, K = x_THK.shape
        call("rotate", x_THK, x_THK, cosine_TR, sine_TR, T, x_THK.stride(0), H, K, half, direction)
        return
    one, other = x_THK[..., : 2 * half].float().clone().chunk(2, -1)
    c_T1R, s_T1R = cosine_TR[:, None], sine_TR[:, None] * direction
    x_THK[..., :half] = (one * c_T1R - other * s_T1R).to(x_THK.dtype)
    x_THK[..., half : 2 * half] = (other * c_T1R + one * s_T1R).to(x_THK.dtype)


def gated(x_T2F: Tensor, out_TF: Tensor, activation: Activation) -> None:
    """Writes `activation(gate) · up`; gate and up stand side by side in x."""
    if _compiled(x_T2F):
        strides = x_T2F.stride(0), out_TF.stride(0)
        call("gated", x_T2F, x_T2F, out_TF, *out_TF.shape, *strides, ctypes.c_int(_KINDS[activation]))
        return
    gate_TF, up_TF = x_T2F.float().chunk(2, -1)
    out_TF.copy_(_activate(gate_TF, activation) * up_TF)


def gated_backward(x_T2F: Tensor, gradient_TF: Tensor, activation: Activation) -> None:
    """Turns x into the gradient of itself, given the gradient of what `gated` wrote."""
    if _compiled(x_T2F):
        kind = ctypes.c_int(_KINDS[activation])
        call("gated_backward", x_T2F, x_T2F, gradient_TF, *gradient_TF.shape, x_T2F.stride(0), kind)
        return
    with torch.enable_grad():
        leaf_T2F = x_T2F.detach().float().requires_grad_()
        gate_TF, up_TF = leaf_T2F.chunk(2, -1)
        (found_T2F,) = torch.autograd.grad(_activate(gate_TF, activation) * up_TF, leaf_T2F, gradient_TF.float())
    x_T2F.copy_(found_T2F)


def gather_heads(x_THK: Tensor, place_BL: Tensor, out_BHLK: Tensor) -> None:
    """Writes the heads of the tokens at some places, [B, H, L, K]; zeros where a place is negative."""
    B, H, L, K = out_BHLK.shape
    if _compiled(x_THK):
        call("gather_heads", x_THK, x_THK, place_BL, out_BHLK, B, L, x_THK.stride(0), H, K)
        return
    found_BLHK = x_THK[place_BL.clamp(min=0)]
    out_BHLK.copy_(found_BLHK.masked_fill((place_BL < 0)[..., None, None], 0).transpose(1, 2))


def scatter_heads(x_THK: Tensor, place_BL: Tensor, from_BHLK: Tensor) -> None:
    """Writes heads back to their tokens; negative places are left out."""
    B, H, L, K = from_BHLK.shape
    if _compiled(x_THK):
        call("scatter_heads", x_THK, x_THK, place_BL, from_BHLK, B, L, x_THK.stride(0), H, K)
        return
    real_BL = place_BL >= 0
    x_THK[place_BL[real_BL]] = from_BHLK.transpose(1, 2)[real_BL]


def add_heads(x_THK: Tensor, place_BL: Tensor, from_BHLK: Tensor) -> None:
    """Adds heads to their tokens' float32 sums; places may occur several times, negative ones are left out."""
    B, H, L, K = from_BHLK.shape
    if _compiled(x_THK):
        call("add_heads", from_BHLK, x_THK, place_BL, from_BHLK, B, L, H, K)
        return
    real_BL = place_BL >= 0
    x_THK.index_put_((place_BL[real_BL],), from_BHLK.transpose(1, 2)[real_BL].float(), accumulate=True)


def softmax(s_BMLS: Tensor, first_B: Tensor, *, scaling: float, window: int | None) -> None:
    """Turns scores into probabilities, in place: query l of row b sees the last `window` keys up to `first[b] + l`."""
    B, M, L, S = s_BMLS.shape
    if _compiled(s_BMLS):
        call("softmax", s_BMLS, s_BMLS, first_B, B, M, L, S, float(scaling), window or 0)
        return
    limit_BL1 = (first_B[:, None] + torch.arange(L, device=s_BMLS.device))[..., None]
    key_S = torch.arange(S, device=s_BMLS.device)
    hidden_BLS = key_S > limit_BL1
    if window is not None:
        hidden_BLS |= key_S <= limit_BL1 - window
    s_BMLS.copy_((s_BMLS.float() * scaling).masked_fill_(hidden_BLS[:, None], -torch.inf).softmax(-1))


def softmax_backward(gradient_RS: Tensor, p_RS: Tensor, *, scaling: float) -> None:
    """Turns the gradient of probabilities into that of the scores, in place."""
    if _compiled(gradient_RS):
        call("softmax_backward", p_RS, gradient_RS, p_RS, *p_RS.shape, float(scaling))
        return
    wide_RS, p = gradient_RS.float(), p_RS.float()
    gradient_RS.copy_((wide_RS - (wide_RS * p).sum(-1, keepdim=True)) * p * scaling)


def log_probabilities(logits_CV: Tensor, targets_C: Tensor, weights_C: Tensor | None, logps_C: Tensor) -> None:
    """Writes the targets' log-probabilities; with weights, the logits become the gradient of Σ weight · logp."""
    if _compiled(logits_CV):
        call("log_probabilities", logits_CV, logits_CV, targets_C, weights_C, logps_C, *logits_CV.shape)
        return
    wide_CV = F.log_softmax(logits_CV.float(), -1)
    logps_C.copy_(wide_CV.gather(1, targets_C[:, None])[:, 0])
    if weights_C is not None:
        wide_CV.exp_().neg_().scatter_add_(1, targets_C[:, None], torch.ones_like(logps_C)[:, None])
        logits_CV.copy_(wide_CV * weights_C[:, None])


def quantize_nf4(x: Tensor, levels: Tensor, packed: Tensor, most_B: Tensor) -> None:
    """Writes weights in 4 bits, and the largest of each block of 64.

    Args:
        x: contiguous, of any shape; the last block may be shorter.
        levels: float32, what 4 bits stand for, rising from -1 to 1.
        packed: uint8, two weights each, the first in the higher half.
        most_B: float32, the largest of each block, by which its weights are divided.
    """
    bounds = (levels[1:] + levels[:-1]) / 2
    if _compiled(x):
        call("quantize_nf4", x, x, bounds, packed, most_B, x.numel())
        return
    short = x.numel() % 64
    flat = F.pad(x.flatten().float(), (0, -x.numel() % 64)).view(-1, 64)
    most_B.copy_(flat.abs().amax(-1))
    divisor_B1 = most_B.clamp(min=1e-38)[:, None]
    scaled = flat * (1 / divisor_B1)
    if short:
        scaled[-1] = flat[-1] / divisor_B1[-1]
        most_B[-1] = divisor_B1[-1, 0]
    place = torch.bucketize(scaled.flatten()[: 2 * len(packed)], bounds, out_int32=True).to(torch.uint8)
    packed.copy_((place[::2] << 4) | place[1::2])


def dequantize_nf4(
    packed: Tensor,
    scale_B: Tensor,
    wide_scale: Tensor,
    offset: Tensor,
    levels: Tensor,
    places: Tensor,
    out: Tensor,
) -> None:
    """Writes 4-bit weights as numbers.

    Args:
        packed: uint8, two weights each, the first in the higher half.
        scale_B: uint8, the scale of each block of 64 weights, as a place in `places`.
        wide_scale: float32, what the places are multiplied by, for each 256 blocks.
        offset: float32, one number, added to all scales.
        levels, places: float32, what 4 and 8 bits stand for.
        out: contiguous, of any shape.
    """
    if _compiled(out):
        call("dequantize_nf4", out, packed, scale_B, wide_scale, offset, levels, places, out, out.numel())
        return
    factor_B = places[scale_B.int()] * wide_scale.repeat_interleave(256)[: len(scale_B)] + offset
    flat = torch.stack([packed >> 4, packed & 15], -1).flatten()[: out.numel()]
    numbers = levels[flat.int()] * factor_B.repeat_interleave(64)[: out.numel()]
    out.copy_(numbers.view_as(out))


def dequantize_int8(packed_OD: Tensor, most_O: Tensor, out_OD: Tensor) -> None:
    """Writes 8-bit weights as numbers: `packed · most / 127`, where `most` (float32) is the largest of each row."""
    if _compiled(out_OD):
        call("dequantize_int8", out_OD, packed_OD, most_O, out_OD, *out_OD.shape)
        return
    out_OD.copy_(packed_OD * most_O[:, None] * (1 / 127))


def _activate(x: Tensor, activation: Activation) -> Tensor:
    return F.silu(x) if activation == "silu" else F.gelu(x, approximate="tanh")


def compiled(device: torch.device) -> bool:
    """Returns whether this device has the compiled kernels."""
    return device.type == "cpu" and native().library is not None


def _compiled(x: Tensor) -> bool:
    return compiled(x.device)


def call(name: str, typed: Tensor, *arguments: object) -> None:
    """Calls a kernel for the type of `typed`; numbers are passed as 64-bit integers and 32-bit floats."""
    suffix = "bfloat16" if typed.dtype == torch.bfloat16 else "float32"
    getattr(native().library, f"{name}_{suffix}")(*map(_argument, arguments))


def _argument(value: object) -> object:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, float):
        return ctypes.c_float(value)
    if isinstance(value, int):
        return ctypes.c_int64(value)
    return value
