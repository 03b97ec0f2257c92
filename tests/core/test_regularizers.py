"""Regularizers of the aggregate posterior: values known in closed form, and the gradients they give."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from mmvae.core.experts import ProductOfExperts
from mmvae.core.latents import Deterministic, DiagonalGaussian, Latent, Point
from mmvae.core.likelihoods import Bernoulli, Gaussian
from mmvae.core.noise import StepNoise
from mmvae.core.objectives import ELBO, Inferred, objectives
from mmvae.core.priors import Prior, StandardNormal
from mmvae.core.regularizers import (
    DIP,
    MMD,
    RAE,
    TotalCorrelation,
    discrepancy,
    gaussian,
    squared_slope,
    total_correlation,
)
from mmvae.core.vae import Batch, Network

KINDS: dict[str, dict[str, Any]] = {
    "total-correlation": {},
    "dip": {"of": "z"},
    "mmd": {},
    "adversarial": {"against": "shuffled", "units": 8},
}


def near(means: list[list[float]]) -> DiagonalGaussian:
    """Posteriors so narrow that each draw is known to be of its own."""
    mean = torch.tensor(means)
    return DiagonalGaussian(mean, torch.full_like(mean, 0.01))


# -- total correlation ------------------------------------------------------------------------------


def test_independent_dimensions_have_no_total_correlation() -> None:
    grid = near([[a, b] for a in (-1.0, 0.0, 2.0) for b in (-1.0, 1.0)])
    torch.testing.assert_close(total_correlation(grid, grid.mean), torch.zeros(6))


@pytest.mark.parametrize("dim", [2, 3])
def test_dimensions_that_are_copies_tell_all_of_one_another(dim: int) -> None:
    copies = near([[float(a)] * dim for a in range(5)])
    expected = torch.full((5,), (dim - 1) * math.log(5))
    torch.testing.assert_close(total_correlation(copies, copies.mean), expected)


def test_the_total_correlation_of_a_gaussian_is_found() -> None:
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    torch.manual_seed(0)
    means = MultivariateNormal(torch.zeros(2), covariance - 0.1 * torch.eye(2)).sample((4000,))
    posterior = DiagonalGaussian(means, torch.full_like(means, 0.1**0.5))
    z = means + 0.1**0.5 * torch.randn_like(means)
    expected = -0.5 * torch.logdet(covariance)
    torch.testing.assert_close(total_correlation(posterior, z).mean(), expected, rtol=0.05, atol=0)


# -- covariance -------------------------------------------------------------------------------------


def penalty(objective: ELBO, posterior: DiagonalGaussian) -> Tensor:
    prior = StandardNormal(Prior.Config(), posterior.mean.shape[1])
    network = Network({}, {}, ProductOfExperts(ProductOfExperts.Config(dim=2)), prior)
    noise = StepNoise(0, len(posterior.mean), slice(None))
    cost = objective.penalty(
        network, Inferred(Batch({}, {}), Batch({}, {}), {}, posterior), posterior.sample(noise)[:, 0], noise
    )
    assert isinstance(cost, Tensor)
    return cost


def test_means_of_unit_covariance_cost_nothing_and_correlated_ones_do() -> None:
    dip = DIP(DIP.Config(off_diagonal=3.0, diagonal=7.0))
    torch.testing.assert_close(
        penalty(dip, near([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])), torch.zeros(())
    )
    copies = penalty(dip, near([[2.0, 2.0], [-2.0, -2.0]]))  # all four covariances are 4
    torch.testing.assert_close(copies, torch.tensor(3.0 * 2 * 16 + 7.0 * 2 * 9))


def test_the_covariance_of_z_holds_the_posteriors_variances() -> None:
    dip = DIP(DIP.Config(of="z", off_diagonal=1.0, diagonal=1.0))
    everywhere = DiagonalGaussian(torch.zeros(3, 2), torch.tensor([[1.0, 2.0]]).expand(3, 2))
    torch.testing.assert_close(penalty(dip, everywhere), torch.tensor(9.0))


@pytest.mark.parametrize(("of", "times"), [("means", 10), ("z", 1)])
def test_variances_weigh_as_published_where_the_recipe_says_nothing(of: Literal["means", "z"], times: int) -> None:
    posterior = near([[2.0, 2.0], [-2.0, -2.0], [1.0, -1.0]])
    stated = DIP(DIP.Config(of=of, off_diagonal=3.0, diagonal=3.0 * times))
    torch.testing.assert_close(penalty(DIP(DIP.Config(of=of, off_diagonal=3.0)), posterior), penalty(stated, posterior))


# -- discrepancy ------------------------------------------------------------------------------------


def test_the_discrepancy_of_equal_distributions_is_zero_on_average() -> None:
    torch.manual_seed(0)
    found = torch.stack([discrepancy(torch.randn(20, 2), torch.randn(20, 2)) for _ in range(500)])
    assert found.mean().abs() < 4 * found.std() / 500**0.5
    assert found.std() > 0


def test_the_discrepancy_of_two_points_is_that_of_their_kernel() -> None:
    a, b = torch.zeros(3, 1), torch.full((3, 1), 2.0)
    kernel = sum(2 * scale / (2 * scale + 4) for scale in (0.1, 0.2, 0.5, 1, 2, 5, 10))
    torch.testing.assert_close(discrepancy(a, b), torch.tensor(2 * 7 - 2 * kernel))


def test_one_row_has_no_discrepancy() -> None:
    with pytest.raises(ValueError, match=r"train\.batch_size above 1"):
        discrepancy(torch.zeros(1, 2), torch.zeros(1, 2))


# -- as objectives ----------------------------------------------------------------------------------


class Flat(nn.Module):
    """A decoder under which all is equally likely."""

    def forward(self, z: Tensor) -> Bernoulli:
        return Bernoulli(torch.zeros_like(z))


X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def loss_and_gradient(kind: str, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Of the rows `part` of a batch of 8; the encoder is linear, and its weights the same each time."""
    torch.manual_seed(1)
    network = Network(
        {"x": nn.Linear(4, 4)},
        {"x": Flat()},
        ProductOfExperts(ProductOfExperts.Config(dim=2)),
        StandardNormal(Prior.Config(), 2),
    )
    part_of = objectives.get(kind)
    x = X[part]
    batch = Batch({"x": x[:, :2]}, {"x": torch.ones(len(x), dtype=torch.bool)})
    network.encoders["x"] = nn.Sequential(Read(x), network.encoders["x"])
    objective = part_of(part_of.Config(**KINDS.get(kind, {})))
    objective.attach(network)
    terms = objective(network, batch, StepNoise(5, len(X), part))
    (gradient,) = torch.autograd.grad(terms.loss, [next(network.encoders.parameters())])
    return terms.loss.detach(), gradient


