"""A table's records as rows, so that everything that reads JSONL reads tables, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from luthier.data.reading.files import RawRow, Remark, empty_file
from luthier.data.reading.tables import read_records
from luthier.data.rules import catalogue_file as rules
from luthier.data.shapes.columns import ColumnMap
from luthier.errors import RecipeError


def table_rows(path: str | Path, column_map: ColumnMap | None, *, name: str, param: str) -> Iterator[RawRow | Remark]:
    """Yields the records of a CSV, TSV or Parquet table as rows.

    Args:
        path: the table.
        column_map: how its columns become messages; a table says nothing without it.
        name: the file's, for people.
        param: the recipe path or option that named the file, for the error.

    Raises:
        RecipeError: code "map_needed".
        DataError, MissingError: see `tables.read_records`.
    """
    found = False
    for record in read_records(path, param=param, name=name):
        found = True
        if record.fault is not None and record.fault.kind == "blank":
            yield Remark(name, record.line, rules.BLANK_LINE.problem())
        elif record.fault is not None or record.values is None:
            detail = f"{record.fault.kind}: {record.fault.detail}" if record.fault else ""
            yield RawRow(name, record.line, "", None, (rules.BAD_RECORD.problem(detail),))
        else:
            if column_map is None:
                raise map_needed(name, list(record.values), param)
            yield RawRow(name, record.line, "", record.values)
    if not found:
        yield empty_file(name)


def map_needed(name: str, columns: list[str], param: str) -> RecipeError:
    """Returns the error about a table whose columns nobody has explained."""
    listed = ", ".join(columns[:10]) + (", …" if len(columns) > 10 else "")
    return RecipeError(
        f"{name} is a table with the columns {listed}; which of them the user says and which the assistant answers, it does "
        "not tell.",
        code="map_needed",
        param=param,
        hint="Say it with --map, as in --map user=question,assistant=answer.",
    )
