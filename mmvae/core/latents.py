"""Posterior families: how the experts of the modalities that are present become one q(z|x)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from mmvae.core.noise import Noise
from mmvae.core.registry import Registry, Settings


class Posterior(ABC):
    """q(z|x) for each of B rows."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The means, [B, D]."""

    @abstractmethod
    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        """k reparametrized draws for each row, [B, k, D]."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of z [B, k, D] in nats, [B, k]."""


class DiagonalGaussian(Posterior):
    """N(mean, diag(stddev^2)), both [B, D]."""

    def __init__(self, mean: Tensor, stddev: Tensor) -> None:
        self._mean, self.stddev = mean, stddev

    @property
    def mean(self) -> Tensor:
        return self._mean

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        return self.mean[:, None] + self.stddev[:, None] * noise.normal(k, self.mean.shape[1])

    def log_prob(self, z: Tensor) -> Tensor:
        scaled = (z - self.mean[:, None]) / self.stddev[:, None]
        return (-0.5 * scaled**2 - self.stddev[:, None].log() - 0.5 * math.log(2 * math.pi)).sum(-1)


class Latent(nn.Module, ABC):
    """A posterior family. `outputs` numbers are asked of each modality's encoder."""

    class Config(Settings):
        dim: int = Field(32, ge=1, description="dimensions of the latent space")

    outputs: int

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dim = config.dim

    @abstractmethod
    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> Posterior:
        """The posterior of `size` rows.

        experts: for each modality the encoder's outputs [n, outputs] of the n rows that have it.
        present: for each modality which rows those are, bool [size].
        """


class ProductOfExperts(Latent):
    """Diagonal Gaussian: the prior N(0, I) times one Gaussian expert for each modality that is present.

    Precisions add, and the mean is the precision-weighted mean (Hinton 2002; Wu & Goodman 2018,
    "Multimodal Generative Models for Scalable Weakly-Supervised Learning"). No modality: the prior.
    """

    def __init__(self, config: Latent.Config) -> None:
        super().__init__(config)
        self.outputs = 2 * config.dim

    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> DiagonalGaussian:
        device = next(iter(present.values())).device
        precision = torch.ones(size, self.dim, device=device)
        weighted = torch.zeros(size, self.dim, device=device)
        for name, expert in experts.items():
            mean, log_precision = expert.float().chunk(2, dim=-1)
            of_expert = log_precision.clamp(-12.0, 12.0).exp()
            rows = present[name].nonzero().squeeze(1)
            precision = precision.index_add(0, rows, of_expert)
            weighted = weighted.index_add(0, rows, of_expert * mean)
        return DiagonalGaussian(weighted / precision, precision.rsqrt())


latents: Registry[Latent] = Registry("posterior family", {"gaussian": f"{__name__}:ProductOfExperts"})
