"""Generation: equal to transformers' own, whatever stands beside a row."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from luthier.errors import DataError
from luthier.model.chat_template import ChatTokenizer
from luthier.model.generate import Sampling, batches_of, generate_batch, stream
from luthier.model.loader import load_model

pytestmark = pytest.mark.reference
TEXTS = ["spruce", "a maple back, and sides", "eb", "the scroll of a viola da gamba"]


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(tiny_model_folder, "float32", ChatTokenizer(tiny_model_folder))


@pytest.fixture(scope="module")
def prompts(model):
    system = {"role": "system", "content": "Carve."}
    return [model.chat.encode_prompt([system, {"role": "user", "content": text}]) for text in TEXTS]


def transformers_answer(model, prompt, count):
    ids = torch.tensor([prompt])
    out = model.network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=2
    )
    return out[0, len(prompt) :].tolist()


def test_greedy_answers_equal_transformers_generate(model, prompts):
    for generated in generate_batch(model, prompts, range(4), max_new_tokens=24):
        reference = transformers_answer(model, prompts[generated.index], 24)
        assert generated.num_tokens == len(reference)
        assert generated.ids == [token for token in reference if token not in model.stop_ids]


def test_a_row_ends_at_its_end_token_and_leaves_the_others_alone(model, prompts):
    """The random model never says its end token, so one that it does say is made the end."""
    whole = generate_batch(model, prompts, range(4), max_new_tokens=24)
    stopping = whole[0].ids[5]
    ended = generate_batch(
        dataclasses.replace(model, stop_ids=frozenset({stopping})), prompts, range(4), max_new_tokens=24
    )
    for before, after in zip(whole, ended, strict=True):
        cut = before.ids.index(stopping) if stopping in before.ids else len(before.ids)
        assert after.ids == before.ids[:cut]
        assert after.finish_reason == ("stop" if stopping in before.ids else "length")
    assert ended[0].finish_reason == "stop"


def test_a_stream_is_the_same_greedy_answer(model, prompts):
    assert list(stream(model, prompts[1], max_new_tokens=12)) == transformers_answer(model, prompts[1], 12)


def test_sampling_is_a_function_of_its_seed(model, prompts):
    def sampled(seed):
        return list(stream(model, prompts[0], max_new_tokens=12, sampling=Sampling(1.0, 0.9, seed)))

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_what_does_not_fit_the_context_is_refused_not_cut(model, prompts):
    with pytest.raises(DataError) as caught:
        generate_batch(model, prompts, [0], max_new_tokens=600)
    assert caught.value.code == "context_length_exceeded"


def test_batches_hold_every_prompt_once(prompts):
    batches = batches_of(prompts, 3)
    assert sorted(index for batch in batches for index in batch) == [0, 1, 2, 3]
    assert [len(batch) for batch in batches] == [3, 1]
