"""Posterior families: how the experts of the modalities that are present become one q(z|x)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from mmvae.core.noise import Noise
from mmvae.core.registry import Registry, Settings


class Posterior(ABC):
    """q(z|x) for each of B rows."""

    quick = False  # whether `pairs` is fast

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The means, [B, D]."""

    @abstractmethod
    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        """k reparametrized draws for each row, [B, k, D]."""

    def sample_groups(self, noise: Noise, groups: int, k: int) -> Tensor:
        """Groups of k draws for each row, one after another, [B, groups * k, D]; a mixture's parts may take turns."""
        return self.sample(noise, groups * k)

    def gaussians(self, noise: Noise, k: int) -> DiagonalGaussian | None:
        """The diagonal Gaussians that k draws of each row are of: one a draw, [B * k, D], or one a row, [B, D], where
        all its draws are of the same; of a product without N(0, I), times it. None where they are of no Gaussian."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of z [B, k, D] in nats, [B, k]."""

    def pairs(self, z: Tensor) -> Tensor:
        """Log-densities of P other z [P, D] under each row's posterior, [B, P]."""
        return self.log_prob(z.expand(len(self.mean), -1, -1))

    def rate_from_standard(self) -> Tensor | None:
        """KL(q(z|x) || N(0, I)) in nats where it has a closed form, [B, parts]: a part for each dimension where q
        factorizes, else one."""
        return None

    def auxiliary(self) -> Tensor | None:
        """What the family asks of training beside the rate, [B]; nothing by default."""

    def within(self, dims: Tensor | slice) -> Posterior:
        """Of some dimensions of z alone, by their numbers; of families that have private ones."""
        raise NotImplementedError

    def detached(self) -> Posterior:
        """The same density, which gives the encoder no gradient; of what encoders give."""
        raise NotImplementedError


def log_standard_normal(z: Tensor) -> Tensor:
    """Log-density of N(0, I) at z in nats, summed over the last axis."""
    return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum(-1)


def log_normal(x: Tensor, mean: Tensor, stddev: Tensor) -> Tensor:
    """Log-density of N(mean, diag(stddev^2)) at x in nats, summed over the last axis."""
    return (-0.5 * ((x - mean) / stddev) ** 2 - stddev.log() - 0.5 * math.log(2 * math.pi)).sum(-1)


class DiagonalGaussian(Posterior):
    """N(mean, diag(stddev^2)), both [B, D]."""

    quick = True

    def __init__(self, mean: Tensor, stddev: Tensor) -> None:
        self._mean, self.stddev = mean, stddev

    @property
    def mean(self) -> Tensor:
        return self._mean

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        return self.mean[:, None] + self.stddev[:, None] * noise.normal(k, self.mean.shape[1])

    def gaussians(self, noise: Noise, k: int) -> DiagonalGaussian:
        return self

    def log_prob(self, z: Tensor) -> Tensor:
        return log_normal(z, self.mean[:, None], self.stddev[:, None])

    def pairs(self, z: Tensor) -> Tensor:
        # products of matrices, in float64: the terms cancel
        z, mean, precision = z.cpu().double(), self.mean.cpu().double(), self.stddev.cpu().double() ** -2
        constant = 0.5 * (precision.log() - mean**2 * precision - math.log(2 * math.pi)).sum(1)
        scores = (mean * precision) @ z.T - 0.5 * precision @ (z**2).T + constant[:, None]
        return scores.float().to(self.mean.device)

    def within(self, dims: Tensor | slice) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean[:, dims], self.stddev[:, dims])

    def rate_from_standard(self) -> Tensor:
        return 0.5 * (self.mean**2 + self.stddev**2 - 1) - self.stddev.log()

    def detached(self) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean.detach(), self.stddev.detach())


class Point(Posterior):
    """One z for sure, [B, D]. Densities are relative to that point, so they are 1, and its rate is given as 0."""

    quick = True

    def __init__(self, mean: Tensor) -> None:
        self._mean = mean

    @property
    def mean(self) -> Tensor:
        return self._mean

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        return self.mean[:, None].expand(-1, k, -1)

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.zeros(z.shape[:2], device=z.device)

    def pairs(self, z: Tensor) -> Tensor:
        return torch.where((self.mean[:, None] == z).all(-1), 0.0, -torch.inf)

    def detached(self) -> Point:
        return Point(self.mean.detach())


