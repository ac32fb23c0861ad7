"""Which layers and modules of a network the names in a recipe mean: PEFT's rules."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from luthier.errors import ModelError


def matches(name: str, target: str) -> bool:
    """Whether a layer's dotted name is, or ends in, a target (PEFT's rule)."""
    return name == target or name.endswith(f".{target}")


def layer_number(name: str) -> int | None:
    """Returns the number of the layer that a dotted name is in: the first number in it (PEFT's rule)."""
    return next((int(word) for word in name.split(".")[2:-1] if word.isdigit()), None)


def by_pattern(patterns: Mapping[str, Any], name: str, default: Any) -> Any:
    """Returns the value whose pattern fits the end of a layer's dotted name, else the default (PEFT's rule)."""
    return next(
        (value for pattern, value in patterns.items() if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", name)), default
    )


def modules_to_save(network: Any, endings: Collection[str]) -> list[str]:
    """Returns the names of the modules that `modules_to_save` means: all that end in one of them (PEFT's rule).

    Raises:
        ModelError: none ends in one of them.
    """
    names = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    unmatched = [ending for ending in endings if not any(name.endswith(ending) for name in names)]
    if unmatched:
        leaves = sorted({name.rsplit(".", 1)[-1] for name in names if not name.rsplit(".", 1)[-1].isdigit()})
        raise ModelError(
            f"adapter.modules_to_save names {', '.join(unmatched)}, which this model has no module for.",
            code="unknown_modules_to_save",
            param="adapter.modules_to_save",
            hint=f"There are: {', '.join(leaves)}.",
        )
    return [name for name in names if name.endswith(tuple(endings))]


def check_chosen(
    linear: Collection[str],
    chosen: Collection[str],
    saved: Collection[str],
    *,
    target_modules: Collection[str],
    layers_to_transform: Collection[int],
) -> None:
    """Refuses a choice of layers that is not what was meant.

    Args:
        linear: names of the layers that can be adapted.
        chosen: of those that are to be.
        saved: of modules that are to be trained whole.
        target_modules: what was asked for by name.
        layers_to_transform: what was asked for by number.

    Raises:
        ModelError: something asked for does not exist, nothing was chosen, or something was chosen for both.
    """
    numbers = {layer_number(name) for name in linear}
    missing = [number for number in layers_to_transform if number not in numbers]
    if missing:
        raise ModelError(
            f"adapter.layers_to_transform names layer {missing[0]}, which this model does not have.",
            code="unknown_layers",
            param="adapter.layers_to_transform",
            hint=f"There are layers 0 to {max((number for number in numbers if number is not None), default=0)}.",
        )
    unmatched = sorted(target for target in target_modules if not any(matches(name, target) for name in linear))
    if unmatched or not chosen:
        available = sorted({name.rsplit(".", 1)[-1] for name in linear})
        raise ModelError(
            f"adapter.target_modules names {', '.join(unmatched) or 'nothing'}, which this model has no linear layer for.",
            code="unknown_target_modules",
            param="adapter.target_modules",
            hint=(f"There are: {', '.join(available)}." if available else "This model has no linear layers to adapt.")
            + " Embeddings and the output head can be trained whole: adapter.modules_to_save.",
        )
    both = [(name, module) for module in saved for name in chosen if f"{name}.".startswith(f"{module}.")]
    if both:
        raise ModelError(
            f"{both[0][0]} would be adapted and, as a part of {both[0][1]}, trained whole.",
            code="adapted_and_saved",
            param="adapter.modules_to_save",
            hint="Write the whole name of what is to be trained whole, or leave it out of adapter.target_modules.",
        )
