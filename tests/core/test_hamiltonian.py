"""Hamiltonian steps: a bound whose exponential is p(x) on average, tighter than none, and a way that leads back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from mmvae.core.hamiltonian import Hamiltonian, slope
from mmvae.core.noise import StepNoise
from mmvae.core.vae import Batch, Network
from tests.core.test_importance import DIM, WIDTH, batch, network

COPIES = 10_000


def hamiltonian(**config: float) -> Hamiltonian:
    return Hamiltonian(Hamiltonian.Config.model_validate({"steps": 4, "step": 0.3, "tempering": 0.6} | config))


def bounds(objective: Hamiltonian, network: Network) -> Tensor:
    """The bound of each of some rows, drawn many times, less the evidence, [rows, copies]."""
    rows = batch().values["x"]
    many = Batch({"x": rows.repeat(COPIES, 1)}, {"x": torch.ones(len(rows) * COPIES, dtype=torch.bool)})
    with torch.no_grad():
        terms = objective(network, many, StepNoise(0, len(many), slice(None)))
    weight = network.decoders["x"].get_parameter("weight").detach()
    evidence = MultivariateNormal(torch.zeros(WIDTH), torch.eye(WIDTH) + weight @ weight.T).log_prob(rows)
    return -terms.negative_elbo.view(COPIES, len(rows)).T - evidence[:, None]


@pytest.mark.parametrize("tempering", [1.0, 0.7])
def test_the_exponential_of_the_bound_is_the_evidence_on_average(tempering: float) -> None:
    over = bounds(hamiltonian(tempering=tempering), network())
    assert over.exp().mean(1).tolist() == pytest.approx([1.0] * len(over), abs=0.06)
    assert (over.mean(1) < 0).all()


def test_steps_bring_a_posterior_that_is_off_nearer_to_the_evidence() -> None:
    off = network(error=1.0)
    none, some = (bounds(hamiltonian(steps=6, step=step, tempering=0.7), off).mean() for step in (1e-6, 0.25))
    assert none < some - 0.05


def test_without_tempering_the_way_back_is_the_way_there() -> None:
    objective, model, rows = hamiltonian(tempering=1.0), network(), batch()
    z, momentum = torch.randn(2, len(rows), DIM, generator=torch.Generator().manual_seed(5))
    there, pushed = objective.moved(model, rows, z, momentum)
    back, stopped = objective.moved(model, rows, there, -pushed)
    torch.testing.assert_close(back, z, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(-stopped, momentum, atol=1e-5, rtol=1e-4)


def test_the_slope_is_the_derivative_of_data_and_prior_and_vanishes_at_the_exact_posterior() -> None:
    model, rows = network(error=0.0), batch()
    exact = model.posterior(rows).mean
    torch.testing.assert_close(slope(model, rows, exact), torch.zeros_like(exact), atol=1e-5, rtol=0)
    torch.testing.assert_close(slope(model, rows, exact + 1), torch.full_like(exact, -2.0), atol=1e-4, rtol=1e-4)


def test_every_weight_gets_a_gradient() -> None:
    model = network()
    hamiltonian()(model, batch(), StepNoise(1, len(batch()), slice(None)), 0.5).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
