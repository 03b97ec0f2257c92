"""Observations of sequences: rows whose cells are lists, lines of a text, files of a folder, pieces of a long file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from mmvae.core.sequences import BACK
from mmvae.data.captions import paths_of
from mmvae.data.rows import FILE, Fault, Piece, Rows, Selection, Source, or_none
from mmvae.modalities.contract import Modality, as_stream

STRETCH = 1 + BACK  # pieces that stay together where files are few: the last may be what was BACK pieces before
FEW = 10  # files: of fewer than these, whole ones are too large a share to hold out


@dataclass(frozen=True)
class Items(Selection):
    """The observations of sequences: of each the row that holds its sequence, and its place in it."""

    places: list[int]
    _last: dict[str, Any] = field(default_factory=dict, compare=False)  # the row that was read last: it holds many

    def where(self, index: int) -> str:
        if self.rows.columns == (FILE,):
            return str(self.cell(index, FILE))
        return f"{super().where(index)}, item {self.places[index] + 1}"

    def cell(self, index: int, column: str) -> Any:
        if self._last.get("row") != self.indices[index]:
            self._last.update(row=self.indices[index], cells=self.rows.cells[self.indices[index]])
        items, place = self._last["cells"].get(column), self.places[index]
        if not isinstance(items, list | tuple):  # of the whole sequence, such as a label
            return items
        return or_none(items[place]) if place < len(items) else None


def unfold(sequences: Selection, columns: Iterable[str]) -> Items:
    """The observations of rows whose cells are lists of them. Raises ValueError where a cell is none."""
    indices, places = [], []
    for index, row in enumerate(sequences.indices):
        cells = {column: sequences.cell(index, column) for column in columns}
        lists = {column: cell for column, cell in cells.items() if cell is not None}
        for column, cell in lists.items():
            if not isinstance(cell, list | tuple):
                raise ValueError(
                    f"{sequences.where(index)}: '{column}' holds one observation, not a list of them: name data whose "
                    "rows hold lists, or train with data.sequences = false"
                )
        lengths = {len(cell) for cell in lists.values()}
        if len(lengths) > 1:
            raise ValueError(f"{sequences.where(index)}: {' and '.join(lists)} differ in length")
        for place in range(max(lengths, default=0) or 1):  # of an empty sequence one that lacks: it will be counted
            indices.append(row)
            places.append(place)
    return Items(sequences.rows, indices, places)


def by_sequence(source: Source) -> Source:
    """A source whose rows are sequences: where it is made of files, those of a folder, in the order of their names;
    where of lines of text, those of a file up to a blank one."""
    if source.texts:
        return replace(source, splits={split: _documents(paths) for split, paths in source.texts.items()})
    files = {split: _files(rows) for split, rows in source.splits.items()}
    if not all(files.values()):
        return source
    splits = {}
    for split, paths in files.items():
        folders: dict[Path, list[Path]] = {}
        for path in paths or ():
            folders.setdefault(path.parent, []).append(path)
        ordered = [{FILE: sorted(files, key=_by_number)} for files in folders.values()]
        splits[split] = Rows(ordered, (FILE,), FILE)
    return replace(source, splits=splits)


def _documents(paths: Sequence[Path]) -> Rows:
    cells: list[Mapping[str, list[str]]] = []
    names, owners = [], []
    for path in paths:
        with path.open(encoding="utf-8-sig") as lines:
            found = [list(part) for blank, part in groupby(lines, lambda line: not line.strip()) if not blank]
        cells += [{"text": [line.rstrip("\n") for line in part]} for part in found]
        names += [f"{path}, text {number + 1}" for number in range(len(found))]
        owners += [path] * len(found)
    origins = owners if len(paths) >= FEW else None
    return Rows(cells, ("text",), ", ".join(map(str, paths)), names=names, origins=origins)


def _files(rows: Rows) -> list[Path] | None:
    """The files of rows that have one each, once each; else None. Raises ValueError for a row that is wrong."""
    found = [paths_of(row) for row in rows.cells] if isinstance(rows.cells, list) else []
    for index, row in enumerate(rows.cells if found else ()):
        if fault := next((cell for cell in row.values() if isinstance(cell, Fault)), None):
            raise ValueError(f"{rows.where(index)}: {fault.reason}")
    return list(dict.fromkeys(paths[0] for paths in found)) if found and all(len(p) == 1 for p in found) else None


def _by_number(path: Path) -> list[tuple[int, str]]:
    """So that 10.wav comes after 9.wav."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def by_piece(source: Source, modalities: Mapping[str, Modality]) -> Source:
    """A source whose rows are the pieces that the one modality makes of each file, or stretches of them where files are
    too few to be held out whole. Raises ValueError where it is not made of files; a file that cannot be read stays
    one piece, for whoever reads it to say why."""
    if len(modalities) > 1:
        raise ValueError(f"data.pieces: files are cut in pieces for one modality, not for {' and '.join(modalities)}")
    modality = as_stream(*modalities.values())
    splits = {}
    for split, rows in source.splits.items():
        paths = _files(rows)
        if paths is None:
            raise ValueError(
                f"data.pieces: {rows.source} is a table: only sounds in files of their own are cut in pieces"
            )
        stretches: list[list[Piece]] = []
        for path in paths:
            try:
                count = modality.pieces(path)
            except (ValueError, OSError):
                count = 1
            pieces = [Piece(path, index) for index in range(count)]
            length = STRETCH if split == "train" and len(paths) < FEW else count
            stretches += [pieces[start : start + length] for start in range(0, count, length)]
        splits[split] = Rows([{FILE: stretch} for stretch in stretches], (FILE,), FILE)
    return replace(source, splits=splits)
