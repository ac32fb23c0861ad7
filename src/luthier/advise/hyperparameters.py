"""The rule behind each `auto` of a recipe. One function a rule; each names its source and when to change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from luthier.recipe import Recipe

MIN_NEW_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at.

    Attributes:
        num_train: training examples.
        model_width: the width D of the residual stream.
        context_length: the model's longest sequence, in tokens.
        longest_answer_tokens: of the training answers.
        dtype, dtype_reason: what `model.dtype` becomes on this machine, and why.
    """

    num_train: int
    model_width: int
    context_length: int
    longest_answer_tokens: int
    dtype: str
    dtype_reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that was `auto`: what it became and the rule that chose it."""

    path: str
    value: int | float | str
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


def batch_size(num_train: int) -> tuple[int, str]:
    """4, 8 or 16: the largest that leaves 40 steps an epoch.

    Source: the guide's range of 4 to 16; small sets need steps more than they need smooth gradients.
    """
    size = 16 if num_train >= 640 else 8 if num_train >= 320 else 4
    return size, f"the largest of 4, 8 and 16 that leaves 40 steps an epoch with {num_train:,} examples, at least 4"


def max_new_tokens(longest_answer_tokens: int) -> tuple[int, str]:
    """1.5 × the longest training answer, at least 32 tokens: room to be wrong in, without waiting for endless prose."""
    return max(MIN_NEW_TOKENS, -(-3 * longest_answer_tokens // 2)), (
        f"half as long again as the longest training answer ({longest_answer_tokens} tokens), at least {MIN_NEW_TOKENS}; "
        "answers that reach it are counted"
    )


def resolve(recipe: Recipe, facts: Facts) -> tuple[Recipe, list[Choice]]:
    """Returns the recipe with every `auto` replaced, and what was chosen by which rule."""
    epochs, epochs_rule = n_epochs(facts.num_train)
    rate, rate_rule = learning_rate(facts.model_width)
    size, size_rule = batch_size(facts.num_train)
    rank = 16 if recipe.adapter.r == "auto" else recipe.adapter.r
    answer, answer_rule = max_new_tokens(facts.longest_answer_tokens)
    rules: dict[str, tuple[int | float | str, str]] = {
        "model.dtype": (facts.dtype, facts.dtype_reason),
        "model.max_length": (facts.context_length, "the model's own context"),
        "adapter.r": (16, "16, inside the guide's range of 8 to 64; raise it for a harder task with many examples"),
        "adapter.lora_alpha": (float(2 * rank), f"twice the rank of {rank}, so the adapter's scale is 2"),
        "train.n_epochs": (epochs, epochs_rule),
        "train.learning_rate": (rate, rate_rule),
        "train.batch_size": (size, size_rule),
        "evaluate.max_new_tokens": (answer, answer_rule),
    }
    tree: dict[str, Any] = recipe.model_dump()
    choices = []
    for path, (value, rule) in rules.items():
        section, _, key = path.partition(".")
        if tree[section][key] == "auto":
            tree[section][key] = value
            choices.append(Choice(path, value, rule))
    return Recipe.model_validate(tree), choices
