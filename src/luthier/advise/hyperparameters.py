"""The rule behind each `auto` of a recipe. One function a rule; each names its source and when to change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from luthier.recipe import AdapterRecipe, Recipe

MIN_NEW_TOKENS = 32
RSLORA_ALPHA = 8.0
"""Makes the scale of rsLoRA 2 at a rank of 16, as it is without rsLoRA, and lets it fall with the root of the rank."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at.

    Attributes:
        num_train: training examples.
        model_width: the width D of the residual stream.
        context_length: the model's longest sequence, in tokens.
        longest_answer_tokens: of the training answers.
        device, device_reason: what `model.device` becomes on this machine, and why.
        dtype, dtype_reason: what `model.dtype` becomes on this machine, and why.
        free_bytes: of memory, before the weights are loaded.
        method, method_reason: what `train.method` becomes for these rows, and why.
        started_from: the shape of the adapter that training starts from, as keys of the recipe's section `adapter`.
    """

    num_train: int
    model_width: int
    context_length: int
    longest_answer_tokens: int
    dtype: str
    dtype_reason: str
    free_bytes: int
    device: str = "cpu"
    device_reason: str = ""
    method: str = "supervised"
    method_reason: str = ""
    started_from: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that was `auto`: what it became and the rule that chose it."""

    path: str
    value: Any
    rule: str


