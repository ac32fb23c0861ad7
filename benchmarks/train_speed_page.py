"""The page about `benchmarks/train_speed.py`, made of its measurements: no figure in it is typed by hand."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from train_speed_parts import (
    ATTEMPTS,
    CONTENDERS,
    DEMANDS,
    LEAST_SHARE,
    LONG,
    MOST_MEMORY,
    MOST_OTHERS,
    OURS,
    Contender,
    Measured,
    Results,
)
from train_speed_rows import LORA_ALPHA, LORA_R, ROWS_A_STEP, WORKLOADS

MB_A_GB = 1000


def page(results: Results, arguments: argparse.Namespace, seconds: float, load: float) -> str:
    """Returns the page for docs/measurements.

    Args:
        results: all measurements.
        arguments: of the command line.
        seconds: that they took.
        load: the machine's load average before they began.
    """
    call = f"python benchmarks/train_speed.py --rounds {arguments.rounds}"
    for option, everything in (("workloads", WORKLOADS), ("contenders", [one.name for one in CONTENDERS])):
        if getattr(arguments, option) != ",".join(everything):
            call += f" --{option} {getattr(arguments, option)}"
    if arguments.once:
        call += f" --once {arguments.once}"
    if arguments.write:
        call += f" --write {arguments.write}"
    lines = [
        "# Training: speed and memory",
        "",
        f"Written by `{call}`. Each figure is the median of the rounds, with the least and the greatest in brackets. Ratios "
        "are taken within a round."
        + (f" In the first round only: {arguments.once.replace(',', ', ')}." if arguments.once else ""),
        "",
        *_demands(results),
    ]
    for workload in results.counts:
        if any(of == workload for of, _ in results.measured):
            lines += ["", f"## `{workload}`: {WORKLOADS[workload].title}", "", *_workload(workload, results)]
    lines += [
        "",
        "## How it was measured",
        "",
        "Each measurement is a process of its own, and the contenders take turns. All train SmolLM2-135M-Instruct with one "
        f"LoRA (r {LORA_R}, alpha {LORA_ALPHA}, all linear layers but the head, no dropout) from the same weights, on the "
        f"same token ids in the same order, {ROWS_A_STEP} rows a step, trained on the assistants' tokens alone; AdamW at a "
        "constant rate, no warm-up, no weight decay, no clipping. *s a step*: the median after the first step. *First step "
        "after*: from the start of the process to the end of the first step, imports and loading included; token ids are "
        "made beforehand for everybody. *Memory*: the largest resident size of the process (`getrusage`). *Later losses*: "
        "the largest difference from Luthier's at the steps after the first, relative. "
        "In bfloat16 they differ because the others round an adapter's part together with what it is added to, and lose most "
        "of it while it is small; Luthier's follow float32 (decision 0012). The first losses agree within 2 %, or "
        f"nothing would have been written. Other programs took {_others(results)} of the processors' time during the steps; "
        f"where it was more than {MOST_OTHERS:.0%}, the contender was measured again, {ATTEMPTS} times at most.",
        "",
        "What the contenders were told, in their own words:",
        "",
        *_told(results),
        "",
        f"{machine()}, {datetime.datetime.now(tz=datetime.UTC).date()}; {seconds / 60:.0f} minutes in all; load average "
        f"before: {load:.1f}.",
        "",
    ]
    return "\n".join(lines)


def _workload(workload: str, results: Results) -> Iterator[str]:
    counts = results.counts[workload]
    yield (
        f"{len(counts['row_tokens'])} rows of {min(counts['row_tokens'])} to {max(counts['row_tokens'])} tokens. A step has "
        f"{statistics.mean(counts['real_tokens']):,.0f} real tokens, {statistics.mean(counts['padded_tokens']):,.0f} where "
        f"rows are padded to the longest of their step, {statistics.mean(counts['trained_tokens']):,.0f} trained; Luthier "
        f"computes {statistics.mean(counts['flat_tokens']):,.0f}. All rows begin with the same "
        f"{counts['beginning_tokens']} tokens."
    )
    yield ""
    yield (
        "| contender | s a step | its time / Luthier's | examples/s | real tokens/s | trained tokens/s | first step after, s "
        "| memory, GB | Luthier's memory / its | first loss | later losses |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    ours = results.measured.get((workload, OURS), [])
    for contender in CONTENDERS:
        runs = results.measured.get((workload, contender.name), [])
        if (workload, contender.name) in results.failed:
            yield f"| {contender.title} | failed: {results.failed[workload, contender.name]} | | | | | | | | | |"
        elif runs:
            mine = contender.name == OURS
            columns = (
                spread(map(step_s, runs), 2),
                "" if mine else spread(_ratios(ours, runs, step_s), 2),
                spread((_rate(run, [ROWS_A_STEP] * len(run.seconds)) for run in runs), 2),
                spread((_rate(run, counts["real_tokens"]) for run in runs), 0),
                spread((_rate(run, counts["trained_tokens"]) for run in runs), 0),
                spread((run.first_step_s for run in runs), 1),
                spread((run.peak_mb / MB_A_GB for run in runs), 2),
                "" if mine else spread((1 / ratio for ratio in _ratios(ours, runs, lambda run: run.peak_mb)), 2),
                spread((run.losses[0] for run in runs), 4),
                "" if mine or not ours else f"{_later_difference(ours, runs):.1%}",
            )
            yield f"| {contender.title} | {' | '.join(columns)} |"
    yield ""
    yield from _share(workload, results)


def _share(workload: str, results: Results) -> Iterator[str]:
    """Yields how near Luthier comes to the machine's rate of matrix products."""
    rates, ours = results.products.get(workload, []), results.measured.get((workload, OURS), [])
    flops = results.counts[workload]["needed_flops"]
    said = (
        f"A step needs {statistics.mean(flops) / 1e9:,.0f} GFLOP. In the shapes of the model's layers, products of bfloat16 "
        f"matrices run at {spread((rate['layers_gflops'] for rate in rates), 0)} GFLOP/s here, a square one of 4,096 at "
        f"{spread((rate['square_gflops'] for rate in rates), 0)}."
    )
    shares = shares_of_rate(ours, rates, flops)
    yield said + (f" Luthier's steps reach {spread(shares, 2)} of the former." if shares else "")


