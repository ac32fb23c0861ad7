"""Rows and a model small enough to train in a blink."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.model.chat_template import ChatTokenizer, EncodedExample
from luthier.model.loader import LoadedModel, load_model
from luthier.train.loop import TrainSettings

SYSTEM = "Say the word backwards."
WORDS = [
    "lathe",
    "spruce",
    "maple",
    "ebony",
    "purfling",
    "bass",
    "bar",
    "bridge",
    "peg",
    "tailpiece",
    "scroll",
    "nut",
    "saddle",
    "rib",
    "lining",
    "block",
]


def conversation(word: str, system: str | None = SYSTEM) -> list[dict[str, str]]:
    start = [{"role": "system", "content": system}] if system else []
    return [*start, {"role": "user", "content": word}, {"role": "assistant", "content": word[::-1]}]


@pytest.fixture(scope="session")
def chat(tiny_model_folder: Path) -> ChatTokenizer:
    return ChatTokenizer(tiny_model_folder)


@pytest.fixture(scope="session")
def rows(chat: ChatTokenizer) -> list[EncodedExample]:
    return [chat.encode_example(conversation(word), place=f"words.jsonl:{n}") for n, word in enumerate(WORDS, 1)]


@pytest.fixture
def model(tiny_model_folder: Path, chat: ChatTokenizer) -> LoadedModel:
    return load_model(tiny_model_folder, "float32", chat)


@pytest.fixture
def settings() -> TrainSettings:
    return TrainSettings(
        n_epochs=3,
        learning_rate=0.01,
        batch_size=4,
        max_batch_tokens=4096,
        max_activation_mb=4096,
        schedule="linear",
        warmup_ratio=0.1,
        weight_decay=0.0,
        max_grad_norm=1.0,
        early_stopping_patience=None,
        max_steps=None,
        checkpoint_every_s=60.0,
        seed=5,
    )
