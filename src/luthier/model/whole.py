"""Weights trained in full: float32 values for the optimizer, a copy in the network's own type for the products."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from luthier.errors import ModelError
from luthier.model.quantize import QuantizedLinear

_NOT_COPIED = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.index.json",
    "*.bin",
    "*.gguf",
    "*.pt",
    "*.h5",
)
"""Files of a base model that describe or hold its weights."""


class WholeWeight:
    """A weight of the network that is trained as it is, with no adapter beside it.

    Attributes:
        name: its dotted name in the network.
        parameter: what the network computes with; it requires a gradient.
        base: its values before training, in the network's type.
    """

    def __init__(self, name: str, parameter: nn.Parameter, base: Tensor) -> None:
        self.name = name
        self.parameter = parameter
        self.base = base
        self._values = parameter.data
        self._master: nn.Parameter | None = None

    def join(self, master: nn.Parameter) -> None:
        """Takes its float32 values, and the place of its gradient, from `master` from now on.

        In a float32 network both are the same memory; else `refresh` rounds the values to the network's type.
        """
        self._master = master
        if self.parameter.dtype == master.dtype:
            self._values = master.data
        elif self._values.data_ptr() == self.base.data_ptr():
            self._values = self.base.clone()
        self.parameter.data = self._values
        self.parameter.register_post_accumulate_grad_hook(self._hand_over)  # type: ignore[no-untyped-call]

    @property
    def gradient(self) -> Tensor:
        """The place of its gradient, float32."""
        assert self._master is not None
        assert self._master.grad is not None
        return self._master.grad

    def refresh(self) -> None:
        """Takes over the present values of the master."""
        assert self._master is not None
        if self._values.data_ptr() != self._master.data_ptr():
            self._values.copy_(self._master.data)

    def enable(self, enabled: bool) -> None:
        """Makes the network compute with the trained values, or with those before training."""
        self.parameter.data = self._values if enabled else self.base

    def _hand_over(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self.gradient.add_(parameter.grad)
        parameter.grad = None


def unfreeze_network(network: Any) -> list[WholeWeight]:
    """Makes every weight of a frozen network trainable, in place. Tied ones stay one.

    Raises:
        ModelError: a weight is quantized.
    """
    _refuse_quantized("", network, "adapter.method")
    found = []
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(True)
        found.append(WholeWeight(name, parameter, parameter.data))
    return found


def unfreeze_modules(network: Any, modules: list[str]) -> list[WholeWeight]:
    """Gives modules trained copies of their weights, in place. What was tied to them stays as it is.

    The frozen weight stays in its module, too, so that parameters are counted as PEFT counts them.

    Raises:
        ModelError: a weight is quantized.
    """
    found: dict[str, WholeWeight] = {}
    for module in modules:
        _refuse_quantized(module, network.get_submodule(module), "adapter.modules_to_save")
        for path, parameter in list(network.get_submodule(module).named_parameters(prefix=module)):
            if path in found:
                continue
            owner, _, leaf = path.rpartition(".")
            trained = nn.Parameter(parameter.detach().clone())
            network.get_submodule(owner).register_parameter(leaf, trained)
            network.get_submodule(owner).register_parameter(f"base_{leaf}", parameter)
            found[path] = WholeWeight(path, trained, parameter.data)
    return list(found.values())


def save_network(network: Any, folder: Path, *, base: Path) -> None:
    """Writes a whole model in Hugging Face's layout, with the tokenizer and what else lies in its base's folder."""
    # Copies, because the weights are parts of one memory, which would be written again for each of them.
    copies: dict[int, Tensor] = {}
    state = {
        name: copies.setdefault(tensor.data_ptr(), tensor.detach().clone())
        for name, tensor in network.state_dict().items()
    }
    network.save_pretrained(folder, state_dict=state)
    for file in base.iterdir() if base.is_dir() else ():
        if file.is_file() and not any(file.match(pattern) for pattern in _NOT_COPIED):
            shutil.copyfile(file, folder / file.name)


def read_network(folder: Path) -> dict[str, Tensor]:
    """Returns the weights of a whole model in float32, under transformers' names, tied ones once.

    Raises:
        ModelError: it cannot be loaded.
    """
    try:
        network = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
    except Exception as error:
        raise ModelError(
            f"The model in {folder} cannot be loaded: {str(error).strip().splitlines()[0]}", code="damaged_adapter"
        ) from error
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def _refuse_quantized(name: str, module: nn.Module, param: str) -> None:
    quantized = next((path for path, part in module.named_modules() if isinstance(part, QuantizedLinear)), None)
    if quantized is not None:
        raise ModelError(
            f"{'.'.join(filter(None, (name, quantized)))} is quantized and cannot be trained whole.",
            code="quantized_weight",
            param=param,
            hint="Train a LoRA adapter beside it, or load the model without quantization.",
        )
