"""Splits: declared ones are kept, missing ones are made by a seeded shuffle of the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from mmvae.core.noise import mix
from mmvae.core.registry import some
from mmvae.data.rows import Rows, Selection, Source, compared
from mmvae.tables import Data
from mmvae.words import counted

LEAST = 20  # rows of a split that is made, of at most a tenth of them
SHARED = ("validation", "test")  # made of training rows where they are not declared


def make_splits(source: Source, data: Data) -> dict[str, Selection]:
    """Train, validation and test rows. A share of 0 makes no such split, a share of 1 leaves nothing to train on; any
    other gives at least 20 rows, or a tenth of all if that is fewer. Rows of one file stay together, or those of one
    value of `data.group`.

    Raises ValueError for too few rows, and for a column that is not there.
    """
    chosen = {name: rows.select() for name, rows in source.splits.items()}
    if "train" in chosen:
        chosen |= _divided(chosen.pop("train"), {name for name in SHARED if name not in chosen}, data)
    if data.limit:
        chosen = {name: _some(rows, data.limit, data.seed) for name, rows in chosen.items()}
    return {name: chosen[name] for name in ("train", *SHARED) if name in chosen}


def _divided(train: Selection, missing: set[str], data: Data) -> dict[str, Selection]:
    together = _together(train.rows, data.group)
    shuffled = (together[place] for place in _shuffled(len(together), mix(data.seed, "splits")))
    made, whole = {}, False
    for name, share in zip(SHARED, (data.validation, data.test), strict=True):
        if name in missing and share:
            few = min(LEAST, len(train) // 10)  # a small share of few rows would be one or two, which say nothing
            count = max(1, few, round(share * len(train)))
            chosen: list[int] = []
            while len(chosen) < count and (rows := next(shuffled, None)):
                chosen += rows
            made[name], whole = train.rows.select(sorted(chosen)), whole or share == 1
    if rest := sorted(chain.from_iterable(shuffled)):
        made["train"] = train.rows.select(rest)
    elif not whole:
        rows = counted(len(train), "sequence" if data.ordered else "row")
        if sum(getattr(data, name) for name in missing) >= 1:
            raise ValueError("data.validation and data.test: together they leave nothing to train on; lower them")
        what = "bring more, or set data.test to 0" if data.test else "bring two at least"
        raise ValueError(
            f"{train.rows.source} has {rows}: too few for a training, a validation and a test split; {what}"
        )
    return made


def _together(rows: Rows, group: str | None) -> list[list[int]]:
    """The numbers of rows that stay in one split: those of one value of a column, or else of one file."""
    of: Sequence[Any] | None = rows.origins
    if group is not None:
        if group not in rows.columns:
            raise ValueError(f"data.group: {rows.source} has no column '{group}'; it has {some(rows.columns)}")
        whole = rows.select()
        of = [compared(whole.cell(index, group)) for index in range(len(rows))]
    groups: dict[Any, list[int]] = {}
    for index, origin in enumerate(of or [None] * len(rows)):
        groups.setdefault(("alone", index) if origin is None else str(origin), []).append(index)
    return list(groups.values())


def _some(rows: Selection, limit: int, seed: int) -> Selection:
    # of all the rows: the first ones of a sorted folder may be of one kind
    places = sorted(_shuffled(len(rows), mix(seed, "limit"))[:limit])
    return rows.rows.select([rows.indices[place] for place in places])


def _shuffled(count: int, seed: int) -> list[int]:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
