"""How base and fine-tuned model rank the two answers of each held-out pair.

A pair is right where the model finds the preferred answer likelier than the other, as a whole. Both models are measured
so, which makes the comparison one of right and wrong answers, row by row. The reward accuracy, which DPO's own metrics
show, is no such measurement: the base is its own reference and has 50 % by definition, and a difference in the fifth
digit counts. It is given beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from luthier.data.chat import Example, Message
from luthier.data.shapes.formats import recognise
from luthier.evaluate.runner import samples_of
from luthier.evaluate.samples import Answer, Grade, Sample
from luthier.evaluate.statistics import wilson_interval
from luthier.model.chat_template import ChatTokenizer
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter
from luthier.report.build import readable
from luthier.report.judged import Judged
from luthier.train.encode import EncodedPair
from luthier.train.engine import open_engine
from luthier.train.preference import answer_logps

GRADER = "preference"
TITLES = {"base": "base", "fine_tuned": "fine-tuned"}
"""What reports call the two models."""


def pair_logps(
    model: LoadedModel, adapter: Adapter, pairs: Sequence[EncodedPair], max_tokens: int
) -> dict[str, NDArray[np.float64]]:
    """Returns the log-probability of each answer [pairs, 2], preferred first, by `base` and `fine_tuned`."""
    engine = open_engine(model, adapter)
    adapter.train(False)
    with adapter.disabled():
        base = answer_logps(engine, pairs, max_tokens)
    return {"base": base.numpy(), "fine_tuned": answer_logps(engine, pairs, max_tokens).numpy()}


def pair_samples(examples: Sequence[Example], chat: ChatTokenizer) -> tuple[list[Sample], list[str]]:
    """Returns a sample for each preference row, whose target is the preferred answer, and the other answers."""
    samples, others = [], []
    for example, sample in zip(examples, samples_of(examples, chat), strict=True):
        asked = example.row["input"]
        count = len(asked["messages"])
        target = _text(chat, example, example.messages[count:])
        samples.append(Sample(sample.id, example.messages[:count], target, asked.get("tools"), example.row))
        others.append(_text(chat, example, recognise(example.row).non_preferred or []))
    return samples, others


def judge_pairs(
    logps: Mapping[str, NDArray[np.float64]],
    samples: Sequence[Sample],
    others: Sequence[str],
    pairs: Sequence[EncodedPair],
) -> dict[str, Judged]:
    """Returns both models by title, each judged by which answers it finds likelier; its answer to a row is that one.

    Args:
        logps: from `pair_logps`.
        samples, others: from `pair_samples`.
        pairs: the same rows, as the model sees them.
    """
    tokens = np.array([[pair.preferred.num_trained, pair.other.num_trained] for pair in pairs])
    rewards = logps["fine_tuned"] - logps["base"]
    gained = rewards[:, 0] - rewards[:, 1]
    reward_accuracy = {"base": 0.5, "fine_tuned": float(np.mean((gained > 0) + 0.5 * (gained == 0)))}
    judged = {}
    for name, found in logps.items():
        right = found[:, 0] > found[:, 1]
        each = found / tokens
        answers = [
            Answer(sample.id, sample.target if r else other, int(count[0 if r else 1]), "stop")
            for sample, other, count, r in zip(samples, others, tokens, right, strict=True)
        ]
        judged[TITLES[name]] = Judged(
            answers,
            [Grade(float(r), None if r else "the other answer is likelier") for r in right],
            {sample.id: float(r) for sample, r in zip(samples, right, strict=True)},
            {
                "preferred answer likelier, per token": float(np.mean(each[:, 0] > each[:, 1])),
                "reward accuracy": reward_accuracy[name],
            },
        )
    return judged


def preferred_loss(logps: NDArray[np.float64], pairs: Sequence[EncodedPair]) -> float:
    """Returns the mean loss on the preferred answers, in nats per token."""
    return float(-logps[:, 0].sum() / sum(pair.preferred.num_trained for pair in pairs))


def grader_reason(judged: Mapping[str, Judged]) -> str:
    """Returns what was measured, with the reward accuracy and its interval."""
    accuracy, n = judged["fine-tuned"].metrics["reward accuracy"], len(judged["fine-tuned"].answers)
    low, high = wilson_interval(round(accuracy * n), n)
    return (
        "right is a row whose preferred answer the model finds likelier than the other. Reward accuracy is the share of rows "
        f"on which fine-tuning moved the model towards the preferred answer: {100 * accuracy:.1f} % (95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f} %, Wilson 1927), where the base has 50 % by definition"
    )


def _text(chat: ChatTokenizer, example: Example, turns: list[Message]) -> str:
    """Returns an answer as the model would write it, or turn by turn where it has several."""
    if len(turns) > 1:
        return readable(turns)
    asked = example.row["input"]
    before = example.messages[: len(asked["messages"])]
    return chat.turn_text([*before, *turns], asked.get("tools"), len(before))