class Read(nn.Module):
    """Gives the whole rows to the encoder, where the likelihood scores but two numbers of each."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x

    def forward(self, values: Tensor) -> Tensor:
        return self.x


@pytest.mark.parametrize("kind", KINDS)
def test_a_regularizer_adds_to_the_loss_and_moves_the_encoder(kind: str) -> None:
    plain, with_it = loss_and_gradient("elbo"), loss_and_gradient(kind)
    assert (with_it[0] - plain[0]).abs() > 1e-3
    assert (with_it[1] - plain[1]).abs().max() > 1e-3


def test_without_weight_it_is_the_elbo() -> None:
    for part, weight in ((TotalCorrelation, "correlation"), (MMD, "discrepancy")):
        posterior = DiagonalGaussian(X[:, :2], X[:, 2:].exp())
        assert penalty(part(part.Config(**{weight: 0.0})), posterior) == 0


def test_a_posterior_that_is_no_gaussian_is_refused() -> None:
    with pytest.raises(ValueError, match=r"latent\.kind = gaussian"):
        gaussian(Point(torch.zeros(3, 2)))


def one_process(rank: int, file: str, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    half = slice(4 * rank, 4 * rank + 4)
    for kind in KINDS:
        results.put((kind, *(value.tolist() for value in loss_and_gradient(kind, half))))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_regularize_as_one(tmp_path: Path) -> None:
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    workers = [context.Process(target=one_process, args=(rank, str(tmp_path / "group"), results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in range(2 * len(KINDS))]
    for worker in workers:
        worker.join()
    for kind in KINDS:
        losses, gradients = zip(*(values[1:] for values in found if values[0] == kind), strict=True)
        loss, gradient = loss_and_gradient(kind)
        torch.testing.assert_close(torch.tensor(losses).mean(), loss)
        torch.testing.assert_close(torch.tensor(gradients).mean(0), gradient, rtol=1e-4, atol=1e-5)


# -- points -----------------------------------------------------------------------------------------


class Lines(nn.Module):
    """p(x|z) = N(W z, 1), with the derivative W everywhere."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, z: Tensor) -> Gaussian:
        return Gaussian(z @ self.weight.T, torch.zeros(()))


