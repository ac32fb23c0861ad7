"""The probe on models: all its parts on a tiny one, resumed, stopped; the embedded one against itself and after training."""

from __future__ import annotations

import contextlib

import pytest
import torch

from luthier import sdk
from luthier.errors import EvaluateError, Interrupted
from luthier.evaluate.forgetting.items import Completion, Pair, Passage, Probe, Question, Task
from luthier.evaluate.forgetting.reading import open_probe
from luthier.model.adapter import load_adapter
from luthier.model.chat_template import ChatTokenizer
from luthier.model.loader import load_model, resolve_dtype
from luthier.model.lora import LoraConfig, attach
from luthier.recipe import Recipe
from luthier.report.forgetting import forgetting_part
from luthier.stages.forgetting import probe_stage
from luthier.stages.probe_reader import ProbeReader, as_prompt
from luthier.train.engine import open_engine

pytestmark = pytest.mark.unit

ROWS, NORMAL_RATE = 96, 2e-4
"""Of the proof: as usual for LoRA. The rule's own rate for so narrow a model, 1.3e-3, is DRIFT on these rows, and 20 times
that explodes, which stops the training (docs/measurements/forgetting.md)."""
SMALL = Probe(
    "mine",
    pairs=(Pair("1", "a", "He runs.", "He run."), Pair("2", "a", "They run.", "They runs.")),
    questions=(
        Question("1", "b", "What barks?", ("a dog", "a cat"), 0),
        Question("2", "b", "It is", ("x", "y", "x"), 2),
    ),
    completions=(Completion("1", "c", "One two three one two", "three"),),
    passages=(Passage("tale", "Once upon a time. " * 20), Passage("news", "Crème brûlée costs 5 € now. " * 12)),
    tasks=(
        Task("1", "word", "Say yes.", ({"check": "one_of", "choices": ["yes"]},), 6),
        Task("2", "refusal", "Do harm.", ({"check": "refuses"},), 9),
        Task("3", "word", "Say no.", ({"check": "words", "at_least": 1},), 6),
    ),
    notes=("1 row was left out.",),
)


@pytest.fixture
def adapted(make_tiny_model):
    model = load_model(make_tiny_model(seed=5, width=32, scale=6.0), "float32")
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=1)
    with torch.no_grad():
        adapter.flat.add_(torch.randn(adapter.flat.shape, generator=torch.Generator().manual_seed(2)) * 0.2)
    return model, adapter


def against_itself(adapter):
    """The adapter, off for good: both models are the base."""
    for layer in adapter.layers.values():
        layer.enabled = False
    adapter.disabled = contextlib.nullcontext
    return adapter


def test_each_part_of_a_probe_is_measured(adapted, tmp_path):
    model, adapter = adapted
    heard = []
    found = probe_stage(model, adapter, SMALL, Recipe(), tmp_path, identity="a", listener=heard.append)
    assert found.probe == "mine"
    assert [measure.name for measure in found.paired] == ["pairs", "questions", "completions", "tasks"]
    assert [measure.n for measure in found.paired] == [2, 2, 1, 3]
    assert found.prose is not None
    assert [group.group for group in found.prose.groups] == ["tale", "news"]
    assert found.prose.num_bytes == sum(len(passage.text.encode()) for passage in SMALL.passages)
    # the tiny tokenizer has a token a byte
    assert found.prose.num_tokens == found.prose.num_bytes
    assert found.prose.base_perplexity != found.prose.fine_tuned_perplexity
    assert found.prose.divergence.value > 0
    assert found.manner is not None
    assert found.manner.harmful == 1
    assert found.notes[0] == "1 row was left out."
    assert any("too few" in note for note in found.notes)
    assert forgetting_part(found).verdict == found.judgement.verdict
    assert heard[0].kind == "stage"
    assert heard[-1].data["verdict"] == found.judgement.verdict


def test_a_probe_may_have_any_part_alone(adapted, tmp_path):
    model, adapter = adapted
    for part in ("pairs", "questions", "completions", "passages", "tasks"):
        found = probe_stage(
            model, adapter, Probe("one", **{part: getattr(SMALL, part)}), Recipe(), tmp_path, identity="a"
        )
        assert len(found.judgement.signs) == 1
        assert found.judgement.verdict in ("OK", "DRIFT", "FORGOTTEN")


def test_a_base_against_itself_differs_in_nothing(adapted, tmp_path):
    model, adapter = adapted
    found = probe_stage(model, against_itself(adapter), SMALL, Recipe(), tmp_path, identity="a")
    assert found.judgement.verdict == "OK"
    assert all(measure.gained == measure.lost == 0 for measure in found.paired)
    assert found.prose.ratio.value == 1.0
    assert found.prose.divergence.value == 0.0


def test_answers_are_kept_and_an_interrupted_probe_goes_on(adapted, tmp_path, monkeypatch):
    model, adapter = adapted
    told = []
    with pytest.raises(Interrupted):
        probe_stage(
            model,
            adapter,
            SMALL,
            Recipe(),
            tmp_path,
            identity="a",
            stop_requested=lambda: told.append(1) is None and len(told) > 12,
        )
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert "probe-6-base.jsonl" in kept
    first = probe_stage(model, adapter, SMALL, Recipe(), tmp_path, identity="a")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert sorted(before) == sorted(
        f"probe-{limit}-{name}.jsonl" for limit in (6, 9) for name in ("base", "fine_tuned")
    )
    again = probe_stage(model, adapter, SMALL, Recipe(), tmp_path, identity="a")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert (again.judgement, again.paired, again.manner) == (first.judgement, first.paired, first.manner)


