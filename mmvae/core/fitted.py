"""A mixture of Gaussians fitted to the encoded training set after training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmvae.core.latents import DiagonalGaussian, Posterior, log_standard_normal
from mmvae.core.noise import Noise, choose
from mmvae.core.priors import Given, Prior
from mmvae.core.registry import Settings

LEAST_ROWS = 4  # of a component, on average
EM_STEPS = 100
LEAST_SHARE = 0.05  # of N(0, I), to be a component
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

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, factors: Tensor) -> FittedMixture:
        """That of weights [K], means [K, D] and the Cholesky factors [K, D, D] of covariances."""
        made = cls(means.shape[1], len(means))
        made.weights, made.means, made.factors = weights.detach(), means.detach(), factors.detach()
        return made

    @property
    def standard_share(self) -> float:
        """The weight of N(0, I), where it is one of the components: the last."""
        return 0.0 if self.means[-1].any() else self.weights[-1].item()

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

        N(0, I) is one more component, by as much as it accounts for held-out rows (of texts, many of them: clusters lie
        where training rows were learned by heart), unless that is less than a twentieth.
        """
        from sklearn.cluster import KMeans

        (n, k, dim), data = draws.shape, draws.flatten(0, 1).cpu().double().numpy()
        clusters = KMeans(cls.components(components, n), n_init=1, random_state=seed % 2**32).fit_predict(data)
        fits = [cls._of_clusters(data, clusters, strength * dim * k) for strength in STRENGTHS]
        parts = held.cpu().float().split(1024)
        best = max(fits, key=lambda prior: sum(prior.log_prob(part).sum().item() for part in parts))
        return best._beside_standard(parts)

    def _beside_standard(self, held: Sequence[Tensor]) -> FittedMixture:
        """The mixture with N(0, I) as one more component, of the weight that is best for held-out rows (EM)."""
        odds = torch.cat([log_standard_normal(part) - self.log_prob(part) for part in held])
        share = torch.tensor(0.5)
        for _ in range(EM_STEPS):
            share = (odds + share.logit()).sigmoid().mean()
        if share < LEAST_SHARE:
            return self
        return FittedMixture.of(
            torch.cat([self.weights * (1 - share), share[None]]),
            torch.cat([self.means, torch.zeros(1, self.dim)]),
            torch.cat([self.factors, torch.eye(self.dim)[None]]),
        )

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
        weights = torch.tensor([len(part) / len(data) for part in parts])
        factors = torch.linalg.cholesky(torch.from_numpy(np.stack(covariances)))
        return cls.of(weights, torch.from_numpy(means).float(), factors.float())

    def log_prob(self, z: Tensor) -> Tensor:
        components = torch.distributions.MultivariateNormal(self.means, scale_tril=self.factors)
        return torch.logsumexp(components.log_prob(z[..., None, :]) + self.weights.log(), dim=-1)

    def sample(self, noise: Noise) -> Tensor:
        chosen = choose(self.weights, noise.uniform())
        return self.means[chosen] + (self.factors[chosen] @ noise.normal(self.dim, 1)).squeeze(-1)

    def given(self, evidence: DiagonalGaussian) -> Posterior:
        return Given(self, self.weights, self.means, self.factors, evidence)