def n_epochs(num_train: int) -> tuple[int, str]:
    """3 epochs; more under 34 examples, so that about 100 are seen; fewer above 8,333, so that about 25,000 are.

    Source: OpenAI cookbook, `Chat_finetuning_data_prep` (target 3 epochs, 100 to 25,000 examples seen, 1 to 25 epochs).
    """
    if 3 * num_train < 100:
        epochs = min(25, 100 // num_train)
        return epochs, f"with {num_train} examples, about 100 are seen in {epochs} passes (OpenAI's published rule)"
    if 3 * num_train > 25_000:
        epochs = max(1, 25_000 // num_train)
        return epochs, f"with {num_train:,} examples, about 25,000 seen are enough (OpenAI's published rule)"
    return (
        3,
        "3 passes for 34 to 8,333 examples (OpenAI's published rule); the best is kept, so too many cost only time",
    )


def learning_rate(model_width: int) -> tuple[float, str]:
    """5e-4 · (2000 / width) ^ 0.781, to two digits.

    Source: Thinking Machines' sweep over Llama models for LoRA ("LoRA Without Regret", Tinker cookbook
    `hyperparam_utils.get_lr`): the best rate for LoRA is ten times that of full fine-tuning, falls with the width, and
    does not depend on the rank. On the embedded model 1e-5 taught nothing in an epoch, 2e-4 a little, 1e-3 the task.
    """
    rate = float(f"{5e-4 * (2000 / model_width) ** 0.781:.1e}")
    return rate, (
        f"5e-4 · (2000 / {model_width}) ^ 0.781 for LoRA on a model {model_width:,} wide, whatever the rank "
        "(Thinking Machines' sweep); lower it if the fine-tuned model forgets"
    )


def preference_learning_rate(model_width: int) -> tuple[float, str]:
    """A quarter of `learning_rate`, to two digits.

    Source: measured on the embedded model and 480 pairs with one right answer each (dpo-agreeable): at 2.6e-5, near the rate
    of DPO's authors (arXiv 2305.18290, 1e-6 in full), an epoch left the reward accuracy at 53 %; at 3e-4 two epochs took it
    to 98 %. One data set, one model, one seed.
    """
    rate = float(f"{learning_rate(model_width)[0] / 4:.1e}")
    return rate, (
        "a quarter of the rate for supervised rows (measured on one data set); lower it if the model's own answers get "
        "worse, raise it if the reward accuracy does not move"
    )


def full_learning_rate(rate: float, rule: str) -> tuple[float, str]:
    """A tenth of the rate for LoRA, to two digits.

    Source: as `learning_rate`.
    """
    return float(f"{rate / 10:.1e}"), f"a tenth, for every weight instead of LoRA, of {rate:g}: {rule}"


def lora_alpha(rank: int, *, use_rslora: bool) -> tuple[float, str]:
    """Twice the rank; with rsLoRA, whose scale is to fall with the root of the rank, a constant."""
    if use_rslora:
        return RSLORA_ALPHA, f"{RSLORA_ALPHA:g} whatever the rank, so that the scale of rsLoRA is 2 at a rank of 16"
    return float(2 * rank), f"twice the rank of {rank}, so the adapter's scale is 2"


def batch_size(num_train: int) -> tuple[int, str]:
    """4, 8 or 16: the largest that leaves 40 steps an epoch.

    Source: the guide's range of 4 to 16; small sets need steps more than they need smooth gradients.
    """
    size = 16 if num_train >= 640 else 8 if num_train >= 320 else 4
    return size, f"the largest of 4, 8 and 16 that leaves 40 steps an epoch with {num_train:,} examples, at least 4"


def max_activation_mb(free_bytes: int) -> tuple[int, str]:
    """An eighth of the free memory, at least 512 MB.

    Source: a choice. Weights, the page cache that they are read through and whatever else runs need room, and the embedded
    model keeps a part of 1,200 tokens in 512 MB (`docs/measurements/train-speed.md` has the peaks).
    """
    megabytes = max(512, free_bytes // 8 // 1_000_000)
    return (
        megabytes,
        f"an eighth of the {free_bytes / 1e9:.1f} GB that are free, at least 512; larger parts are computed twice",
    )


def max_new_tokens(longest_answer_tokens: int) -> tuple[int, str]:
    """1.5 × the longest training answer, at least 32 tokens: room to be wrong in, without waiting for endless prose."""
    return max(MIN_NEW_TOKENS, -(-3 * longest_answer_tokens // 2)), (
        f"half as long again as the longest training answer ({longest_answer_tokens} tokens), at least {MIN_NEW_TOKENS}; "
        "answers that reach it are counted"
    )


def resolve(recipe: Recipe, facts: Facts) -> tuple[Recipe, list[Choice]]:
    """Returns the recipe with every `auto` replaced, and what was chosen by which rule.

    Full fine-tuning has no rank and no alpha: they stay `auto`.
    """
    recipe, choices = _inherit(recipe, facts.started_from)
    epochs, epochs_rule = n_epochs(facts.num_train)
    by_width = preference_learning_rate if facts.method == "dpo" else learning_rate
    rate, rate_rule = by_width(facts.model_width)
    if recipe.adapter.method == "full":
        rate, rate_rule = full_learning_rate(rate, rate_rule)
    size, size_rule = batch_size(facts.num_train)
    rank = 16 if recipe.adapter.r == "auto" else recipe.adapter.r
    answer, answer_rule = max_new_tokens(facts.longest_answer_tokens)
    rules: dict[str, tuple[int | float | str, str]] = {
        "model.device": (facts.device, facts.device_reason),
        "model.dtype": (facts.dtype, facts.dtype_reason),
        "model.max_length": (facts.context_length, "the model's own context"),
        "adapter.r": (16, "16, inside the guide's range of 8 to 64; raise it for a harder task with many examples"),
        "adapter.lora_alpha": lora_alpha(rank, use_rslora=recipe.adapter.use_rslora),
        "train.method": (facts.method, facts.method_reason),
        "train.n_epochs": (epochs, epochs_rule),
        "train.learning_rate": (rate, rate_rule),
        "train.batch_size": (size, size_rule),
        "train.max_activation_mb": max_activation_mb(facts.free_bytes),
        "evaluate.max_new_tokens": (answer, answer_rule),
    }
    if recipe.adapter.method == "full":
        del rules["adapter.r"], rules["adapter.lora_alpha"]
    tree: dict[str, Any] = recipe.model_dump()
    for path, (value, rule) in rules.items():
        section, _, key = path.partition(".")
        if tree[section][key] == "auto":
            tree[section][key] = value
            choices.append(Choice(path, value, rule))
    return Recipe.model_validate(tree), choices


def _inherit(recipe: Recipe, shape: Mapping[str, Any]) -> tuple[Recipe, list[Choice]]:
    """Returns the recipe with the shape of the adapter that training starts from, where the recipe gives no other."""
    given = recipe.adapter
    taken = {
        key: value
        for key, value in shape.items()
        if getattr(given, key) == AdapterRecipe.model_fields[key].default and getattr(given, key) != value
    }
    rule = f"as in the adapter that training starts from, {given.start_from}"
    adapter = AdapterRecipe.model_validate(given.model_dump() | taken)
    return recipe.model_copy(update={"adapter": adapter}), [
        Choice(f"adapter.{key}", list(value) if isinstance(value, tuple) else value, rule)
        for key, value in taken.items()
    ]
