"""Gradients of adapter matrices: sums of outer products, several in one call.

A layer's backward pass makes fourteen of them, each too small to be worth waking the other cores for. They are written down
as they come up and computed together. Tensor legend: T tokens, D columns, R ranks.
"""

from __future__ import annotations

import ctypes
from typing import ClassVar

import torch
from torch import Tensor

from luthier.model.kernels.operations import call, compiled

_ROWS = 8


class _Outer(ctypes.Structure):
    """`Outer` of kernels.c."""

    _fields_: ClassVar = [
        *((name, ctypes.c_void_p) for name in ("x", "factor", "grad")),
        *((name, ctypes.c_int64) for name in ("T", "D", "R", "x_stride", "factor_stride", "row", "column")),
        ("scale", ctypes.c_double),
    ]


class Outers:
    """Sums of outer products that are added to float32 gradients once `add` is called."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Tensor, Tensor, float]] = []

    def put(self, x_TD: Tensor, factor_TR: Tensor, gradient_RD: Tensor, scale: float = 1.0) -> None:
        """Writes down that `scale · factorᵀ x` is to be added to a gradient.

        All three may be parts of something wider, the gradient a transpose. What they hold must stand until `add`.
        """
        self._waiting.append((x_TD, factor_TR, gradient_RD, scale))

    def add(self) -> None:
        """Adds all that was written down, and forgets it."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        if not compiled(waiting[0][0].device):
            for x_TD, factor_TR, gradient_RD, scale in waiting:
                gradient_RD.add_(torch.mm(factor_TR.t(), x_TD), alpha=scale)
            return
        outers = (_Outer * len(waiting))(*(_outer(*parts) for parts in waiting))
        size = sum(len(factor_TR) * -(-factor_TR.shape[1] // _ROWS) * _ROWS for _, factor_TR, _, _ in waiting)
        call("add_outers", waiting[0][0], ctypes.byref(outers), len(waiting), torch.empty(size))


def _outer(x_TD: Tensor, factor_TR: Tensor, gradient_RD: Tensor, scale: float) -> _Outer:
    return _Outer(
        x_TD.data_ptr(),
        factor_TR.data_ptr(),
        gradient_RD.data_ptr(),
        *x_TD.shape,
        factor_TR.shape[1],
        x_TD.stride(0),
        factor_TR.stride(0),
        *gradient_RD.stride(),
        scale,
    )
