"""Priors p(z): what latents are drawn from, and what the rate is measured against."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmvae.core.latents import Latent, Point, Posterior
from mmvae.core.noise import Noise
from mmvae.core.registry import Registry, Settings


class Prior(nn.Module, ABC):
    """A density over z in R^dim."""

    Config: type[Settings] = Settings  # the table's further keys
    learned = False  # whether it has weights that are trained together with the networks
    examples = 0  # training rows that it asks to be shown

    def __init__(self, config: Any, dim: int) -> None:
        super().__init__()
        self.config, self.dim = config, dim

    def attach(self, latent: Latent, posterior_of: Callable[[Any], Posterior]) -> None:
        """Meet the network that it is the prior of: its posterior family, and q(z|x) of a batch. Raises ValueError when
        it is not made for that family."""

    def show(self, batch: Any) -> None:
        """See a batch of `examples` training rows, before the first step."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of z [..., D] in nats, [...]."""

    @abstractmethod
    def sample(self, noise: Noise) -> Tensor:
        """One z for each row of the noise, [B, D]."""

    def rate(self, posterior: Posterior, z: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats, [B, parts]: parts are dimensions where the prior factorizes, else 1.

        z: the draws [B, k, D] that estimate it where it has no closed form. The rate of a point is given as 0.
        """
        if isinstance(posterior, Point):
            return torch.zeros(len(z), 1, device=z.device)
        return (posterior.log_prob(z) - self.log_prob(z)).mean(1, keepdim=True)


class StandardNormal(Prior):
    """N(0, I) (Kingma & Welling 2014)."""

    def log_prob(self, z: Tensor) -> Tensor:
        return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum(-1)

    def sample(self, noise: Noise) -> Tensor:
        return noise.normal(self.dim)

    def rate(self, posterior: Posterior, z: Tensor) -> Tensor:
        closed = posterior.rate_from_standard()
        return super().rate(posterior, z) if closed is None else closed


class NoPrior(Prior):
    """z = 0 for sure, for a model without a latent. Densities are relative to that point, so they are 1."""

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.zeros(z.shape[:-1], device=z.device)

    def sample(self, noise: Noise) -> Tensor:
        return torch.zeros(len(noise), self.dim, device=noise.device)


class FittedMixture(Prior):
    """A mixture of full Gaussians fitted to the encoded training set after training.

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
    def fit(cls, z: Tensor, components: int, seed: int) -> FittedMixture:
        """Fit to draws z [N, D] by expectation-maximization (scikit-learn).

        Uses at most `components`, and fewer where N is too small for that many covariances; where it is too small for
        one, its covariance is shrunk (Ledoit & Wolf 2004).
        """
        from sklearn.covariance import ledoit_wolf
        from sklearn.mixture import GaussianMixture

        (n, dim), data = z.shape, z.cpu().double().numpy()
        components = max(1, min(components, n // (4 * dim)))
        least = 1e-3 * data.var(0).mean()
        prior = cls(dim, components)
        if n < 4 * dim:
            means, covariances = data.mean(0)[None], ledoit_wolf(data)[0][None] + least * np.eye(dim)
        else:
            fitted = GaussianMixture(components, reg_covar=least, random_state=seed % 2**32).fit(data)
            prior.weights.copy_(torch.from_numpy(fitted.weights_))
            means, covariances = fitted.means_, fitted.covariances_
        prior.means.copy_(torch.from_numpy(means))
        prior.factors.copy_(torch.linalg.cholesky(torch.from_numpy(covariances)))
        return prior

    def log_prob(self, z: Tensor) -> Tensor:
        components = torch.distributions.MultivariateNormal(self.means, scale_tril=self.factors)
        return torch.logsumexp(components.log_prob(z[..., None, :]) + self.weights.log(), dim=-1)

    def sample(self, noise: Noise) -> Tensor:
        edges = self.weights.cumsum(0)
        chosen = torch.searchsorted(edges, noise.uniform() * edges[-1]).clamp(max=len(edges) - 1)
        return self.means[chosen] + (self.factors[chosen] @ noise.normal(self.dim, 1)).squeeze(-1)


priors: Registry[Prior] = Registry(
    "prior",
    {
        "standard": f"{__name__}:StandardNormal",
        "none": f"{__name__}:NoPrior",
        "mixture": "mmvae.core.learned_priors:Mixture",
        "flow": "mmvae.core.learned_priors:Flow",
        "vamp": "mmvae.core.vamp:Vamp",
        "sphere": "mmvae.core.sphere:UniformDirections",
        "ladder": "mmvae.core.ladder:LadderPrior",
        "codes": "mmvae.core.codes:UniformCodes",
    },
)
