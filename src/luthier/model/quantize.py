"""A frozen base in 4 or 8 bits: QLoRA (arXiv 2305.14314).

The bits are those of bitsandbytes (`quantize_4bit` with double quantization, `int8_vectorwise_quant`). They are turned back
into numbers each time a product needs them, forward and backward. The layers of bitsandbytes itself are not used: on a CPU,
version 0.50.2 packs their weights anew at a forward pass without gradients, and training after it learns next to nothing,
in silence; and it mixes up the scales of matrices whose rows are a multiple of 16 but not of 64 numbers long.

Tensor legend: D inputs, O outputs.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from luthier.errors import MissingError, ModelError
from luthier.model.kernels import operations

Quantization = Literal["none", "nf4", "int8"]
NF4_BLOCK = 64
"""Weights that share a scale. Source: QLoRA, section 3."""
SCALE_BLOCK = 256
"""Scales that share a scale of their own. Source: QLoRA, section 3."""


class QuantizedLinear(nn.Linear, ABC):
    """A frozen linear layer that holds its weights in a few bits.

    Attributes:
        dtype: of the weights once dequantized, and of their products.
        by_reference: whether products go through torch's autograd with what bitsandbytes dequantizes, one matrix at a
            time; see `by_reference`.
    """

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        super(nn.Linear, self).__init__()  # nn.Linear's own would make a matrix
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.dtype = dtype
        self.by_reference = False
        bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().to(dtype), requires_grad=False)
        self.register_parameter("bias", bias)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.buffers()).device

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The matrix [O, D], dequantized anew; what is written to it is lost."""
        return self.dequantize(torch.empty(self.out_features, self.in_features, dtype=self.dtype, device=self.device))

    @abstractmethod
    def dequantize(self, out_OD: Tensor) -> Tensor:
        """Writes the matrix to contiguous memory, and returns it."""

    @abstractmethod
    def reference(self) -> Tensor:
        """Returns the matrix [O, D] as bitsandbytes dequantizes it."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Returns the layer's output."""
        if self.by_reference:
            found: Tensor = checkpoint(self._reference_product, input, use_reentrant=False, preserve_rng_state=False)
            return found
        product: Tensor = _Product.apply(input, self)  # type: ignore[no-untyped-call]
        return product

    def _reference_product(self, x: Tensor) -> Tensor:
        return F.linear(x, self.reference(), self.bias)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Moves the layer to another device.

        Raises:
            ModelError: its type would change with it: the scales are float32, whatever type the products have.
        """
        before = [buffer.dtype for buffer in self.buffers()]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if [buffer.dtype for buffer in self.buffers()] != before:
            raise ModelError(
                "The type of a quantized layer cannot be changed.",
                code="quantized_type_is_fixed",
                param="model.dtype",
                hint="Load the model anew with another model.dtype.",
            )
        return self


class Nf4Linear(QuantizedLinear):
    """4-bit normal floats in blocks of 64 weights, their scales in 8 bits."""

    packed: Tensor
    scale: Tensor
    wide_scale: Tensor
    offset: Tensor
    levels: Tensor
    places: Tensor

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__(layer, dtype)
        weight = layer.weight.detach().to(dtype).contiguous()
        levels, places = _tables(weight.device)
        packed = torch.empty(-(-weight.numel() // 2), dtype=torch.uint8, device=weight.device)
        most = torch.empty(-(-weight.numel() // NF4_BLOCK), device=weight.device)
        operations.quantize_nf4(weight, levels, packed, most)
        offset = most.mean()
        scale, state = _functional().quantize_blockwise(most - offset, blocksize=SCALE_BLOCK)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.register_buffer("wide_scale", state.absmax)
        self.register_buffer("offset", offset)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("places", places, persistent=False)

    def dequantize(self, out_OD: Tensor) -> Tensor:
        """Writes the matrix to contiguous memory, and returns it."""
        operations.dequantize_nf4(
            self.packed, self.scale, self.wide_scale, self.offset, self.levels, self.places, out_OD
        )
        return out_OD

    def reference(self) -> Tensor:
        """Returns the matrix [O, D] as bitsandbytes dequantizes it."""
        functional = _functional()
        num_blocks = len(self.scale)
        wide = functional.QuantState(
            absmax=self.wide_scale, code=self.places, blocksize=SCALE_BLOCK, dtype=torch.float32
        )
        state = functional.QuantState(
            absmax=self.scale,
            # Asked for rows of another length, 0.50.2 mixes up scales on a CPU (16, 32, 48, 80, 96, ... numbers a row).
            shape=torch.Size((num_blocks, NF4_BLOCK)),
            code=self.levels,
            blocksize=NF4_BLOCK,
            quant_type="nf4",
            dtype=self.dtype,
            offset=self.offset,
            state2=wide,
        )
        packed = F.pad(self.packed, (0, num_blocks * NF4_BLOCK // 2 - len(self.packed)))
        blocks: Tensor = functional.dequantize_4bit(packed[:, None], state)
        return blocks.flatten()[: self.out_features * self.in_features].view(self.out_features, self.in_features)


class Int8Linear(QuantizedLinear):
    """8-bit whole numbers, scaled by the largest of each row."""

    packed: Tensor
    most: Tensor

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__(layer, dtype)
        # Taken before what bitsandbytes takes in between, it leaves no hole in memory behind.
        kept = torch.empty(layer.weight.shape, dtype=torch.int8, device=layer.weight.device)
        packed, most, _ = _functional().int8_vectorwise_quant(layer.weight.detach().to(dtype))
        self.register_buffer("packed", kept.copy_(packed))
        self.register_buffer("most", most)

    def dequantize(self, out_OD: Tensor) -> Tensor:
        """Writes the matrix to contiguous memory, and returns it."""
        operations.dequantize_int8(self.packed, self.most, out_OD)
        return out_OD

    def reference(self) -> Tensor:
        """Returns the matrix [O, D] as bitsandbytes dequantizes it."""
        found: Tensor = _functional().int8_vectorwise_dequant(self.packed, self.most)
        return found.to(self.dtype)


class _Product(torch.autograd.Function):
    """`x Wᵀ + b`; between the two passes only the packed weights are held."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.weight, layer.bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.weight, None


