"""Posterior families: guarantees on the rate, and the model without a latent."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmvae.core.experts import ProductOfExperts, least_precision, precisions
from mmvae.core.fitted import FittedMixture
from mmvae.core.functions import HIGHEST, LOWEST
from mmvae.core.latents import Latent, NoLatent
from mmvae.core.noise import Noise
from mmvae.core.normalization import MeanNorm
from mmvae.core.priors import NoPrior, StandardNormal
from mmvae.core.registry import Settings

DIM, ROWS = 4, 64
KNOWN = torch.arange(ROWS) % 4 != 0


def family(**config: float) -> ProductOfExperts:
    return ProductOfExperts(ProductOfExperts.Config(dim=DIM, **config))  # type: ignore[invalid-argument-type]


def rates(latent: ProductOfExperts, expert: Tensor) -> Tensor:
    posterior = latent({"x": expert}, {"x": KNOWN}, ROWS)
    return StandardNormal(Settings(), DIM).rate(posterior, posterior.sample(Noise(range(ROWS))))


def test_without_the_prior_as_a_factor_an_expert_alone_is_the_posterior_and_two_are_their_product() -> None:
    torch.manual_seed(0)
    latent, count = family(with_prior=False), int(KNOWN.sum())
    one, two = torch.randn(2, count, 2 * DIM).unbind()
    latent.attach({"x": 1, "y": 0})  # the last dimension is of x alone
    (mean_one, log_one), (mean_two, log_two) = (expert.chunk(2, 1) for expert in (one, two))
    alone = latent({"x": one}, {"x": KNOWN}, ROWS)
    torch.testing.assert_close(alone.mean[KNOWN], mean_one)
    torch.testing.assert_close(alone.stddev[KNOWN], (-0.5 * log_one).exp())
    both = latent({"x": one, "y": two}, {"x": KNOWN, "y": KNOWN}, ROWS)
    weight = (log_one.exp() / (log_one.exp() + log_two.exp()))[:, :-1]
    expected = weight * mean_one[:, :-1] + (1 - weight) * mean_two[:, :-1]
    torch.testing.assert_close(both.mean[KNOWN][:, :-1], expected)
    of_y = latent({"y": two}, {"y": KNOWN}, ROWS)
    for mean, stddev in ((alone.mean[~KNOWN], alone.stddev[~KNOWN]), (of_y.mean[:, -1], of_y.stddev[:, -1])):
        assert (mean == 0).all()  # of what nothing is said, the prior
        assert (stddev == 1).all()
    with pytest.raises(ValueError, match=r"set latent\.with_prior to true"):
        family(with_prior=False, min_rate=1.0)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.5, 3.0, 10.0])
def test_the_least_precision_is_that_many_nats_away(rate: float) -> None:
    precision = torch.tensor(least_precision(rate), dtype=torch.float64)
    wide = torch.distributions.Normal(0, precision.rsqrt())
    again = torch.distributions.kl_divergence(wide, torch.distributions.Normal(precision.new_zeros(()), 1))
    assert again.item() == pytest.approx(rate, abs=1e-6)


def test_no_posterior_of_a_known_row_is_nearer_than_the_minimum_rate() -> None:
    collapsed = torch.cat([torch.zeros(int(KNOWN.sum()), DIM), torch.full((int(KNOWN.sum()), DIM), -12.0)], 1)
    assert rates(family(), collapsed).sum(1).max() < 1e-3
    floored = rates(family(min_rate=6.0), collapsed).sum(1)
    assert floored[KNOWN].min() >= 6.0 - 1e-3
    torch.testing.assert_close(floored[~KNOWN], torch.zeros(int((~KNOWN).sum())))  # no modality: the prior


def test_a_fitted_prior_is_given_what_experts_say_whether_or_not_the_prior_is_a_factor() -> None:
    prior = FittedMixture(DIM, 1)  # of N(0, I), moved
    prior.means += torch.arange(DIM)
    vague = torch.cat([torch.full((int(KNOWN.sum()), DIM), 2.0), torch.full((int(KNOWN.sum()), DIM), -1.4)], 1)
    precision = torch.tensor(-1.4).exp()
    exact = (torch.arange(DIM) + 2 * precision) / (1 + precision)
    for with_prior in (True, False):
        posterior = family(with_prior=with_prior)({"x": vague}, {"x": KNOWN}, ROWS)
        given = prior.given(posterior.gaussians(Noise(range(ROWS)), 1))
        torch.testing.assert_close(given.mean[KNOWN], exact.expand(int(KNOWN.sum()), -1))
        torch.testing.assert_close(given.mean[~KNOWN], torch.arange(4.0).expand(int((~KNOWN).sum()), -1))


def test_normalized_means_have_the_scale_and_rate_that_was_asked_for() -> None:
    torch.manual_seed(0)
    expert = torch.randn(int(KNOWN.sum()), 2 * DIM)
    latent = family(mean_scale=0.6)
    posterior = latent.train()({"x": expert}, {"x": KNOWN}, ROWS)
    torch.testing.assert_close(posterior.mean[KNOWN].std(0), torch.full((DIM,), 0.6), atol=0.1, rtol=0)
    assert rates(latent, expert)[KNOWN].mean(0).min() >= 0.9 * 0.6**2 / 2
    assert (posterior.mean[~KNOWN] == 0).all()


def test_normalized_means_keep_their_scale_where_experts_are_sure_of_nothing() -> None:
    torch.manual_seed(0)
    count = int(KNOWN.sum())
    vague = torch.cat([torch.randn(count, DIM), torch.full((count, DIM), -12.0)], 1)
    posterior = family(mean_scale=0.6).train()({"x": vague}, {"x": KNOWN}, ROWS)
    torch.testing.assert_close(posterior.mean[KNOWN].std(0), torch.full((DIM,), 0.6), atol=0.1, rtol=0)


def test_normalization_settles_to_what_training_saw_whatever_the_batch() -> None:
    torch.manual_seed(0)
    latent = family(mean_scale=1.0).train()
    for _ in range(100):
        latent({"x": 3 + torch.randn(ROWS, 2 * DIM)}, {"x": torch.ones(ROWS, dtype=torch.bool)}, ROWS)
    expert = 3 + torch.randn(ROWS, 2 * DIM)
    one = torch.ones(1, dtype=torch.bool)
    whole = latent.eval()({"x": expert}, {"x": torch.ones(ROWS, dtype=torch.bool)}, ROWS).mean
    torch.testing.assert_close(latent({"x": expert[:1]}, {"x": one}, 1).mean, whole[:1])
    torch.testing.assert_close(whole.mean(0), torch.zeros(DIM), atol=0.3, rtol=0)


def test_without_a_latent_z_is_0_and_costs_nothing() -> None:
    posterior = NoLatent(Latent.Config(dim=DIM))({}, {"x": KNOWN}, ROWS)
    noise = Noise(range(ROWS))
    z = posterior.sample(noise, 3)
    prior = NoPrior(Settings(), DIM)
    assert z.shape == (ROWS, 3, DIM)
    assert not z.any()
    assert not prior.sample(noise).any()
    assert not prior.rate(posterior, z).any()


def test_batches_count_by_their_rows_in_what_normalization_remembers() -> None:
    norm = MeanNorm(3, scale=0.6, momentum=0.01).train()
    generator = torch.Generator().manual_seed(0)
    few, many = torch.randn(10, 3, generator=generator), 3 + 2 * torch.randn(90, 3, generator=generator)
    for _ in range(500):
        for batch in (few, many):
            norm(batch, torch.ones(len(batch), dtype=torch.bool))
    expected = 0.1 * few.var(0) + 0.9 * many.var(0)
    assert torch.allclose(norm.running_var, expected, rtol=0.05)
    assert torch.allclose(norm.running_mean, 0.1 * few.mean(0) + 0.9 * many.mean(0), rtol=0.05)


def test_a_batch_of_equal_rows_is_not_stretched() -> None:
    norm, known = MeanNorm(3, scale=0.6).train(), torch.ones(64, dtype=torch.bool)
    for seed in range(50):
        norm(torch.randn(64, 3, generator=torch.Generator().manual_seed(seed)), known)
    alike = torch.full((64, 3), 0.5, requires_grad=True)
    (norm(alike, known) * torch.randn(64, 3, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert alike.grad is not None
    assert alike.grad.abs().max() < 20  # by the variance of the batch it would be 1e10
    norm.eval().settle(norm(alike.detach(), known))
    assert norm(alike.detach() + 0.1, known).abs().max() < 20


def test_settled_statistics_are_of_the_rows_that_they_are_taken_of() -> None:
    torch.manual_seed(0)
    latent = family(mean_scale=0.6)
    for _ in range(5):
        latent.train()({"x": 9 * torch.randn(ROWS, 2 * DIM)}, {"x": torch.ones(ROWS, dtype=torch.bool)}, ROWS)
    latent.eval()
    rows = {"x": 2 + torch.randn(500, 2 * DIM)}, {"x": torch.ones(500, dtype=torch.bool)}, 500
    latent.settle(lambda: latent(*rows).mean)
    torch.testing.assert_close(latent(*rows).mean.std(0), torch.full((DIM,), 0.6))
    torch.testing.assert_close(latent(*rows).mean.mean(0), torch.zeros(DIM), atol=1e-5, rtol=0)
    before = latent(*rows).mean
    latent.settle(lambda: before[:1])  # one row has no spread
    torch.testing.assert_close(latent(*rows).mean, before)


def test_an_expert_that_says_nothing_can_find_its_voice_again() -> None:
    said = torch.tensor([[2.0, -100.0], [2.0, 100.0]], requires_grad=True)
    there = {"x": torch.ones(2, dtype=torch.bool)}
    for sign in (1.0, -1.0):
        of_expert, _ = precisions({"x": said}, there, 2, 1)
        torch.testing.assert_close(of_expert.log(), torch.tensor([[LOWEST], [HIGHEST]]))
        (gradient,) = torch.autograd.grad(sign * of_expert.log().sum(), said)
        # descent with +1 asks for less precision, with -1 for more: never for what is farther outside
        assert (gradient[:, 1] != 0).tolist() == [sign < 0, sign > 0]
