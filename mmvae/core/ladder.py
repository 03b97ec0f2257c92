"""Two levels of latents: what the lower one is expected to be follows from the upper one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from mmvae.core.experts import ProductOfExperts, precisions
from mmvae.core.latents import DiagonalGaussian, Latent, Posterior, log_normal, log_standard_normal
from mmvae.core.noise import Noise
from mmvae.core.priors import Prior

EXTREME = 6.0  # logarithms of the lower level's scales are within so much of 0


class Below(nn.Module):
    """The upper level [..., U] to mean and log-scale of the lower one, [..., D - U] each; N(0, I) at first."""

    def __init__(self, upper: int, lower: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(upper, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.last = nn.Linear(hidden, 2 * lower)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, upper: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(upper.device.type, enabled=False):  # parts of a density
            mean, log_scale = self.last(self.layers(upper.float())).chunk(2, dim=-1)
        return mean, EXTREME * torch.tanh(log_scale / EXTREME)


class Above(nn.Module):
    """What an encoder says for the upper level, an expert and further numbers [..., E + C], to the expert [..., E] that
    two more layers make of it; the one that it said, at first."""

    def __init__(self, expert: int, context: int, hidden: int) -> None:
        super().__init__()
        self.expert = expert
        self.layers = nn.Sequential(nn.SiLU(), nn.Linear(expert + context, hidden), nn.SiLU())
        self.last = nn.Linear(hidden, expert)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, said: Tensor) -> Tensor:
        return said[..., : self.expert] + self.last(self.layers(said))


class TwoLevels(Posterior):
    """q(u|x) q(l|u, x) of z = (u, l): the lower level's prior given u, times an expert of x.

    upper: q(u|x). precision, weighted: of the lower level's expert, and that times its mean, [B, D - U].
    """

    def __init__(self, upper: DiagonalGaussian, precision: Tensor, weighted: Tensor, below: Below) -> None:
        self.upper, self.precision, self.weighted, self.below = upper, precision, weighted, below

    def lower(self, upper: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For u [B, k, U]: mean and standard deviation of q(l|u, x), and those of p(l|u), [B, k, D - U]."""
        mean, log_scale = self.below(upper)
        of_prior = torch.exp(-2 * log_scale)
        precision = of_prior + self.precision[:, None]
        return (of_prior * mean + self.weighted[:, None]) / precision, precision.rsqrt(), mean, log_scale.exp()

    @property
    def mean(self) -> Tensor:
        upper = self.upper.mean
        return torch.cat([upper, self.lower(upper[:, None])[0][:, 0]], 1)

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        upper = self.upper.sample(noise, k)
        mean, stddev, _, _ = self.lower(upper)
        return torch.cat([upper, mean + stddev * noise.normal(k, mean.shape[2])], 2)

    def log_prob(self, z: Tensor) -> Tensor:
        upper, lower = z.tensor_split([self.upper.mean.shape[1]], dim=2)
        mean, stddev, _, _ = self.lower(upper)
        return self.upper.log_prob(upper) + log_normal(lower, mean, stddev)

    def rate(self, z: Tensor) -> Tensor:
        """KL(q(u|x) || N(0, I)), and KL(q(l|u, x) || p(l|u)) at the draws z [B, k, D], by dimension [B, D]."""
        mean, stddev, expected, scale = self.lower(z[..., : self.upper.mean.shape[1]])
        ratio = stddev / scale
        lower = 0.5 * (ratio**2 + ((mean - expected) / scale) ** 2 - 1) - ratio.log()
        return torch.cat([self.upper.rate_from_standard(), lower.mean(1)], 1)

    def detached(self) -> TwoLevels:
        raise ValueError("objective.encoder = dreg is not made for two levels: set it to 'same'")


class Ladder(Latent):
    """Two levels (Sonderby et al. 2016, "Ladder Variational Autoencoders"): on the way up each encoder gives a Gaussian
    expert of the lower level, and further layers turn what else it says into one of the upper level; on the way down
    the lower level's prior follows from the upper one, and experts multiply it. Decoders see both levels.

    No modality: the prior.
    """

    class Config(Latent.Config):
        upper: int = Field(8, ge=1, description="dimensions of the upper level; the others are the lower one's")
        context: int = Field(
            64, ge=0, description="numbers that an encoder gives beside its experts, for the upper one"
        )
        hidden: int = Field(256, ge=1, description="units of each layer between the levels, on the way up and down")

        @model_validator(mode="after")
        def _both(self) -> Self:
            if self.upper >= self.dim:
                raise ValueError(
                    f"latent.upper = {self.upper} must be below latent.dim = {self.dim}: some are the lower level's"
                )
            return self

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.top = ProductOfExperts(ProductOfExperts.Config(dim=config.upper))
        self.above = Above(self.top.outputs, config.context, config.hidden)
        self.split = self.top.outputs + config.context
        self.outputs = self.split + 2 * (config.dim - config.upper)
        self.below = Below(config.upper, config.dim - config.upper, config.hidden)

    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> TwoLevels:
        upper = {name: self.above(expert[:, : self.split]) for name, expert in experts.items()}
        below = {name: expert[:, self.split :] for name, expert in experts.items()}
        return TwoLevels(
            self.top(upper, present, size), *precisions(below, present, size, self.dim - self.top.dim), self.below
        )


class LadderPrior(Prior):
    """p(u) p(l|u): N(0, I) above, and below it what the network between the levels says (Sonderby et al. 2016)."""

    learned = True

    def attach(self, latent: Latent, posterior_of: Callable[[Any], Posterior]) -> None:
        if not isinstance(latent, Ladder):
            raise ValueError("prior.kind = ladder is made for latent.kind = ladder")
        self._below = [latent.below]  # in a list, as it is the latent's part already
        self.upper = latent.top.dim

    def _lower(self, upper: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = self._below[0](upper)
        return mean, log_scale.exp()

    def log_prob(self, z: Tensor) -> Tensor:
        upper, lower = z.tensor_split([self.upper], dim=-1)
        return log_standard_normal(upper) + log_normal(lower, *self._lower(upper))

    def sample(self, noise: Noise) -> Tensor:
        upper = noise.normal(self.upper)
        mean, scale = self._lower(upper)
        return torch.cat([upper, mean + scale * noise.normal(mean.shape[1])], 1)

    def rate(self, posterior: Posterior, z: Tensor) -> Tensor:
        return posterior.rate(z) if isinstance(posterior, TwoLevels) else super().rate(posterior, z)
