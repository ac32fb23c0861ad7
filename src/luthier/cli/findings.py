"""A check as a person reads it: groups with counts, the first offending line quoted, the summary."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from luthier.data.check import CheckResult
from luthier.data.findings import Finding

COLOURS = {"error": "bold red", "warning": "yellow", "info": "cyan"}
MOST_EXCERPT = 76


def print_check(result: CheckResult, console: Console) -> None:
    """Prints findings, errors first, and what the file holds."""
    for finding in result.findings:
        _print_finding(finding, console)
    counts = {
        severity: sum(f.severity == severity for f in result.findings) for severity in ("error", "warning", "info")
    }
    words = [f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items() if count]
    rejected = f", {len(result.rejected):,} with errors" if result.rejected else ""
    console.print(
        Text(f"{result.rows_read:,} rows read: {len(result.examples):,} examples{rejected}. ")
        + Text(", ".join(words) if words else "Nothing to say against them.", style="bold" if words else "green")
    )


def _print_finding(finding: Finding, console: Console) -> None:
    head = Text(f"{finding.severity:<7} ", style=COLOURS[finding.severity])
    head.append(f"{finding.code}", style="bold")
    head.append(f"  {finding.file}:{finding.line}")
    if finding.rows.count > 1:
        lines = ", ".join(str(line) for line in finding.rows.lines)
        more = ", …" if finding.rows.count > len(finding.rows.lines) else ""
        head.append(f"  {finding.rows.count:,} rows (lines {lines}{more})", style="dim")
    console.print(head, soft_wrap=True)
    console.print(Text(f"  {_visible(finding.message)}"), soft_wrap=True)
    if finding.excerpt:
        console.print(Text(f"  │ {_visible(finding.excerpt)[:MOST_EXCERPT]}", style="dim"), soft_wrap=True)
        if finding.column is not None and finding.column < MOST_EXCERPT:
            console.print(Text(f"  │ {' ' * finding.column}^", style="dim"), soft_wrap=True)
    if finding.remedy:
        console.print(Text(f"  → {finding.remedy}"), soft_wrap=True)
    console.print()


def _visible(text: str) -> str:
    """Rows may hold what a terminal takes for commands."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