def shares_of_rate(ours: Sequence[Measured], rates: Sequence[dict[str, float]], flops: Sequence[float]) -> list[float]:
    """Returns, round by round, what share of the machine's rate in the layers' own shapes the steps reach."""
    return [_rate(run, flops) / 1e9 / rate["layers_gflops"] for run, rate in zip(ours, rates, strict=False)]


def step_s(run: Measured) -> float:
    """Returns the median seconds of a step after the first."""
    return statistics.median(run.seconds[1:])


def _rate(run: Measured, of_steps: Sequence[float]) -> float:
    """Returns how much of something a second the steps after the first did: the median of the steps."""
    return statistics.median(count / taken for count, taken in list(zip(of_steps, run.seconds, strict=True))[1:])


def _ratios(ours: Sequence[Measured], runs: Sequence[Measured], of: Callable[[Measured], float]) -> list[float]:
    """Returns theirs over ours, round by round, of the rounds that both took part in: the first ones."""
    return [of(their) / of(our) for our, their in zip(ours, runs, strict=False)]


def _later_difference(ours: Sequence[Measured], runs: Sequence[Measured]) -> float:
    pairs = zip(ours[0].losses[1:], runs[0].losses[1:], strict=True)
    return max(abs(their - our) / our for our, their in pairs)


def spread(values: Iterable[float], digits: int) -> str:
    found = list(values)
    if not found:
        return ""
    middle = f"{statistics.median(found):,.{digits}f}"
    least, most = (f"{value:,.{digits}f}" for value in (min(found), max(found)))
    return middle if least == most else f"{middle} ({least}–{most})"


def _demands(results: Results) -> Iterator[str]:
    """Yields what the project demands of itself, and whether it holds."""
    rows = []

    def judge(what: str, workload: str, demanded: str, values: list[float], digits: int, *, holds: bool) -> None:
        verdict = "holds" if holds else "**missed**"
        rows.append(f"| {what} | {workload} | {demanded} | {spread(values, digits)} | {verdict} |")

    for demand in DEMANDS:
        ours, theirs = (results.measured.get((demand.workload, name), []) for name in (OURS, demand.contender))
        values = _ratios(ours, theirs, step_s)
        if values:
            what = f"times as fast as {title_of(demand.contender)}"
            holds = statistics.median(values) >= demand.at_least
            judge(what, demand.workload, f"at least {demand.at_least:g}", values, 2, holds=holds)
    for workload in results.counts:
        ours, theirs = (results.measured.get((workload, name), []) for name in (OURS, "trl"))
        values = [1 / ratio for ratio in _ratios(ours, theirs, lambda run: run.peak_mb)]
        if values:
            what = "peak memory, of what TRL's defaults take"
            judge(what, workload, f"at most {MOST_MEMORY}", values, 2, holds=statistics.median(values) <= MOST_MEMORY)
    for workload in results.counts:
        if workload not in LONG and (ours := results.measured.get((workload, OURS), [])):
            flops = results.counts[workload]["needed_flops"]
            values = shares_of_rate(ours, results.products[workload], flops)
            what = "share of the rate of bfloat16 products (hoped for)"
            judge(what, workload, f"at least {LEAST_SHARE}", values, 2, holds=statistics.median(values) >= LEAST_SHARE)
    if rows:
        yield from (
            "## What is demanded",
            "",
            "| what | rows | demanded | measured | |",
            "|---|---|---:|---:|---|",
            *rows,
        )


def title_of(name: str) -> str:
    return next(contender.title for contender in CONTENDERS if contender.name == name)


def _told(results: Results) -> Iterator[str]:
    for contender in CONTENDERS:
        for kind, workloads in (("", [w for w in results.counts if w not in LONG]), (" (long rows)", LONG)):
            runs = [run for w in workloads for run in results.measured.get((w, contender.name), [])]
            if runs and (not kind or _differs(contender)):
                versions = said_of_versions(results.versions[contender.name])
                yield f"- {contender.title}{kind}: {runs[0].about}; {versions}"
    for contender in CONTENDERS:
        reasons = {reason for (_, name), reason in results.failed.items() if name == contender.name}
        for reason in sorted(reasons):
            yield f"- {contender.title}: failed: {reason}"


def _others(results: Results) -> str:
    shares = [run.others for runs in results.measured.values() for run in runs]
    return f"{statistics.median(shares):.1%} (at most {max(shares):.0%})"


def _differs(contender: Contender) -> bool:
    return contender.long_settings is not None


def machine() -> str:
    """Returns processor, system and Python in words."""
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    about = {name.strip(): value.strip() for name, _, value in lines}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    fast = " and ".join(flag for flag in ("avx512_bf16", "amx_bf16") if flag in about.get("flags", "").split())
    model = (
        f"{about.get('model name', platform.machine())} (family {about.get('cpu family')}, model {about.get('model')}, "
        f"{fast or 'no native bfloat16'})"
    )
    processors = len(os.sched_getaffinity(0))
    return f"{processors} processors {model}, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def said_of_versions(versions: dict[str, str]) -> str:
    """Returns what ran, in words."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())
