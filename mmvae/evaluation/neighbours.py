"""Neighbours: which observations of a data set a model holds to be alike."""

from __future__ import annotations

from typing import Any

import torch

from mmvae.data.prepare import prepare
from mmvae.evaluation.bounds import encode
from mmvae.evaluation.evaluate import on_other_data
from mmvae.generation import VAE
from mmvae.inputs import Inputs, to_batch


@torch.inference_mode()
def neighbours(
    vae: VAE, inputs: Inputs | Any, n: int = 5, split: str = "train", data: str | None = None
) -> list[list[dict[str, Any]]]:
    """For each input the n rows of a split whose posterior means are nearest to its own, the nearest first.

    distance: Euclidean, between posterior means, in the dimensions that the input speaks of. where: the row's file, or
    its number in the table. shown: the row itself where it is text, else what its table says of it in words. split,
    rows: which was searched, and how many rows it has. Raises ValueError or FileNotFoundError when inputs or data
    cannot be had.
    """
    batch = to_batch(vae.modalities, inputs)
    wanted, known = vae.encode(batch).cpu(), vae.network.latent.known(batch.present).cpu()
    rows = prepare(on_other_data(vae.recipe, split, data), vae.modalities, split).splits[split]
    means, _ = encode(vae.network, rows.store, vae.device)
    between = torch.stack([(means.cpu() - z)[:, spoken].norm(dim=1) for z, spoken in zip(wanted, known, strict=True)])
    distances, nearest = between.topk(min(n, len(rows)), largest=False)
    searched = {"split": split, "rows": len(rows)}
    return [
        [
            {"distance": distance, "where": rows.rows.where(rows.kept[i]), "shown": _shown(vae, rows, i), **searched}
            for distance, i in zip(*pair, strict=True)
        ]
        for pair in zip(distances.tolist(), nearest.tolist(), strict=True)
    ]


def _shown(vae: VAE, rows: Any, index: int) -> str:
    raws = [rows.raw(name, index) for name in vae.modalities if rows.store.columns[name].present[index]]
    return " | ".join(raw for raw in raws if isinstance(raw, str)) or rows.rows.words(rows.kept[index])
