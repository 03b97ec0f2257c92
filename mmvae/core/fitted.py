"""A mixture of Gaussians fitted to the encoded training set after training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmvae.core.latents import DiagonalGaussian
from mmvae.core.noise import Noise
from mmvae.core.priors import Prior
from mmvae.core.registry import Settings

LEAST_ROWS = 4  # of a component, on average
AT_ONCE = 2**25  # numbers of covariances, of all components and rows that are drawn together
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

    def given(self, evidence: DiagonalGaussian, noise: Noise) -> Tensor:
        u, normal = noise.uniform(1), noise.normal(2, self.dim)
        rows = max(1, AT_ONCE // (self.means.numel() * self.dim))
        parts = (evidence.mean, evidence.stddev, u, normal)
        return torch.cat([self._given(*part) for part in zip(*(part.split(rows) for part in parts), strict=True)])

    def _given(self, mean: Tensor, stddev: Tensor, u: Tensor, normal: Tensor) -> Tensor:
        """Of mean and stddev [B, D]; u [B, 1], normal [B, 2, D]. What the experts alone say has precisions L and means
        mu. Of a component N(m, S), with R = L^1/2 and B = I + R S R, the mean is m + S R B^-1 R (mu - m)."""
        root = (stddev**-2 - 1).clamp(min=0).sqrt()
        told = torch.where(root > 0, mean / stddev**2 / root, 0.0)  # R mu
        spoken = root.gt(0).any(0).nonzero().squeeze(1)
        root, told, factors = root[:, spoken], told[:, spoken], self.factors[:, spoken]
        within = root[:, None, :, None] * (factors @ factors.mT) * root[:, None, None]
        factor = torch.linalg.cholesky(within + torch.eye(len(spoken), device=within.device))
        away = told[:, None] - root[:, None] * self.means[:, spoken]
        white = torch.linalg.solve_triangular(factor, away[..., None], upper=False)[..., 0]
        volumes = factor.diagonal(dim1=2, dim2=3).log().sum(2)
        edges = (self.weights.log() - volumes - 0.5 * white.square().sum(2)).softmax(1).cumsum(1)
        chosen = torch.searchsorted(edges, u * edges[:, -1:]).clamp(max=len(self.weights) - 1)[:, 0]
        # a draw of the component, moved as a draw of the evidence tells it to (Matheron's rule)
        drawn = self.means[chosen] + (self.factors[chosen] @ normal[:, 0, :, None])[..., 0]
        missed = told - root * drawn[:, spoken] - normal[:, 1, spoken]
        moved = root * torch.cholesky_solve(missed[..., None], factor[torch.arange(len(u)), chosen])[..., 0]
        return drawn + (self.factors[chosen] @ (factors[chosen].mT @ moved[..., None]))[..., 0]
