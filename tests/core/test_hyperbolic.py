"""Wrapped normals of hyperbolic space: densities that sum to one, steps of their own length, N(0, I) at the origin."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmvae.core.hyperbolic import FARTHEST, Hyperbolic, WrappedNormal, exp_map, log_map
from mmvae.core.latents import DiagonalGaussian, Latent
from mmvae.core.noise import Noise, StepNoise


def some(n: int, dim: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Of points in coordinates of the tangent space at the origin, by the law of cosines of hyperbolic triangles."""
    a, b = a.double(), b.double()
    length_a, length_b = a.norm(dim=-1), b.norm(dim=-1)
    cosine = (a * b).sum(-1) / (length_a * length_b)
    return torch.acosh(length_a.cosh() * length_b.cosh() - length_a.sinh() * length_b.sinh() * cosine)


def test_a_step_leads_as_far_as_it_is_long_and_the_way_back_finds_it() -> None:
    location, step = some(200, 5, 1.5), some(200, 5, 1.0, 1)
    there = exp_map(location, step)
    torch.testing.assert_close(distance(location, there).float(), step.norm(dim=1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(log_map(location, there), step, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(exp_map(torch.zeros(200, 5), step), step)


def test_the_density_sums_to_one_and_draws_follow_it() -> None:
    posterior = WrappedNormal(torch.tensor([[1.2, -0.7]]), torch.tensor([[0.9, 0.4]]))
    side = torch.linspace(-7, 7, 561)
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).view(1, -1, 2)
    cell = (side[1] - side[0]).item() ** 2
    density = posterior.log_prob(grid)[0].double().exp() * cell
    assert density.sum().item() == pytest.approx(1, abs=1e-3)
    drawn = posterior.sample(Noise([0]), 40_000)[0]
    expected = (density[:, None] * grid[0]).sum(0)
    torch.testing.assert_close(drawn.double().mean(0), expected, atol=0.02, rtol=0)
    second = (density[:, None] * grid[0] ** 2).sum(0)
    torch.testing.assert_close(drawn.double().square().mean(0), second, atol=0.04, rtol=0.02)


def test_at_the_origin_it_is_a_gaussian_and_without_a_modality_the_prior() -> None:
    stddev, z = 0.5 + torch.rand(3, 6, generator=torch.Generator().manual_seed(2)), some(3, 6)[:, None]
    origin = torch.zeros(3, 6)
    torch.testing.assert_close(WrappedNormal(origin, stddev).log_prob(z), DiagonalGaussian(origin, stddev).log_prob(z))
    nothing = Hyperbolic(Latent.Config(dim=6))({}, {"x": torch.zeros(3, dtype=torch.bool)}, 3)
    standard = DiagonalGaussian(origin, torch.ones(3, 6))
    torch.testing.assert_close(nothing.log_prob(z), standard.log_prob(z))


def test_an_encoder_that_is_far_off_stays_finite_and_has_a_gradient() -> None:
    latent, present = Hyperbolic(Latent.Config(dim=4)), {"x": torch.ones(5, dtype=torch.bool)}
    expert = torch.cat([some(5, 4, 100.0), torch.full((5, 4), 5.0)], 1).requires_grad_()
    posterior = latent({"x": expert}, present, 5)
    assert posterior.mean.norm(dim=1).max().item() <= FARTHEST + 1e-3
    z = posterior.sample(StepNoise(0, 5, slice(None)), 2)
    (posterior.log_prob(z).sum() + z.square().sum()).backward()
    assert expert.grad is not None
    assert torch.isfinite(expert.grad).all()


def test_far_from_the_origin_the_same_deviation_is_a_smaller_part_of_all_directions() -> None:
    """At distance r there are about exp((D - 1) r) places of one size, as a tree has leaves."""
    narrow = torch.full((1, 3), 1e-2)
    near, far = (WrappedNormal(torch.tensor([[r, 0.0, 0.0]]), narrow) for r in (4.0, 5.0))
    z = [posterior.sample(Noise([0]), 2000) for posterior in (near, far)]
    densities = [posterior.log_prob(points).mean().item() for posterior, points in zip((near, far), z, strict=True)]
    grown = 2 * (math.log(math.sinh(5) / 5) - math.log(math.sinh(4) / 4))
    assert densities[1] - densities[0] == pytest.approx(grown, abs=0.01)
