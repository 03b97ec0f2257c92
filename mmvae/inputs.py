"""Inputs: what a user hands to a trained model (files, folders, tables, raw observations), as a batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmvae.core.registry import nearest
from mmvae.core.vae import Batch
from mmvae.data.items import unfold
from mmvae.data.rows import default_column, read_cell
from mmvae.data.sources import TABLES, open_source
from mmvae.data.store import digest
from mmvae.modalities.contract import Modality, Raw, as_stream, stack
from mmvae.modalities.registry import modalities as registry
from mmvae.recipe import Recipe

Inputs = Sequence[Any] | Mapping[str, Sequence[Any]]  # rows, or rows by modality with None where one is missing


def to_batch(modalities: Mapping[str, Modality], inputs: Inputs | Batch) -> Batch:
    """Files and raw observations as the network takes them; a batch is that already.

    Raises ValueError or FileNotFoundError for what cannot be read.
    """
    return inputs if isinstance(inputs, Batch) else collated(modalities, read_inputs(modalities, inputs))


def read_inputs(modalities: Mapping[str, Modality], inputs: Inputs) -> dict[str, list[Raw | None]]:
    """Raw observations by modality, None where a row lacks one. Raises ValueError or FileNotFoundError."""
    if isinstance(inputs, str | Path | np.ndarray):
        raise ValueError("inputs are a list of observations: for one, give [x]")
    columns = inputs if isinstance(inputs, Mapping) else _by_modality(modalities, inputs)
    unknown = [name for name in columns if name not in modalities]
    if unknown:
        raise ValueError(f"the model has no modality '{unknown[0]}': it has {', '.join(modalities)}")
    if single := [
        name for name, each in columns.items() if isinstance(each, str | Path) or not isinstance(each, Iterable)
    ]:
        raise ValueError(f"inputs of '{single[0]}' are a list of observations: for one, give [x]")
    return {
        name: [None if item is None else read_input(modalities[name], item) for item in column]
        for name, column in columns.items()
    }


def collated(modalities: Mapping[str, Modality], columns: Mapping[str, Sequence[Raw | None]]) -> Batch:
    """Raw observations as they are, None where a row lacks one. Raises ValueError where their numbers differ."""
    if not any(map(len, columns.values())):
        raise ValueError("there are no inputs")
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError("every modality needs as many rows as the others, None where a row lacks it")
    values, present = {}, {}
    for name, column in columns.items():
        present[name] = torch.tensor([raw is not None for raw in column])
        rows = [modalities[name].to_tensor(raw) for raw in column if raw is not None]
        if rows:
            values[name] = stack(modalities[name], rows)
    return Batch(values, present)


def taken(modalities: Mapping[str, Modality], batch: Batch, n: int = 1) -> dict[str, list[Raw | None]]:
    """The rows of a batch as the model takes them, n times each: cut to its window, in its sizes and words, a sound by
    its magnitudes, with phases found anew."""
    columns: dict[str, list[Raw | None]] = {}
    for name, present in batch.present.items():
        values = iter(batch.values.get(name, ()))
        rows = [modalities[name].to_raw(next(values).cpu()) if here else None for here in present.tolist()]
        columns[name] = [row for row in rows for _ in range(n)]
    return columns


def hear(
    recipe: Recipe, modalities: Mapping[str, Modality], opening: Sequence[str | Path]
) -> tuple[Mapping[str, list[Raw | None]], Mapping[str, list[Raw | None]]]:
    """What an opening says, and the observations it is made of, by modality: of a table or file of lines all. Raises
    ValueError or FileNotFoundError."""
    if not opening or len(modalities) > 1:
        said = read_inputs(modalities, opening) if opening else {}
        return said, said
    ((name, modality),) = modalities.items()
    if not recipe.data.pieces:
        rows = _read_rows(recipe, name, modality, opening)
        said = {name: [raw for _, raw in rows]}
        return said, said
    if len(opening) > 1:
        raise ValueError("the model goes on from a file: give one sound as the opening")
    if not os.path.isfile(opening[0]):
        raise FileNotFoundError(f"no file '{opening[0]}'")
    try:
        whole, pieces = as_stream(modality).opening(Path(opening[0]))
    except ValueError as error:
        raise ValueError(f"{opening[0]}: {error}") from None
    return {name: [whole]}, {name: pieces}


def quote(items: Sequence[str | Path]) -> list[tuple[str, str]]:
    """Inputs for a note: each sentence or absolute path, with a hash of what it says or holds now."""
    return [
        (
            os.path.abspath(item) if os.path.exists(item) else str(item),
            digest(Path(item)) if os.path.isfile(item) else "",
        )
        for item in items
    ]


def unquote(noted: Sequence[Sequence[str]]) -> list[str]:
    """The inputs of a note. Raises FileNotFoundError or ValueError when a file is gone or holds something else now."""
    for item, held in noted:
        if held and not os.path.isfile(item):
            raise FileNotFoundError(f"the opening '{item}' is not there any more")
        if held and digest(Path(item)) != held:
            raise ValueError(f"the opening '{item}' has changed since")
    return [item for item, _ in noted]


def read_input(modality: Modality, item: Any) -> Raw:
    """A path, or a string that is one or ends like a file of some modality, is read; all else is parsed."""
    suffixes = (modality.suffix, *modality.reads)
    # os.path, unlike Path, takes a sentence of any length for no file
    if isinstance(item, str) and (item.lower().endswith((*suffixes, *_suffixes())) or os.path.isfile(item)):
        item = Path(item)
    if isinstance(item, str) and os.path.isdir(item):
        raise ValueError(f"{item}: a folder; name a file in it")
    if not isinstance(item, Path):
        try:
            return modality.parse(item)
        except ValueError as error:
            reason = f"no file '{item}'; and as a value: {error}" if isinstance(item, str) else str(error)
            raise ValueError(reason) from None
    if not item.is_file():
        raise FileNotFoundError(f"no file '{item}'")
    if item.suffix.lower() not in suffixes:
        raise ValueError(f"{item}: not a file the model reads ({', '.join(suffixes)})")
    try:
        return modality.read(item)
    except ValueError as error:
        raise ValueError(f"{item}: {error}") from None


@cache
def _suffixes() -> tuple[str, ...]:
    """Of the files of all modalities that come with the package: a name that ends so is no sentence."""
    kinds = [registry.get(name) for name in registry.names() if registry.origin(name) == "built in"]
    return tuple(suffix for kind in kinds for suffix in (kind.suffix, *kind.reads))


def expand(recipe: Recipe, modalities: Mapping[str, Modality], items: Sequence[str]) -> tuple[Batch, list[str]]:
    """Command-line arguments as the network takes them, a folder or table as its rows, and words that name each row.

    Raises ValueError or FileNotFoundError for what cannot be read.
    """
    if len(modalities) > 1:
        folders = [item for item in items if _holds_rows(item)]
        if folders:
            raise ValueError(f"{folders[0]}: a folder or table is for models of one modality; name single files")
        columns = together(modalities, items)
        return to_batch(modalities, columns), list(items) if len(columns) == 1 else [" and ".join(items)]
    ((name, modality),) = modalities.items()
    rows = _read_rows(recipe, name, modality, items)
    return collated(modalities, {name: [raw for _, raw in rows]}), [words for words, _ in rows]


def _read_rows(recipe: Recipe, name: str, modality: Modality, items: Sequence[str | Path]) -> list[tuple[str, Raw]]:
    """Observations of one modality, of folders and tables all, each with words that name it."""
    rows: list[tuple[str, Raw]] = []
    for item in items:
        rows += (
            _rows(recipe, name, modality, str(item)) if _holds_rows(item) else [(str(item), read_input(modality, item))]
        )
    return rows


def _holds_rows(item: str | Path) -> bool:
    return os.path.isdir(item) or (os.path.isfile(item) and Path(item).suffix.lower() in TABLES)


def _rows(recipe: Recipe, name: str, modality: Modality, item: str) -> list[tuple[str, Raw]]:
    found = []
    for rows in open_source(item, None, {name: modality}).splits.values():
        column = recipe.column(name)
        if column not in rows.columns:
            column = default_column(name, recipe.modalities[name]["kind"], rows)
        chosen = rows.select()
        listed = recipe.data.sequences and len(rows) and isinstance(chosen.cell(0, column), list)
        chosen = unfold(chosen, [column]) if listed else chosen
        for index in range(len(chosen)):
            try:
                found.append((chosen.where(index), read_cell(modality, chosen.cell(index, column))))
            except (ValueError, OSError) as error:
                modality.note(f"left out: {chosen.where(index)}: {error}")
    if not found:
        raise ValueError(f"{item}: nothing in it can be read: {next(iter(modality.notes), 'it has no rows')}")
    return found


def _by_modality(modalities: Mapping[str, Modality], inputs: Sequence[Any]) -> dict[str, list[Any]]:
    if len(modalities) == 1:
        return {next(iter(modalities)): list(inputs)}
    columns: dict[str, list[Any]] = {name: [None] * len(inputs) for name in modalities}
    for row, item in enumerate(inputs):
        name, said = named(modalities, item)
        columns[name][row] = said
    return {name: column for name, column in columns.items() if any(item is not None for item in column)}


def named(modalities: Mapping[str, Modality], item: Any) -> tuple[str, Any]:
    """The name of the modality that an input is of, and the input: as NAME=INPUT says; else by a file's suffix, or the
    only one that can parse a value. Raises ValueError where that is none, or several."""
    if isinstance(item, Mapping):
        raise ValueError(
            "a dict from modalities to lists is no single input: give a file, a sentence or an observation"
        )
    name, says, rest = item.partition("=") if isinstance(item, str) else ("", "", "")
    if says and name in modalities and not os.path.exists(item):
        return name, rest
    misspelt = name.isidentifier() and get_close_matches(name, modalities)  # else it may be a sentence: E=mc2
    if rest and (misspelt or os.path.isfile(rest)) and not os.path.exists(item):
        raise ValueError(f"{item}: the model has no modality '{name}': {nearest(name, modalities)}")
    suffix = os.path.splitext(item)[1].lower() if isinstance(item, str | Path) else ""
    fits = [name for name, m in modalities.items() if suffix and suffix in (m.suffix, *m.reads)]
    if not fits and isinstance(item, str) and os.path.exists(item):
        raise ValueError(f"{item}: a folder, or a file that no modality of the model reads; name a file or a sentence")
    if not fits and not isinstance(item, Path):
        fits = [name for name, modality in modalities.items() if _parses(modality, item)]
    if len(fits) != 1:
        reads = f"{' and '.join(fits)} read it" if fits else f"none of {', '.join(modalities)} reads it"
        raise ValueError(
            f"which modality is {item!r}? {reads}: write NAME=INPUT, or in Python give a dict from modalities to lists"
        )
    return fits[0], item


def _parses(modality: Modality, item: Any) -> bool:
    try:
        modality.parse(item)
    except ValueError:
        return False
    return True


def together(modalities: Mapping[str, Modality], items: Sequence[Any]) -> Mapping[str, list[Any]]:
    """Inputs as rows: those of one modality are a row each, and those of several, one of each, a row together."""
    rows = [named(modalities, item) for item in items]
    kinds = [kind for kind, _ in rows]
    if len(set(kinds)) == 1:
        return {kinds[0]: [said for _, said in rows]}
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice:
        raise ValueError(f"{kinds.count(twice)} inputs are of {twice}: give one of each modality, or all of one")
    return {kind: [said] for kind, said in rows}