def autoencoder(weight: Tensor) -> Network:
    latent = Deterministic(Latent.Config(dim=2))
    return Network({"x": nn.Identity()}, {"x": Lines(weight)}, latent, StandardNormal(Prior.Config(), 2))


def test_the_slope_of_a_linear_decoder_is_the_norm_of_its_matrix() -> None:
    weight = torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]])
    found = squared_slope(autoencoder(weight), torch.zeros(5000, 2), StepNoise(0, 5000, slice(None)))
    error = found.std() / 5000**0.5
    assert (found.mean() - weight.square().sum()).abs() < 4 * error


def test_a_regularized_autoencoder_costs_distortion_length_and_slope() -> None:
    network = autoencoder(torch.eye(2))
    z = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    batch = Batch({"x": z}, {"x": torch.ones(2, dtype=torch.bool)})
    plain = ELBO(ELBO.Config())(network, batch, StepNoise(0, 2, slice(None)))
    assert (plain.rate == 0).all()
    short = RAE(RAE.Config(length=0.2))(network, batch, StepNoise(0, 2, slice(None)))
    torch.testing.assert_close(short.loss, plain.loss + 0.2 * 0.5 * (25 + 4) / 2)
    steep = RAE(RAE.Config(length=0.0, slope=0.2))(network, batch, StepNoise(0, 2, slice(None)))
    steep.loss.backward()
    assert next(network.decoders.parameters()).grad is not None
    assert steep.loss > plain.loss


def test_the_weights_of_decoders_alone_may_cost_their_norm() -> None:
    weight = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    network = autoencoder(weight)
    network.encoders["x"] = nn.Linear(2, 2)
    batch = Batch({"x": torch.ones(2, 2)}, {"x": torch.ones(2, dtype=torch.bool)})
    plain, heavy = (
        RAE(RAE.Config(length=0.0, decoder=decoder))(network, batch, StepNoise(0, 2, slice(None))).loss
        for decoder in (0.0, 0.3)
    )
    torch.testing.assert_close(heavy - plain, torch.tensor(0.3 * 0.5 * 6.0))


def test_a_point_is_the_mean_of_what_is_present() -> None:
    latent = Deterministic(Latent.Config(dim=2))
    x, y = torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([[5.0, 5.0], [7.0, 7.0]])
    present = {"x": torch.tensor([True, True, False]), "y": torch.tensor([True, False, True])}
    mean = latent({"x": x, "y": y}, present, 3).mean
    torch.testing.assert_close(mean, torch.tensor([[3.0, 3.0], [2.0, 2.0], [7.0, 7.0]]))
    torch.testing.assert_close(latent({}, {"x": ~present["x"]}, 3).mean, torch.zeros(3, 2))
