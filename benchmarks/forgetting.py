"""How long the forgetting probe takes on the embedded model, and what that model makes of it.

    python benchmarks/forgetting.py [--rounds 3] [--base FOLDER] [--probe FILE] [--adapter FOLDER] [--answers] [--scoring]

Both models together: the base, and the base with an adapter that changes nothing (or the one given). Loading the model is not
counted. The first round also pays for compiling kernels and for memory that is touched for the first time. On a machine that
others use, too, the processor's time divided by the threads says more than the clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line sets it

import torch

from luthier.evaluate.forgetting.reading import open_probe
from luthier.model.adapter import load_adapter
from luthier.model.loader import load_model, resolve_dtype, versions
from luthier.model.lora import LoraConfig, attach
from luthier.model.sources import pull, resolve_model
from luthier.recipe import Recipe
from luthier.runs import no_listener, read_lines
from luthier.stages.forgetting import probe_stage
from luthier.stages.probe_reader import ProbeReader, as_prompt
from luthier.train.engine import open_engine
from luthier.train.likelihood import row_logps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", help="a model's folder or name; the embedded model by default")
    parser.add_argument("--probe", default="builtin")
    parser.add_argument("--adapter", type=Path, help="one that was trained; by default one that changes nothing")
    parser.add_argument("--answers", action="store_true", help="print the answers to tasks")
    parser.add_argument("--scoring", action="store_true", help="only compare ways to score the base's choices")
    arguments = parser.parse_args()
    folder = resolve_model(arguments.base, no_listener) if arguments.base else pull("smollm2-135m")
    model = load_model(folder, resolve_dtype("auto")[0])
    adapter = (
        load_adapter(model.network, arguments.adapter)
        if arguments.adapter
        else attach(model.network, LoraConfig(r=16, lora_alpha=32), seed=1)
    )
    probe = open_probe(arguments.probe)
    assert probe is not None
    if arguments.scoring:
        compare_scoring(model, adapter, probe)
        return
    print(f"{versions()['processor']}, {torch.get_num_threads()} threads, {model.dtype}, {arguments.probe}")
    seconds = []
    for number in range(1, arguments.rounds + 1):
        with tempfile.TemporaryDirectory() as answers:
            started, worked = time.perf_counter(), time.process_time()
            found = probe_stage(model, adapter, probe, Recipe(), Path(answers), identity="benchmark")
            seconds.append(time.perf_counter() - started)
            work = (time.process_time() - worked) / torch.get_num_threads()
            print(f"round {number}: {seconds[-1]:.1f} s, {work:.1f} s of each of the threads' processors", flush=True)
            if arguments.answers and number == 1:
                show_answers(probe, Path(answers))
    print(f"median {statistics.median(seconds):.1f} s of {len(seconds)}; fastest {min(seconds):.1f} s")
    show(found)


def compare_scoring(model, adapter, probe) -> None:
    """How many answers of the base are right, by kind of prompt and by what a score is divided by."""
    engine = open_engine(model, adapter)
    reader = ProbeReader(model.chat, engine, adapter, max_tokens=2048, context_length=model.context_length, probe=probe)
    chat = model.chat

    def in_chat(question) -> str:
        return chat.render([{"role": "user", "content": question.context}], generation_prompt=True)

    def lettered(question) -> str:
        options = "".join(f"\n{letter}. {choice}" for letter, choice in zip("ABCDEFGH", question.choices, strict=False))
        return f"Question: {question.context}{options}\nAnswer:"

    ways = {
        "as a question": (lambda question: as_prompt(question.context), " ", None),
        "the context alone": (lambda question: question.context.strip(), " ", None),
        "in the chat template": (in_chat, "", None),
        "by letter": (lettered, " ", "ABCDEFGH"),
    }
    print(f"right of {len(probe.questions)}: the sum of log-probabilities, its mean by token, by byte")
    with adapter.disabled():
        for name, (prompt, gap, letters) in ways.items():
            said = [
                (question, gap + (letters[place] if letters else choice.strip()))
                for question in probe.questions
                for place, choice in enumerate(question.choices)
            ]
            rows = [reader._continued(prompt(question), text, question.id) for question, text in said]
            logps = row_logps(engine, rows, 2048)
            scores = {
                "sum": [each.sum() for each in logps],
                "token": [each.mean() for each in logps],
                "byte": [each.sum() / len(text.encode()) for each, (_, text) in zip(logps, said, strict=True)],
            }
            counts = []
            for values in scores.values():
                left = iter(values)
                chosen = [[next(left) for _ in question.choices] for question in probe.questions]
                counts.append(
                    sum(
                        max(range(len(c)), key=c.__getitem__) == q.answer
                        for c, q in zip(chosen, probe.questions, strict=True)
                    )
                )
            print(f"{name:>22}: " + ", ".join(f"{count}" for count in counts), flush=True)


def show_answers(probe, folder: Path) -> None:
    said = {
        name: {line["id"]: line for file in folder.glob(f"*{name}.jsonl") for line in read_lines(file)[1:]}
        for name in ("base", "fine_tuned")
    }
    for task in probe.tasks:
        print(f"\n{task.id}: {task.prompt}")
        for name, lines in said.items():
            print(f"  {name}: {lines[task.id]['text']!r}")


def show(found) -> None:
    print(f"\n{found.judgement.verdict}: {found.judgement.reason}")
    for line in (*found.judgement.advice, *found.notes):
        print(f"- {line}")
    if found.prose:
        for part in (found.prose, *found.prose.groups):
            print(
                f"{part.group:>14}: {part.num_tokens:5d} tokens {part.base_perplexity:8.2f} → "
                f"{part.fine_tuned_perplexity:8.2f}, ratio {part.ratio.value:.3f} ({part.ratio.low} to {part.ratio.high}), "
                f"{part.base_bits:.3f} → {part.fine_tuned_bits:.3f} bits a byte, KL {part.divergence.value:.4f}"
            )
    for measure in found.paired:
        print(
            f"{measure.name}: {measure.base} → {measure.fine_tuned} of {measure.n}, gained {measure.gained}, lost "
            f"{measure.lost}, p {measure.p_value:.3g}, corrected {measure.adjusted_p:.3g}"
        )
        for group in measure.groups:
            print(f"    {group.group:>32} {group.base:3d} → {group.fine_tuned:3d} of {group.n}")
    print(found.manner)


if __name__ == "__main__":
    main()
