"""Rows: what a data set holds, before its cells are read: by column, in splits, each row with words that name it."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmvae.core.registry import some
from mmvae.modalities.contract import Modality, Raw, as_stream

FILE, LABEL = "file", "label"  # the columns of a folder of media files: the second where its folders are classes


class Piece(NamedTuple):
    """One of the observations that a long file makes, counted from 0."""

    path: Path
    index: int

    def __str__(self) -> str:
        return f"{self.path}, piece {self.index + 1}"


class Fault(NamedTuple):
    """In place of an observation that a table names wrongly: what is wrong."""

    reason: str


@dataclass(frozen=True)
class Rows:
    """Rows of one split: cells by column, and for each row the words that name it in a message."""

    cells: Sequence[Mapping[str, Any]]
    columns: tuple[str, ...]
    source: str
    numbers: Sequence[int] | None = None  # of the rows in the source, from 0, where some were passed over
    names: Sequence[str] | None = None  # the words that name each row, where not its number does
    origins: Sequence[Path | None] | None = None  # of each row its first file: its rows stay in one split

    def __len__(self) -> int:
        return len(self.cells)

    def where(self, index: int) -> str:
        """The file of a row, or its number in the table, counted from 1."""
        if self.names:
            return self.names[index]
        return f"{self.source}, row {(self.numbers[index] if self.numbers else index) + 1}"

    def select(self, indices: Sequence[int] | None = None) -> Selection:
        """Some of the rows, in the order given; by default all."""
        return Selection(self, list(range(len(self)) if indices is None else indices))


@dataclass(frozen=True)
class Selection:
    """The rows of a split, by their numbers in the source."""

    rows: Rows
    indices: list[int]

    def __len__(self) -> int:
        return len(self.indices)

    def where(self, index: int) -> str:
        """The words that name a row in a message."""
        return self.rows.where(self.indices[index])

    def words(self, index: int) -> str:
        """What a row's columns of text say, in one line of at most 80 characters."""
        cells = self.rows.cells[self.indices[index]].values()
        return " ".join(", ".join(cell for cell in cells if isinstance(cell, str)).split())[:80]

    def cell(self, index: int, column: str) -> Any:
        """One cell; None where the row lacks it, or holds nothing but spaces."""
        return or_none(self.rows.cells[self.indices[index]].get(column))


def or_none(cell: Any) -> Any:
    """A cell; None where it holds nothing but spaces."""
    return None if isinstance(cell, str) and not cell.strip() else cell


@dataclass(frozen=True)
class Source:
    """A data set: its declared splits, a fingerprint that changes with its content, sentences for its user about files
    that were left out or may be meant otherwise, and of splits that are lines of text the files of these."""

    splits: dict[str, Rows]
    fingerprint: str
    notes: tuple[str, ...] = ()
    texts: Mapping[str, Sequence[Path]] = field(default_factory=dict)


def read_cell(modality: Modality, cell: Any) -> Raw:
    """A raw observation from a file's path or a piece of it, bytes as the hub stores them, or any other value. Raises
    ValueError or OSError where it is none."""
    if cell is None:
        raise ValueError("there is nothing in it")
    if isinstance(cell, Fault):
        raise ValueError(cell.reason)
    if isinstance(cell, Path):
        if not cell.is_file():
            raise FileNotFoundError(f"there is no file '{cell.name}'")
        return modality.read(cell)
    if isinstance(cell, Piece):
        return as_stream(modality).read_piece(cell.path, cell.index)
    if isinstance(cell, bytes):
        return modality.read(io.BytesIO(cell))
    if isinstance(cell, Mapping) and cell.keys() == {"bytes", "path"}:
        return modality.read(io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]))
    return modality.parse(cell)


def compared(cell: Any) -> Any:
    """A cell by which rows are told apart: a table with gaps has its whole numbers as fractions, and nan for None."""
    if not isinstance(cell, float):
        return cell
    return None if math.isnan(cell) else int(cell) if cell.is_integer() else cell


def default_column(name: str, kind: str, rows: Rows) -> str:
    """The column that a modality is read from when the recipe names none. Raises ValueError."""
    only = rows.columns[:1] if len(rows.columns) == 1 or (rows.columns == (FILE, LABEL) and rows.names) else ()
    for column in (name, kind, *only):
        if column in rows.columns:
            return column
    raise ValueError(
        f"modalities.{name}: which column of {rows.source}? Set modalities.{name}.column to one of {some(rows.columns)}"
    )