def test_an_item_that_does_not_fit_is_refused_by_name(adapted, tmp_path):
    model, adapter = adapted
    long = Probe("long", pairs=(Pair("the-long-one", "a", "a" * 600, "b" * 600),))
    with pytest.raises(EvaluateError, match="the-long-one of the probe has 601 tokens") as caught:
        probe_stage(model, adapter, long, Recipe(), tmp_path, identity="a")
    assert caught.value.code == "too_long"
    assert caught.value.hint


def test_choices_are_scored_by_the_mean_of_their_tokens_behind_the_question(adapted):
    model, adapter = adapted
    reader = ProbeReader(
        model.chat, open_engine(model, adapter), adapter, max_tokens=64, context_length=512, probe=SMALL
    )
    question = Question("1", "b", " What barks? ", ("dog", " a very small cat", "x"), 0)
    assert as_prompt(question.context) == "Question: What barks?\nAnswer:"
    assert as_prompt("A dog can ") == "A dog can"
    means = []
    for choice in question.choices:
        context, text = as_prompt(question.context), f" {choice.strip()}"
        ids = torch.tensor([[reader._first, *model.chat.tokenizer(context + text, add_special_tokens=False).input_ids]])
        with torch.no_grad():
            logps = torch.log_softmax(model.network(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        means.append(float(logps[len(context.encode()) :].mean()))
    right = Question("1", "b", question.context, question.choices, means.index(max(means)))
    wrong = Question("2", "b", question.context, question.choices, means.index(min(means)))
    assert reader.questions([right, wrong])[1] == [True, False]


def test_the_first_token_is_the_one_behind_which_the_base_finds_texts_likeliest(adapted):
    model, adapter = adapted
    reader = ProbeReader(
        model.chat, open_engine(model, adapter), adapter, max_tokens=64, context_length=512, probe=SMALL
    )
    texts = ["He runs.", "They run."]
    sums = {}
    with adapter.disabled(), torch.no_grad():
        for token in {model.chat.tokenizer.bos_token_id, model.chat.tokenizer.eos_token_id}:
            sums[token] = 0.0
            for text in texts:
                ids = torch.tensor([[token, *model.chat.tokenizer(text, add_special_tokens=False).input_ids]])
                sums[token] -= float(model.network(ids, labels=ids).loss) * (ids.shape[1] - 1)
    assert reader._find_first(texts) == max(sums, key=sums.__getitem__)


def test_the_shipped_probe_fits_a_small_context(tiny_model_folder):
    chat = ChatTokenizer(tiny_model_folder)
    probe = open_probe("builtin")
    assert max(len(chat.encode_prompt([{"role": "user", "content": task.prompt}])) for task in probe.tasks) < 512 - 64


@pytest.mark.model
def test_the_embedded_model_against_itself(smollm2_folder, tmp_path):
    model = load_model(smollm2_folder, resolve_dtype("auto")[0])
    adapter = against_itself(attach(model.network, LoraConfig(r=8, lora_alpha=16), seed=1))
    found = probe_stage(model, adapter, open_probe("builtin"), Recipe(), tmp_path, identity="itself")
    assert found.judgement.verdict == "OK"
    assert all(measure.gained == measure.lost == 0 for measure in found.paired)
    assert (found.prose.ratio.value, found.prose.divergence.value) == (1.0, 0.0)
    assert found.manner.length_ratio == 1.0
    shares = {measure.name: measure.base / measure.n for measure in found.paired}
    assert shares["pairs"] > 0.85
    assert shares["questions"] > 0.6
    assert shares["tasks"] > 0.5


@pytest.mark.proof
def test_a_model_trained_far_too_hard_has_forgotten_and_a_normal_one_has_not(smollm2_folder, public_data, tmp_path):
    lines = (public_data / "snips-json" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:ROWS]
    data = tmp_path / "train.jsonl"
    data.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    normal = {"model.base": "smollm2-135m", "train.learning_rate": NORMAL_RATE, "train.n_epochs": 3}
    hard = normal | {"train.learning_rate": 20 * NORMAL_RATE, "train.n_epochs": 10}
    verdicts = {}
    for name, overrides in (("normal", normal), ("hard", hard)):
        sdk.train(data, out=tmp_path / name, overrides=overrides)
        model = load_model(smollm2_folder, resolve_dtype("auto")[0])
        adapter = load_adapter(model.network, tmp_path / name / "adapter")
        found = probe_stage(model, adapter, open_probe("builtin"), Recipe(), tmp_path / name / "answers", identity=name)
        print(f"{name}: {found.judgement.verdict} in {found.seconds} s. {found.judgement.reason}")
        verdicts[name] = found.judgement.verdict
    assert verdicts == {"normal": "OK", "hard": "FORGOTTEN"}
