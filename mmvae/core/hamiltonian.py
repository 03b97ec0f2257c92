"""Hamiltonian steps that take a draw of the posterior to where data and prior have more to say for it."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from mmvae.core.noise import Noise
from mmvae.core.objectives import Objective, Subsets, Terms, infer
from mmvae.core.vae import Batch, Network


class Hamiltonian(Objective):
    """The bound of HVAE (Caterini et al. 2018, "Hamiltonian Variational Auto-Encoder"): a draw of the posterior, and a
    momentum, go through leapfrog steps along the derivative of log p(x, z), each of which tempers the momentum.

    Steps keep volume but for the tempering, whose factor is known, so the bound is exact: its exponential has the mean
    p(x). It is a bound of training: other figures are of the posterior without the steps. These look at all that is
    scored, also where the encoders see less of it.
    """

    class Config(Subsets):
        steps: int = Field(3, ge=1, description="leapfrog steps")
        step: float = Field(0.02, gt=0, description="length of a step")
        tempering: float = Field(
            0.7, gt=0, le=1, description="inverse temperature of the momentum before the first step, 1 after the last"
        )

    config: Config

    def forward(self, network: Network, batch: Batch, noise: Noise, kl_weight: float = 1.0) -> Terms:
        inferred = infer(network, batch, self.config, noise)
        batch, posterior = inferred.scored, inferred.posterior
        drawn, pushed = posterior.sample(noise), noise.normal(network.latent.dim)
        z, momentum = self.moved(network, batch, drawn[:, 0], pushed)
        scores, auxiliary = network.score(batch, z)
        distortion = {name: -score for name, score in scores.items()}
        rate = (posterior.log_prob(drawn) - network.prior.log_prob(z[:, None]))[:, 0]
        rate = rate + 0.5 * (momentum**2 - pushed**2).sum(1)  # both momenta are scored by N(0, I)
        loss = (network.weighted(distortion) + auxiliary + kl_weight * rate).mean()
        return Terms(loss, rate, distortion)

    def moved(self, network: Network, batch: Batch, z: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """z and a standard normal momentum [B, D], after the steps."""
        how, hotter = self.config, self.config.tempering**-0.5
        momentum, before, steep = momentum * hotter, hotter, slope(network, batch, z)
        for number in range(1, how.steps + 1):
            momentum = momentum + how.step / 2 * steep
            z = z + how.step * momentum
            steep = slope(network, batch, z)
            momentum = momentum + how.step / 2 * steep
            after = hotter + (1 - hotter) * (number / how.steps) ** 2
            momentum, before = momentum * (after / before), after
        return z, momentum


def slope(network: Network, batch: Batch, z: Tensor) -> Tensor:
    """The derivative of log p(x, z) by z, modalities weighted as in training, [B, D]."""
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # its GRUs have no second derivative
        at = z if z.requires_grad else z.detach().requires_grad_()
        scores, _ = network.score(batch, at)
        height = network.weighted(scores) + network.prior.log_prob(at[:, None])[:, 0]
        return torch.autograd.grad(height.sum(), at, create_graph=True)[0]
