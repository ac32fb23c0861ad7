"""Fine-tuning from first principles, in one flat file: what `luthier run` does, without Luthier's own code.

    python examples/finetune_by_hand.py examples/orders.jsonl MODEL_FOLDER

MODEL_FOLDER is what `luthier models path smollm2-135m` prints. The configured loop, with checkpoints, shared prefixes,
exact resumption and statistics, is `luthier/train/loop.py`.
"""

import json
import math
import random
import sys

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

RANK, ALPHA, RATE, EPOCHS, BATCH = 16, 32, 1e-3, 1, 8


class LoraLinear(nn.Module):
    """A frozen linear layer plus a trained product of two small matrices."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.empty(RANK, base.in_features).uniform_(-1, 1) / math.sqrt(base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, RANK))  # zero: training begins at the base model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + (x @ self.a.t()) @ self.b.t() * (ALPHA / RANK)


def encode(tokenizer, messages):
    """Returns token ids and labels; only the answer and its end token are trained (-100 elsewhere)."""
    prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    answer = whole[len(prompt) :].removesuffix("\n")  # the template's newline comes after the end token
    prompt_ids = tokenizer(prompt, add_special_tokens=False).input_ids
    answer_ids = tokenizer(answer, add_special_tokens=False).input_ids
    assert answer_ids[-1] == tokenizer.eos_token_id, "the end token must be trained, or the model never stops"
    return prompt_ids + answer_ids, [-100] * len(prompt_ids) + answer_ids


def pad(rows, pad_id):
    """Returns ids, labels and attention mask as tensors [B, T]. pad is eos here, so the mask tells padding, not the id."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([i + [pad_id] * (longest - len(i)) for i, _ in rows])
    labels = torch.tensor([y + [-100] * (longest - len(y)) for _, y in rows])
    mask = torch.tensor([[1] * len(i) + [0] * (longest - len(i)) for i, _ in rows])
    return ids, labels, mask


def answer(model, tokenizer, messages):
    """Returns the greedy answer to a conversation."""
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        out = model.generate(**ids, max_new_tokens=96, do_sample=False)
    return tokenizer.decode(out[0, ids.input_ids.shape[1] :], skip_special_tokens=True)


def main() -> None:
    data, folder = sys.argv[1:3]
    random.seed(1)
    torch.manual_seed(1)
    with open(data, encoding="utf-8") as file:
        rows = [json.loads(line)["messages"] for line in file]
    random.shuffle(rows)
    test, train = rows[:20], rows[20:]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base_exact = sum(answer(model, tokenizer, m[:-1]) == m[-1]["content"] for m in test)

    model.requires_grad_(False)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and name != "lm_head":
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, LoraLinear(layer))
    parameters = [p for p in model.parameters() if p.requires_grad]
    print(f"trainable: {sum(p.numel() for p in parameters):,} of {sum(p.numel() for p in model.parameters()):,}")

    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    encoded = [encode(tokenizer, messages) for messages in train]
    steps = EPOCHS * math.ceil(len(encoded) / BATCH)
    step = 0
    for _ in range(EPOCHS):
        random.shuffle(encoded)
        for start in range(0, len(encoded), BATCH):
            ids, labels, mask = pad(encoded[start : start + BATCH], tokenizer.pad_token_id)
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            # The mean over trained tokens: every answer token counts the same, whichever row it stands in.
            loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / steps)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            print(f"step {step}/{steps}  loss {loss.item():.4f}")

    tuned_exact = sum(answer(model, tokenizer, m[:-1]) == m[-1]["content"] for m in test)
    print(f"exact answers on {len(test)} held-out rows: base {base_exact}, fine-tuned {tuned_exact}")
    print("Twenty rows show a large gain and nothing finer; `luthier run` says how much a test set can show.")


if __name__ == "__main__":
    main()
