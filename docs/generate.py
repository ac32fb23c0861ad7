"""Writes `docs/reference/`: the pages that are made from the code. `--check` fails if one is out of date."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import click
import typer

import luthier
from luthier import errors, sdk
from luthier.cli.app import app
from luthier.recipe import Recipe
from luthier.recipe_io import iter_fields
from luthier.report.schema import Report

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Made by docs/generate.py from the code; edit the code. -->\n\n"


def main() -> int:
    """Writes or checks every page; returns the exit status."""
    pages = {
        "cli.md": cli_page(),
        "recipe.md": recipe_page(),
        "errors.md": errors_page(),
        "sdk.md": sdk_page(),
        "recipe.schema.json": schema(Recipe),
        "report.schema.json": schema(Report),
    }
    checking = "--check" in sys.argv
    stale = [name for name, text in pages.items() if not _same(REFERENCE / name, text)]
    if checking:
        for name in stale:
            print(f"docs/reference/{name} is out of date; run `make docs`.")
        return 1 if stale else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    print(f"docs/reference: {len(stale)} of {len(pages)} pages changed")
    return 0


def cli_page() -> str:
    """Returns the help of every command."""
    parts = [NOTE, "# The `luthier` command\n"]
    root = typer.main.get_command(app)
    for words, command in _walk(root, ["luthier"]):
        context = click.Context(command, info_name=" ".join(words), max_content_width=96, terminal_width=96)  # type: ignore[arg-type]
        help_text = command.get_help(context)  # type: ignore[arg-type]
        parts.append(f"\n## `{' '.join(words)}`\n\n```\n{help_text.rstrip()}\n```\n")
    parts.append(
        "\n## Exit status\n\n| status | meaning |\n|---|---|\n| 0 | done; for `run`, `evaluate`, `compare`: BETTER |\n"
        "| 1 | the answer is no: not BETTER, errors in the data, training cannot go on |\n"
        "| 2 | bad usage, recipe, data or model |\n| 3 | a part of the environment is missing; the message installs it |\n"
        "| 4 | a remote service failed |\n| 130 | interrupted; the message says how to go on |\n"
    )
    return "".join(parts)


def recipe_page() -> str:
    """Returns every key of a recipe."""
    lines = [
        NOTE,
        "# The recipe\n\nA YAML file (`--recipe FILE`), a shipped preset (`--preset NAME`), or `key.path=value` on the "
        "command line, in the order defaults < preset < file < command line. `luthier recipe show` prints the resolved "
        "tree and where each value came from.\n\n| key | default | meaning |\n|---|---|---|\n",
    ]
    for path, info in iter_fields():
        default = info.get_default(call_default_factory=True)
        meaning = " ".join((info.description or "").split()).replace("|", "\\|")
        lines.append(f"| `{path}` | `{json.dumps(default)}` | {meaning} |\n")
    return "".join(lines)


def errors_page() -> str:
    """Returns the error tree."""
    lines = [
        NOTE,
        "# Errors\n\n",
        inspect.getdoc(errors) or "",
        "\n\n| class | exit status | meaning |\n|---|---|---|\n",
    ]
    for name, cls in vars(errors).items():
        if inspect.isclass(cls) and issubclass(cls, errors.LuthierError):
            lines.append(f"| `{name}` | {cls.exit_code} | {(inspect.getdoc(cls) or '').splitlines()[0]} |\n")
    return "".join(lines)


def sdk_page() -> str:
    """Returns the functions of the SDK with their signatures and docstrings."""
    lines = [NOTE, "# Luthier in Python\n\n", inspect.getdoc(luthier) or "", "\n"]
    for name, value in vars(sdk).items():
        if inspect.isfunction(value) and value.__module__ == sdk.__name__ and not name.startswith("_"):
            signature = re.sub(r"<function (\w+) at 0x\w+>", r"\1", str(inspect.signature(value)).replace("'", ""))
            home = "luthier" if name in luthier.__all__ else "luthier.sdk"
            lines.append(f"\n## `{home}.{name}`\n\n```python\n{name}{signature}\n```\n\n{inspect.getdoc(value)}\n")
    return "".join(lines)


def schema(model: Any) -> str:
    """Returns a pydantic model's JSON schema."""
    return json.dumps(model.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _walk(command: Any, words: list[str]) -> list[tuple[list[str], Any]]:
    found = [(words, command)]
    for name in getattr(command, "commands", {}):
        found += _walk(command.commands[name], [*words, name])
    return found


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
