"""What decides a training, every `auto` resolved."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from luthier.errors import TrainError
from luthier.recipe import TrainRecipe


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """`TrainRecipe` with every `auto` resolved.

    Attributes:
        length_window: 1 keeps the shuffled order as it is. Source: `docs/measurements/length-window.md`.
        replay_share: 0 where there is nothing to replay.
    """

    n_epochs: int
    learning_rate: float
    batch_size: int
    max_batch_tokens: int
    max_activation_mb: int
    schedule: Literal["linear", "cosine", "constant"]
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float | None
    early_stopping_patience: int | None
    max_steps: int | None
    checkpoint_every_s: float
    seed: int
    length_window: int = 1
    replay_share: float = 0.0
    neftune_noise_alpha: float | None = None

    @classmethod
    def from_recipe(cls, recipe: TrainRecipe, *, seed: int) -> TrainSettings:
        """Returns the settings of a resolved recipe.

        Raises:
            TrainError: an `auto` is left.
        """
        values = {field.name: getattr(recipe, field.name) for field in fields(cls) if field.name != "seed"}
        left = [name for name, value in values.items() if value == "auto"]
        if left:
            raise TrainError(f"train.{left[0]} is still auto.", code="unresolved_recipe", param=f"train.{left[0]}")
        if recipe.replay is None:
            values["replay_share"] = 0.0
        return cls(**values, seed=seed)

    def num_replayed(self, num_examples: int) -> int:
        """Rows replayed in an epoch, so that they are `replay_share` of all its rows; one at least where it is not 0."""
        if not self.replay_share:
            return 0
        return max(1, round(num_examples * self.replay_share / (1 - self.replay_share)))

    def steps_an_epoch(self, num_examples: int) -> int:
        """Steps that take every example once, and what is replayed among them."""
        return math.ceil((num_examples + self.num_replayed(num_examples)) / self.batch_size)

    def total_steps(self, num_examples: int) -> int:
        """Steps of the whole run."""
        steps = self.n_epochs * self.steps_an_epoch(num_examples)
        return min(steps, self.max_steps) if self.max_steps else steps
