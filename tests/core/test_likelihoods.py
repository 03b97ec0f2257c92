"""Likelihoods: they sum or integrate to 1, have finite gradients, and draw what they score."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Laplace as TorchLaplace
from torch.distributions import Normal

from mmvae.core.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian, Laplace, Likelihood
from mmvae.core.noise import Noise, StepNoise

VALUES = torch.arange(256)[:, None]  # every pixel value, one a row


def mixture(logits: list[float], means: list[float], log_scales: list[float], rows: int = 256) -> DiscretizedLogistic:
    """One pixel's distribution in every row."""
    columns = (torch.tensor(part)[None, :, None].repeat(rows, 1, 1) for part in (logits, means, log_scales))
    return DiscretizedLogistic(*columns)


def masses(logits: list[float], means: list[float], log_scales: list[float]) -> Tensor:
    """The probability of each of the 256 values."""
    return mixture(logits, means, log_scales).log_prob(VALUES).double().exp()


def chi_square(counts: Tensor, probabilities: Tensor) -> tuple[float, int]:
    """The statistic and its degrees of freedom, over the cells where at least 5 are expected, the rest pooled."""
    expected = probabilities.double() / probabilities.double().sum() * counts.sum()
    large = expected >= 5
    observed = torch.cat([counts[large].double(), counts[~large].sum().double()[None]])
    expected = torch.cat([expected[large], expected[~large].sum()[None].clamp(min=1e-9)])
    return ((observed - expected) ** 2 / expected).sum().item(), len(expected) - 1


# -- discretized logistic -------------------------------------------------------------------------

numbers = st.floats(-3, 3, width=32)
scales = st.floats(-12, 12, width=32)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.tuples(numbers, numbers, scales), min_size=1, max_size=3))
def test_discretized_logistic_sums_to_one(parts: list[tuple[float, float, float]]) -> None:
    logits, means, log_scales = (list(column) for column in zip(*parts, strict=True))
    assert masses(logits, means, log_scales).sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("log_scale", [-100.0, -7.0, 0.0, 7.0, 60.0])
@pytest.mark.parametrize("mean", [-1000.0, -1.0, 0.0, 1.0, 1.01, 50.0])
def test_discretized_logistic_sums_to_one_and_has_finite_gradients_at_extremes(mean: float, log_scale: float) -> None:
    parameters = [torch.full((256, 1, 1), value, requires_grad=True) for value in (0.0, mean, log_scale)]
    score = DiscretizedLogistic(*parameters).log_prob(VALUES)
    score.sum().backward()
    assert torch.isfinite(score).all()
    assert score.exp().sum().item() == pytest.approx(1, abs=1e-4)
    for parameter in parameters:
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_discretized_logistic_masses_are_differences_of_the_logistic_distribution_function() -> None:
    mean, scale = 0.123, 0.05
    edges = ((torch.arange(255, dtype=torch.float64) + 0.5) / 127.5 - 1 - mean) / scale
    below = torch.cat([torch.zeros(1), torch.sigmoid(edges), torch.ones(1)])
    found = masses([0.0], [mean], [torch.tensor(scale).log().item()])
    torch.testing.assert_close(found, below.diff(), atol=1e-7, rtol=1e-4)


