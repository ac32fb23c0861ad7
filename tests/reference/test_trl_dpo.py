"""Direct preference optimisation against TRL's trainer and PEFT's adapter, which we did not write."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig as PeftConfig
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from luthier.data.chat import Example
from luthier.data.shapes.formats import recognise
from luthier.model.chat_template import ChatTokenizer
from luthier.model.loader import load_model
from luthier.model.lora import LoraConfig, attach
from luthier.runs import RunFolder, no_listener
from luthier.train.encode import encode_rows
from luthier.train.engine import open_engine
from luthier.train.preference import Preferences, refer

pytestmark = pytest.mark.reference
BETA = 0.3
NAMES = {
    "reward_preferred": "rewards/chosen",
    "reward_other": "rewards/rejected",
    "reward_margin": "rewards/margins",
    "reward_accuracy": "rewards/accuracies",
}


def preference_rows():
    """Prompts that share a system prompt or do not, have earlier answers in them or do not, and answers of any length."""
    system = {"role": "system", "content": "Answer shortly, in the words of a violin maker."}
    rows = []
    for number, word in enumerate(["lathe", "maple", "spruce", "scroll", "purfling"]):
        before = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good day."}] * (number % 2)
        messages = [*[system] * (number != 3), *before, {"role": "user", "content": f"What is a {word}?"}]
        answers = [f"A {word} is {'very ' * number}fine.", "No." if number % 2 else f"A {word}? Ask somebody else."]
        preferred, other = ([{"role": "assistant", "content": answer}] for answer in answers)
        rows.append({"input": {"messages": messages}, "preferred_output": preferred, "non_preferred_output": other})
    return rows


@pytest.fixture(scope="module")
def theirs(tiny_model_folder, tmp_path_factory):
    """TRL's trainer with PEFT's adapter, moved away from its start once the trainer stands, as by training."""
    network = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    adapter = PeftConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    rows = [
        {"prompt": r["input"]["messages"], "chosen": r["preferred_output"], "rejected": r["non_preferred_output"]}
        for r in preference_rows()
    ]
    settings = DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        beta=BETA,
        max_length=None,
        bf16=False,
        use_cpu=True,
        activation_checkpointing=False,
        report_to=[],
    )
    tokenizer = ChatTokenizer(tiny_model_folder).tokenizer
    trainer = DPOTrainer(
        network,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return trainer


@pytest.fixture(scope="module")
def ours(theirs, tiny_model_folder, tmp_path_factory):
    """Our model with the same adapter, and the rows with what the base gives them."""
    model = load_model(tiny_model_folder, "float32")
    adapter = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=3)
    state = {name.replace(".default", ""): p for name, p in theirs.model.named_parameters() if p.requires_grad}
    adapter.load_state({name: parameter.detach().clone() for name, parameter in state.items()})
    examples = [
        Example(row, "pairs.jsonl", line, recognise(row).messages) for line, row in enumerate(preference_rows(), 1)
    ]
    pairs = encode_rows(model.chat, examples, method="dpo", max_length=512, drop_too_long=False).encoded
    run = RunFolder(tmp_path_factory.mktemp("run"))
    run.data.mkdir()
    referred = refer(model, adapter, {"train": pairs}, run, base="tiny", max_tokens=200, listener=no_listener)
    return model, adapter, referred["train"]


def test_the_same_tokens_are_trained(theirs, ours):
    """TRL leaves out what its template writes after the end of the turn; we train up to that end, and no further."""
    for found, pair in zip(theirs.train_dataset, ours[2], strict=True):
        for row, answer in ((pair.pair.preferred, "chosen_ids"), (pair.pair.other, "rejected_ids")):
            assert found["prompt_ids"] + found[answer] == row.ids.tolist()
            start = len(found["prompt_ids"])
            stop = len(row) if row.trained[-1] else int(np.flatnonzero(row.trained)[-1]) + 1
            assert row.trained.tolist() == [False] * start + [True] * (stop - start) + [False] * (len(row) - stop)


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("kind", ["fused", "generic"])
@pytest.mark.parametrize("places", [[0, 1, 2, 3, 4], [4, 2], [3], [1, 0, 3]])
def test_loss_gradient_and_rewards_are_those_of_trl(theirs, ours, places, kind, share_prefix):
    model, adapter, rows = ours
    batch = theirs.data_collator([theirs.train_dataset[place] for place in places])
    # TRL trains the line break that this template writes after the end of a turn; nothing is ever generated there.
    chosen, rejected = ([getattr(rows[place].pair, side) for place in places] for side in ("preferred", "other"))
    for number, row in enumerate([*chosen, *rejected]):
        trained = torch.from_numpy(row.trained.astype(np.int64))
        batch["completion_mask"][number, : len(row)] = trained
    theirs.model.train()
    theirs.model.zero_grad()
    theirs._metrics["train"].clear()
    loss = theirs.compute_loss(theirs.model, batch)
    loss.backward()
    gradients = {name.replace(".default", ""): p.grad for name, p in theirs.model.named_parameters() if p.requires_grad}

    adapter.zero_grad()
    objective = Preferences(BETA, share_prefix=share_prefix)
    chosen_rows = [rows[place] for place in places]
    sums = objective.accumulate(open_engine(model, adapter, kind=kind), chosen_rows, len(places))
    assert sums["loss"] / len(places) == pytest.approx(loss.item(), abs=1e-5)
    for name, parameter in adapter.named.items():
        reference = gradients[name]
        assert reference.norm() > 0, name
        assert (parameter.grad - reference).norm() / reference.norm() < 2e-4, name
    for name, their_name in NAMES.items():
        assert sums[name] / len(places) == pytest.approx(theirs._metrics["train"][their_name][-1], abs=1e-4), name
