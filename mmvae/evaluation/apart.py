"""What a model of several modalities knows of each alone, of each given the others, and whether it finds the other."""

from __future__ import annotations

from collections.abc import Sequence
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
    """The medians of `places` of rows that have both, as figures; none where there is nothing to look among."""
    figures = {}
    for source, target in permutations(store.columns, 2):
        rows = store.complete(AMONG, (source, target))
        if len(rows) > 1:
            found = places(network, store, rows, source, target, device, seed).median().item()
            figures[f"retrieval, {source} to {target}: median place among {len(rows)}"] = found
    return figures


@torch.inference_mode()
def places(
    network: Network, store: Store, rows: Tensor, source: str, target: str, device: torch.device, seed: int = 0
) -> Tensor:
    """The place of a row's own observation of the target modality among those of all `rows`, by how near its latent is
    to that of the row's observation of the source, [rows]: 1 is best, the middle is chance, also where z says nothing.
    Nearness is the cosine between posterior means, in the dimensions that both modalities see."""
    order, means = [], []
    for numbers, batch, _ in batches(store, store.at_once(len(rows)), device, seed, rows):
        order.append(numbers)
        # of private dimensions only the owner says anything
        seen = ((source, target), (target, source))
        means.append([network.latent.seen_by(of, network.posterior(batch.of([name])).mean) for name, of in seen])
    back = torch.cat(order).argsort()
    a, b = (torch.cat(parts)[back] for parts in zip(*means, strict=True))
    near = torch.cosine_similarity(a[:, None], b, dim=2)
    own = near.diagonal()[:, None]
    # of equals the middle: saying nothing is chance
    return 0.5 + (near > own).sum(1) + 0.5 * (near == own).sum(1)


def apart(
    network: Network,
    store: Store,
    device: torch.device,
    k: int,
    seed: int = 0,
    progress: Progress | None = None,
    fitted: Prior | None = None,
) -> dict[str, float]:
    """In nats, by the importance-weighted bound with k draws: -log p(x_m) of each modality m, also under a fitted
    prior, and -log p(x_m | the others) and given each other one, differences of two such bounds; of rows that have all
    that a figure speaks of."""
    found: dict[tuple[frozenset[str], tuple[int, ...]], float] = {}  # of names and rows: many figures share them

    def nll(names: Sequence[str], rows: Tensor) -> float:
        key = frozenset(names), tuple(rows.tolist())
        if key not in found:
            of = importance_nll(network, store, device, k, seed, progress, (), rows, names)
            found[key] = of.mean().item()
        return found[key]

    figures = {}
    for name in store.columns:
        others = tuple(other for other in store.columns if other != name)
        for given in dict.fromkeys([(), others, *((other,) for other in others)]):
            having = (name, *given)
            if not len(rows := store.complete(MOST, having)):
                continue
            of = f"k = {k}, N = {len(rows)} (nats)"
            if given:
                figures[f"NLL of {name} given {' and '.join(given)}, {of}"] = nll(having, rows) - nll(given, rows)
                continue
            figures[f"NLL of {name} alone, {of}"] = nll(having, rows)
            if fitted:
                alone = nll_alone(network, fitted, store, device, k, rows, name, seed, progress).mean().item()
                figures[f"NLL of {name} alone under the fitted prior, {of}"] = alone
    return figures