def test_a_mixture_is_the_weighted_sum_of_its_components() -> None:
    logits, means, log_scales = [0.0, 1.0, -1.0], [-0.5, 0.1, 0.8], [-3.0, -1.0, -5.0]
    shares = torch.softmax(torch.tensor(logits), 0).double()
    parts = [masses([0.0], [m], [s]) for m, s in zip(means, log_scales, strict=True)]
    expected = sum(share * part for share, part in zip(shares, parts, strict=True))
    torch.testing.assert_close(masses(logits, means, log_scales), expected, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize(
    "parts",
    [([0.0], [0.2], [-1.5]), ([0.0, 1.0, -1.0], [-0.9, 0.1, 1.2], [-2.0, -3.0, -1.0])],
    ids=["one component", "three components"],
)
def test_discretized_logistic_draws_values_as_often_as_it_scores_them(parts: tuple[list[float], ...]) -> None:
    n = 40_000
    drawn = mixture(*parts, rows=n).sample(StepNoise(0, n, slice(None)))
    statistic, freedom = chi_square(drawn.flatten().long().bincount(minlength=256), masses(*parts))
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5


def test_the_mode_of_one_narrow_logistic_is_its_most_probable_value() -> None:
    for mean in (-1.5, -0.7, 0.01, 0.31, 0.999, 2.0):
        best = masses([0.0], [mean], [-4.0]).argmax().item()
        assert mixture([0.0], [mean], [-4.0], rows=1).mode().item() == best


# -- Bernoulli ------------------------------------------------------------------------------------


def test_bernoulli_sums_to_one_and_draws_ones_at_its_probability() -> None:
    logits = torch.tensor([-3.0, -0.2, 0.0, 1.7])
    likelihood = Bernoulli(logits[:, None])
    total = sum(likelihood.log_prob(torch.full((4, 1), bit)).exp() for bit in (0, 1))
    torch.testing.assert_close(total, torch.ones(4))
    drawn = Bernoulli(logits.repeat(20_000, 1)).sample(StepNoise(0, 20_000, slice(None))).float().mean(0)
    torch.testing.assert_close(drawn, torch.sigmoid(logits), atol=0.015, rtol=0)


def test_bernoulli_scores_are_summed_over_each_observation() -> None:
    logits, bits = torch.randn(5, 2, 3), torch.randint(0, 2, (5, 2, 3))
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(bits.float()).sum((1, 2))
    torch.testing.assert_close(Bernoulli(logits).log_prob(bits), expected)


def test_a_confident_wrong_bernoulli_still_gets_its_gradient() -> None:
    logits = torch.tensor([[20.0], [200.0]], requires_grad=True)
    (-Bernoulli(logits).log_prob(torch.zeros(2, 1))).sum().backward()
    torch.testing.assert_close(logits.grad, torch.ones(2, 1))


# -- densities ------------------------------------------------------------------------------------

DENSITIES = pytest.mark.parametrize(("ours", "torchs"), [(Gaussian, Normal), (Laplace, TorchLaplace)])


@DENSITIES
def test_densities_integrate_to_one(ours: type[Gaussian | Laplace], torchs: object) -> None:
    for mean, scale in ((0.0, 1.0), (2.0, 0.1), (-5.0, 3.0)):
        x = torch.linspace(mean - 40 * scale, mean + 40 * scale, 40_001)[:, None]
        density = ours(torch.full_like(x, mean), torch.tensor(scale).log()).log_prob(x).double().exp()
        assert torch.trapezoid(density, x[:, 0].double()).item() == pytest.approx(1, abs=1e-4)


@DENSITIES
def test_densities_equal_those_of_torch(ours: type[Gaussian | Laplace], torchs: Callable[..., Normal]) -> None:
    mean, log_scale, x = torch.randn(4, 2, 3), torch.randn(2, 1), torch.randn(4, 2, 3)
    expected = torchs(mean, log_scale.exp().expand(2, 3)).log_prob(x).sum((1, 2))
    torch.testing.assert_close(ours(mean, log_scale).log_prob(x), expected)


@DENSITIES
def test_densities_draw_what_they_score(ours: type[Gaussian | Laplace], torchs: Callable[..., Normal]) -> None:
    n, mean, scale = 40_000, 1.5, 0.7
    likelihood = ours(torch.full((n, 1), mean), torch.tensor(scale).log())
    drawn = likelihood.sample(StepNoise(0, n, slice(None))).flatten()
    # Kolmogorov and Smirnov: the largest distance between the distribution functions, beyond 2.5 by chance once in 1e5
    below = torchs(mean, scale).cdf(drawn.sort().values)
    assert (below - torch.linspace(0, 1, n)).abs().max().item() < 2.5 / n**0.5


# -- every likelihood -----------------------------------------------------------------------------


def bernoulli(rows: int) -> Likelihood:
    return Bernoulli(torch.randn(rows, 3, 4))


def logistic(rows: int) -> Likelihood:
    return DiscretizedLogistic(torch.randn(rows, 2, 3, 4), torch.randn(rows, 2, 3, 4), torch.randn(rows, 2, 3, 4) - 2)


def gaussian(rows: int) -> Likelihood:
    return Gaussian(torch.randn(rows, 3, 4), torch.randn(3, 1))


def laplace(rows: int) -> Likelihood:
    return Laplace(torch.randn(rows, 3, 4), torch.randn(3, 1))


EVERY = pytest.mark.parametrize("make", [bernoulli, logistic, gaussian, laplace])


def seeded(make: Callable[[int], Likelihood], rows: int) -> Likelihood:
    torch.manual_seed(1)
    return make(rows)


def spread(likelihood: Likelihood, temperature: float) -> float:
    """How far two draws lie from each other on average."""
    first, second = (likelihood.sample(StepNoise(seed, 200, slice(None)), temperature).float() for seed in (0, 1))
    return (first - second).abs().mean().item()


@EVERY
def test_a_row_is_drawn_from_its_own_seed_whatever_the_batch(make: Callable[[int], Likelihood]) -> None:
    likelihood = seeded(make, 3)
    first = likelihood.sample(Noise([10, 11, 12]))
    second = likelihood.sample(Noise([99, 11, 7]))
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], second[0])


@EVERY
def test_scores_have_one_number_a_row_in_float32(make: Callable[[int], Likelihood]) -> None:
    likelihood = seeded(make, 3)
    score = likelihood.log_prob(likelihood.sample(Noise(range(3))))
    assert score.shape == (3,)
    assert score.dtype == torch.float32


@EVERY
def test_a_lower_temperature_narrows_the_draws(make: Callable[[int], Likelihood]) -> None:
    likelihood = seeded(make, 200)
    hot, cool, cold = (spread(likelihood, temperature) for temperature in (1.0, 0.5, 1e-3))
    assert cool < 0.8 * hot
    assert cold < 0.02 * hot


@EVERY
def test_draws_repeat_under_the_same_seeds(make: Callable[[int], Likelihood]) -> None:
    likelihood = seeded(make, 3)
    assert torch.equal(likelihood.sample(Noise([1, 2, 3])), likelihood.sample(Noise([1, 2, 3])))


@EVERY
def test_parameters_of_bfloat16_networks_are_scored_in_float32(make: Callable[[int], Likelihood]) -> None:
    full = seeded(make, 3)
    x = full.sample(Noise(range(3)))
    halves = type(full)(*(tensor.bfloat16() for tensor in vars(full).values()))
    rounded = type(full)(*(tensor.bfloat16().float() for tensor in vars(full).values()))
    torch.testing.assert_close(halves.log_prob(x), rounded.log_prob(x), atol=0, rtol=0)
