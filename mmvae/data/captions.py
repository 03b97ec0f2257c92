"""Folders of files with a metadata.csv or metadata.jsonl that says more about each: captions, labels, other files."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NAMES = ("metadata.csv", "metadata.jsonl")
KEY = "file_name"  # of the column, as in the hub's folders of images and sounds; X_file_name is a file of column X


def is_metadata(path: Path) -> bool:
    """Whether a file is a table that names files."""
    if path.name not in NAMES:
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return KEY in file.readline()


def captioned(
    tables: Sequence[Path], media: Sequence[Path], kinds: Mapping[str, Collection[str]]
) -> list[dict[str, Any]]:
    """The rows of the tables, each with its files as paths, then the files that no row names, each a row of its own. A
    file stands in the column of its modality.

    kinds: the suffixes of the files that each modality reads. Raises ValueError for a row that names no file, or one
    that is not there, and for tables that cannot be read.
    """
    kind_of = {suffix: kind for kind, suffixes in kinds.items() for suffix in suffixes}
    rows = []
    for table in tables:
        for number, read in enumerate(_read(table), 1):
            try:
                rows.append(_row(read, table.parent, kind_of))
            except ValueError as error:
                raise ValueError(f"{table}, row {number}: {error}") from None
    named = {cell.resolve() for row in rows for cell in row.values() if isinstance(cell, Path)}
    return rows + [{kind_of[path.suffix.lower()]: path} for path in media if path.resolve() not in named]


def _row(read: Mapping[str, Any], folder: Path, kind_of: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column, cell in read.items():
        if cell in ("", None):
            continue  # a row that lacks it
        if not column.endswith(KEY):
            row[column] = cell
            continue
        path = folder / str(cell)
        if not path.is_file():
            raise ValueError(f"no file '{cell}'")
        if column == KEY and path.suffix.lower() not in kind_of:
            raise ValueError(f"no modality of the recipe reads '{cell}'")
        row[kind_of[path.suffix.lower()] if column == KEY else column.removesuffix(f"_{KEY}")] = path
    if not any(isinstance(cell, Path) for cell in row.values()):
        raise ValueError(f"it names no file; the column for that is '{KEY}'")
    return row


def _read(table: Path) -> Iterator[dict[str, Any]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            if table.suffix == ".csv":
                for row in csv.DictReader(file, strict=True):
                    if None in row or None in row.values():
                        raise ValueError("its columns are not as many as those of the first line")
                    yield row
                return
            for line in filter(str.strip, file):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"a line is no object: {line.strip()[:60]}")
                yield row
    except (csv.Error, ValueError) as error:  # of what is no text, no CSV, no JSON
        raise ValueError(f"{table}: not readable: {error}") from None
