"""A check as a person reads it: findings by group, the first offending line quoted with its place, then what the data is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from luthier.data.check import CheckResult
from luthier.data.cleaning.clean import ONLY_BY_NAME, CleanResult
from luthier.data.findings import Finding, counted
from luthier.data.rules.catalogue import CODES, GROUPS

COLOURS = {"error": "bold red", "warning": "yellow", "info": "cyan"}
TITLES = {
    "file": "The file",
    "message": "The messages",
    "text": "The text",
    "set": "The set as a whole",
    "leak": "What must not be in it",
}
MOST_EXCERPT = 76
_BAR = "▏▎▍▌▋▊▉█"
_BAR_CELLS = 24
_MOST_LABELS = 12
_MIN_PLOTTED = 20


def print_check(result: CheckResult, console: Console) -> None:
    """Prints findings by group, errors first, and what the files hold."""
    for group in GROUPS:
        findings = [finding for finding in result.findings if CODES[finding.code] == group]
        if findings:
            console.print(Text(f"{TITLES[group]} · {_counts(findings)}", style="bold underline"))
            console.print()
        for finding in findings:
            _print_finding(finding, console)
    _print_summary(result.summary, console)
    rejected = f", {counted(result.num_rejected, 'row')} with errors" if result.num_rejected else ""
    console.print(
        Text(f"{counted(result.rows_read, 'row')} read: {counted(result.num_examples, 'example')}{rejected}. ")
        + Text(_counts(result.findings) or "Nothing to say against them.", style="bold" if result.findings else "green")
    )
    fixable = list(dict.fromkeys(finding.code for finding in result.findings if finding.fix))
    by_itself = [code for code in fixable if code not in ONLY_BY_NAME]
    by_name = [code for code in fixable if code in ONLY_BY_NAME]
    if by_itself:
        _print_hint(f"`luthier clean FILE --out FILE2` mends {', '.join(by_itself)}.", console)
    if by_name:
        _print_hint(f"`luthier clean FILE --out FILE2 --only {','.join(by_name)}` mends {', '.join(by_name)}.", console)


def print_clean(result: CleanResult, console: Console) -> None:
    """Prints what was done, by code, and what is left to do."""
    for code, counts in result.by_code.items():
        done = ", ".join(f"{count:,} {action}" for action, count in counts.items())
        first, sentence = result.first[code]
        _say(Text(f"{code:<24}", style="bold") + Text(done), console)
        _say(Text(f"first {first.file}:{first.line}: {_visible(sentence)}", style="dim"), console, 2)
    for note in result.notes:
        _say(Text(f"! {_visible(note)}", style="yellow"), console)
    unchanged = result.rows_written - result.rows_changed
    if result.by_code:
        console.print()
    _say(
        Text(
            f"{counted(result.rows_read, 'row')} read: {result.rows_written:,} kept ({unchanged:,} as they were, "
            f"{result.rows_changed:,} changed), {result.rows_left_out:,} left out."
        ),
        console,
    )
    where = f"Written to {result.out}; every change is in {result.log}."
    _say(Text(where if result.out else "Dry run: nothing was written."), console)
    left = [f for f in (result.remaining.findings if result.remaining else []) if f.severity != "info"]
    if left:
        console.print(Text(f"Left for you: {_counts(left)}", style="yellow"))
        for finding in left:
            _say(Text(f"{finding.severity:<7} {finding.code}: {_visible(finding.message)}"), console, 2)


def _print_hint(text: str, console: Console) -> None:
    _say(Text(text, style="dim"), console)


def _say(text: Text, console: Console, indent: int = 0) -> None:
    """Prints a text: on a terminal broken between words and indented, elsewhere on one line, for programs to search."""
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent)))
    else:
        console.print(Text(" " * indent) + text, soft_wrap=True)


def _counts(findings: list[Finding]) -> str:
    counts = {severity: sum(f.severity == severity for f in findings) for severity in COLOURS}
    return ", ".join(counted(count, severity) for severity, count in counts.items() if count)


def _print_finding(finding: Finding, console: Console) -> None:
    head = Text(f"{finding.severity:<7} ", style=COLOURS[finding.severity])
    head.append(f"{finding.code}", style="bold")
    head.append(f"  {finding.file}:{finding.line}")
    if finding.rows.count > 1:
        lines = ", ".join(str(line) for line in finding.rows.lines)
        more = ", …" if finding.rows.count > len(finding.rows.lines) else ""
        head.append(f"  {finding.rows.count:,} rows (lines {lines}{more})", style="dim")
    _say(head, console)
    _say(Text(_visible(finding.message)), console, 2)
    if finding.excerpt:
        console.print(Text(f"  │ {_visible(finding.excerpt)[:MOST_EXCERPT]}", style="dim"), soft_wrap=True)
        if finding.column is not None and finding.column < MOST_EXCERPT:
            console.print(Text(f"  │ {' ' * finding.column}^", style="dim"), soft_wrap=True)
    if finding.remedy:
        _say(Text(f"→ {finding.remedy}"), console, 2)
    console.print()


def _print_summary(summary: dict[str, Any], console: Console) -> None:
    if not summary.get("examples"):
        return
    console.print(Text("What the examples are", style="bold underline"))
    console.print()
    facts = list(_facts(summary))
    width = max(len(name) for name, _ in facts)
    if console.is_terminal:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        for name, value in facts:
            table.add_row(name, Text(value))
        console.print(Padding(table, (0, 0, 1, 2)))
    else:
        for name, value in facts:
            _say(Text(f"{name:<{width}}  {value}"), console, 2)
        console.print()
    if summary["examples"] >= _MIN_PLOTTED:
        _print_histogram("Characters an example", summary["characters"], console)
        _print_histogram("Characters learned an example", summary["answer_characters"], console)
    if summary.get("labels"):
        _print_labels(summary["labels"], console)


def _facts(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    formats = ", ".join(f"{name} {count:,}" for name, count in summary["formats"].items())
    roles = ", ".join(f"{role} {count:,}" for role, count in summary["roles"].items())
    turns = summary["turns"]
    yield "format", formats
    yield "messages", roles
    yield "turns", f"{turns['min']} to {turns['max']} answers an example, {turns['mean']:g} on average"
    if summary.get("system_prompts") is not None:
        yield "system prompts", f"{summary['system_prompts']:,} different"
    if summary["with_tools"]:
        yield "with tools", counted(summary["with_tools"], "example")
    tokens = summary.get("tokens")
    if tokens:
        for name, count in tokens.items():
            yield f"tokens, {name}", _estimated(count)
    if summary.get("trained_tokens"):
        yield "trained tokens", f"{_estimated(summary['trained_tokens'])} an epoch"
    bills = summary.get("bills") or ()
    if bills:
        yield "would be billed", ", ".join(_billed(bill) for bill in bills)
        yield "", _about_bills(bills)
    if summary.get("test"):
        yield "after the split", summary["test"]["said"]


def _estimated(count: dict[str, Any]) -> str:
    if count["exact"]:
        return f"{count['total']:,}"
    interval = f"95 % interval {count['low']:,} to {count['high']:,}, from {count['sampled_rows']:,} rows"
    return f"about {count['total']:,} ({interval})"


def _billed(bill: dict[str, Any]) -> str:
    return f"{bill['model']} ${bill['usd']:,.2f}"


def _about_bills(bills: list[dict[str, Any]]) -> str:
    """Says what the prices rest on: epochs, rows that would be cut, their date and until when they are to be had."""
    first = bills[0]
    about = f"{counted(first['epochs'], 'epoch')}, prices of {first['price_as_of']}"
    closing = {bill["service"]: bill["closes"] for bill in bills if bill["closes"]}
    about += "".join(f"; {service} takes no new jobs from {day} on" for service, day in closing.items())
    cut = max(bill["rows_cut"] for bill in bills)
    return about + (f"; up to {counted(cut, 'row')} would be cut at the end" if cut else "")


def _print_histogram(title: str, spread: dict[str, Any], console: Console) -> None:
    bars = spread["histogram"]
    most = max((bar["rows"] for bar in bars), default=0)
    if not most or spread["min"] == spread["max"]:
        return
    console.print(
        Text(f"  {title}: median {spread['median']:,}, 95 % up to {spread['p95']:,}, longest {spread['max']:,}")
    )
    width = len(f"{bars[-1]['from']:,}")
    for place, bar in enumerate(bars):
        more = " and more" if place == len(bars) - 1 and spread["max"] > bars[-1]["from"] else ""
        console.print(
            Text(f"  {bar['from']:>{width},}  ", style="dim")
            + Text(_bar(bar["rows"] / most), style="cyan")
            + Text(f" {bar['rows']:,}{more if bar['rows'] else ''}", style="dim")
        )
    console.print()


def _print_labels(labels: dict[str, int], console: Console) -> None:
    most = max(labels.values())
    console.print(Text(f"  Labels: {len(labels)}"))
    shown = list(labels.items())
    if len(shown) > _MOST_LABELS:
        shown = [*shown[: _MOST_LABELS // 2], ("", 0), *shown[-_MOST_LABELS // 2 :]]
    width = min(30, max(len(label) for label, _ in shown))
    for label, count in shown:
        if not count:
            console.print(Text(f"  … {counted(len(labels) - _MOST_LABELS, 'label')} between", style="dim"))
            continue
        name = _visible(label)[:width]
        console.print(
            Text(f"  {name:<{width}}  ", style="dim")
            + Text(_bar(count / most), style="cyan")
            + Text(f" {count:,}", style="dim")
        )
    console.print()


def _bar(share: float) -> str:
    """Returns a bar of up to 24 cells, in eighths of a cell; never empty where there is anything."""
    eighths = round(share * _BAR_CELLS * 8)
    if share > 0:
        eighths = max(1, eighths)
    return "█" * (eighths // 8) + (_BAR[eighths % 8 - 1] if eighths % 8 else "")


def _visible(text: str) -> str:
    """Rows may hold what a terminal takes for commands."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
