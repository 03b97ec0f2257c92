"""Priors: rates and densities against torch, Monte Carlo and scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from mmvae.core import priors as priors_module
from mmvae.core.fitted import FittedMixture
from mmvae.core.latents import DiagonalGaussian
from mmvae.core.noise import Noise, StepNoise
from mmvae.core.priors import Given, Prior, StandardNormal, priors

DIM = 3


@pytest.fixture
def posterior() -> DiagonalGaussian:
    return DiagonalGaussian(torch.randn(5, DIM), torch.rand(5, DIM) + 0.2)


@pytest.fixture
def standard() -> StandardNormal:
    return StandardNormal(Prior.Config(), DIM)


def test_the_posterior_density_and_draws_are_the_normal_distribution(posterior: DiagonalGaussian) -> None:
    z = posterior.sample(Noise(range(5)), k=4000)
    expected = Normal(posterior.mean[:, None], posterior.stddev[:, None]).log_prob(z).sum(-1)
    torch.testing.assert_close(posterior.log_prob(z), expected)
    torch.testing.assert_close(z.mean(1), posterior.mean, atol=0.08, rtol=0)
    torch.testing.assert_close(z.std(1), posterior.stddev, atol=0.06, rtol=0)


def test_posterior_draws_carry_gradients_to_mean_and_deviation() -> None:
    mean, stddev = torch.zeros(2, DIM, requires_grad=True), torch.ones(2, DIM, requires_grad=True)
    z = DiagonalGaussian(mean, stddev).sample(Noise([0, 1]))
    z.sum().backward()
    assert mean.grad is not None
    assert stddev.grad is not None
    torch.testing.assert_close(mean.grad, torch.ones(2, DIM))
    torch.testing.assert_close(stddev.grad, z[:, 0].detach())


def test_the_standard_rate_equals_the_divergence_of_each_dimension(
    standard: StandardNormal, posterior: DiagonalGaussian
) -> None:
    expected = kl_divergence(Normal(posterior.mean, posterior.stddev), Normal(0.0, 1.0))
    torch.testing.assert_close(standard.rate(posterior, torch.empty(0)), expected)


def test_the_standard_rate_equals_its_monte_carlo_estimate(
    standard: StandardNormal, posterior: DiagonalGaussian
) -> None:
    z = posterior.sample(Noise(range(5)), k=20_000)
    ratios = posterior.log_prob(z) - standard.log_prob(z)
    estimate = Prior.rate(standard, posterior, z)
    assert estimate.shape == (5, 1)
    torch.testing.assert_close(estimate[:, 0], ratios.mean(1))
    error = ratios.std(1) / 20_000**0.5
    assert ((standard.rate(posterior, z).sum(1) - estimate[:, 0]).abs() < 5 * error).all()


def test_the_rate_of_the_prior_itself_is_zero(standard: StandardNormal) -> None:
    itself = DiagonalGaussian(torch.zeros(2, DIM), torch.ones(2, DIM))
    assert torch.equal(standard.rate(itself, torch.empty(0)), torch.zeros(2, DIM))


def test_the_standard_prior_scores_and_draws_the_normal_distribution(standard: StandardNormal) -> None:
    z = standard.sample(StepNoise(0, 20_000, slice(None)))
    assert z.shape == (20_000, DIM)
    torch.testing.assert_close(standard.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))
    torch.testing.assert_close(z.mean(0), torch.zeros(DIM), atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(z.T), torch.eye(DIM), atol=0.05, rtol=0)


# -- the mixture fitted after training --------------------------------------------------------------


def two_clouds(dim: int, n: int = 600) -> Tensor:
    """Draws of two Gaussians with full covariances, 3 to 1."""
    generator = torch.Generator().manual_seed(3)
    turns = torch.randn(2, dim, dim, generator=generator) * 0.4
    z = torch.randn(n, dim, generator=generator)
    which = torch.arange(n) % 4 == 0
    return torch.where(which[:, None], z @ turns[0] + 2, z @ turns[1] - 1)


def mixture(dim: int, components: int = 3) -> FittedMixture:
    clouds = two_clouds(dim)
    return FittedMixture.fit(clouds[::2, None], clouds[1::2], components, seed=0)


@pytest.mark.parametrize("dim", [1, 2])
def test_a_fitted_mixture_integrates_to_one(dim: int) -> None:
    side = torch.linspace(-9, 9, 2001 if dim == 1 else 601)
    grid = torch.stack(torch.meshgrid(*[side] * dim, indexing="ij"), -1)
    density = mixture(dim).log_prob(grid).double().exp()
    for _ in range(dim):
        density = torch.trapezoid(density, side.double(), dim=-1)
    assert density.item() == pytest.approx(1, abs=1e-3)


def test_one_component_is_the_gaussian_of_the_draws() -> None:
    z = two_clouds(DIM, n=4000)
    ours = FittedMixture.fit(z[:, None], z, 1, seed=0)
    covariance = z.T.cov() + 1e-3 * z.var(0).mean() * torch.eye(DIM)
    expected = MultivariateNormal(z.mean(0), covariance).log_prob(z)
    torch.testing.assert_close(ours.log_prob(z), expected, atol=0.02, rtol=0.01)


def test_many_components_of_few_rows_come_near_the_density_they_are_of() -> None:
    generator = torch.Generator().manual_seed(0)
    centers = 6 * torch.randn(40, DIM, generator=generator)
    chosen = torch.randint(40, (1000,), generator=generator)
    clustered = centers[chosen] + 0.3 * torch.randn(1000, DIM, generator=generator)
    others = clustered[1::2]
    fitted = FittedMixture.fit(clustered[::2, None], others, 60, seed=0)
    assert len(fitted.weights) == 60
    exact = torch.stack([MultivariateNormal(c, 0.09 * torch.eye(DIM)).log_prob(others) for c in centers])
    missed = (exact.logsumexp(0) - math.log(40) - fitted.log_prob(others)).mean().item()
    assert 0 < missed < 0.6


def bent(dim: int) -> FittedMixture:
    """Three Gaussians apart, of unequal weights and shapes."""
    torch.manual_seed(0)
    prior = FittedMixture(dim, 3)
    prior.means.copy_(2 * torch.randn(3, dim))
    prior.factors.copy_(0.3 * torch.randn(3, dim, dim).tril() + torch.eye(dim))
    prior.weights.copy_(torch.tensor([0.2, 0.5, 0.3]))
    return prior


def test_what_a_fitted_mixture_says_of_the_unknown_is_distributed_as_its_draws() -> None:
    prior, n = bent(4), 200_000
    z = prior.sample(StepNoise(0, n, slice(None)))
    for unknown in ([1, 3], [0, 1, 2], [0, 1, 2, 3]):
        stddev = torch.full((n, 4), 1e-3)
        stddev[:, unknown] = 1.0
        made = prior.given(DiagonalGaussian(z, stddev)).sample(StepNoise(1, n, slice(None)))[:, 0]
        known = [i for i in range(4) if i not in unknown]
        torch.testing.assert_close(made[:, known], z[:, known], atol=0.01, rtol=0)
        torch.testing.assert_close(made.mean(0), z.mean(0), atol=0.05, rtol=0)
        torch.testing.assert_close(made.T.cov(), z.T.cov(), atol=0.15, rtol=0)
        cubes = (made[:, :, None] ** 2 * made[:, None]).mean(0)  # what a single Gaussian would get wrong
        torch.testing.assert_close(cubes, (z[:, :, None] ** 2 * z[:, None]).mean(0), atol=1.6, rtol=0)


def test_draws_given_evidence_are_those_of_bayes_rule() -> None:
    prior, n = bent(2), 200_000
    evidence = DiagonalGaussian(torch.tensor([[0.3, -0.2]]), torch.tensor([[0.6, 0.8]]))
    given = prior.given(evidence)
    made = given.sample(Noise([1]), n)[0]
    line = torch.linspace(-12, 12, 801)
    grid = torch.cartesian_prod(line, line)
    scores = evidence.log_prob(grid[None])[0] - StandardNormal(Prior.Config(), 2).log_prob(grid) + prior.log_prob(grid)
    weights = scores.softmax(0)
    mean = weights @ grid
    torch.testing.assert_close(made.mean(0), mean, atol=0.01, rtol=0)
    apart = grid - mean
    torch.testing.assert_close(made.T.cov(), (apart.T * weights) @ apart, atol=0.015, rtol=0)
    torch.testing.assert_close(((made - mean) ** 3).mean(0), weights @ apart**3, atol=0.05, rtol=0)
    torch.testing.assert_close(given.mean[0], mean, atol=1e-3, rtol=0)
    exact = scores.log_softmax(0) - 2 * (line[1] - line[0]).log()
    torch.testing.assert_close(given.log_prob(grid[None])[0], exact, atol=1e-3, rtol=1e-4)


def test_a_posterior_given_sharp_evidence_is_exact_and_does_not_depend_on_what_is_held_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prior = bent(3)
    stddev = torch.tensor([[1e-2, 1.0, 3e-3], [0.5, 0.2, 1.0]]).repeat(3, 1)[:5]
    mean = torch.randn(5, 3, generator=torch.Generator().manual_seed(3)) * (stddev < 1)
    given = prior.given(DiagonalGaussian(mean, stddev))
    assert isinstance(given, Given)
    z, mean_of = given.sample(Noise(range(5)), 7), given.mean
    # the integral of p(z) N(z; mean, stddev^2) / N(z; 0, I), in float64
    inverse = torch.linalg.inv((prior.factors @ prior.factors.mT).double())
    m, s = prior.means.double(), stddev.double()
    logs = []
    for row in range(5):
        natural, precision = mean[row].double() / s[row] ** 2, torch.diag(s[row] ** -2 - 1)
        pull = (inverse @ m[..., None])[..., 0] + natural
        both = inverse + precision
        exponent = torch.einsum("ci,cij,cj->c", pull, torch.linalg.inv(both), pull)
        exponent = 0.5 * (exponent - torch.einsum("ci,cij,cj->c", m, inverse, m))
        volume = 0.5 * (torch.logdet(both) - torch.logdet(inverse))
        logs.append((prior.weights.double().log() + exponent - volume).logsumexp(0))
        logs[-1] -= s[row].log().sum() + 0.5 * (natural * mean[row]).sum()
    torch.testing.assert_close(given.log_normalizer.double(), torch.stack(logs), atol=2e-3, rtol=0)
    monkeypatch.setattr(priors_module, "NUMBERS", 1)
    parts = prior.given(DiagonalGaussian(mean, stddev))
    torch.testing.assert_close(parts.mean, mean_of)
    torch.testing.assert_close(parts.sample(Noise(range(5)), 7), z)
    torch.testing.assert_close(parts.log_prob(z), given.log_prob(z))


def test_a_standard_normal_in_the_place_of_itself_changes_no_posterior(posterior: DiagonalGaussian) -> None:
    kept = DiagonalGaussian(posterior.mean, posterior.stddev.clamp(max=0.9))
    given = FittedMixture(DIM, 2).given(kept)
    made = given.sample(Noise(range(5)), 40_000)
    torch.testing.assert_close(made.mean(1), kept.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(made.std(1), kept.stddev, atol=0.01, rtol=0)
    torch.testing.assert_close(given.mean, kept.mean)
    torch.testing.assert_close(given.log_prob(made), kept.log_prob(made), atol=1e-4, rtol=1e-4)


def test_a_fitted_mixture_draws_have_its_mean_and_covariance() -> None:
    prior = mixture(2)
    drawn = prior.sample(StepNoise(0, 100_000, slice(None)))
    mean = prior.weights @ prior.means
    within = (prior.weights[:, None, None] * prior.factors @ prior.factors.mT).sum(0)
    apart = prior.means - mean
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), within + (apart.T * prior.weights) @ apart, atol=0.06, rtol=0)


def test_a_fitted_mixture_draws_a_row_from_its_own_seed() -> None:
    prior = mixture(2)
    assert torch.equal(prior.sample(Noise([1, 2, 3]))[1], prior.sample(Noise([9, 2]))[1])


def test_few_draws_are_fitted_with_fewer_components() -> None:
    for n, most in ((40, 10), (5, 1)):
        few = two_clouds(DIM, n=n)
        assert len(FittedMixture.fit(few[:, None], few, 50, seed=0).weights) <= most


def test_a_fitted_mixture_is_wholly_in_its_state() -> None:
    prior = mixture(DIM)
    again = FittedMixture(DIM, len(prior.weights))
    again.load_state_dict(prior.state_dict())
    z = two_clouds(DIM)[:10]
    assert torch.equal(again.log_prob(z), prior.log_prob(z))


def test_the_rate_against_a_mixture_is_estimated_from_the_draws(posterior: DiagonalGaussian) -> None:
    prior = mixture(DIM)
    z = posterior.sample(Noise(range(5)), k=10)
    torch.testing.assert_close(prior.rate(posterior, z)[:, 0], (posterior.log_prob(z) - prior.log_prob(z)).mean(1))


def test_priors_are_known_by_name() -> None:
    assert "standard" in priors.names()
    assert priors.get("standard") is StandardNormal


def test_the_standard_normal_is_beside_the_clusters_by_what_it_accounts_for_of_others() -> None:
    clouds, plain = 0.5 * two_clouds(DIM) + 2, torch.randn(300, DIM)
    others = torch.cat([clouds[1::2], plain])
    fitted = FittedMixture.fit(clouds[::2, None], others, 3, seed=0)
    assert torch.equal(fitted.means[-1], torch.zeros(DIM))
    assert torch.equal(fitted.factors[-1], torch.eye(DIM))
    share, own = fitted.weights[-1], FittedMixture(DIM, 3)
    own.weights, own.means, own.factors = fitted.weights[:-1] / (1 - share), fitted.means[:-1], fitted.factors[:-1]
    logs = own.log_prob(others), StandardNormal(StandardNormal.Config(), DIM).log_prob(others)
    shares = torch.linspace(0.001, 0.999, 999)[:, None]
    best = torch.logaddexp(logs[0] + (1 - shares).log(), logs[1] + shares.log()).mean(1).argmax()
    assert 0.1 < share < 0.9
    assert share.item() == pytest.approx(shares[best].item(), abs=0.002)


def test_clusters_of_few_rows_that_say_nothing_of_others_give_way_to_the_standard_normal() -> None:
    few, others = torch.randn(20, 32), torch.randn(500, 32)
    fitted = FittedMixture.fit(few[:, None], others[:250], 20, seed=0)
    standard = StandardNormal(StandardNormal.Config(), 32)
    assert (standard.log_prob(others) - fitted.log_prob(others))[250:].mean() < 0.1


def test_a_mixture_that_holds_for_others_is_left_alone() -> None:
    clouds = 5 * two_clouds(DIM)
    assert len(FittedMixture.fit(clouds[::2, None], clouds[1::2], 3, seed=0).weights) == 3


def test_a_prior_whose_density_has_another_shape_is_refused() -> None:
    class Wrong(StandardNormal):
        """One density for each dimension, which would broadcast."""

        def log_prob(self, z: Tensor) -> Tensor:
            return -0.5 * z**2

    posterior = DiagonalGaussian(torch.zeros(4, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"Wrong\.log_prob gives \(4, 1, 2\) for z \(4, 1, 2\), not \(4, 1\)"):
        Prior.rate(Wrong(Prior.Config(), 2), posterior, torch.zeros(4, 1, 2))
