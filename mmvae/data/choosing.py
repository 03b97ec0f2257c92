"""Which rows a recipe is trained and measured on, and from which columns: sources, sequences, splits and pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from mmvae.core.registry import some
from mmvae.data.items import by_piece, by_sequence, unfold
from mmvae.data.pairing import Thinned, identifies, pair, prefix_of
from mmvae.data.rows import FILE, Selection, Source, compared, default_column
from mmvae.data.sources import open_source
from mmvae.data.splits import SHARED, make_splits
from mmvae.modalities.contract import Modality
from mmvae.recipe import Recipe
from mmvae.tables import Data


class Chosen(NamedTuple):
    """The rows of each split, the column of each modality, a fingerprint of the sources, and what they have to say."""

    selections: Mapping[str, Selection]
    columns: dict[str, str]
    fingerprint: str
    notes: tuple[str, ...]


def choose_rows(recipe: Recipe, modalities: Mapping[str, Modality], split: str | None) -> Chosen:
    """What a recipe's data are. split: the only one wanted; by default all, with a training split among them. Raises
    ValueError or FileNotFoundError for what is not there."""
    chosen = _choose(recipe, modalities)
    selections = chosen.selections
    if (needed := split or "train") not in selections:
        raise ValueError(f"{recipe.data.path}: no split '{needed}': it has {', '.join(selections)}")
    selections = {split: selections[split]} if split else selections
    if recipe.data.ordered:
        selections = {name: unfold(rows, chosen.columns.values()) for name, rows in selections.items()}
    return chosen._replace(selections=selections)


def _choose(recipe: Recipe, modalities: Mapping[str, Modality]) -> Chosen:
    data = recipe.data
    own = {name: path for name in modalities if (path := recipe.modalities[name]["path"])}
    first = {name: modality for name, modality in modalities.items() if name not in own}
    if not own:
        source = _opened(recipe, data.path, data.config, modalities)
        columns = {name: _column(recipe, name, source) for name in modalities}
        return Chosen(_thinned(recipe, make_splits(source, data), columns), columns, source.fingerprint, source.notes)
    sources = {"": _opened(recipe, data.path, data.config, first)}
    sources |= {name: _opened(recipe, path, None, {name: modalities[name]}) for name, path in own.items()}
    columns = {name: _column(recipe, name, sources[""]) for name in first}
    columns |= {name: prefix_of(name) + _column(recipe, name, sources[name]) for name in own}
    selections = _paired(data, sources)
    fingerprint = hashlib.blake2b(digest_size=16)
    for source in sources.values():
        fingerprint.update(source.fingerprint.encode())
    notes = tuple(note for source in sources.values() for note in source.notes)
    return Chosen(_thinned(recipe, selections, columns), columns, fingerprint.hexdigest(), notes)


def _paired(data: Data, sources: Mapping[str, Source]) -> dict[str, Selection]:
    """The splits of several sets, by the name of the modality that has each ("" for the first), as one. Raises
    ValueError where rows that are paired would come into several splits, or what was trained on would be measured."""
    assert data.pair is not None  # the recipe asks for it
    measured = next((split for split in SHARED if getattr(data, split) == 1), None)  # all of other data are that
    for name, source in sources.items():
        if name and measured and measured not in source.splits:
            why = f"declares no split '{measured}', so that what was trained on would be measured"
            raise ValueError(f"modalities.{name}.path {why}: set it to other rows (--set modalities.{name}.path=…)")
    if measured or not (identifies(data.pair, sources.values()) or data.group):
        return pair({name: make_splits(source, data) for name, source in sources.items()}, data.pair)
    if len({frozenset(source.splits) for source in sources.values()}) > 1:
        why = "data.group" if data.group else f"data.pair = {data.pair}, which names single rows"
        raise ValueError(f"{why}: the paired sets declare other splits than one another; declare the same in all")
    whole = {name: {split: rows.select() for split, rows in s.splits.items()} for name, s in sources.items()}
    joined = pair(whole, data.pair)
    if data.group and any(_spread(rows, data.pair, data.group) for rows in joined.values()):
        why = f"rows of one '{data.pair}' have several, and would come again in several splits"
        raise ValueError(f"data.group = {data.group}: {why}; set it to {data.pair}")
    return make_splits(Source({split: rows.rows for split, rows in joined.items()}, ""), data)


def _spread(rows: Selection, key: str, group: str) -> bool:
    """Whether rows of one value of a column have several of another."""
    groups: dict[str, str] = {}
    cells = ([compared(rows.cell(index, column)) for column in (key, group)] for index in range(len(rows)))
    return any(groups.setdefault(str(a), str(b)) != str(b) for a, b in cells if None not in (a, b))


def _opened(recipe: Recipe, path: str, config: str | None, modalities: Mapping[str, Modality]) -> Source:
    source = open_source(path, config, modalities)
    if recipe.data.pieces:
        return by_piece(source, modalities)
    return by_sequence(source) if recipe.data.sequences else source


def _thinned(recipe: Recipe, selections: dict[str, Selection], columns: Mapping[str, str]) -> dict[str, Selection]:
    share, train = recipe.data.complete, selections.get("train")
    if share == 1 or train is None:
        return selections
    return {**selections, "train": Thinned(train.rows, train.indices, list(columns.values()), share, recipe.data.seed)}


def _column(recipe: Recipe, name: str, source: Source) -> str:
    rows = source.splits["train"] if "train" in source.splits else next(iter(source.splits.values()))
    wanted = recipe.column(name)
    if wanted is None or (recipe.data.sequences and source.texts):  # documents are one column
        return default_column(name, recipe.modalities[name]["kind"], rows)
    if wanted not in rows.columns:
        known = "its files have no columns" if rows.columns == (FILE,) else f"it has {some(rows.columns)}"
        raise ValueError(f"modalities.{name}.column: {rows.source} has no column '{wanted}'; {known}")
    return wanted
