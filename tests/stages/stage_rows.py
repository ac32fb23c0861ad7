"""Rows of invented places, and how they become a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLACES = [f"{a}{b}{c}" for a in ("Bor", "Kal", "Mir", "Tos") for b in ("an", "el", "ud") for c in ("ia", "ova", "mark")]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    """Writes a JSONL file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