_KINDS: dict[Quantization, type[QuantizedLinear]] = {"nf4": Nf4Linear, "int8": Int8Linear}


def quantize(network: Any, kind: Quantization, dtype: torch.dtype, *, keep: Collection[str] = ()) -> int:
    """Puts quantized layers into a frozen network, one by one, so that two copies are never held.

    Quantized are all linear layers but the output head, as transformers does. Each dense matrix is let go of as soon as it
    is quantized.

    Args:
        network: a causal language model of transformers.
        kind: `nf4` or `int8`.
        dtype: of the products; weights are rounded to it first.
        keep: layers whose name holds one of these stay as they are.

    Returns:
        How many layers were quantized.

    Raises:
        ModelError: there is no linear layer, or one holds what is not a finite number.
        MissingError: bitsandbytes is not installed.
    """
    head = network.get_output_embeddings()
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module is not head and not any(part in f"{name}.weight" for part in keep)
    ]
    if not names:
        raise ModelError(
            f"{type(network).__name__} has no linear layers that could be quantized.",
            code="nothing_to_quantize",
            param="model.quantization",
            hint="Set model.quantization=none, or choose another base model.",
        )
    for name in names:
        parent, _, leaf = name.rpartition(".")
        layer = network.get_submodule(name)
        if not layer.weight.sum(dtype=torch.float32).isfinite():
            raise ModelError(
                f"The weights of {name} hold what is not a finite number.",
                code="weights_not_finite",
                param="model.base",
                hint="The model's files are damaged, or it was trained to pieces. Nothing can be quantized here.",
            )
        setattr(network.get_submodule(parent), leaf, _KINDS[kind](layer, dtype).train(layer.training))
    return len(names)


@contextlib.contextmanager
def by_reference(network: nn.Module) -> Iterator[None]:
    """Computes quantized layers by other code for as long as the block lasts: torch's own product and autograd, on what
    bitsandbytes dequantizes. One dense matrix is held at a time: the backward pass makes it again."""
    layers = [module for module in network.modules() if isinstance(module, QuantizedLinear)]
    for layer in layers:
        layer.by_reference = True
    try:
        yield
    finally:
        for layer in layers:
            layer.by_reference = False


@functools.cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns what 4 and 8 bits stand for, which all layers share."""
    functional = _functional()
    places: Tensor = functional.create_dynamic_map().to(device)
    return functional.get_4bit_type("nf4", device=device), places


@functools.cache
def _functional() -> Any:
    """Returns bitsandbytes' functions.

    Raises:
        MissingError: it is not installed, or cannot be loaded.
    """
    # It warns at its import that a kernel of its own layers, which are not used here, cannot be fetched.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        import bitsandbytes.functional  # noqa: PLC0415 - a part that not everybody has
    except (ImportError, OSError) as error:
        raise MissingError(
            f"Quantizing a model needs bitsandbytes, which cannot be loaded: {error}",
            code="bitsandbytes_missing",
            param="model.quantization",
            hint='pip install "luthier[quantize]"',
        ) from None
    return bitsandbytes.functional
