"""Pairing: rows of several sets that have the same key, such as pictures and sounds of one digit, become one row."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from mmvae.core.noise import mix
from mmvae.core.registry import some
from mmvae.data.rows import Rows, Selection, Source, compared

APART = ": "  # between the name of a modality with a set of its own and that set's column


@dataclass(frozen=True)
class _Joined(Sequence[Mapping[str, Any]]):
    """Cells of rows side by side: of each part its prefix, its rows, and which of them stands at each place, if any.
    The column `key` is there also where the first part is not."""

    parts: Sequence[tuple[str, Rows, Sequence[int | None]]]
    key: str

    def __len__(self) -> int:
        return len(self.parts[0][2])

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        there = [(prefix, rows, slots[index]) for prefix, rows, slots in self.parts]
        cells = [(prefix, rows.cells[slot]) for prefix, rows, slot in there if slot is not None]
        return _Row([("", {self.key: cells[0][1].get(self.key)}), *cells] if cells[0][0] else cells)


@dataclass(frozen=True)
class _Row(Mapping[str, Any]):
    """Cells by column, of the first part's columns as they are, and of others' after their prefix."""

    parts: Sequence[tuple[str, Mapping[str, Any]]]

    def __getitem__(self, column: str) -> Any:
        for prefix, cells in reversed(self.parts):
            if column.startswith(prefix):
                return cells[column.removeprefix(prefix)]
        raise KeyError(column)

    def __iter__(self) -> Iterator[str]:
        return (prefix + column for prefix, cells in self.parts for column in cells)

    def __len__(self) -> int:
        return sum(len(cells) for _, cells in self.parts)


def identifies(key: str, sources: Collection[Source]) -> bool:
    """Whether a column names single rows in every set."""
    for source in sources:
        whole = (rows.select() for rows in source.splits.values())
        cells = (compared(rows.cell(index, key)) for rows in whole for index in range(len(rows)))
        seen: set[str] = set()
        for value in (str(cell) for cell in cells if cell is not None):
            if value in seen:
                return False
            seen.add(value)
        if not seen:
            return False
    return True


def pair(sets: Mapping[str, Mapping[str, Selection]], key: str) -> dict[str, Selection]:
    """The splits of several sets, by the name of the modality that has each ("" for the first), as one: in each split,
    rows with the same value of the column `key` stand together. Where a set has fewer of them than another, it gives
    them again; where it has none, the others' rows lack what is its own, as do rows without a value. Splits that a set
    lacks are left out. Raises ValueError where a set has no such column, or no value is in all."""
    splits = [split for split in next(iter(sets.values())) if all(split in own for own in sets.values())]
    return {split: _paired({name: own[split] for name, own in sets.items()}, key, split) for split in splits}


def _paired(selections: Mapping[str, Selection], key: str, split: str) -> Selection:
    groups = {name: _by_key(rows, key) for name, rows in selections.items()}
    if not set.intersection(*(set(of) - {None} for of in groups.values())):
        raise ValueError(f"data.pair: no value of '{key}' is in all sets, in the split {split}")
    keys = sorted({value for of in groups.values() for value in of if value is not None})
    blocks = [{name: of.get(value, []) for name, of in groups.items()} for value in keys]
    blocks += [{name: of.get(None, [])} for name, of in groups.items()]
    slots: dict[str, list[int | None]] = {name: [] for name in groups}
    for block in blocks:
        for name, places in slots.items():
            own = block.get(name) or [None]
            places += [own[place % len(own)] for place in range(max(map(len, block.values())))]
    parts = [(prefix_of(name), selections[name].rows, slots[name]) for name in selections]
    columns = tuple(prefix + column for prefix, rows, _ in parts for column in rows.columns)
    source = " and ".join(rows.source for _, rows, _ in parts)
    there = [
        [(rows, slot) for (_, rows, _), slot in zip(parts, of_row, strict=True) if slot is not None]
        for of_row in zip(*slots.values(), strict=True)
    ]
    names = [" with ".join(rows.where(slot) for rows, slot in of_row) for of_row in there]
    origins = _origins([[rows.origins[slot] for rows, slot in of_row if rows.origins] for of_row in there])
    return Rows(_Joined(parts, key), columns, source, names=names, origins=origins).select()


def _origins(files: Sequence[Sequence[Path | None]]) -> list[Path | None]:
    """Of rows of several files each, one for all rows that any of these hold together."""
    above: dict[Path, Path] = {}

    def first(file: Path) -> Path:
        while file in above:
            file = above[file]
        return file

    firsts: list[Path | None] = []
    for of_row in files:
        found = list(dict.fromkeys(first(file) for file in of_row if file is not None))
        above.update((file, found[0]) for file in found[1:])
        firsts.append(found[0] if found else None)
    return [file and first(file) for file in firsts]


def prefix_of(name: str) -> str:
    """What stands before the columns of a modality's own set."""
    return name + APART if name else ""


def _by_key(rows: Selection, key: str) -> dict[str | None, list[int | None]]:
    if key not in rows.rows.columns:
        raise ValueError(f"data.pair: {rows.rows.source} has no column '{key}'; it has {some(rows.rows.columns)}")
    groups: dict[str | None, list[int | None]] = {}
    for place, index in enumerate(rows.indices):
        value = compared(rows.cell(place, key))
        groups.setdefault(None if value is None else str(value), []).append(index)
    return groups


@dataclass(frozen=True)
class Thinned(Selection):
    """Rows of which a share is whole, while each of the others has one of the columns that it had."""

    columns: Sequence[str]
    share: float
    seed: int

    def cell(self, index: int, column: str) -> Any:
        found = super().cell(index, column)
        random = np.random.default_rng(mix(self.seed, "complete", index))
        if found is None or column not in self.columns or random.random() < self.share:
            return found
        there = [name for name in self.columns if super(Thinned, self).cell(index, name) is not None]
        return found if column == there[random.integers(len(there))] else None
