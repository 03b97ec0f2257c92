"""What a model of several modalities knows of each alone, of each given the others, and whether it finds the other."""

from __future__ import annotations

from collections.abc import Collection
from itertools import permutations

import torch
from torch import Tensor

from mmvae.core.priors import Prior
from mmvae.core.vae import Network
from mmvae.data.prepare import Progress
from mmvae.data.store import Store
from mmvae.evaluation.bounds import batches, importance_nll, nll_alone

MOST = 500  # rows, from all over the split
AMONG = 100  # rows among which the right one is looked for


def retrieval(network: Network, store: Store, device: torch.device, seed: int = 0) -> dict[str, float]:
    """The medians of `places`, as figures; none where there is nothing to look among."""
    rows = store.complete(AMONG)
    if len(rows) < 2:
        return {}
    return {
        f"retrieval, {source} to {target}: median place among {len(rows)}": found.median().item()
        for (source, target), found in places(network, store, rows, device, seed).items()
    }


@torch.inference_mode()
def places(
    network: Network, store: Store, rows: Tensor, device: torch.device, seed: int = 0
) -> dict[tuple[str, str], Tensor]:
    """For each source and target modality, the place of a row's own observation of the target among those of all
    `rows`, by how near its latent is to that of the row's observation of the source, [rows]: 1 is best, the middle is
    chance, also where z says nothing. Nearness is the cosine between posterior means, in the dimensions that both
    modalities see."""
    parts: dict[str, list[Tensor]] = {name: [] for name in store.columns}
    order = []
    for numbers, batch, _ in batches(store, store.at_once(len(rows)), device, seed, rows):
        order.append(numbers)
        for name, column in parts.items():
            column.append(network.posterior(batch.of([name])).mean)
    back = torch.cat(order).argsort()
    means = {name: torch.cat(column)[back] for name, column in parts.items()}
    found = {}
    for source, target in permutations(means, 2):
        # of private dimensions only the owner says anything
        a, b = network.latent.seen_by(target, means[source]), network.latent.seen_by(source, means[target])
        near = torch.cosine_similarity(a[:, None], b, dim=2)
        own = near.diagonal()[:, None]
        # of equals the middle: saying nothing is chance
        found[source, target] = 0.5 + (near > own).sum(1) + 0.5 * (near == own).sum(1)
    return found


def apart(
    network: Network,
    store: Store,
    device: torch.device,
    k: int,
    seed: int = 0,
    progress: Progress | None = None,
    fitted: Prior | None = None,
) -> dict[str, float]:
    """In nats, by the importance-weighted bound with k draws, of rows that have all modalities: -log p(x_m) of each
    modality m, also under a fitted prior, and -log p(x_m | the others) and given each other one, differences of two
    such bounds. Nothing where no row has all."""
    rows = store.complete(MOST)
    if not len(rows):
        return {}
    found: dict[frozenset[str], float] = {}

    def nll(names: Collection[str]) -> float:
        key = frozenset(names)
        if key not in found:
            of = importance_nll(network, store, device, k, seed, progress, (), rows, key)
            found[key] = of.mean().item()
        return found[key]

    figures = {}
    for name in store.columns:
        others = [other for other in store.columns if other != name]
        figures[f"NLL of {name} alone, k = {k}, N = {len(rows)} (nats)"] = nll([name])
        if fitted:
            alone = nll_alone(network, fitted, store, device, k, rows, name, seed, progress)
            figures[f"NLL of {name} alone under the fitted prior, k = {k}, N = {len(rows)} (nats)"] = (
                alone.mean().item()
            )
        for given in dict.fromkeys([tuple(others), *((other,) for other in others)]):
            figures[f"NLL of {name} given {' and '.join(given)}, k = {k}, N = {len(rows)} (nats)"] = nll(
                [name, *given]
            ) - nll(given)
    return figures
