"""Reports as a run and a comparison make them, for the tests to draw."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from luthier.recipe import Recipe
from luthier.report.schema import (
    ComparedRow,
    DataSummary,
    DifferenceInterval,
    LossPoint,
    ModelScore,
    Report,
    ResolvedValue,
    SecondaryMetric,
    TrainingSummary,
    Verdict,
)

ORDERS = Path(__file__).parents[2] / "examples" / "orders.jsonl"
REASONS: dict[Verdict, str] = {
    "BETTER": "The fine-tuned model is right on 92.5 % of the test rows, the base on 0 %; a gap this wide is chance in "
    "fewer than one case in 10,000.",
    "WORSE": "The fine-tuned model is right on 40 percentage points fewer test rows than the base.",
    "NO DIFFERENCE SHOWN": "A gain of 10 points or more would have shown here, and none did.",
    "UNDERPOWERED": "With 8 test rows, even a gain of 40 points could not have been told from chance.",
}


def training() -> TrainingSummary:
    curve = [
        LossPoint(
            step=step,
            epoch=step / 40,
            train_loss=0.11 + 1.5 * math.exp(-step / 14) + 0.05 * math.sin(step * 2.3),
            valid_loss=0.14 + 0.9 * math.exp(-step / 30) if step % 40 == 0 else None,
        )
        for step in range(1, 121)
    ]
    return TrainingSummary(
        steps=120,
        epochs=3,
        best_step=120,
        best_valid_loss=curve[-1].valid_loss,
        stopped_early=False,
        seconds=151.4,
        trainable_parameters=4_884_480,
        all_parameters=139_399_488,
        trained_tokens=45_812,
        loss_curve=curve,
    )


def rows(count: int = 40) -> list[ComparedRow]:
    """Rows with the sample data's prompts and answers, of which every 13th ties, one loses and one is unscored."""
    made = []
    for index, line in enumerate(ORDERS.read_text(encoding="utf-8").splitlines()[:count]):
        system, user, assistant = (message["content"] for message in json.loads(line)["messages"])
        outcome = "loss" if index == 5 else "unscored" if index == 9 else "tie" if index % 13 == 0 else "win"
        wrong = re.sub(r'"quantity":(\d+)', '"quantity":999', assistant, count=1)
        made.append(
            ComparedRow.model_validate(
                {
                    "id": f"{ORDERS.name}:{index + 1}",
                    "prompt": f"system: {system}\n\nuser: {user}",
                    "expected": assistant,
                    "base_answer": assistant if outcome == "loss" else "Here is the order you asked for:\n\n" + user,
                    "fine_tuned_answer": assistant if outcome == "win" else wrong,
                    "base_score": {"loss": 1.0, "unscored": None}.get(outcome, 0.0),
                    "fine_tuned_score": 1.0 if outcome == "win" else 0.0,
                    "outcome": outcome,
                    "reason": {
                        "win": "base: not JSON",
                        "loss": "total differs",
                        "unscored": "base answer is empty",
                    }.get(outcome, "both wrong"),
                }
            )
        )
    return made


