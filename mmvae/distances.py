"""How far a set of feature vectors is from another."""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 5


def frechet(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance of the Gaussians that fit features [N, F] and [M, F] (Heusel et al. 2017).

    The trace of the root of the product of two covariances is the sum of the singular values of one set's deviations
    times the other's: no root of a matrix, which fails where there are fewer rows than features. Raises ValueError for
    fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{len(a)} and {len(b)} rows: a covariance takes two at least")
    means = [features.double().mean(0) for features in (a, b)]
    deviations = [
        (features.double() - mean) / (len(features) - 1) ** 0.5 for features, mean in zip((a, b), means, strict=True)
    ]
    left, right = (torch.linalg.qr(rows, mode="r").R for rows in deviations)
    shared = torch.linalg.svdvals(left @ right.T).sum()
    return ((means[0] - means[1]).square().sum() + left.square().sum() + right.square().sum() - 2 * shared).item()


def coverage(real: Tensor, drawn: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision and recall (Kynkaanniemi et al. 2019), the share of samples within reach of a real row and the other
    way round; and, instead of the first, density, in how many rows' reach a sample is over k, and instead of the
    second, coverage, the share of real rows with a sample within reach (Naeem et al. 2020). Of features [N, F] and
    [M, F], reach being the distance to the k-th neighbour among one's own."""
    between = torch.cdist(real, drawn)
    reach = [torch.cdist(own, own).topk(k + 1, largest=False).values[:, -1] for own in (real, drawn)]
    return {
        "precision": (between <= reach[0][:, None]).any(0).double().mean().item(),
        "recall": (between <= reach[1]).any(1).double().mean().item(),
        "density": (between <= reach[0][:, None]).sum(0).double().mean().item() / k,
        "coverage": (between.amin(1) <= reach[0]).double().mean().item(),
    }
