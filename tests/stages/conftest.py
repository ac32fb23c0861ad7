"""A recipe small enough to be run in a blink."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def settings(tiny_model_folder: Path) -> dict[str, object]:
    return {
        "model.base": str(tiny_model_folder),
        "model.dtype": "float32",
        "adapter.r": 4,
        "train.n_epochs": 2,
        "train.batch_size": 8,
        "train.learning_rate": 0.01,
        "evaluate.max_new_tokens": 16,
        "evaluate.probe": "none",
    }
