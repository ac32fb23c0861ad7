"""Our adapter and our losses against PEFT + transformers, which we did not write."""

from __future__ import annotations

import json
import re

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig as PeftConfig
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from luthier.model.adapter import save_adapter
from luthier.model.chat_template import ChatTokenizer
from luthier.model.loader import load_model, num_parameters
from luthier.model.lora import LoraConfig, attach
from luthier.runs import RunFolder, no_listener, read_lines
from luthier.train.batch import epoch_order, steps_of_epoch
from luthier.train.loop import TrainSettings, train
from luthier.train.schedule import learning_rate_at

pytestmark = [pytest.mark.reference, pytest.mark.model]
IDS = torch.tensor([[1, 9531, 198, 19556, 2, 198, 1, 520, 9531, 198]])


def settings(max_steps: int) -> TrainSettings:
    return TrainSettings(
        n_epochs=3,
        learning_rate=1e-3,
        batch_size=4,
        max_batch_tokens=4096,
        max_activation_mb=4096,
        schedule="linear",
        warmup_ratio=0.1,
        weight_decay=0.0,
        max_grad_norm=1.0,
        early_stopping_patience=None,
        max_steps=max_steps,
        checkpoint_every_s=1e9,
        seed=3,
    )


@pytest.fixture(scope="module")
def rows(smollm2_folder, public_data):
    chat = ChatTokenizer(smollm2_folder)
    lines = (public_data / "snips-json" / "train.jsonl").read_text("utf-8").splitlines()[:40]
    return [chat.encode_example(json.loads(line)["messages"], place=str(n)) for n, line in enumerate(lines)]


@pytest.fixture(scope="module")
def trained(smollm2_folder, rows, tmp_path_factory):
    """Twenty of our steps in float32: the adapter on disk, its logits, the losses, the model."""
    model = load_model(smollm2_folder, "float32")
    adapter = attach(model.network, LoraConfig(r=16, lora_alpha=32), seed=3)
    start = adapter.state()
    run = RunFolder(tmp_path_factory.mktemp("run"))
    run.data.mkdir()
    train(model, adapter, rows, [], settings(20), run, listener=no_listener)
    save_adapter(adapter, run.adapter, base=str(smollm2_folder))
    with torch.inference_mode():
        logits = model.network(IDS).logits
    losses = [line["train_loss"] for line in read_lines(run.metrics)]
    return run, start, losses, logits, num_parameters(model.network)


def test_peft_reads_our_adapter_to_the_same_logits(trained, smollm2_folder):
    run, _, _, ours, _ = trained
    base = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32)
    with torch.inference_mode():
        plain = base(IDS).logits
        theirs = PeftModel.from_pretrained(base, run.adapter).eval()(IDS).logits
    assert (theirs - plain).abs().max() > 0.1  # the adapter does something
    assert (theirs - ours).abs().max() < 1e-4


def test_the_first_twenty_losses_agree_with_a_plain_peft_loop(trained, rows, smollm2_folder):
    """Padded batches, transformers' forward, PEFT's layers, torch's AdamW: nothing of ours but the order of rows."""
    _, start, ours, _, _ = trained
    network = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32)
    network = get_peft_model(
        network, PeftConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    parameters = {name.replace(".default", ""): p for name, p in network.named_parameters() if p.requires_grad}
    assert set(parameters) == set(start)
    with torch.no_grad():
        for name, value in start.items():
            parameters[name].copy_(value)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0.0)
    batches = [b for epoch in range(3) for b in steps_of_epoch(epoch_order(len(rows), seed=3, epoch=epoch), 4)]
    losses = []
    for step, batch in enumerate(batches[:20]):
        longest = max(len(rows[i]) for i in batch)
        ids = torch.tensor([[*rows[i].ids, *[2] * (longest - len(rows[i]))] for i in batch])
        mask = torch.tensor([[1] * len(rows[i]) + [0] * (longest - len(rows[i])) for i in batch])
        labels = torch.full_like(ids, -100)
        for n, i in enumerate(batch):
            labels[n, : len(rows[i])] = torch.where(
                torch.from_numpy(rows[i].trained), torch.from_numpy(rows[i].ids), -100
            )
        logits = network(input_ids=ids, attention_mask=mask).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, total_steps=20, peak=1e-3, warmup_ratio=0.1, schedule="linear")
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert len(losses) == len(ours) == 20
    assert max(abs(a - b) for a, b in zip(ours, losses, strict=True)) < 1e-4
    assert losses[-1] < losses[0] / 2


def test_parameters_are_counted_as_peft_counts_them(trained, smollm2_folder, capsys):
    network = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32)
    network = get_peft_model(
        network, PeftConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    network.print_trainable_parameters()
    numbers = [int(text.replace(",", "")) for text in re.findall(r"params: ([\d,]+)", capsys.readouterr().out)]
    assert tuple(numbers) == trained[4]
