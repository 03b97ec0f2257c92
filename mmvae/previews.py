"""Previews: what a model in training makes, for a person to see, read and hear."""

from __future__ import annotations

from pathlib import Path

from mmvae.data.prepare import Split
from mmvae.gallery import cells, write_page
from mmvae.generation import VAE

ROWS = 8  # of a split that are shown, and half as many as there are samples


def write_previews(vae: VAE, split: Split, folder: Path, step: int) -> None:
    """Samples, and reconstructions of some rows of a split: a page, and a contact sheet of each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = split.store.columns
    whole = split.store.complete(ROWS).tolist()
    kinds = {"samples": vae.generate(2 * ROWS).raws}
    if whole:
        originals = {name: [split.raw(name, i) for i in whole] for name in columns}
        kinds |= {"originals": originals, "reconstructions": vae.reconstruct(split.store.batch(whole)).raws}
    sections = {}
    for kind, raws in kinds.items():
        sections[kind] = cells(vae.modalities, raws, ("" for _ in next(iter(raws.values()))))
        for name, column in raws.items():
            vae.modalities[name].sheet(column, folder / f"{step:07d}-{kind}-{name}")
    write_page(folder / f"{step:07d}.html", f"{vae.recipe.name}, step {step}", sections)
