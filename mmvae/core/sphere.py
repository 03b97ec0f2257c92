"""Hyperspherical latents: von Mises-Fisher posteriors on the unit sphere, whose prior is uniform."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mmvae.core.functions import LOWEST, Within
from mmvae.core.latents import Latent, Posterior, by_row
from mmvae.core.noise import Noise, choose
from mmvae.core.priors import Prior

CELLS = 2048  # of the angle, over which sums stand for integrals
CONCENTRATION = 10_000.0  # at most: beyond it the cells are too wide


class VonMisesFisher(Posterior):
    """Density proportional to exp(v . z) for z on the unit sphere of R^D, D > 1: v is [B, D], its length the
    concentration; v = 0 is the uniform distribution.

    The angle between v and z has a density of one dimension, which is tabulated: draws are its inverse distribution
    function at a uniform number, and their derivatives are implicit (Figurnov et al. 2018).
    """

    def __init__(self, vector: Tensor) -> None:
        self.vector, dim = vector, vector.shape[1]
        length = vector.norm(dim=1, keepdim=True)
        first = torch.eye(1, dim, device=vector.device)
        self._mean = torch.where(length > 0, vector / length.clamp(min=1e-12), first)
        self.angles = (torch.arange(CELLS, device=vector.device) + 0.5) * (math.pi / CELLS)
        # cos - 1, in which long vectors do not cancel
        self.heights = -2 * (self.angles / 2).sin().square()
        logs = length * self.heights + (dim - 2) * self.angles.sin().log()
        self.shares = logs.softmax(1)  # of the angle's cells, [B, cells]
        around = logs.logsumexp(1, keepdim=True) + math.log(math.pi / CELLS)
        self.length, self.around = length, around + log_area(dim - 1)

    @property
    def mean(self) -> Tensor:
        """The direction of v, [B, D]."""
        return self._mean

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        angle = self._angle(noise.uniform(k))[..., None]
        mean = self.mean[:, None]
        across = noise.normal(k, mean.shape[2])
        across = across - (across * mean).sum(2, keepdim=True) * mean
        return angle.cos() * mean + angle.sin() * across / across.norm(dim=2, keepdim=True)

    def _angle(self, u: Tensor) -> Tensor:
        """Where the distribution function of each row's angle is u [B, k]."""
        upto = self.shares.cumsum(1)
        cell = choose(self.shares.detach(), u)
        share = self.shares.gather(1, cell).clamp(min=1e-12)
        below = upto.gather(1, cell) - share
        within = ((u - below) / share).detach().clamp(0, 1)
        angle = (cell + within) * (math.pi / CELLS)
        reached = below + within * share
        return angle - (reached - reached.detach()) * (math.pi / CELLS) / share.detach()

    def log_prob(self, z: Tensor) -> Tensor:
        return (self.vector[:, None] * z).sum(2) - self.length - self.around

    def rate_from_uniform(self) -> Tensor:
        """KL(q(z|x) || uniform) in nats, [B, 1]."""
        along = (self.shares * self.heights).sum(1, keepdim=True) * self.length
        return along - self.around + log_area(self.vector.shape[1])

    def detached(self) -> VonMisesFisher:
        return VonMisesFisher(self.vector.detach())


def log_area(dim: int) -> float:
    """The logarithm of the area of the unit sphere of R^dim."""
    return math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim)


class Sphere(Latent):
    """Directions (Davidson et al. 2018, "Hyperspherical Variational Auto-Encoders"): the uniform prior times one von
    Mises-Fisher expert for each modality that is present, whose vectors add. No modality: the prior."""

    def __init__(self, config: Latent.Config) -> None:
        super().__init__(config)
        self.outputs = config.dim + 1

    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> VonMisesFisher:
        vectors = {}
        for name, expert in experts.items():
            direction, log_length = expert.float().split([self.dim, 1], dim=1)
            length = Within.apply(log_length, LOWEST, math.log(CONCENTRATION)).exp()
            vectors[name] = length * direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)
        vector = by_row(vectors, present, size, self.dim)
        length = vector.norm(dim=1, keepdim=True)
        return VonMisesFisher(vector * (CONCENTRATION / length.clamp(min=CONCENTRATION)))


class UniformDirections(Prior):
    """The uniform distribution on the unit sphere (Davidson et al. 2018)."""

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.full(z.shape[:-1], -log_area(self.dim), device=z.device)

    def sample(self, noise: Noise) -> Tensor:
        drawn = noise.normal(self.dim)
        return drawn / drawn.norm(dim=1, keepdim=True)

    def rate(self, posterior: Posterior, z: Tensor) -> Tensor:
        return posterior.rate_from_uniform() if isinstance(posterior, VonMisesFisher) else super().rate(posterior, z)
