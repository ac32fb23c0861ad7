"""The `luthier` command and what it does with errors."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import orjson
import typer

from luthier.cli import data, models, recipe, report, work
from luthier.errors import LuthierError

app = typer.Typer(
    name="luthier",
    help="Fine-tune a language model on your chat examples, and prove that it beats its base.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (work, report, data, models, recipe):
    module.register(app)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"luthier {installed('luthier')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


SPINS_BEFORE_SLEEP = "1000"
"""How long an OpenMP thread that waits for the other spins before it sleeps. GNU's default of 300,000 is a few per cent
faster on an idle machine, and more than twice as slow where anything else runs (Source:
`docs/measurements/busy-machine.md`)."""


def main() -> None:
    """Runs the command line; an error becomes one readable message and a fixed exit code, never a traceback."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS_BEFORE_SLEEP)  # read when torch is imported
    as_json = "--json" in sys.argv
    try:
        app()
    except LuthierError as error:
        if error.told:
            sys.exit(error.exit_code)
        if as_json:
            sys.stdout.buffer.write(orjson.dumps(error.to_json(), option=orjson.OPT_INDENT_2) + b"\n")
        _say(f"\n{type(error).__name__}: {error.message}")
        if error.hint:
            _say(f"→ {error.hint}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say("\nStopped.")
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; what was asked for is done.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _say(f"\nThe system refused: {place}{error.strerror or error}.")
        sys.exit(2)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
