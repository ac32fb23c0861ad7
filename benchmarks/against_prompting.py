"""Does fine-tuning beat what one would try first? Base, examples in the prompt, retrieved ones, fine-tuned, on three sets.

    python benchmarks/against_prompting.py [--sets snips-json,nba-sql-exec,banking77-intent] [--epochs 2] [--data FOLDER]
        [--runs FOLDER] [--write PAGE.md]

Each set has files of its own for training, validation and test; training rows that are like a test row are left out, as
`luthier run` does. SQL is judged by running it on the set's database. Runs that
are there already (`--runs`) are not made again.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

import luthier
from luthier.report.files import read_report
from luthier.report.schema import Report

PUBLIC_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "public"
SETS = ("snips-json", "nba-sql-exec", "banking77-intent")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--data", type=Path, default=PUBLIC_DATA)
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir()) / "luthier-against-prompting")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    reports = {name: measure(name, arguments) for name in arguments.sets.split(",")}
    text = page(reports, arguments)
    if arguments.write:
        arguments.write.write_text(text)
    print(text)


def measure(name: str, arguments: argparse.Namespace) -> Report:
    """Returns the report of a run on one of the sets."""
    folder, run = arguments.data / name, arguments.runs / name
    if (run / "report.json").exists():
        return read_report(run)
    if (run / "manifest.json").exists():
        return luthier.finetune(resume=run, listener=tell)
    overrides: dict[str, object] = {
        "data.validation": str(folder / "valid.jsonl"),
        "data.test": str(folder / "test.jsonl"),
        "data.on_invalid": "drop",
        "train.n_epochs": arguments.epochs,
    }
    databases = list(folder.glob("*.db"))
    if databases:
        overrides["evaluate.database"] = str(databases[0])
    return luthier.finetune(folder / "train.jsonl", out=run, overrides=overrides, listener=tell)


def tell(event: luthier.runs.Event) -> None:
    if event.kind in ("stage", "message", "warning"):
        print(f"{time.strftime('%H:%M:%S')} {event.message}", file=sys.stderr, flush=True)


def page(reports: dict[str, Report], arguments: argparse.Namespace) -> str:
    """Returns the page for docs/measurements."""
    lines = [
        "# Fine-tuning against prompting and retrieval",
        "",
        f"Written by `python benchmarks/against_prompting.py --sets {arguments.sets} --epochs {arguments.epochs}"
        f"{f' --write {arguments.write}' if arguments.write else ''}`. SmolLM2-135M-Instruct, LoRA by the default rules, "
        f"{arguments.epochs} epochs, seed 1; held-out test rows, none of them like a training row. p is corrected by Holm's "
        "method for all pairs of a set's table.",
    ]
    for name, report in reports.items():
        table = report.table
        assert table is not None
        assert report.data is not None
        lines += [
            "",
            f"## `{name}`",
            "",
            f"{report.data.train:,} training rows, {report.n} test rows, scored by {report.grader}. {table.conclusion}",
            "",
            "| model | score | 95 % interval | fine-tuned minus it | 95 % interval | p, corrected | verdict |",
            "|---|---:|---|---:|---|---:|---|",
        ]
        against = {pairing.base: pairing for pairing in table.pairings if pairing.tuned == "fine-tuned"}
        for model in table.models:
            assert model.score is not None
            assert model.low is not None
            assert model.high is not None
            cells = [model.name, f"{model.score:.1%}", f"{model.low:.1%} to {model.high:.1%}"]
            if pairing := against.get(model.name):
                gap = pairing.difference
                cells += [f"{100 * gap.value:+.1f}", f"{100 * gap.low:.1f} to {100 * gap.high:.1f}"]
                cells += [f"{pairing.adjusted_p:.2g}", pairing.verdict]
            else:
                cells += [""] * 4
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", *(f"- {title}: {said}" for title, said in table.described.items() if title in against)]
        assert report.contamination is not None
        lines.append(f"- {report.contamination.sentence.replace(f'{arguments.data}/', '')}")
        if report.forgetting:
            lines.append(f"- forgetting: {report.forgetting.verdict}. {report.forgetting.reason}")
    versions = ", ".join(f"{key} {value}" for key, value in next(iter(reports.values())).versions.items())
    lines += ["", f"{versions}; {platform.system()}, {time.strftime('%Y-%m-%d')}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
