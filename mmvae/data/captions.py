"""Folders of files with a metadata.csv or metadata.jsonl that says more about each: captions, labels, other files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmvae.data.rows import Fault
from mmvae.words import check_utf8, counted

NAMES = ("metadata.csv", "metadata.jsonl")
KEY = "file_name"  # of the column, as in the hub's folders of images and sounds; X_file_name is a file of modality X


def is_metadata(path: Path) -> bool:
    """Whether a file is a table that names files."""
    # without the zeros of UTF-16, which is refused when it is read
    return path.name in NAMES and KEY in path.read_text(encoding="utf-8", errors="replace").replace("\0", "")


class Captioned(NamedTuple):
    """A row: its cells, the words that name it, and its table or, of a file that no row names, that file."""

    cells: dict[str, Any]
    where: str
    origin: Path


def captioned(
    folder: Path, tables: Sequence[Path], media: Sequence[Path], kinds: Mapping[str, Collection[str]]
) -> list[Captioned]:
    """The rows of the tables in a folder, each with its files as paths, then the files that no row names, each a row of
    its own. A file stands in the column of its modality, and a Fault in those of files where a row is wrong.

    kinds: the suffixes of the files that each modality reads. A file that is not there is for whoever reads it to
    reject. Raises ValueError for tables that cannot be read, or that name no file at all.
    """
    rows = []
    for table in tables:
        for number, read in read_rows(table):
            try:
                cells = _cells(read, table.parent, folder, kinds)
            except ValueError as error:
                cells = dict.fromkeys((kind for kind, suffixes in kinds.items() if suffixes), Fault(str(error)))
            paths = paths_of(cells)
            rows.append(Captioned(cells, ", ".join(map(str, paths)) or f"{table}, row {number}", (*paths, table)[0]))
    named = {path for row in rows for path in paths_of(row.cells)}
    if not named:
        keys = " or ".join([KEY, *(f"{kind}_{KEY}" for kind in kinds)])
        faults = (
            f"; {row.where}: {cell.reason}" for row in rows for cell in row.cells.values() if isinstance(cell, Fault)
        )
        raise ValueError(f"{tables[0]}: no row names a file of its folder in a column {keys}{next(faults, '')}")
    others = (path for path in media if path not in named)
    return rows + [Captioned({_kind(path, kinds): path}, str(path), path) for path in others]


def paths_of(row: Mapping[str, Any]) -> list[Path]:
    """The files among a row's cells."""
    return [cell for cell in row.values() if isinstance(cell, Path)]


def _cells(read: Mapping[str, Any], beside: Path, folder: Path, kinds: Mapping[str, Collection[str]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column, cell in read.items():
        kind = column.removesuffix(f"_{KEY}")
        if cell in ("", None):
            continue  # a row that lacks it
        if column != KEY and (kind == column or kind not in kinds):
            if column in row:
                raise ValueError(f"column '{column}' is there twice, or also names a file")
            row[column] = cell
            continue
        path = Path(os.path.normpath(beside / str(cell)))
        if not path.is_relative_to(folder):
            raise ValueError(f"the file '{cell}' is not in {folder}")
        kind = _kind(path, kinds) if column == KEY else kind
        if kind in row:
            raise ValueError(f"it has more than one {kind}")
        row[kind] = path
    return row


def _kind(path: Path, kinds: Mapping[str, Collection[str]]) -> str:
    found = [kind for kind, suffixes in kinds.items() if path.suffix.lower() in suffixes]
    if not found:
        raise ValueError(f"no modality of the recipe reads '{path.name}'")
    if len(found) > 1:
        raise ValueError(f"'{path.name}' may be {' or '.join(found)}: name it in a column {found[0]}_{KEY}")
    return found[0]


def read_rows(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a CSV or JSONL file with their numbers, counted from 1 without the line of names. Raises ValueError for
    one that cannot be read."""
    check_utf8(table)
    csv.field_size_limit(1 << 30)  # a cell may hold a document
    number, names = 0, None
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            if table.suffix.lower() == ".csv":
                lines = (cells for cells in csv.reader(file, strict=True) if len(cells) > 1 or "".join(cells).strip())
                names = [name.strip() for name in next(lines, [])]
                if len(names) == 1 and (mark := next((mark for mark in ";\t" if mark in names[0]), None)):
                    raise ValueError(f"the columns seem to be separated by {mark!r}: save it with commas")
                if len(set(names)) < len(names):
                    raise ValueError("two of its columns have one name")
                for number, cells in enumerate(lines, 1):
                    if len(cells) != len(names):
                        raise ValueError(f"it has {counted(len(cells), 'cell')}, and the first line {len(names)}")
                    yield number, dict(zip(names, cells, strict=True))
                return
            for number, line in enumerate(filter(str.strip, file), 1):
                row = _parsed(line)
                if not isinstance(row, dict):
                    raise ValueError("it is no object")
                yield number, row
    except (csv.Error, ValueError) as error:  # of what is no CSV, no JSON
        number += isinstance(error, csv.Error) and names is not None  # the row was still to come
        raise ValueError(f"{table}{f', row {number}' if number else ''}: not readable: {error}") from None


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.colno}") from None


def holds_lines(table: Path) -> bool:
    """Whether a file holds JSON by lines: a .json may, or is one value."""
    suffix = table.suffix.lower()
    return suffix == ".jsonl" or (suffix == ".json" and table.read_bytes().split(b"\n", 1)[0].strip()[-1:] == b"}")
