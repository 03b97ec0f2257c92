"""VampPrior: a mixture of posteriors that is a density, moves with the encoder, and is saved with its rows."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mmvae.core.experts import ProductOfExperts
from mmvae.core.noise import Noise, StepNoise
from mmvae.core.vae import Batch, Network
from mmvae.core.vamp import Vamp

ROWS = 6


def network(shown: bool = True) -> Network:
    torch.manual_seed(0)
    latent = ProductOfExperts(ProductOfExperts.Config(dim=2))
    encoders = {name: nn.Linear(3, latent.outputs) for name in ("x", "y")}
    ours = Network(encoders, {}, latent, Vamp(Vamp.Config(components=ROWS), 2))
    if shown:
        ours.prior.show(rows())
    return ours


def rows() -> Batch:
    """Some rows of which not all have both modalities."""
    present = {"x": torch.tensor([True, True, False, True, True, False]), "y": torch.tensor([True, False] * 3)}
    present["y"][5] = True
    generator = torch.Generator().manual_seed(3)
    values = {name: 2 * torch.randn(int(there.sum()), 3, generator=generator) for name, there in present.items()}
    return Batch(values, present)


def grid() -> tuple[Tensor, float]:
    axis = torch.linspace(-8, 8, 400)
    return torch.cartesian_prod(axis, axis), (16 / 399) ** 2


def test_it_is_the_mean_of_the_rows_posteriors_and_sums_to_one() -> None:
    ours = network()
    points, area = grid()
    with torch.no_grad():
        density = ours.prior.log_prob(points).exp()
        each = ours.posterior(rows()).pairs(points).exp().mean(0)
    torch.testing.assert_close(density, each, atol=1e-5, rtol=1e-3)
    assert density.sum().item() * area == pytest.approx(1, abs=1e-3)


def test_draws_follow_it_and_depend_on_their_own_seed() -> None:
    ours = network()
    points, area = grid()
    with torch.no_grad():
        mass = ours.prior.log_prob(points).exp() * area
        z = ours.prior.sample(StepNoise(0, 40_000, slice(None)))
        torch.testing.assert_close(ours.prior.sample(Noise([3, 4, 5]))[1:], ours.prior.sample(Noise([4, 5])))
    torch.testing.assert_close(z.mean(0), mass @ points, atol=0.03, rtol=0)
    torch.testing.assert_close(z.square().mean(0), mass @ points.square(), atol=0.05, rtol=0.02)


def test_the_encoder_learns_through_it_and_copies_have_their_own() -> None:
    ours = network()
    ours.prior.log_prob(torch.zeros(2, 3, 2)).sum().backward()
    for parameter in ours.encoders.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    other = copy.deepcopy(ours)
    with torch.no_grad():
        for parameter in other.encoders.parameters():
            parameter.add_(1.0)
    z = torch.zeros(1, 2)
    assert other.prior.log_prob(z).item() != ours.prior.log_prob(z).item()


def test_its_rows_are_saved_with_the_network() -> None:
    ours, other = network(), network(shown=False)
    other.load_state_dict(ours.state_dict())
    z = torch.randn(5, 2)
    torch.testing.assert_close(other.prior.log_prob(z), ours.prior.log_prob(z))
