"""Priors that are learned, together with the networks or afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mmvae.core.experts import GaussianExperts
from mmvae.core.latents import DiagonalGaussian, Latent, Posterior, log_normal
from mmvae.core.noise import Noise, choose
from mmvae.core.priors import Given, Prior
from mmvae.core.registry import Settings
from mmvae.core.trees import Tree

WIDEST = 3.0  # log-scale of a conditional Gaussian, either way


class Mixture(Prior):
    """A mixture of diagonal Gaussians (Dilokthanakul et al. 2016, "Deep Unsupervised Clustering with Gaussian Mixture
    Variational Autoencoders"), in z alone."""

    learned = True

    class Config(Settings):
        components: int = Field(20, ge=1, description="Gaussians")

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__(config, dim)
        self.logits = nn.Parameter(torch.zeros(config.components))
        self.means = nn.Parameter(torch.randn(config.components, dim))
        self.log_scales = nn.Parameter(torch.zeros(config.components, dim))

    def log_prob(self, z: Tensor) -> Tensor:
        each = log_normal(z[..., None, :], self.means, self.log_scales.exp())
        return torch.logsumexp(each + self.logits.log_softmax(0), -1)

    def sample(self, noise: Noise) -> Tensor:
        chosen = choose(self.logits.softmax(0), noise.uniform())
        return self.means[chosen] + self.log_scales[chosen].exp() * noise.normal(self.dim)

    def given(self, evidence: DiagonalGaussian) -> Posterior:
        factors = self.log_scales.exp().diag_embed()
        return Given(self, self.logits.softmax(0), self.means, factors, evidence)


class Conditional(nn.Module):
    """A mixture of diagonal Gaussians that a network gives for each condition (Bishop 1994, "Mixture Density
    Networks")."""

    def __init__(self, condition: int, dim: int, components: int, hidden: int) -> None:
        super().__init__()
        self.dim, self.sizes = dim, [components, components * dim, components * dim]
        last = nn.Linear(hidden, sum(self.sizes))
        with torch.no_grad():  # at first all alike, but for where they are
            last.weight.mul_(0.1)
            last.bias.zero_()
            last.bias.split(self.sizes)[1].normal_(std=0.5)
        self.network = nn.Sequential(
            nn.Linear(condition, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For z [..., d]: log-weights [..., K], means and scales [..., K, dim]."""
        with torch.autocast(z.device.type, enabled=False):  # it would round what a density is made of
            logits, means, log_scales = self.network(z.float()).split(self.sizes, -1)
        log_scales = WIDEST * torch.tanh(log_scales.unflatten(-1, (-1, self.dim)) / WIDEST)
        return logits.log_softmax(-1), means.unflatten(-1, (-1, self.dim)), log_scales.exp()

    def log_prob_given(self, z: Tensor, rest: Tensor) -> Tensor:
        """Log-density of rest [..., dim] given z [..., d] in nats, [...]."""
        weights, means, scales = self(z)
        return torch.logsumexp(weights + log_normal(rest[..., None, :], means, scales), -1)

    def mean_given(self, z: Tensor) -> Tensor:
        """Means [R, dim] given z [R, d]."""
        weights, means, _ = self(z)
        return (weights.exp()[..., None] * means).sum(1)

    def draw_given(self, z: Tensor, u: Tensor, numbers: Tensor) -> Tensor:
        """Draws [R, dim] given z [R, d], by uniform numbers u [R, 1] and normal numbers [R, dim]."""
        weights, means, scales = self(z)
        rows, chosen = torch.arange(len(z), device=z.device), choose(weights.exp(), u)[:, 0]
        return means[rows, chosen] + scales[rows, chosen] * numbers


class LearnedTree(Tree):
    """A mixture of what modalities share, and of what each has of its own one that a network gives for what is shared:
    a prior of two levels, which samples of several modalities that agree can be drawn from."""

    learned = lets_lack = True

    class Config(Settings):
        components: int = Field(100, ge=1, description="Gaussians, of what modalities share")
        each: int = Field(50, ge=1, description="Gaussians, of what is a modality's own given that")
        hidden: int = Field(128, ge=1, description="units of the network that gives these")

    def attach(self, latent: Latent, posterior_of: Callable[[Any], Posterior]) -> None:
        shared, own = latent.dim, []
        if isinstance(latent, GaussianExperts) and (dims := latent.shared()) is not None:
            shared = len(dims)
            own = [count for mask in latent.own().values() if (count := int(mask.sum()) - shared)]
        how = self.config
        branches = [Conditional(shared, count, how.each, how.hidden) for count in own]
        self.grow(Mixture(Mixture.Config(components=how.components), shared), branches, own)


class Flow(Prior):
    """N(0, I) through a normalizing flow, shifted and scaled: rational-quadratic spline couplings (Durkan et al. 2019,
    "Neural Spline Flows"; of the library zuko)."""

    learned = True
    shift: Tensor
    scale: Tensor

    class Config(Settings):
        transforms: int = Field(3, ge=1, description="transforms, one after another")
        hidden: int = Field(128, ge=1, description="units of each of a transform's two hidden layers")

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__(config, dim)
        if dim < 2:
            raise ValueError("a flow couples dimensions: set latent.dim to 2 or more")
        from zuko.flows import NSF

        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.flow: Any = NSF(dim, transforms=config.transforms, hidden_features=(config.hidden,) * 2, passes=2)

    def log_prob(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):  # it would round what a density is made of
            return self.flow().log_prob((z.float() - self.shift) / self.scale) - self.scale.log().sum()

    def sample(self, noise: Noise) -> Tensor:
        drawn = noise.normal(self.dim)
        with torch.autocast(drawn.device.type, enabled=False):
            return self.flow().transform.inv(drawn) * self.scale + self.shift

    def place(self, z: Tensor) -> None:
        """Shift and scale to where draws z [N, D] are: splines bend only what is within five units of 0."""
        self.shift.copy_(z.mean(0))
        self.scale.copy_(z.std(0).clamp(min=1e-6))
