"""The discriminator's estimate: divergences known in closed form, and whose weights each of its terms moves."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from mmvae.core.adversary import Adversarial
from mmvae.core.experts import ProductOfExperts
from mmvae.core.latents import DiagonalGaussian
from mmvae.core.noise import StepNoise
from mmvae.core.objectives import Inferred
from mmvae.core.priors import Prior, StandardNormal
from mmvae.core.vae import Batch, Network

ROWS, RHO = 512, 0.8


def made(against: Literal["prior", "shuffled"], adversary: float = 1.0) -> tuple[Adversarial, Network]:
    torch.manual_seed(0)
    network = Network({}, {}, ProductOfExperts(ProductOfExperts.Config(dim=2)), StandardNormal(Prior.Config(), 2))
    objective = Adversarial(Adversarial.Config(against=against, adversary=adversary, units=64))
    objective.attach(network)
    return objective, network


def cost(objective: Adversarial, network: Network, z: Tensor, step: int = 0) -> Tensor:
    inferred = Inferred(Batch({}, {}), Batch({}, {}), {}, DiagonalGaussian(z, torch.ones_like(z)))
    return objective.penalty(network, inferred, z, StepNoise(1_000_000 + step, len(z), slice(None)))


def drawn(against: str, step: int) -> Tensor:
    """Of N((1, 0), I), or of unit normals with a correlation."""
    z = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(step))
    if against == "prior":
        return z + torch.tensor([1.0, 0.0])
    return torch.stack([z[:, 0], RHO * z[:, 0] + math.sqrt(1 - RHO**2) * z[:, 1]], 1)


@pytest.mark.parametrize(("against", "divergence"), [("prior", 0.5), ("shuffled", -0.5 * math.log(1 - RHO**2))])
def test_the_discriminator_finds_the_divergence(against: Literal["prior", "shuffled"], divergence: float) -> None:
    objective, network = made(against)
    optimizer = torch.optim.Adam(objective.parameters(), 5e-3)
    for step in range(1200):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - step / 1200)
        optimizer.zero_grad()
        cost(objective, network, drawn(against, step), step).backward()
        optimizer.step()
    with torch.no_grad():
        found = torch.cat([objective.discriminator(drawn(against, 10_000 + step)) for step in range(20)]).mean()
    torch.testing.assert_close(found, torch.tensor(divergence), rtol=0.1, atol=0)


@pytest.mark.parametrize("against", ["prior", "shuffled"])
def test_the_weight_moves_z_alone(against: Literal["prior", "shuffled"]) -> None:
    """Ten times the weight: ten times the gradient of z, the same of the discriminator."""
    found: list[tuple[Tensor, ...]] = []
    for adversary in (1.0, 10.0):
        objective, network = made(against, adversary)
        z = drawn(against, 0).requires_grad_()
        found.append(torch.autograd.grad(cost(objective, network, z), [z, *objective.parameters()]))
    (z, *weights), (more, *same) = found
    assert z.abs().max() > 0
    torch.testing.assert_close(more, 10 * z)
    torch.testing.assert_close(same, weights)


def test_shuffled_rows_keep_what_each_dimension_holds() -> None:
    """Where all rows are alike there is nothing to tell, so that a discriminator's cost is that of two equal draws."""
    objective, network = made("shuffled")
    z = torch.ones(8, 2)
    logit = objective.discriminator(z)[0, 0].detach()
    expected = logit + torch.nn.functional.softplus(-logit) + torch.nn.functional.softplus(logit)
    torch.testing.assert_close(cost(objective, network, z).detach(), expected)
