"""What a model of several modalities knows of each alone, and of each given the others."""

from __future__ import annotations

from collections.abc import Collection

import torch

from mmvae.core.vae import Network
from mmvae.data.prepare import Progress
from mmvae.data.store import Store
from mmvae.evaluation.bounds import importance_nll

MOST = 500  # rows, from all over the split


def apart(
    network: Network, store: Store, device: torch.device, k: int, seed: int = 0, progress: Progress | None = None
) -> dict[str, float]:
    """In nats, by the importance-weighted bound with k draws, of rows that have all modalities: -log p(x_m) of each
    modality m, and -log p(x_m | the others), the difference of two such bounds. Nothing where no row has all."""
    complete = torch.stack([column.present for column in store.columns.values()]).all(0).nonzero().squeeze(1)
    if len(complete) > MOST:
        complete = complete[torch.linspace(0, len(complete) - 1, MOST).round().long()]
    if not len(complete):
        return {}
    found: dict[frozenset[str], float] = {}

    def nll(names: Collection[str]) -> float:
        key = frozenset(names)
        if key not in found:
            of = importance_nll(network, store, device, k, seed, progress, (), complete, key)
            found[key] = of.mean().item()
        return found[key]

    figures = {}
    for name in store.columns:
        others = [other for other in store.columns if other != name]
        figures[f"NLL of {name} alone, k = {k}, N = {len(complete)} (nats)"] = nll([name])
        given = nll(store.columns) - nll(others)
        figures[f"NLL of {name} given {' and '.join(others)}, k = {k}, N = {len(complete)} (nats)"] = given
    return figures
