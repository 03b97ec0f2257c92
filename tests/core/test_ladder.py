"""Two levels: one model with a linear network between them has its evidence in closed form."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from mmvae.core.ladder import Below, Ladder, LadderPrior
from mmvae.core.likelihoods import Gaussian
from mmvae.core.noise import Noise, StepNoise
from mmvae.core.objectives import ELBO, importance_weighted_bound
from mmvae.core.priors import Prior
from mmvae.core.vae import Batch, Network

UPPER, LOWER, ROWS = 2, 3, 4
DIM = UPPER + LOWER


class Between(Below):
    """l = A u + b + N(0, scale^2)."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        generator = torch.Generator().manual_seed(0)
        self.matrix = torch.randn(LOWER, UPPER, generator=generator)
        self.shift, self.log_scale = torch.randn(LOWER, generator=generator), torch.tensor([-0.5, 0.0, 0.3])

    def forward(self, upper: Tensor) -> tuple[Tensor, Tensor]:
        mean = upper @ self.matrix.T + self.shift
        return mean, self.log_scale.expand_as(mean)


class Seen(nn.Module):
    """p(x|z) = N(l, 0.5^2): of the lower level alone."""

    def forward(self, z: Tensor) -> Gaussian:
        return Gaussian(z[:, UPPER:], torch.tensor(0.5).log())


class Expert(nn.Module):
    """Numbers that an encoder could say, for whatever x."""

    def forward(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        mixed = torch.randn(LOWER, 2 * UPPER, generator=generator)
        return torch.cat([0.3 * x @ mixed, x, torch.full_like(x, -2 * torch.tensor(0.5).log().item())], 1)


@pytest.fixture
def network() -> Network:
    latent = Ladder(Ladder.Config(dim=DIM, upper=UPPER, hidden=8, context=0))
    latent.below = Between()
    return Network({"x": Expert()}, {"x": Seen()}, latent, LadderPrior(Prior.Config(), DIM))


def batch() -> Batch:
    x = torch.randn(ROWS, LOWER, generator=torch.Generator().manual_seed(1))
    return Batch({"x": x}, {"x": torch.ones(ROWS, dtype=torch.bool)})


def joint(network: Network) -> MultivariateNormal:
    """p(u, l)."""
    assert isinstance(network.latent, Ladder)
    between = network.latent.below
    assert isinstance(between, Between)
    scale = between.log_scale.exp()
    down = torch.cat([torch.eye(UPPER), between.matrix])
    noise = torch.diag(torch.cat([torch.zeros(UPPER), scale**2]))
    return MultivariateNormal(torch.cat([torch.zeros(UPPER), between.shift]), down @ down.T + noise)


def test_the_prior_is_the_joint_of_both_levels(network: Network) -> None:
    z = network.prior.sample(StepNoise(0, 50_000, slice(None)))
    expected = joint(network)
    torch.testing.assert_close(network.prior.log_prob(z[:9]), expected.log_prob(z[:9]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(z.mean(0), expected.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(z.T.cov(), expected.covariance_matrix, atol=0.1, rtol=0.03)


def test_the_bound_nears_the_evidence(network: Network) -> None:
    expected = joint(network)
    covariance = torch.as_tensor(expected.covariance_matrix)[UPPER:, UPPER:] + 0.25 * torch.eye(LOWER)
    evidence = MultivariateNormal(expected.mean[UPPER:], covariance).log_prob(batch().values["x"])
    noise = Noise(range(ROWS))
    (bound,) = importance_weighted_bound(network, batch(), noise, 20_000)
    torch.testing.assert_close(bound, evidence, atol=0.05, rtol=0)


def test_the_rate_by_dimension_is_the_mean_of_its_estimates(network: Network) -> None:
    posterior = network.posterior(batch())
    z = posterior.sample(Noise(range(ROWS)), k=20_000)
    rate = network.prior.rate(posterior, z)
    assert rate.shape == (ROWS, DIM)
    estimated = (posterior.log_prob(z) - network.prior.log_prob(z)).mean(1)
    torch.testing.assert_close(rate.sum(1), estimated, atol=0.05, rtol=0.01)


def test_no_modality_is_the_prior_and_a_new_network_is_standard_normal() -> None:
    latent = Ladder(Ladder.Config(dim=DIM, upper=UPPER))
    prior = LadderPrior(Prior.Config(), DIM)
    Network({}, {}, latent, prior)
    posterior = latent({}, {"x": torch.zeros(ROWS, dtype=torch.bool)}, ROWS)
    z = posterior.sample(Noise(range(ROWS)), 3)
    torch.testing.assert_close(posterior.log_prob(z), prior.log_prob(z))
    standard = MultivariateNormal(torch.zeros(DIM), torch.eye(DIM)).log_prob(z)
    torch.testing.assert_close(prior.log_prob(z), standard)


def test_both_levels_learn_and_a_copy_has_its_own_network_between_them(network: Network) -> None:
    latent = Ladder(Ladder.Config(dim=DIM, upper=UPPER, hidden=8))
    ours = Network({"x": nn.Linear(LOWER, latent.outputs)}, {"x": Seen()}, latent, LadderPrior(Prior.Config(), DIM))
    for last in (latent.below.last, latent.above.last):
        nn.init.normal_(last.weight, std=0.1)
    ELBO(ELBO.Config())(ours, batch(), Noise(range(ROWS))).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in ours.parameters())
    other = copy.deepcopy(ours)
    assert isinstance(other.latent, Ladder)
    nn.init.constant_(other.latent.below.last.bias, 1.0)
    noise = Noise([1])
    assert not torch.equal(other.prior.sample(Noise([1])), ours.prior.sample(noise))


def test_the_ladder_prior_needs_a_ladder() -> None:
    from mmvae.core.experts import ProductOfExperts

    with pytest.raises(ValueError, match=r"prior\.kind = ladder"):
        Network({}, {}, ProductOfExperts(ProductOfExperts.Config(dim=3)), LadderPrior(Prior.Config(), 3))
    with pytest.raises(ValueError, match="upper = 3"):
        Ladder(Ladder.Config(dim=3, upper=3))
