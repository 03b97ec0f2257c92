"""A discriminator's view of the aggregate posterior: how far it is from the prior, or from independent dimensions."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from mmvae.core.noise import Noise
from mmvae.core.objectives import ELBO, Inferred
from mmvae.core.processes import of_all_processes
from mmvae.core.vae import Network

SLOPE = 0.2  # of a unit below 0


class Adversarial(ELBO):
    """The ELBO and `adversary` times KL(q(z) || r(z)), where r is the prior, or the product of q's own marginals.

    A discriminator tells draws of q from draws of r; its logit is the logarithm of their ratio (Sugiyama et al. 2012).
    With kl.weight = 0 and the prior it is an adversarial autoencoder (Makhzani et al. 2016, "Adversarial Autoencoders",
    by that divergence in place of Jensen's and Shannon's), with a posterior that may be a point. With `shuffled`, r has
    each dimension of another row: FactorVAE (Kim & Mnih 2018, "Disentangling by Factorising"), gamma = adversary. One
    optimizer moves both, by the same rows: the discriminator sees z without its gradient, z the discriminator without
    its weights'.
    """

    class Config(ELBO.Config):
        adversary: float = Field(5.0, ge=0, description="weight of the divergence that the discriminator finds")
        against: Literal["prior", "shuffled"] = Field(
            "prior", description="what z is to be like: the prior, or z with each dimension of another row"
        )
        units: int = Field(256, ge=1, description="of each of the discriminator's three layers")

    config: Config
    discriminator: nn.Module

    def attach(self, network: Network) -> None:
        sizes, layers = [network.latent.dim, *[self.config.units] * 3], list[nn.Module]()
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
        self.discriminator = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def penalty(self, network: Network, inferred: Inferred, z: Tensor, noise: Noise) -> Tensor:
        aggregate = z.detach()
        if self.config.against == "prior":
            with torch.no_grad():
                reference = network.prior.sample(noise)
        else:
            reference = of_all_processes(aggregate).gather(0, of_all_processes(noise.uniform(z.shape[1])).argsort(0))
        discriminator_loss = (
            softplus(-self.discriminator(aggregate)).mean() + softplus(self.discriminator(reference)).mean()
        )
        fixed = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        return self.config.adversary * functional_call(self.discriminator, fixed, (z,)).mean() + discriminator_loss
