"""The report on disk: `report.json` for programs, `report.html` for people, each written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from luthier.errors import EvaluateError
from luthier.report.html import render_html
from luthier.report.schema import Report
from luthier.runs import write_atomically

JSON_NAME = "report.json"
HTML_NAME = "report.html"


def write_report(report: Report, folder: str | Path) -> tuple[Path, Path]:
    """Writes both files into a folder, which is made where it does not exist.

    Returns:
        The paths of `report.json` and `report.html`.

    Raises:
        OSError: the folder cannot be written or the disk is full; older files stand as they were.
    """
    folder = Path(folder)
    page = render_html(report)
    folder.mkdir(parents=True, exist_ok=True)
    json_path, html_path = folder / JSON_NAME, folder / HTML_NAME
    write_atomically(json_path, report.model_dump_json(indent=2).encode() + b"\n")
    write_atomically(html_path, page.encode())
    return json_path, html_path


def read_report(path: str | Path) -> Report:
    """Returns the report in a `report.json`, or in the run folder that holds one.

    Raises:
        EvaluateError: code `report_not_found` or `report_invalid`.
    """
    path = Path(path)
    if path.is_dir():
        path /= JSON_NAME
    try:
        text = path.read_bytes()
    except OSError as error:
        raise EvaluateError(
            f"{path}: there is no report to read ({error.strerror}).",
            code="report_not_found",
            hint="A report is written at the end of `luthier run` and `luthier evaluate`.",
        ) from error
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise EvaluateError(
            f"{path}: not a report of this version: {place}: {first['msg']}.",
            code="report_invalid",
            hint="Make it anew with `luthier evaluate`.",
        ) from error
