"""Hyperspherical latents: densities against scipy's, draws that follow them, and products of experts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import vonmises_fisher
from torch import nn

from mmvae.core.latents import Latent
from mmvae.core.likelihoods import Gaussian
from mmvae.core.noise import Noise
from mmvae.core.objectives import ELBO, importance_weighted_bound
from mmvae.core.priors import Prior
from mmvae.core.sphere import Sphere, UniformDirections, VonMisesFisher, log_area
from mmvae.core.vae import Batch, Network


def posterior(dim: int, *lengths: float) -> VonMisesFisher:
    directions = torch.randn(len(lengths), dim, generator=torch.Generator().manual_seed(dim))
    vectors = directions / directions.norm(dim=1, keepdim=True) * torch.tensor(lengths)[:, None]
    return VonMisesFisher(vectors.requires_grad_())


@pytest.mark.parametrize("dim", [2, 3, 8, 32])
def test_the_density_and_the_rate_are_scipys(dim: int) -> None:
    lengths = (0.5, 10.0, 300.0, 9_000.0)
    found = posterior(dim, *lengths)
    z = found.sample(Noise(range(4)), k=5)
    torch.testing.assert_close(z.norm(dim=2), torch.ones(4, 5))
    for row, length in enumerate(lengths):
        theirs = vonmises_fisher(found.mean[row].detach().double().numpy() / found.mean[row].norm().item(), length)
        expected = torch.from_numpy(
            theirs.logpdf(z[row].detach().double().numpy() / z[row].norm(dim=1).numpy(force=True)[:, None])
        )
        torch.testing.assert_close(found.log_prob(z)[row].double(), expected, atol=2e-2, rtol=1e-4)
        rate = -theirs.entropy() + log_area(dim)
        assert found.rate_from_uniform()[row, 0].item() == pytest.approx(rate, abs=5e-3, rel=1e-3)


@pytest.mark.parametrize("length", [0.0, 2.0, 50.0])
def test_draws_follow_the_density(length: float) -> None:
    dim, n = 5, 40_000
    found = posterior(dim, length)
    z = found.sample(Noise([0]), k=n)[0].detach()
    theirs = vonmises_fisher(np.eye(dim)[0], length or 1e-9).rvs(n, random_state=np.random.default_rng(0))
    along = z @ found.mean[0].detach()
    for power in (1, 2):
        assert along.pow(power).mean().item() == pytest.approx((theirs[:, 0] ** power).mean(), abs=0.01)
    around = z - along[:, None] * found.mean[0].detach()
    assert around.mean(0).abs().max() < 0.015  # no side is preferred


@pytest.mark.parametrize("dim", [3, 10, 64])
def test_the_derivative_of_the_rate_is_right_for_long_vectors_too(dim: int) -> None:
    length = torch.tensor([5_000.0], requires_grad=True)
    rate = VonMisesFisher(length[:, None] * torch.eye(1, dim)).rate_from_uniform().sum()
    (found,) = torch.autograd.grad(rate, length)
    assert found.item() == pytest.approx(0.5 * (dim - 1) / 5_000, rel=0.02)  # as of a normal distribution


def test_draws_have_the_derivative_of_their_expectation() -> None:
    n = 100_000
    vector = torch.tensor([[3.0, 0.0, 0.0, 0.0]], requires_grad=True)
    found = VonMisesFisher(vector)
    z = found.sample(Noise([1]), k=n)
    (drawn,) = torch.autograd.grad(z[0, :, 0].mean(), vector)
    (exact,) = torch.autograd.grad((VonMisesFisher(vector).shares * found.angles.cos()).sum(), vector)
    torch.testing.assert_close(drawn, exact, atol=5e-3, rtol=0)


def test_vectors_of_experts_add_and_none_is_the_prior() -> None:
    latent, dim = Sphere(Latent.Config(dim=3)), 3
    experts = {name: torch.randn(2, latent.outputs) for name in ("x", "y")}
    both = torch.ones(2, dtype=torch.bool)
    alone = [latent({name: expert}, {name: both}, 2).vector for name, expert in experts.items()]
    torch.testing.assert_close(latent(experts, dict.fromkeys(experts, both), 2).vector, alone[0] + alone[1])
    nothing = latent({}, {"x": ~both}, 2)
    torch.testing.assert_close(nothing.rate_from_uniform(), torch.zeros(2, 1), atol=1e-5, rtol=0)
    prior = UniformDirections(Prior.Config(), dim)
    z = prior.sample(Noise([0, 1]))
    torch.testing.assert_close(nothing.log_prob(z[:, None])[:, 0], prior.log_prob(z), atol=1e-5, rtol=0)


class Circle(nn.Module):
    """p(x|z) = N(2 z, 1), z on the circle; its evidence is a Bessel function's."""

    def forward(self, z: torch.Tensor) -> Gaussian:
        return Gaussian(2 * z, torch.zeros(()))


class Expert(nn.Module):
    """The exact posterior's: exp(2 x . z)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, (2 * x.norm(dim=1, keepdim=True)).log()], 1)


def test_with_the_exact_posterior_every_draw_gives_the_evidence() -> None:
    latent, prior = Sphere(Latent.Config(dim=2)), UniformDirections(Prior.Config(), 2)
    network = Network({"x": Expert()}, {"x": Circle()}, latent, prior)
    x = torch.tensor([[1.0, -0.5], [0.2, 0.1], [3.0, 2.0]])
    batch = Batch({"x": x}, {"x": torch.ones(3, dtype=torch.bool)})
    squares = x.square().sum(1)
    evidence = torch.special.i0(2 * squares.sqrt()).log() - math.log(2 * math.pi) - 0.5 * (squares + 4)
    (bound,) = importance_weighted_bound(network, batch, Noise(range(3)), 1)
    torch.testing.assert_close(bound, evidence, atol=2e-3, rtol=1e-4)
    terms = ELBO(ELBO.Config())(network, batch, Noise(range(3)))
    assert (terms.rate >= 0).all()
