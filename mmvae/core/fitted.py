"""A mixture of Gaussians fitted to the encoded training set after training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmvae.core.noise import Noise
from mmvae.core.priors import Prior
from mmvae.core.registry import Settings

LEAST_ROWS = 4  # of a component, on average
AT_ONCE = 1024  # rows that are completed together
STRENGTHS = (0.25, 0.5, 1.0, 2.0)  # rows a dimension that the covariance within all components counts for in each


class FittedMixture(Prior):
    """A mixture of full Gaussians.

    An ex-post density estimate (Ghosh et al. 2020, "From Variational to Deterministic Autoencoders"):
    samples come from where the decoder has been trained, which N(0, I) only approximates.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, dim: int, components: int) -> None:
        super().__init__(Settings(), dim)
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, dim))
        self.register_buffer("factors", torch.eye(dim).repeat(components, 1, 1))

    @staticmethod
    def components(most: int, rows: int) -> int:
        """How many components to fit to so many rows: each needs four of them."""
        return max(1, min(most, rows // LEAST_ROWS))

    @classmethod
    def fit(cls, draws: Tensor, held: Tensor, components: int, seed: int) -> FittedMixture:
        """Fit so many components, or as many as rows allow, to posterior draws of training rows, [N, k, D]; draws of
        rows held out, [M, D], decide how far the components' covariances are shrunk.

        Components are clusters (k-means of scikit-learn). Their covariances are shrunk towards that within all of them,
        as by a prior over covariances (Fraley & Raftery 2007), so that there may be many of few rows each: samples of
        2,400 spoken digits are far better from 300 than from the nine that could stand alone. More components are
        nearer to the training rows: where those are few, copies come of it.
        """
        from sklearn.cluster import KMeans

        (n, k, dim), data = draws.shape, draws.flatten(0, 1).cpu().double().numpy()
        clusters = KMeans(cls.components(components, n), n_init=1, random_state=seed % 2**32).fit_predict(data)
        fits = [cls._of_clusters(data, clusters, strength * dim * k) for strength in STRENGTHS]
        parts = held.cpu().float().split(1024)
        return max(fits, key=lambda prior: sum(prior.log_prob(part).sum().item() for part in parts))

    @classmethod
    def _of_clusters(cls, data: np.ndarray, clusters: np.ndarray, strength: float) -> FittedMixture:
        """The mixture of clusters of rows [N, D], `strength` counting against their numbers of rows."""
        from sklearn.covariance import ledoit_wolf

        parts = [data[clusters == cluster] for cluster in np.unique(clusters)]
        means = np.stack([part.mean(0) for part in parts])
        spread = [part - mean for part, mean in zip(parts, means, strict=True)]
        within = ledoit_wolf(np.concatenate(spread))[0]
        within += 1e-3 * data.var(0).mean() * np.eye(data.shape[1])
        covariances = [(each.T @ each + strength * within) / (len(each) + strength) for each in spread]
        prior = cls(data.shape[1], len(parts))
        prior.weights.copy_(torch.tensor([len(part) / len(data) for part in parts]))
        prior.means.copy_(torch.from_numpy(means))
        prior.factors.copy_(torch.linalg.cholesky(torch.from_numpy(np.stack(covariances))))
        return prior

    def log_prob(self, z: Tensor) -> Tensor:
        components = torch.distributions.MultivariateNormal(self.means, scale_tril=self.factors)
        return torch.logsumexp(components.log_prob(z[..., None, :]) + self.weights.log(), dim=-1)

    def sample(self, noise: Noise) -> Tensor:
        edges = self.weights.cumsum(0)
        chosen = torch.searchsorted(edges, noise.uniform() * edges[-1]).clamp(max=len(edges) - 1)
        return self.means[chosen] + (self.factors[chosen] @ noise.normal(self.dim, 1)).squeeze(-1)

    def completed(self, z: Tensor, known: Tensor, noise: Noise) -> Tensor:
        u, normal, drawn = noise.uniform(1), noise.normal(self.dim), z.clone()
        for pattern in known[~known.all(1)].unique(dim=0):
            for rows in (known == pattern).all(1).nonzero().squeeze(1).split(AT_ONCE):
                drawn[rows] = self._completed(z[rows], pattern, u[rows], normal[rows])
        return drawn

    def _completed(self, z: Tensor, known: Tensor, u: Tensor, normal: Tensor) -> Tensor:
        """For rows [B, D] of which the same dimensions [D] are known; u [B, 1], normal [B, D]."""
        order, count = known.int().argsort(descending=True, stable=True), int(known.sum())
        factors = torch.linalg.cholesky((self.factors @ self.factors.mT)[:, order][:, :, order])
        of_known, unknown = factors[:, :count, :count], order[count:]
        away = (z[:, None] - self.means)[..., order[:count]].permute(1, 2, 0)  # [components, known, B]
        white = torch.linalg.solve_triangular(of_known, away, upper=False)
        volumes = of_known.diagonal(dim1=1, dim2=2).log().sum(1)
        edges = (self.weights.log() - volumes - 0.5 * white.square().sum(1).T).softmax(1).cumsum(1)
        chosen = torch.searchsorted(edges, u * edges[:, -1:]).clamp(max=len(self.weights) - 1)[:, 0]
        given = torch.cat([white[chosen, :, torch.arange(len(z))], normal[:, unknown]], 1)
        drawn = z.clone()
        drawn[:, unknown] = self.means[chosen][:, unknown] + (factors[chosen, count:] @ given[..., None]).squeeze(-1)
        return drawn