def run_report(verdict: Verdict = "BETTER", **changes: Any) -> Report:
    """A report of a whole run, every part filled."""
    values = {
        "BETTER": (0.0, 0.925, 0.925, 0.80, 0.974, 37, 0, 1.4551915228366852e-11),
        "WORSE": (0.65, 0.25, -0.4, -0.552, -0.224, 1, 17, 0.000144958),
        "NO DIFFERENCE SHOWN": (0.5, 0.525, 0.025, -0.0871, 0.1355, 4, 3, 1.0),
        "UNDERPOWERED": (0.25, 0.5, 0.25, -0.113, 0.546, 2, 0, 0.5),
    }[verdict]
    base, tuned, value, low, high, wins, losses, p_value = values
    n = 8 if verdict == "UNDERPOWERED" else 40
    report = Report(
        verdict=verdict,
        reason=REASONS[verdict],
        grader="json",
        grader_reason="Every training answer is a JSON object.",
        n=n,
        base=ModelScore(
            name="base", score=base, low=max(0.0, base - 0.11), high=base + 0.0876, unscored=1, mean_answer_tokens=61.25
        ),
        fine_tuned=ModelScore(
            name="fine-tuned",
            score=tuned,
            low=tuned - 0.124,
            high=min(1.0, tuned + 0.049),
            cut=2,
            mean_answer_tokens=46.4,
        ),
        difference=DifferenceInterval(
            value=value, low=low, high=high, method="Newcombe's method 10 for paired shares."
        ),
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        p_value=p_value,
        test="Exact McNemar test (binomial over the rows that differ).",
        detectable_gain=None if verdict == "UNDERPOWERED" else 0.192,
        rows_needed={"BETTER": 9, "WORSE": 168, "NO DIFFERENCE SHOWN": 2210, "UNDERPOWERED": 47}[verdict],
        power_assumption="Assumes that one row in twenty gets worse by fine-tuning.",
        metrics=[
            SecondaryMetric(name="field F1", base=0.031, fine_tuned=0.9714),
            SecondaryMetric(name="valid JSON", base=0.075, fine_tuned=1.0),
            SecondaryMetric(
                name="perplexity of the answers", base=14.82, fine_tuned=1.163, unit="", higher_is_better=False
            ).model_copy(update={"unit": "per token"}),
        ],
        notes=["Judged on 40 of 52 test rows (evaluate.max_samples=40).", "2 answers were cut at 128 tokens."],
        data=DataSummary(
            source="examples/orders.jsonl",
            examples=400,
            rejected=3,
            train=320,
            validation=40,
            test=40,
            groups=398,
            mean_tokens=191.8,
            longest_tokens=264,
            warnings=["2 answers are the same for different questions (lines 41, 77)."],
        ),
        training=training(),
        resolved=[
            ResolvedValue(path="train.learning_rate", value="0.001", rule="LoRA on a model 576 wide: 1e-3."),
            ResolvedValue(path="train.n_epochs", value="3", rule="320 training rows: 3 passes."),
            ResolvedValue(path="evaluate.grader", value="json", rule="Every training answer is a JSON object."),
        ],
        recipe=Recipe().model_dump(mode="json"),
        versions={"luthier": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "processor": "AMD EPYC 9R14"},
        hashes={"examples/orders.jsonl": "9f" * 32, "adapter": "1c" * 32},
        created_at="2026-06-10T09:41:22+00:00",
        seconds={"data": 0.31, "train": 151.4, "evaluate": 66.2},
        rows=rows(),
    )
    return Report.model_validate(report.model_dump() | changes)


def file_report(**changes: Any) -> Report:
    """A comparison of two plain files: scores and nothing else."""
    values: dict[str, Any] = {
        "verdict": "NO DIFFERENCE SHOWN",
        "reason": "The scores differ by 1.2 points, which is well within chance.",
        "grader": "score",
        "n": 12,
        "base": ModelScore(name="prompted.jsonl", score=0.61, low=0.48, high=0.72),
        "fine_tuned": ModelScore(name="tuned-v2.jsonl", score=0.622, low=0.5, high=0.74),
        "difference": DifferenceInterval(value=0.012, low=-0.031, high=0.055, method="BCa bootstrap, 10,000 draws."),
        "wins": 5,
        "losses": 4,
        "ties": 3,
        "p_value": 0.5842,
        "test": "Sign-flip permutation test.",
        "detectable_gain": 0.061,
        "rows_needed": 312,
        "rows": [
            ComparedRow(
                id=f"row-{index}",
                base_score=0.5 + index / 40,
                fine_tuned_score=None if index == 11 else 0.52 + index / 41,
                outcome="unscored" if index == 11 else "win" if index % 2 else "loss",
            )
            for index in range(12)
        ],
    }
    return Report.model_validate(values | changes)


def bare_report() -> Report:
    """The least a report can say: nothing could be scored."""
    return file_report(
        verdict="UNDERPOWERED",
        reason="No row was scored for both.",
        n=0,
        base=ModelScore(name="a.jsonl", score=None, low=None, high=None),
        fine_tuned=ModelScore(name="b.jsonl", score=None, low=None, high=None),
        difference=DifferenceInterval(value=0.0, low=0.0, high=0.0, method=""),
        wins=0,
        losses=0,
        ties=0,
        p_value=1.0,
        detectable_gain=None,
        rows_needed=None,
        rows=[],
    )
