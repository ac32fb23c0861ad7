"""Generation: equal to transformers' own, whatever stands beside a row."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from generation_models import GENERIC, NATIVE, make, prompts_of, their_answer, their_logprobs, with_adapter

from luthier.errors import DataError
from luthier.model.chat_template import ChatTokenizer
from luthier.model.decoder.decoder import Decoder
from luthier.model.generation import native_engine
from luthier.model.generation.generator import Generator
from luthier.model.generation.prompt import Options, Prompt, Sampling
from luthier.model.kernels import native as compiling
from luthier.model.kernels.native import Native, native
from luthier.model.loader import load_model

pytestmark = pytest.mark.reference
NEW = 16


@pytest.fixture(scope="module")
def chat(tiny_model_folder):
    return ChatTokenizer(tiny_model_folder)


@pytest.fixture(scope="module")
def prompts(chat):
    return prompts_of(chat)


@pytest.fixture(scope="module")
def model(tiny_model_folder, chat):
    return load_model(tiny_model_folder, "float32", chat)


def answers(generator, prompts, **options):
    found = {answer.index: answer for answer in generator.answer(prompts, Options(NEW, **options))}
    assert sorted(found) == list(range(len(prompts)))
    return [found[index] for index in range(len(prompts))]


def check_equal(model, given, prompts, adapter=None):
    for answer, prompt in zip(given, prompts, strict=True):
        reference = their_answer(model, prompt.ids, NEW, None if prompt.adapted else adapter)
        assert answer.num_tokens == len(reference)
        assert answer.ids == [token for token in reference if token not in model.stop_ids]


@pytest.mark.parametrize("family", [*NATIVE, *GENERIC])
def test_greedy_answers_equal_transformers_generate(family, chat, tiny_model_folder, prompts):
    model = make(family, chat, tiny_model_folder, **(NATIVE | GENERIC)[family])
    asked = [Prompt(ids) for ids in prompts]
    generator = Generator(model, max_rows=4, engine="native" if family in NATIVE else "auto")
    check_equal(model, answers(generator, asked), asked)


@pytest.mark.parametrize("family", NATIVE)
def test_the_generic_engine_answers_the_same(family, chat, tiny_model_folder, prompts):
    model = make(family, chat, tiny_model_folder, **NATIVE[family])
    asked = [Prompt(ids) for ids in prompts]
    check_equal(model, answers(Generator(model, max_rows=4, engine="generic"), asked), asked)


@pytest.mark.parametrize("engine", ["native", "generic"])
@pytest.mark.parametrize("kind", ["lora", "dora", "some-layers"])
def test_base_and_adapted_rows_stand_side_by_side(kind, engine, chat, tiny_model_folder, prompts):
    more = {
        "lora": {},
        "dora": {"use_dora": True},
        "some-layers": {"target_modules": ("q_proj", "v_proj", "down_proj")},
    }
    model = make("Qwen2", chat, tiny_model_folder, **NATIVE["Qwen2"])
    adapter = with_adapter(model, **more[kind])
    asked = [Prompt(ids, adapted=number % 3 != 0) for number, ids in enumerate(prompts)]
    given = answers(Generator(model, adapter, max_rows=6, engine=engine), asked)
    check_equal(model, given, asked, adapter)
    silent = answers(Generator(model, adapter, engine=engine), [Prompt(ids, adapted=False) for ids in prompts])
    assert any(one.ids != other.ids for one, other in zip(given, silent, strict=True))


@pytest.mark.parametrize("width", [32, 80])
def test_weights_are_read_where_training_laid_them(width, make_tiny_model, chat, prompts):
    model = load_model(make_tiny_model(seed=9, width=width, scale=2.0), "float32", chat)
    adapter = with_adapter(model)
    asked = [Prompt(ids, adapted=number % 2 == 0) for number, ids in enumerate(prompts)]
    before = answers(Generator(model, adapter, engine="native"), asked, logprobs=True)
    decoder = Decoder(model.network)
    decoder.pack()
    weight = model.network.model.layers[0].mlp.down_proj.base.weight
    assert not weight.is_contiguous()
    assert answers(Generator(model, adapter, engine="native"), asked, logprobs=True) == before
    check_equal(model, before, asked, adapter)


def test_weights_trained_whole_are_left_out_of_base_rows(chat, tiny_model_folder, prompts):
    model = make("Llama", chat, tiny_model_folder)
    adapter = with_adapter(model, modules_to_save=("lm_head",))
    asked = [Prompt(ids, adapted=number % 2 == 0) for number, ids in enumerate(prompts)]
    check_equal(model, answers(Generator(model, adapter), asked), asked, adapter)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_quantized_weights_are_computed_as_their_layers_do(kind, dtype, make_tiny_model, chat, prompts):
    model = load_model(make_tiny_model(seed=9, width=80, scale=2.0), dtype, chat, quantization=kind)
    adapter = with_adapter(model)
    asked = [Prompt(ids, adapted=number % 2 == 0) for number, ids in enumerate(prompts)]
    given = answers(Generator(model, adapter, engine="native"), asked, logprobs=True)
    if dtype == "float32":
        check_equal(model, given, asked, adapter)
    for answer, prompt in zip(given, asked, strict=True):
        if prompt.adapted:
            reference = their_logprobs(model, prompt.ids, answer.ids)
            found = torch.tensor(answer.logprobs[: len(reference)])
            assert (found - reference).abs().max() < (1e-4 if dtype == "float32" else 0.2)


@pytest.mark.parametrize("engine", ["native", "generic"])
def test_log_probabilities_are_those_of_a_forward_pass(engine, chat, tiny_model_folder, prompts):
    model = make("Qwen3", chat, tiny_model_folder, **NATIVE["Qwen3"])
    asked = [Prompt(ids, Sampling(1.0, 1.0, number)) for number, ids in enumerate(prompts)]
    for answer, prompt in zip(answers(Generator(model, engine=engine), asked, logprobs=True), asked, strict=True):
        ids = answer.ids + [2] * (answer.finish_reason == "stop")
        reference = their_logprobs(model, prompt.ids, ids)
        torch.testing.assert_close(torch.tensor(answer.logprobs), reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["Llama", "Mistral"])
def test_no_bit_of_an_answer_depends_on_what_stands_beside_it(
    family, dtype, chat, tiny_model_folder, prompts, monkeypatch
):
    model = make(family, chat, tiny_model_folder, dtype, **NATIVE[family])
    adapter = with_adapter(model)
    asked = [Prompt(ids, Sampling(0.7, 0.9, number), number % 4 > 0) for number, ids in enumerate(prompts)]

    def given(order=None, **options):
        generator = Generator(model, adapter, max_rows=options.pop("max_rows", 32), engine="native")
        order = order or range(len(asked))
        found = answers(generator, [asked[index] for index in order], logprobs=True, **options)
        return {index: (answer.ids, answer.logprobs) for index, answer in zip(order, found, strict=True)}

    whole = given()
    assert whole == given(max_rows=1)
    assert whole == given(max_rows=3)
    assert whole == given(order=[7, 2, 4, 0, 1, 6, 3, 5])
    assert whole == given(share_prefix=False)
    monkeypatch.setattr(native_engine, "PROMPT_TOKENS", 7)  # prompts are read in many passes
    assert whole == given(max_rows=5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert whole == given()
    for index in (3, 7):
        assert given(order=[index]) == {index: whole[index]}


def test_little_memory_means_fewer_rows_at_a_time(model, prompts, monkeypatch):
    asked = [Prompt(ids) for ids in prompts]
    generator = Generator(model, engine="native")
    whole = answers(generator, asked)
    available = 80 * 2 * 2 * 2 * 16 * 16 * 4  # so many blocks of this model, of which one row takes up to 8
    monkeypatch.setattr(
        native_engine.psutil, "virtual_memory", lambda: dataclasses.make_dataclass("M", ["available"])(available)
    )
    monkeypatch.setattr(native_engine, "_CACHE_SHARE", 0.25)
    assert answers(generator, asked) == whole


def test_a_row_ends_at_its_end_token_and_leaves_the_others_alone(model, prompts):
    """The random model never says its end token, so one that it does say is made the end."""
    asked = [Prompt(ids) for ids in prompts]
    for engine in ("native", "generic"):
        whole = answers(Generator(model, engine=engine), asked)
        stopping = whole[0].ids[5]
        ended_model = dataclasses.replace(model, stop_ids=frozenset({stopping}))
        ended = answers(Generator(ended_model, engine=engine), asked)
        for before, after in zip(whole, ended, strict=True):
            cut = before.ids.index(stopping) if stopping in before.ids else len(before.ids)
            assert after.ids == before.ids[:cut]
            assert after.finish_reason == ("stop" if stopping in before.ids else "length")
        assert ended[0].finish_reason == "stop"


@pytest.mark.parametrize("engine", ["native", "generic"])
def test_a_stream_is_the_same_answers_piece_by_piece(engine, model, prompts):
    asked = [Prompt(ids) for ids in prompts]
    generator = Generator(model, max_rows=3, engine=engine)
    pieces = list(generator.stream(asked, Options(NEW)))
    for answer in answers(generator, asked):
        own = [piece for piece in pieces if piece.index == answer.index]
        assert [piece.token for piece in own] == answer.ids
        assert [piece.finish_reason for piece in own] == [None] * (NEW - 1) + ["length"]


@pytest.mark.parametrize("engine", ["native", "generic"])
def test_a_stop_leaves_what_is_finished(engine, model, prompts):
    asked = [Prompt(ids) for ids in prompts]
    generator = Generator(model, max_rows=3, engine=engine)
    whole = answers(generator, asked)
    finished = []
    stop = Options(NEW, stop_requested=lambda: len(finished) >= 3)
    for answer in generator.answer(asked, stop):
        finished.append(answer)
    assert 3 <= len(finished) < len(asked)
    assert all(answer == whole[answer.index] for answer in finished)
    assert list(generator.answer(asked, Options(NEW, stop_requested=lambda: True))) == []


def test_sampling_is_a_function_of_the_rows_own_seed(model, prompts):
    def sampled(seed, beside=()):
        asked = [Prompt(prompts[0], Sampling(1.0, 0.9, seed)), *beside]
        return answers(Generator(model), asked)[0].ids

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)
    assert sampled(1) == sampled(1, [Prompt(ids, Sampling(2.0, 1.0, 1)) for ids in prompts])


def test_what_does_not_fit_the_context_is_refused_not_cut(model, prompts):
    with pytest.raises(DataError) as caught:
        list(Generator(model).answer([Prompt(prompts[0])], Options(600)))
    assert caught.value.code == "context_length_exceeded"


def test_no_prompts_no_answers(model):
    assert list(Generator(model).answer([], Options(NEW))) == []


def test_without_a_compiler_transformers_computes(model, prompts, monkeypatch):
    monkeypatch.setattr(
        "luthier.model.generation.native_network.native", lambda _: Native(None, "there is no C compiler")
    )
    with pytest.raises(ValueError, match="there is no C compiler"):
        list(Generator(model, engine="native").answer([Prompt(prompts[0])], Options(NEW)))
    asked = [Prompt(ids) for ids in prompts[:3]]
    check_equal(model, answers(Generator(model), asked), asked)


@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_kernels_for_other_processors_answer_the_same(
    processor, model, chat, tiny_model_folder, prompts, tmp_path, monkeypatch
):
    if native("decode").library is None:
        pytest.skip(native("decode").reason)
    needed = {"x86-64": {}, "x86-64-v3": {"avx2", "fma"}, "x86-64-v4": {"avx512bw", "avx512vl"}}[processor]
    flags = next((line for line in compiling._processor().decode().splitlines() if line.startswith("flags")), "")
    if not flags or not set(needed) <= set(flags.split()):
        pytest.skip(f"not a processor of {processor}")
    narrow = tuple(f"-march={processor}" if flag == "-march=native" else flag for flag in compiling._FLAGS)
    monkeypatch.setattr(compiling, "_FLAGS", narrow)
    monkeypatch.setattr(compiling, "home", lambda: tmp_path)
    other = compiling.native.__wrapped__("decode")
    assert other.library is not None
    monkeypatch.setattr("luthier.model.generation.native_pass.native", lambda _: other)
    asked = [Prompt(ids) for ids in prompts]
    check_equal(model, answers(Generator(model, engine="native"), asked), asked)
    narrow_model = make("Llama", chat, tiny_model_folder, "bfloat16")
    given = answers(Generator(narrow_model, engine="native"), asked, logprobs=True)
    for answer, prompt in zip(given, asked, strict=True):
        reference = their_logprobs(narrow_model, prompt.ids, answer.ids)
        assert (torch.tensor(answer.logprobs) - reference).abs().max() < 0.2
