"""Gaussian experts, one for each modality: their product with the prior, or a mixture of such products."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from mmvae.core.functions import Within
from mmvae.core.latents import DiagonalGaussian, Latent, Posterior, by_row
from mmvae.core.noise import Noise
from mmvae.core.normalization import MeanNorm


def precisions(
    experts: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    size: int,
    dim: int,
    own: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Of diagonal Gaussian experts [n, 2 dim], means and log-precisions: the sum of the precisions, and that of the
    means times them, each [size, dim]. own: the dimensions [n, dim] that each speaks of, 1 or 0."""
    split = {name: expert.float().chunk(2, dim=-1) for name, expert in experts.items()}
    of_expert = {name: Within.apply(log_precision).exp() for name, (_, log_precision) in split.items()}
    if own:
        of_expert = {name: precision * own[name] for name, precision in of_expert.items()}
    weighted = {name: of_expert[name] * mean for name, (mean, _) in split.items()}
    return by_row(of_expert, present, size, dim), by_row(weighted, present, size, dim)


class GaussianExperts(Latent):
    """A family whose experts are diagonal Gaussians. The last dimensions of z may belong to one modality each: no other
    expert speaks of them and no other decoder sees them, so that what a picture says beside its digit need not be said
    of a sound (Lee & Pavlovic 2021, "Private-Shared Disentangled Multimodal VAE"). Where a modality is missing, its
    dimensions are as N(0, I) has them."""

    masks: Tensor

    def __init__(self, config: Latent.Config) -> None:
        super().__init__(config)
        self.outputs = 2 * config.dim
        self.names: list[str] = []
        self.register_buffer("masks", torch.zeros(0, config.dim), persistent=False)

    def attach(self, private: Mapping[str, int]) -> None:
        if not any(private.values()):
            return
        first = shared = self.dim - sum(private.values())
        if shared < 1:
            raise ValueError(
                f"modalities.NAME.private: {sum(private.values())} private dimensions leave none of latent.dim = "
                f"{self.dim} to be shared"
            )
        masks = torch.zeros(len(private), self.dim)
        masks[:, :shared] = 1.0
        for mask, count in zip(masks, private.values(), strict=True):
            mask[first : first + count] = 1.0
            first += count
        self.names, self.masks = list(private), masks.to(self.masks.device)

    @property
    def hides(self) -> bool:
        return bool(self.names)

    def spoken(self, present: Mapping[str, Tensor], heard: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The dimensions that each modality speaks of in the n rows that have it, [n, D]: its own, and the shared ones
        where it is heard, bool [B]; nothing where all are shared."""
        alone = self.masks.sum(0) == 1
        return {
            name: mask * (alone | heard[name][present[name]][:, None])
            for name, mask in self.own().items()
            if name in present
        }

    def own(self) -> dict[str, Tensor]:
        """The dimensions [D] that each modality speaks of and sees, 1 or 0; nothing where all are shared."""
        return dict(zip(self.names, self.masks, strict=True))

    def known(self, present: Mapping[str, Tensor]) -> Tensor:
        if not self.names:
            return super().known(present)
        return torch.stack([present[name][:, None] * self.own()[name] for name in present]).any(0)

    def shared(self) -> Tensor | None:
        return self.masks.all(0).nonzero().squeeze(1) if self.names else None

    def seen_by(self, name: str, z: Tensor) -> Tensor:
        return z * self.own()[name] if self.names else z


class ProductOfExperts(GaussianExperts):
    """Diagonal Gaussian: the prior N(0, I) times one Gaussian expert for each modality that is present.

    Precisions add, and the mean is the precision-weighted mean (Hinton 2002; Wu & Goodman 2018,
    "Multimodal Generative Models for Scalable Weakly-Supervised Learning"). What no expert speaks of is as the prior
    has it.
    """

    class Config(Latent.Config):
        with_prior: bool = Field(True, description="whether the prior is a factor of the product, beside the experts")
        min_rate: float = Field(
            0.0, ge=0, description="nats that every posterior is away from N(0, I) at least (delta-VAE)"
        )
        mean_scale: float = Field(
            0.0, ge=0, description="standard deviation to which the means are normalized over a batch (BN-VAE); 0: not"
        )

        @model_validator(mode="after")
        def _together(self) -> Self:
            if self.min_rate and not self.with_prior:
                raise ValueError("latent.min_rate is the prior's share of a product: set latent.with_prior to true")
            if self.min_rate > 5 * self.dim:
                raise ValueError("latent.min_rate: at most 5 nats for each dimension, so far from the prior is a point")
            return self

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.with_prior = config.with_prior
        self.least = least_precision(config.min_rate / config.dim) if config.with_prior else 0.0
        self.normalize = MeanNorm(config.dim, config.mean_scale) if config.mean_scale else None

    def attach(self, private: Mapping[str, int]) -> None:
        if any(private.values()) and (self.normalize is not None or self.least > 1):
            raise ValueError(
                "modalities.NAME.private: latent.mean_scale and latent.min_rate are for dimensions that all rows use: "
                "set them to 0"
            )
        super().attach(private)

    @torch.no_grad()
    def settle(self, means: Callable[[], Tensor]) -> None:
        if self.normalize is not None:
            self.normalize.settle(means())

    def forward(
        self,
        experts: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        size: int,
        seen: Mapping[str, Tensor] | None = None,
    ) -> DiagonalGaussian:
        spoken = self.spoken(present, seen or present)
        of_experts, weighted = precisions(experts, present, size, self.dim, spoken)
        # a precision above the prior's is itself a rate, whatever the encoder says (Razavi et al. 2019)
        precision = torch.where(of_experts > 0, self.least, 1.0) + of_experts
        mean = weighted / precision
        if self.normalize is not None:
            known = torch.stack(list(present.values())).any(0)
            mean = torch.where(known[:, None], self.normalize(mean, known), mean)
        stddev = precision.rsqrt()
        return DiagonalGaussian(mean, stddev) if self.with_prior else WithoutPrior(mean, stddev, of_experts > 0)


class WithoutPrior(DiagonalGaussian):
    """A product without N(0, I), but for dimensions that no expert speaks of. told: the dimensions that one speaks of,
    bool [B, D]."""

    def __init__(self, mean: Tensor, stddev: Tensor, told: Tensor) -> None:
        super().__init__(mean, stddev)
        self.told = told

    def gaussians(self, noise: Noise, k: int) -> DiagonalGaussian:
        # those that a prior is given are times N(0, I)
        precision = torch.where(self.told, self.stddev**-2, 0.0)
        return DiagonalGaussian(self.mean * precision / (1 + precision), (1 + precision).rsqrt())


def least_precision(rate: float) -> float:
    """The precision of the N(0, 1 / precision) that is `rate` nats away from N(0, 1), at least 1."""
    low, high = 1.0, math.exp(2 * rate + 1)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * (1 / middle - 1 + math.log(middle)) < rate else (low, middle)
    return low if rate else 1.0


class MixtureOfGaussians(Posterior):
    """An even mixture of C diagonal Gaussians, mean and stddev [B, C, D], of those that a row has, bool [B, C]."""

    quick = True

    def __init__(self, mean: Tensor, stddev: Tensor, there: Tensor) -> None:
        self.means, self.stddevs, self.there = mean, stddev, there

    @property
    def mean(self) -> Tensor:
        share = self.there / self.there.sum(1, keepdim=True)
        return (self.means * share[..., None]).sum(1)

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        return self._drawn(self._any(noise, k), noise)

    def gaussians(self, noise: Noise, k: int) -> DiagonalGaussian:
        return DiagonalGaussian(*(part.flatten(0, 1) for part in self._at(self._any(noise, k))))

    def sample_groups(self, noise: Noise, groups: int, k: int) -> Tensor:
        """Of several groups each is of one Gaussian, in turn: no decoder is spared what an expert says alone
        (Shi et al. 2019)."""
        if groups == 1:
            return self.sample(noise, k)
        turn = torch.arange(groups, device=self.there.device).repeat_interleave(k)
        return self._drawn((turn + self._any(noise, 1)) % self.there.sum(1, keepdim=True), noise)

    def _any(self, noise: Noise, k: int) -> Tensor:
        """Places [B, k] among the Gaussians that a row has."""
        return (noise.uniform(k) * self.there.sum(1, keepdim=True)).long()

    def _at(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and stddev [B, k, D] at each place among the Gaussians that a row has."""
        chosen = self.there.float().sort(dim=1, descending=True, stable=True).indices.gather(1, place)
        index = chosen[..., None].expand(-1, -1, self.means.shape[-1])
        return self.means.gather(1, index), self.stddevs.gather(1, index)

    def _drawn(self, place: Tensor, noise: Noise) -> Tensor:
        mean, stddev = self._at(place)
        return mean + stddev * noise.normal(*mean.shape[1:])

    def log_prob(self, z: Tensor) -> Tensor:
        count = self.there.shape[1]
        return self._mixed(self._parts().log_prob(z.repeat_interleave(count, 0)))

    def pairs(self, z: Tensor) -> Tensor:
        return self._mixed(self._parts().pairs(z))

    def _parts(self) -> DiagonalGaussian:
        return DiagonalGaussian(self.means.flatten(0, 1), self.stddevs.flatten(0, 1))

    def _mixed(self, each: Tensor) -> Tensor:
        """Log-densities under the mixture [B, k] from those under each component, [B * C, k]."""
        of_there = each.view(*self.there.shape, -1).masked_fill(~self.there[..., None], -torch.inf)
        return of_there.logsumexp(1) - self.there.sum(1, keepdim=True).log()

    def within(self, dims: Tensor | slice) -> MixtureOfGaussians:
        return MixtureOfGaussians(self.means[..., dims], self.stddevs[..., dims], self.there)

    def detached(self) -> MixtureOfGaussians:
        return MixtureOfGaussians(self.means.detach(), self.stddevs.detach(), self.there)


class MixtureOfExperts(GaussianExperts):
    """An even mixture: of the prior times each expert alone (Shi et al. 2019, "Variational Mixture-of-Experts
    Autoencoders"), or times every subset of those that are present (Sutter et al. 2021, "Generalized Multimodal ELBO").
    No modality: the prior. The density is that of the mixture itself, where the papers bound it."""

    class Config(Latent.Config):
        of: Literal["experts", "products"] = Field("experts", description="or of the products of all their subsets")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.products = config.of == "products"

    def forward(
        self,
        experts: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        size: int,
        seen: Mapping[str, Tensor] | None = None,
    ) -> MixtureOfGaussians:
        heard = seen or present
        most = len(experts) if self.products else 1
        parts = [part for count in range(1, most + 1) for part in combinations(experts, count)]
        nothing = ~torch.stack(list(heard.values())).any(0)
        prior = torch.zeros(size, self.dim, device=nothing.device)
        there, means, log_precisions = [nothing], [prior], [prior]
        for part in parts:
            # what is private is said in every component
            given = experts if self.names else {name: experts[name] for name in part}
            of_part = {name: rows if name in part else torch.zeros_like(rows) for name, rows in heard.items()}
            of_experts, weighted = precisions(given, present, size, self.dim, self.spoken(present, of_part))
            there.append(torch.stack([heard[name] for name in part]).all(0))
            means.append(weighted / (1 + of_experts))
            log_precisions.append(of_experts.log1p())
        stddev = torch.exp(-0.5 * torch.stack(log_precisions, 1))
        return MixtureOfGaussians(torch.stack(means, 1), stddev, torch.stack(there, 1))
