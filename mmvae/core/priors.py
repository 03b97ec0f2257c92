"""Priors p(z): what latents are drawn from, and what the rate is measured against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmvae.core.latents import DiagonalGaussian, Latent, Point, Posterior, log_standard_normal
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

    def given(self, evidence: DiagonalGaussian) -> Posterior:
        """Gaussians [B, D] that are N(0, I) times what experts say, with this prior in the place of N(0, I): what those
        experts leave open is then as the prior has it, given what they say. By default the Gaussians as they are."""
        return evidence

    def rate(self, posterior: Posterior, z: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats, [B, parts]: parts are dimensions where the prior factorizes, else 1.

        z: the draws [B, k, D] that estimate it where it has no closed form. The rate of a point is given as 0.
        """
        if isinstance(posterior, Point):
            return torch.zeros(len(z), 1, device=z.device)
        of_prior = self.log_prob(z)
        if of_prior.shape != z.shape[:-1]:  # which would broadcast, and be no density
            raise ValueError(
                f"{type(self).__name__}.log_prob gives {tuple(of_prior.shape)} for z {tuple(z.shape)}, not "
                f"{tuple(z.shape[:-1])}"
            )
        return (posterior.log_prob(z) - of_prior).mean(1, keepdim=True)


class StandardNormal(Prior):
    """N(0, I) (Kingma & Welling 2014)."""

    def log_prob(self, z: Tensor) -> Tensor:
        return log_standard_normal(z)

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
    "mmvae.priors",
)
