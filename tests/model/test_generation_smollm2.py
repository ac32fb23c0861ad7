"""The real embedded model answers real prompts as transformers' `generate` does."""

from __future__ import annotations

import json

import pytest
import torch
from generation_models import their_logprobs

from luthier.model.generation.generator import Generator
from luthier.model.generation.prompt import Options, Prompt
from luthier.model.loader import load_model
from luthier.model.lora import LoraConfig, attach

pytestmark = pytest.mark.reference

NEW = 32


def prompts_of(model, public_data, count):
    lines = (public_data / "snips-json" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [Prompt(model.chat.encode_prompt(json.loads(line)["messages"][:-1])) for line in lines]


def theirs(model, prompts, rows):
    """Answers of transformers' `generate`, in batches of prompts of one length, so that nothing is padded."""
    found = {}
    lengths = {len(prompt.ids) for prompt in prompts}
    for length in lengths:
        alike = [index for index, prompt in enumerate(prompts) if len(prompt.ids) == length]
        for start in range(0, len(alike), rows):
            batch = alike[start : start + rows]
            ids = torch.tensor([list(prompts[index].ids) for index in batch])
            with torch.inference_mode():
                out = model.network.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False, pad_token_id=2
                )
            for index, row in zip(batch, out[:, length:].tolist(), strict=True):
                end = next((place for place, token in enumerate(row) if token in model.stop_ids), NEW)
                found[index] = row[:end]
    return [found[index] for index in range(len(prompts))]


@pytest.mark.parametrize(
    ("count", "adapted"),
    [
        pytest.param(6, False, marks=pytest.mark.model),
        pytest.param(200, False, marks=pytest.mark.proof),
        pytest.param(200, True, marks=pytest.mark.proof),
    ],
)
def test_greedy_answers_equal_transformers_generate(smollm2_folder, public_data, count, adapted):
    model = load_model(smollm2_folder, "float32")
    prompts = prompts_of(model, public_data, count)
    adapter = None
    if adapted:
        adapter = attach(model.network, LoraConfig(r=8, lora_alpha=16), seed=3)
        with torch.no_grad():
            noise = torch.randn(adapter.flat.shape, generator=torch.Generator().manual_seed(1))
            adapter.flat.add_(noise * 0.01)
    generator = Generator(model, adapter, max_rows=24, engine="native")
    given = {answer.index: answer for answer in generator.answer(prompts, Options(NEW, logprobs=True))}
    assert [given[index].ids for index in range(count)] == theirs(model, prompts, 16)
    for index in range(0, count, 20):
        ids = given[index].ids + [2] * (given[index].finish_reason == "stop")
        reference = their_logprobs(model, prompts[index].ids, ids)
        torch.testing.assert_close(torch.tensor(given[index].logprobs), reference, rtol=0, atol=1e-4)
