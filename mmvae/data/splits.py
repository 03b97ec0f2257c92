"""Splits: declared ones are kept, missing ones are made by a seeded shuffle of the training rows."""

from __future__ import annotations

import torch

from mmvae.core.noise import mix
from mmvae.data.sources import Selection, Source
from mmvae.recipe import Data


def make_splits(source: Source, data: Data) -> dict[str, Selection]:
    """Train, validation and test rows; a share of 0 makes no such split. Raises ValueError for too few rows."""
    chosen = {name: rows.select(range(len(rows))) for name, rows in source.splits.items()}
    train = chosen["train"]
    generator = torch.Generator().manual_seed(mix(data.seed, "splits"))
    shuffled = torch.randperm(len(train), generator=generator).tolist()
    start = 0
    for name, share in (("validation", data.validation), ("test", data.test)):
        if name in chosen or not share:
            continue
        count = max(1, round(share * len(train)))
        chosen[name] = train.rows.select(sorted(shuffled[start : start + count]))
        start += count
    if start >= len(train):
        raise ValueError(
            f"{len(train)} rows are too few for a training, a validation and a test split: "
            "bring more, or set data.validation or data.test to 0"
        )
    chosen["train"] = train.rows.select(sorted(shuffled[start:]))
    if data.limit:
        chosen = {name: rows.rows.select(rows.indices[: data.limit]) for name, rows in chosen.items()}
    return {name: chosen[name] for name in ("train", "validation", "test") if name in chosen}
