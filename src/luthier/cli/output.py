"""What a person sees while work goes on, and JSON for programs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson

from luthier.runs import Event, Listener, no_listener
from luthier.train.processes import started

PLAIN_STEP_EVERY_S = 10.0
"""Without a terminal, a step is printed this often."""


def print_json(value: Any) -> None:
    """Prints a value as indented JSON on standard output."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.flush()


def is_first() -> bool:
    """Whether this process talks to the person: the only one, or the first of those that train together."""
    return started()[0] == 0


def clock(seconds: float) -> str:
    """Returns a duration as people write it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@contextlib.contextmanager
def watching() -> Iterator[Listener]:
    """Yields a listener that tells a person on standard error what goes on: with a live line on a terminal, in plain
    lines elsewhere. Of several processes, only the first one tells."""
    if not is_first():
        yield no_listener
        return
    if not sys.stderr.isatty():
        yield _PlainWatch()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    with Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[numbers]}"),
        console=console,
        transient=True,
    ) as bars:
        yield _LiveWatch(bars)


class _PlainWatch:
    def __init__(self) -> None:
        self._last_step = 0.0

    def __call__(self, event: Event) -> None:
        match event.kind:
            case "stage":
                line = f"\n{event.message}"
            case "step":
                now, last = time.monotonic(), event.data["step"] == event.data["total_steps"]
                if now - self._last_step < PLAIN_STEP_EVERY_S and event.data["step"] > 1 and not last:
                    return
                self._last_step = now
                line = f"  {event.message}  {clock(event.data['seconds_left'])} left"
            case "warning":
                line = f"  ! {event.message}"
            case _:
                line = f"  {event.message}"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


class _LiveWatch:
    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def __call__(self, event: Event) -> None:
        data = event.data
        match event.kind:
            case "stage":
                self._clear()
                self._bars.console.print(f"\n[bold]{_literal(event.message)}[/bold]")
            case "step":
                numbers = (
                    f"{data['step']}/{data['total_steps']}  loss {data['train_loss']:.4f}  "
                    f"{data['tokens_per_s']:,.0f} tokens/s  {clock(data['seconds_left'])} left"
                )
                self._show("training", data["step"], data["total_steps"], numbers)
            case "progress":
                self._show(
                    data["what"].replace("_", "-"), data["done"], data["total"], f"{data['done']}/{data['total']}"
                )
            case "warning":
                self._bars.console.print(f"  [yellow]![/yellow] {_literal(event.message)}")
            case _:
                self._bars.console.print(f"  {_literal(event.message)}")

    def _show(self, name: str, done: int, total: int, numbers: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, numbers=numbers)
        self._bars.update(self._tasks[name], completed=done, numbers=numbers)

    def _clear(self) -> None:
        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks.clear()


def _literal(text: str) -> str:
    """Text of the data may hold what rich or a terminal takes for markup."""
    printable = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
    return printable.replace("[", r"\[")
