"""Which device computes."""

from __future__ import annotations

import os
from typing import Literal

import torch

Device = Literal["cpu", "cuda"]


def resolve_device(device: Literal["auto", "cpu", "cuda"]) -> tuple[Device, str]:
    """Returns the device to compute on, and the reason in a few words."""
    if device != "auto":
        return device, "as given"
    if torch.cuda.is_available():
        return "cuda", f"there is a {torch.cuda.get_device_name(0)}"
    return "cpu", "there is no GPU that torch can use"


def device_of(device: Device) -> torch.device:
    """Returns the device of this process: of several on a machine, each takes a GPU of its own (torchrun's LOCAL_RANK)."""
    if device == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count()))
