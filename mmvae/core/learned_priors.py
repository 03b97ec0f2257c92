"""Priors that are learned, together with the networks or afterwards."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mmvae.core.latents import DiagonalGaussian, Posterior, log_normal
from mmvae.core.noise import Noise, choose
from mmvae.core.priors import Given, Prior
from mmvae.core.registry import Settings


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
