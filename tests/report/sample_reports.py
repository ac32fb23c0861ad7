"""Reports as a run and a comparison make them, for the tests to draw."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Literal

from luthier.recipe import Recipe
from luthier.report.forgetting_schema import (
    AnswerManner,
    Forgetting,
    ForgettingSign,
    GroupOfItems,
    PairedItems,
    ProseReading,
)
from luthier.report.schema import (
    AnswerShape,
    ComparedRow,
    ConfusionTable,
    Contamination,
    Copying,
    CurvePoint,
    DataSummary,
    DifferenceInterval,
    FieldRow,
    LearningCurve,
    LossPoint,
    ModelScore,
    ModelTable,
    Overfitting,
    Pairing,
    Report,
    Requirement,
    ResolvedValue,
    SamplingNoise,
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


def pair(base: str, tuned: str, value: float, verdict: Verdict, p_value: float = 0.0004, n: int = 38) -> Pairing:
    """Two models of a table."""
    return Pairing(
        base=base,
        tuned=tuned,
        n=n,
        difference=DifferenceInterval(value=value, low=value - 0.11, high=min(1.0, value + 0.1), method="Newcombe."),
        wins=20,
        losses=3,
        ties=n - 23,
        p_value=p_value,
        adjusted_p=min(1.0, p_value * 6),
        verdict=verdict,
        reason=f"{tuned} against {base}: {100 * value:+.0f} points, after Holm's correction for 6 tests.",
    )


def model_table() -> ModelTable:
    """The base, the fine-tuned model, and what one would try first."""
    return ModelTable(
        models=[
            ModelScore(name="base", score=0.0, low=0.0, high=0.0876, unscored=1, mean_answer_tokens=61.25),
            ModelScore(name="few-shot", score=0.3, low=0.18, high=0.454, cut=3, mean_answer_tokens=52.1),
            ModelScore(name="retrieved", score=0.525, low=0.375, high=0.67, unscored=2, cut=1, mean_answer_tokens=48.9),
            ModelScore(name="fine-tuned", score=0.925, low=0.801, high=0.974, cut=2, mean_answer_tokens=46.4),
        ],
        described={
            "base": "the prompt alone",
            "few-shot": "4 training examples in the prompt, the same for all rows; of 1, 2, 4 and 8 these had the lowest "
            "loss on the validation rows",
            "retrieved": "4 training examples in the prompt, the most similar ones for each row (BM25)",
            "fine-tuned": "the prompt alone",
        },
        pairings=[
            pair("base", "few-shot", 0.3, "BETTER", 0.0009),
            pair("base", "retrieved", 0.525, "BETTER"),
            pair("base", "fine-tuned", 0.925, "BETTER", 1.5e-11),
            pair("few-shot", "retrieved", 0.2, "UNDERPOWERED", 0.031),
            pair("few-shot", "fine-tuned", 0.625, "BETTER"),
            pair("retrieved", "fine-tuned", 0.4, "BETTER"),
        ],
        num_tests=6,
        conclusion="The fine-tuned model is BETTER than each of base, few-shot and retrieved.",
        notes=["p is corrected for 6 tests by Holm's method. Intervals are 95 % each."],
    )


def confusion(count: int = 77) -> ConfusionTable:
    """A matrix of so many labels, of which neighbours are confused; the last column is none of them."""
    labels = [
        f"card_payment_{index:02d}_not_recognised" if index % 3 else f"refund_{index:02d}" for index in range(count)
    ]
    base = [[0] * (count + 1) for _ in labels]
    tuned = [[0] * (count + 1) for _ in labels]
    for index in range(count):
        base[index][index], base[index][(index * 7 + 3) % count], base[index][count] = 12, 9, 19
        tuned[index][index] = 40 - index % 9
        tuned[index][(index + 1) % count] += index % 9
    return ConfusionTable(labels=labels, base=base, fine_tuned=tuned)


def learning_curve() -> LearningCurve:
    """Four sizes and a curve to four times the data."""

    def at(examples: float, error: float = 0.0) -> CurvePoint:
        score = 0.94 - 1.9 * examples**-0.55
        width = 0.015 + 0.03 * abs(math.log(examples / 120)) / 3
        return CurvePoint(
            examples=round(examples), score=score, error=error, low=score - width, high=min(1.0, score + width)
        )

    return LearningCurve(
        points=[at(40, 0.045), at(80, 0.04), at(160, 0.032), at(320, 0.026)],
        drawn=[at(40 * 1.13**index) for index in range(29)],
        gain=0.05,
        answer="CANNOT BE TOLD",
        more_examples=700,
        low=190,
        high=None,
        sentence="For 5 points more, the likeliest curve needs about 700 more examples; the scores also allow 190, or none.",
    )


class Probed(Report):
    """A report of a run that measured forgetting."""

    forgetting: Forgetting | None = None


def forgetting(verdict: Literal["OK", "DRIFT", "FORGOTTEN"] = "DRIFT") -> Forgetting:
    """What a probe found."""

    def reading(group: str, ratio: float, tokens: int) -> ProseReading:
        return ProseReading(
            group=group,
            tokens=tokens,
            bytes=4 * tokens,
            base_perplexity=21.4,
            fine_tuned_perplexity=21.4 * ratio,
            ratio=ratio,
            ratio_low=ratio - 0.03,
            ratio_high=ratio + 0.04,
            base_bits_per_byte=1.02,
            fine_tuned_bits_per_byte=1.07,
            divergence=0.081,
            divergence_low=0.07,
            divergence_high=0.093,
        )

    def items(name: Literal["pairs", "questions", "tasks"], n: int, base: float, tuned: float) -> PairedItems:
        return PairedItems(
            name=name,
            n=n,
            base=base,
            base_low=base - 0.05,
            base_high=base + 0.05,
            fine_tuned=tuned,
            fine_tuned_low=tuned - 0.05,
            fine_tuned_high=tuned + 0.05,
            difference=tuned - base,
            difference_low=tuned - base - 0.04,
            difference_high=tuned - base + 0.04,
            gained=3,
            lost=9,
            p_value=0.146,
            adjusted_p=0.44,
            detectable_loss=0.031,
            groups=[GroupOfItems(group=f"{name}: {each}", n=n // 2, base=n // 3, fine_tuned=n // 4) for each in "ab"],
        )

    return Forgetting(
        verdict=verdict,
        reason="Prose is read with 1.17 times the base's perplexity (95 % interval 1.14 to 1.21).",
        advice=["Train fewer epochs (train.n_epochs).", "Mix in general rows: train.replay=FILE."],
        signs=[
            ForgettingSign(
                name="prose", level=verdict, sentence="1.17 times the base's perplexity", threshold="drift above 1.10"
            ),
            ForgettingSign(name="pairs", level="OK", sentence="1.5 points lost, p = 0.44", threshold="from 2 points"),
        ],
        probe="builtin",
        prose=reading("all", 1.17, 5000),
        registers=[reading("news", 1.12, 1000), reading("dialogue", 1.22, 1000)],
        items=[items("pairs", 400, 0.81, 0.795), items("questions", 150, 0.38, 0.36), items("tasks", 40, 0.4, 0.2)],
        manner=AnswerManner(
            harmful=8,
            base_refused_harmful=3,
            fine_tuned_refused_harmful=0,
            harmless=8,
            base_refused_harmless=1,
            fine_tuned_refused_harmless=0,
            base_mean_tokens=41.5,
            fine_tuned_mean_tokens=12.3,
            length_ratio=0.296,
            base_cut=4,
            fine_tuned_cut=0,
        ),
        notes=["2 tasks were left out: no answer ended within the limit."],
        seconds=48.2,
    )


def full_report(**changes: Any) -> Report:
    """A report with every section."""
    table = model_table()
    parts = {
        "mid_p": 7.3e-12,
        "clusters": 33,
        "cluster_key": "rows that are nearly equal or share a user message",
        "correlation": 0.31,
        "design_effect": 1.07,
        "samples": 4,
        "noise": SamplingNoise(error=0.042, sampling_error=0.018, row_error=0.038),
        "table": table,
        "unscored_reasons": {
            "base": {"the expected answer is not JSON": 1},
            "retrieved": {
                "the grader's function raised KeyError: 'total'": 1,
                "the function took longer than 2 min": 1,
            },
        },
        "fields": [
            FieldRow(
                field=name,
                expected=80 - 3 * index,
                base_f1=0.02 * index,
                fine_tuned_f1=0.995 - 0.013 * index,
                fine_tuned_precision=0.99 - 0.01 * index,
                fine_tuned_recall=1.0 - 0.016 * index,
            )
            for index, name in enumerate(
                ["items[].product", "items[].quantity", "customer", "date", "total", *(f"extra.{i}" for i in range(14))]
            )
        ],
        "confusion": confusion(),
        "isolation": "Python graders ran in processes of their own, without a network.",
        "contamination": Contamination(
            checked=True,
            rows=8,
            kinds={"duplicate": 5, "near duplicate": 2, "shared user message": 1},
            first="test.jsonl:4 is a duplicate of train.jsonl:88",
            with_them=pair("base", "fine-tuned", 0.94, "BETTER", 1e-12, 48),
            on_them=pair("base", "fine-tuned", 1.0, "UNDERPOWERED", 0.0078, 8),
            sentence="8 test rows also stand in the training data and take no part in the verdict.",
        ),
        "overfitting": Overfitting(
            best_step=80,
            best_valid_loss=0.202,
            last_valid_loss=0.231,
            train_loss=0.121,
            gap=0.081,
            copying=Copying(rows=32, base_share=0.0, fine_tuned_share=0.094, unchanged_share=0.344),
            sentence="The validation loss was lowest at step 80 (0.202), whose adapter was kept, and 0.231 at the last, 120.",
        ),
        "shape": AnswerShape(
            shape="a JSON object",
            trained_share=1.0,
            base_share=0.075,
            fine_tuned_share=0.975,
            expected_tokens=45.2,
            base_tokens=61.25,
            fine_tuned_tokens=46.4,
            cut=2,
            sentence="97.5 % of the fine-tuned model's answers are a JSON object (base 7.5 %, training answers 100 %); "
            "2 answers stopped at the limit.",
        ),
        "curve": learning_curve(),
        "requirement": Requirement(
            expression="difference.low > 0 and n >= 100",
            holds=False,
            values={"difference.low": 0.8, "n": 40},
        ),
    }
    made = run_report().model_dump() | {name: _plain(part) for name, part in parts.items()}
    return Probed.model_validate(made | {"forgetting": forgetting().model_dump()} | changes)


def _plain(part: Any) -> Any:
    if isinstance(part, list):
        return [_plain(each) for each in part]
    return part.model_dump() if hasattr(part, "model_dump") else part
