"""The rows that `benchmarks/train_speed.py` trains on, and the adapter that everybody starts from.

    python benchmarks/train_speed_rows.py FOLDER --data PUBLIC_DATA [--model NAME]

Writes one file of token ids a workload: everybody reads the same ids, so no chat template and no tokenizer can come
between. Contenders do without Luthier, which is imported here alone.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train_speed_products import Shape, needed_flops

if TYPE_CHECKING:
    from luthier.model.chat_template import EncodedExample

ROWS_A_STEP = 8
LORA_R, LORA_ALPHA = 16, 32
SYLLABLES = (
    "an",
    "bel",
    "dor",
    "en",
    "fa",
    "gri",
    "hol",
    "in",
    "ka",
    "lum",
    "mo",
    "ner",
    "or",
    "pel",
    "ri",
    "sa",
    "tun",
)


@dataclass(frozen=True)
class Workload:
    """Rows of a data set, in the order of its file.

    Attributes:
        title: for people.
        folder: of the data set.
        steps: of `ROWS_A_STEP` rows each.
        own_system: whether each row gets a random system line of its own, so that no beginning is shared.
    """

    title: str
    folder: str
    steps: int
    own_system: bool = False


WORKLOADS = {
    "nba-sql-exec": Workload("short rows, a shared system prompt", "nba-sql-exec", 5),
    "snips-json": Workload("shorter rows, a shared short system prompt", "snips-json", 5),
    "snips-unshared": Workload("the same, each with a system line of its own", "snips-json", 5, own_system=True),
    "tools-glaive": Workload("long rows of many turns, with tools", "tools-glaive", 4),
}


@dataclass(frozen=True)
class Counts:
    """What a workload's steps hold.

    Attributes:
        real_tokens, trained_tokens: of each step.
        padded_tokens: the same, each row as long as the longest of its step.
        flat_tokens: that are left where what rows share is computed once and nothing behind the last trained token.
        needed_flops: that each step cannot do without (`train_speed_products.needed_flops`).
        row_tokens: of each row.
        beginning_tokens: that all rows of the workload begin with.
    """

    real_tokens: list[int]
    padded_tokens: list[int]
    trained_tokens: list[int]
    flat_tokens: list[int]
    needed_flops: list[float]
    row_tokens: list[int]
    beginning_tokens: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m")
    arguments = parser.parse_args()
    from luthier.model.chat_template import ChatTokenizer
    from luthier.model.sources import resolve_model

    model = resolve_model(arguments.model)
    chat = ChatTokenizer(model)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    _write_adapter(model, arguments.folder / "adapter")
    written: dict[str, Any] = {"model": str(model)}
    for name, workload in WORKLOADS.items():
        file = arguments.data / workload.folder / "train.jsonl"
        with file.open(encoding="utf-8") as lines:
            records = [json.loads(line) for line, _ in zip(lines, range(ROWS_A_STEP * workload.steps), strict=False)]
        if len(records) < ROWS_A_STEP * workload.steps:
            raise SystemExit(f"{file} has only {len(records)} rows, {ROWS_A_STEP * workload.steps} are needed")
        if workload.own_system:
            _give_each_its_own_system(records)
        encoded = [chat.encode_example(r["messages"], r.get("tools"), place=str(n)) for n, r in enumerate(records)]
        rows = [{"ids": row.ids.tolist(), "trained": row.trained.astype(int).tolist()} for row in encoded]
        (arguments.folder / f"{name}.json").write_text(json.dumps(rows))
        written[name] = asdict(_count(encoded, Shape.of(model)))
    print(json.dumps(written))


def _write_adapter(model: Path, folder: Path) -> None:
    """Writes fresh weights in PEFT's format: whoever reads it starts from the same numbers."""
    from luthier.model.adapter import save_adapter
    from luthier.model.loader import load_model
    from luthier.model.lora import LoraConfig, attach

    network = load_model(model, "float32").network
    save_adapter(attach(network, LoraConfig(r=LORA_R, lora_alpha=LORA_ALPHA), seed=1), folder, base=str(model))


def _give_each_its_own_system(records: list[dict[str, Any]]) -> None:
    source = random.Random(1)
    for record in records:
        words = ["".join(source.choices(SYLLABLES, k=source.randint(1, 3))) for _ in range(6)]
        others = [message for message in record["messages"] if message["role"] != "system"]
        record["messages"] = [{"role": "system", "content": " ".join(words)}, *others]


def _count(rows: list[EncodedExample], shape: Shape) -> Counts:
    from luthier.train.batch import flatten

    steps = [rows[start : start + ROWS_A_STEP] for start in range(0, len(rows), ROWS_A_STEP)]
    flat_tokens, flops = [], []
    for step in steps:
        batch = flatten(step)
        positions = [
            position
            for segment in batch.segments
            for position in range(segment.position, segment.position + segment.length)
        ]
        predicting = batch.positions_T[batch.predict_N].tolist()
        flat_tokens.append(len(positions))
        flops.append(needed_flops(shape, positions, predicting, LORA_R))
    alike = 0
    for column in zip(*(row.ids.tolist() for row in rows), strict=False):
        if len(set(column)) > 1:
            break
        alike += 1
    return Counts(
        real_tokens=[sum(map(len, step)) for step in steps],
        padded_tokens=[max(map(len, step)) * len(step) for step in steps],
        trained_tokens=[sum(row.num_trained for row in step) for step in steps],
        flat_tokens=flat_tokens,
        needed_flops=flops,
        row_tokens=list(map(len, rows)),
        beginning_tokens=alike,
    )


if __name__ == "__main__":
    main()
