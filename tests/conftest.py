"""What tests share: a tiny random model, the real embedded one, and the data sets given to the project."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # timing never decides a test
settings.load_profile("untimed")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line sets it

REPOSITORY = Path(__file__).parents[1]
PUBLIC_DATA = REPOSITORY.parent / "shared" / "data" / "public"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(autouse=True)
def one_thread_for_small_tensors(request: pytest.FixtureRequest) -> None:
    """Two threads spin against whatever else runs, and win nothing on tensors this small."""
    if not any(request.node.get_closest_marker(mark) for mark in ("model", "e2e", "proof")):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The real data sets, where they are given."""
    if not PUBLIC_DATA.is_dir():
        pytest.skip(f"the real data sets are not here ({PUBLIC_DATA.name} beside the checkout)")
    return PUBLIC_DATA


@pytest.fixture(scope="session")
def tiny_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer without merges and a ChatML template: 260 tokens, no download."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-tokenizer")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|im_start|>", pad_token="<|im_end|>"
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_tiny_model(tiny_tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a random two-layer Llama with grouped queries, in Hugging Face's layout; its matrices may be scaled."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def make(*, seed: int, width: int, scale: float = 1.0) -> Path:
        folder = tmp_path_factory.mktemp("tiny-model")
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=260,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
            tie_word_embeddings=True,
        )
        network = LlamaForCausalLM(config)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(scale)
        network.save_pretrained(folder)
        for file in tiny_tokenizer_folder.iterdir():
            shutil.copy(file, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model_folder(make_tiny_model: Callable[..., Path]) -> Path:
    """A random two-layer Llama with grouped queries, in Hugging Face's layout."""
    return make_tiny_model(seed=7, width=32)


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The embedded model, converted; fetched once into the cache."""
    from luthier.errors import MissingError
    from luthier.model.sources import pull

    try:
        return pull("smollm2-135m")
    except MissingError as error:
        pytest.skip(f"the embedded model cannot be had: {error.message}")