class Latent(nn.Module, ABC):
    """A posterior family. `outputs` numbers are asked of each modality's encoder; 0 where encoders are not used."""

    class Config(Settings):
        dim: int = Field(32, ge=1, description="dimensions of the latent space")

    outputs: int
    hides = False  # whether its forward takes, as `seen`, the rows where a modality says anything of shared dimensions
    bounded = True  # whether there are bounds on the evidence: not where z is a point but its prior a density

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dim = config.dim

    def attach(self, private: Mapping[str, int]) -> None:
        """Meet the modalities by name, and how many dimensions of z each asks to have for itself. Raises ValueError
        where the family has none to give."""
        if any(private.values()):
            raise ValueError("modalities.NAME.private: only latent.kind 'gaussian' and 'mixture' have such dimensions")

    def known(self, present: Mapping[str, Tensor]) -> Tensor:
        """The dimensions that any modality of a row speaks of, bool [B, D]; present: as for forward."""
        rows = next(iter(present.values()))
        return torch.ones(len(rows), self.dim, dtype=torch.bool, device=rows.device)

    def shared(self) -> Tensor | None:
        """The numbers of the dimensions that are of all modalities; None where all are."""

    def seen_by(self, name: str, z: Tensor) -> Tensor:
        """What the decoder of a modality sees of z [B, D]."""
        return z

    def settle(self, means: Callable[[], Tensor]) -> None:
        """Set what the family knows of posteriors in general by the means [N, D] that its network gives training rows,
        in place of what it learned along with other weights; nothing by default."""

    @abstractmethod
    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> Posterior:
        """The posterior of `size` rows.

        experts: for each modality the encoder's outputs [n, outputs] of the n rows that have it.
        present: for each modality which rows those are, bool [size].
        """


def by_row(parts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int, *shape: int) -> Tensor:
    """The sum over modalities of what each says of the rows that have it, parts[name] [n, *shape]: [size, *shape]."""
    total = torch.zeros(size, *shape, device=next(iter(present.values())).device)
    for name, part in parts.items():
        total = total.index_add(0, present[name].nonzero().squeeze(1), part.float())
    return total


def mean_by_row(experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int, outputs: int) -> Tensor:
    """The mean of what a row's modalities say, [size, outputs]; 0 where there is none."""
    total = by_row(experts, present, size, outputs)
    count = torch.stack([present[name] for name in experts]).sum(0) if experts else total.new_ones(size)
    return total / count.clamp(min=1)[:, None]


class NoLatent(Latent):
    """z = 0 for every row: the decoders alone, the baseline that a latent must beat (Bowman et al. 2016)."""

    def __init__(self, config: Latent.Config) -> None:
        super().__init__(config)
        self.outputs = 0

    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> Point:
        return Point(torch.zeros(size, self.dim, device=next(iter(present.values())).device))


class Deterministic(Latent):
    """A point, the mean of what the encoders of a row's modalities say: an autoencoder, whose prior is fitted after
    training (Ghosh et al. 2020, "From Variational to Deterministic Autoencoders"). No modality: 0."""

    bounded = False

    def __init__(self, config: Latent.Config) -> None:
        super().__init__(config)
        self.outputs = config.dim

    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> Point:
        return Point(mean_by_row(experts, present, size, self.dim))


latents: Registry[Latent] = Registry(
    "posterior family",
    {
        "gaussian": "mmvae.core.experts:ProductOfExperts",
        "mixture": "mmvae.core.experts:MixtureOfExperts",
        "deterministic": f"{__name__}:Deterministic",
        "none": f"{__name__}:NoLatent",
        "correlated": "mmvae.core.families:CorrelatedProduct",
        "flow": "mmvae.core.families:FlowRefined",
        "sphere": "mmvae.core.sphere:Sphere",
        "hyperbolic": "mmvae.core.hyperbolic:Hyperbolic",
        "ladder": "mmvae.core.ladder:Ladder",
        "vq": "mmvae.core.codes:VectorQuantized",
        "fsq": "mmvae.core.codes:FiniteScalar",
        "gumbel": "mmvae.core.codes:GumbelSoftmax",
    },
    "mmvae.latents",
)


def slerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """From a to b [D] along a great circle, lengths interpolated, for weights [n, 1] in [0, 1] (Shoemake 1985)."""
    lengths = a.norm().clamp(min=1e-12), b.norm().clamp(min=1e-12)
    cosine = (a @ b / (lengths[0] * lengths[1])).clamp(-1, 1)
    angle = torch.acos(cosine)
    if angle.sin() < 1e-4:  # the same direction, or opposite ones, between which no circle is chosen
        return torch.lerp(a, b, weight)
    direction = (
        torch.sin((1 - weight) * angle) * a / lengths[0] + torch.sin(weight * angle) * b / lengths[1]
    ) / angle.sin()
    return direction * torch.lerp(lengths[0], lengths[1], weight)
