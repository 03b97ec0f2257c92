"""What the columns of a split say beside its modalities: numbers and words by which rows are told apart."""

from __future__ import annotations

from typing import Any

from mmvae.core.registry import nearest
from mmvae.data.prepare import Split
from mmvae.data.rows import compared


def cells_of(split: Split, column: str) -> list[Any]:
    """A column of numbers or words, None where a row has none, whole numbers as such. Raises ValueError where there is
    no such column, or where it holds anything else."""
    columns = split.rows.rows.columns
    if column not in columns:
        raise ValueError(f"no column '{column}': {nearest(column, columns)}")
    cells = [compared(split.rows.cell(row, column)) for row in split.kept]
    if not all(isinstance(cell, str | int | float | None) for cell in cells):
        raise ValueError(f"column '{column}' holds no labels: a label is a number or a word")
    return cells
