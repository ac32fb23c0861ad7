"""Writes the pages that are made from the code and from other pages. `--check` fails if one is out of date."""

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
from luthier.data.check_json import CheckJSON
from luthier.data.rules.catalogue import CODES, FIXABLE, GROUPS, RULES
from luthier.recipe import Recipe
from luthier.recipe_io import iter_fields
from luthier.report.schema import Report

DOCS = Path(__file__).parent
NOTE = "<!-- Made by docs/generate.py from the code; edit the code. -->\n\n"
ABOUT_GROUPS = {
    "file": "The file as a piece of JSONL: bytes, rows, shapes.",
    "message": "The messages of a row: OpenAI's chat format, and what a chat template needs.",
    "text": "What the messages say, above all the answers that are learned.",
    "set": "All rows together.",
    "leak": "What must not be in the data.",
}


def main() -> int:
    """Writes or checks every page; returns the exit status."""
    pages = {
        "reference/cli.md": cli_page(),
        "reference/recipe.md": recipe_page(),
        "reference/errors.md": errors_page(),
        "reference/sdk.md": sdk_page(),
        "reference/recipe.schema.json": schema(Recipe),
        "reference/report.schema.json": schema(Report),
        "reference/check.schema.json": schema(CheckJSON),
        "findings/README.md": findings_page(),
    }
    checking = "--check" in sys.argv
    stale = [name for name, text in pages.items() if not _same(DOCS / name, text)]
    if checking:
        for name in stale:
            print(f"docs/{name} is out of date; run `make docs`.")
        return 1 if stale else 0
    for name, text in pages.items():
        (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / name).write_text(text, encoding="utf-8")
    print(f"docs: {len(stale)} of {len(pages)} generated pages changed")
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
        "\n## Exit status\n\n| status | meaning |\n|---|---|\n"
        "| 0 | done; for `run`, `evaluate`, `compare`: BETTER, or `evaluate.require` holds |\n"
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


def findings_page() -> str:
    """Returns the index of the findings: each code with its severities, its fix, and the first sentence of its page."""
    lines = [
        NOTE,
        "# Findings\n\n",
        "What `luthier check` can say. Each code has a page: what it is, why it hurts, an example, the remedy, and the\n",
        "source. An *error* keeps a row (or the file) out of training, a *warning* is likely to hurt, an *info* is a fact.\n",
        "`--only` takes codes and groups, and so does `--skip` of `luthier clean`.\n\n",
        "The examples are as short as can be; where a file has so few rows, the check says\n",
        "[too-few-examples](too-few-examples.md) besides. Where an example is Python, `rows` are the rows of the file.\n",
    ]
    for group in GROUPS:
        lines.append(f"\n## Group `{group}`\n\n{ABOUT_GROUPS[group]}\n\n")
        lines.append("| code | severity | mended by `clean` | what |\n|---|---|---|---|\n")
        for code in (code for code, other in CODES.items() if other == group):
            found = {rule.severity for rule in RULES if rule.code == code}
            severities = ", ".join(severity for severity in ("error", "warning", "info") if severity in found)
            mended = "yes" if code in FIXABLE else ""
            lines.append(f"| [{code}]({code}.md) | {severities} | {mended} | {_first_sentence(code)} |\n")
    return "".join(lines)


def schema(model: Any) -> str:
    """Returns a pydantic model's JSON schema."""
    return json.dumps(model.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _walk(command: Any, words: list[str]) -> list[tuple[list[str], Any]]:
    found = [(words, command)]
    for name in getattr(command, "commands", {}):
        found += _walk(command.commands[name], [*words, name])
    return found


def _first_sentence(code: str) -> str:
    page = (DOCS / "findings" / f"{code}.md").read_text(encoding="utf-8")
    text = " ".join(page.split("## What it is\n", 1)[1].split("\n## ", 1)[0].split())
    return re.split(r"(?<=[.])\s", text, maxsplit=1)[0].replace("|", "\\|")


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
