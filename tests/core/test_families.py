"""Correlated and flow-refined posteriors: closed forms, densities that sum to 1, and products of experts."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from mmvae.core.experts import ProductOfExperts
from mmvae.core.families import CorrelatedGaussian, CorrelatedProduct, FlowPosterior, FlowRefined
from mmvae.core.latents import DiagonalGaussian, Latent, Posterior, latents
from mmvae.core.likelihoods import Gaussian
from mmvae.core.noise import Noise, StepNoise
from mmvae.core.objectives import ELBO, ImportanceWeighted, Objective, importance_weighted_bound
from mmvae.core.priors import Prior, StandardNormal
from mmvae.core.registry import Settings
from mmvae.core.vae import Batch, Network

DIM = 3
FLOWS = ("planar", "iaf", "maf", "coupling")
ALL = torch.ones(4, dtype=torch.bool)


def correlated(rows: int = 4, seed: int = 0) -> CorrelatedGaussian:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(rows, DIM, DIM, generator=generator).tril(-1)
    scales = torch.rand(rows, DIM, generator=generator) + 0.5
    return CorrelatedGaussian(torch.randn(rows, DIM, generator=generator), factor + torch.diag_embed(scales))


def as_torch(posterior: CorrelatedGaussian) -> MultivariateNormal:
    return MultivariateNormal(posterior.mean, precision_matrix=posterior.factor @ posterior.factor.mT)


def refined(flow: str, rows: int = 4, dim: int = DIM) -> FlowPosterior:
    """A posterior whose flow is far from the identity."""
    torch.manual_seed(0)
    latent = FlowRefined(FlowRefined.Config.model_validate({"dim": dim, "flow": flow, "hidden": 16, "context": 4}))
    with torch.no_grad():
        for name, parameter in latent.flow.named_parameters():
            if not name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return latent({"x": torch.randn(rows, latent.outputs)}, {"x": torch.ones(rows, dtype=torch.bool)}, rows)


# -- correlated -------------------------------------------------------------------------------------


def test_a_correlated_gaussian_is_torchs() -> None:
    posterior = correlated()
    z = posterior.sample(Noise(range(4)), k=20_000)
    expected = as_torch(posterior)
    torch.testing.assert_close(posterior.log_prob(z), expected.log_prob(z.transpose(0, 1)).T, atol=1e-4, rtol=1e-4)
    for drawn, precision in zip(z, posterior.factor @ posterior.factor.mT, strict=True):
        torch.testing.assert_close(torch.cov(drawn.T), torch.linalg.inv(precision), atol=0.12, rtol=0.05)
    standard = MultivariateNormal(torch.zeros(DIM), torch.eye(DIM))
    torch.testing.assert_close(posterior.rate_from_standard()[:, 0], kl_divergence(expected, standard))


def test_precisions_of_correlated_experts_add_to_the_priors() -> None:
    latent = CorrelatedProduct(Latent.Config(dim=DIM))
    experts = {name: torch.randn(4, latent.outputs) for name in ("x", "y")}
    present = {"x": ALL, "y": torch.tensor([True, False, True, False])}
    experts["y"] = experts["y"][present["y"]]
    both = latent(experts, present, 4)
    x = latent({"x": experts["x"]}, {"x": ALL}, 4)
    precision, precision_of_x = (each.factor @ each.factor.mT for each in (both, x))
    for row in (1, 3):
        torch.testing.assert_close(precision[row], precision_of_x[row])
        torch.testing.assert_close(both.mean[row], x.mean[row])
    y = latent({"y": experts["y"]}, {"y": torch.ones(2, dtype=torch.bool)}, 2)
    precision_of_y = y.factor @ y.factor.mT
    for row, of_y in ((0, 0), (2, 1)):  # the prior counts once
        torch.testing.assert_close(precision[row], precision_of_x[row] + precision_of_y[of_y] - torch.eye(DIM))
        sums = precision_of_x[row] @ x.mean[row] + precision_of_y[of_y] @ y.mean[of_y]
        torch.testing.assert_close(precision[row] @ both.mean[row], sums)


def test_no_modality_is_the_prior() -> None:
    posterior = CorrelatedProduct(Latent.Config(dim=DIM))({}, {"x": ~ALL}, 4)
    torch.testing.assert_close(posterior.rate_from_standard(), torch.zeros(4, 1))


class Linear(nn.Module):
    """p(x|z) = N(W z, 1)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, z: Tensor) -> Gaussian:
        return Gaussian(z @ self.weight.T, torch.zeros(()))


class Exact(nn.Module):
    """The expert of p(x|z), whose precision W'W is not diagonal."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight, self.factor = weight, torch.linalg.cholesky(weight.T @ weight)

    def forward(self, x: Tensor) -> Tensor:
        below = self.factor.tril(-1) + torch.diag_embed(2 * self.factor.diagonal().log())
        lower = torch.tril_indices(DIM, DIM)
        mean = torch.linalg.lstsq(self.weight, x.T).solution.T
        return torch.cat([mean, below[lower[0], lower[1]].expand(len(x), -1)], dim=1)


def test_a_correlated_posterior_can_be_exact_where_a_diagonal_one_cannot() -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(5, DIM, generator=generator)
    x = torch.randn(4, 5, generator=generator)
    latent, prior = CorrelatedProduct(Latent.Config(dim=DIM)), StandardNormal(Prior.Config(), DIM)
    network = Network({"x": Exact(weight)}, {"x": Linear(weight)}, latent, prior)
    evidence = MultivariateNormal(torch.zeros(5), weight @ weight.T + torch.eye(5)).log_prob(x)
    (bound,) = importance_weighted_bound(network, Batch({"x": x}, {"x": ALL}), Noise(range(4)), k=1)
    torch.testing.assert_close(bound, evidence, atol=1e-4, rtol=1e-4)


# -- refined by a flow ------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", FLOWS)
def test_the_density_of_a_draw_is_that_of_the_same_z_given_from_outside(flow: str) -> None:
    posterior = refined(flow)
    z = posterior.sample(Noise(range(4)), k=5)
    torch.testing.assert_close(posterior.log_prob(z), posterior.log_prob(z.clone()), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("flow", FLOWS)
def test_the_density_sums_to_one_and_draws_follow_it(flow: str) -> None:
    posterior = refined(flow, rows=2, dim=2)
    axis = torch.linspace(-9, 9, 500)
    points, area = torch.cartesian_prod(axis, axis), (18 / 499) ** 2
    with torch.no_grad():
        mass = posterior.pairs(points).exp() * area
        z = posterior.sample(Noise([0, 1]), k=20_000)
    torch.testing.assert_close(mass.sum(1), torch.ones(2), atol=5e-3, rtol=0)
    torch.testing.assert_close(z.mean(1), mass @ points, atol=0.05, rtol=0)
    torch.testing.assert_close(z.square().mean(1), mass @ points.square(), atol=0.1, rtol=0.05)


@pytest.mark.parametrize("flow", ["iaf", "maf", "coupling"])
def test_a_flow_begins_as_the_gaussian(flow: str) -> None:
    config = {"dim": DIM, "flow": flow, "context": 4}
    latent = FlowRefined(FlowRefined.Config.model_validate(config))
    expert = torch.randn(4, latent.outputs)
    plain = ProductOfExperts(ProductOfExperts.Config(dim=DIM))({"x": expert[:, : 2 * DIM]}, {"x": ALL}, 4)
    torch.testing.assert_close(latent({"x": expert}, {"x": ALL}, 4).mean, plain.mean)


def test_contexts_of_several_experts_are_summed_by_row() -> None:
    torch.manual_seed(0)
    latent = FlowRefined(FlowRefined.Config(dim=DIM, flow="planar", context=4))
    x, y = torch.randn(4, latent.outputs), torch.randn(2, latent.outputs)
    some = torch.tensor([False, True, False, True])
    both = latent({"x": x, "y": y}, {"x": ALL, "y": some}, 4).mean
    alone = latent({"x": x}, {"x": ALL}, 4).mean
    torch.testing.assert_close(both[~some], alone[~some])
    assert ((both - alone)[some].abs().sum(1) > 1e-3).all()


def test_a_refined_posterior_has_no_doubly_reparametrized_gradient() -> None:
    with pytest.raises(ValueError, match=r"objective\.encoder = dreg"):
        refined("iaf").detached()


# -- every family -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gaussian", "correlated", "flow"])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("objective", [ELBO(ELBO.Config()), ImportanceWeighted(ImportanceWeighted.Config())])
def test_every_weight_gets_a_gradient(kind: str, autocast: bool, objective: Objective) -> None:
    torch.manual_seed(0)
    part = latents.get(kind)
    latent = part(part.Config(dim=DIM))
    network = Network(
        {"x": nn.Linear(5, latent.outputs)},
        {"x": Linear(torch.randn(5, DIM))},
        latent,
        StandardNormal(Prior.Config(), DIM),
    )
    with torch.no_grad():  # the last layers of a flow begin at 0, and give those before them no gradient
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = Batch({"x": torch.randn(4, 5)}, {"x": ALL})
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        terms = objective(network, batch, Noise(range(4)))
    assert terms.rate.dtype == torch.float32
    terms.loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


POSTERIORS: dict[str, Callable[[], Posterior]] = {
    "gaussian": lambda: DiagonalGaussian(torch.randn(4, DIM), torch.rand(4, DIM) + 0.3),
    "correlated": correlated,
    "flow": lambda: refined("coupling"),
}


@pytest.mark.parametrize("kind", POSTERIORS)
def test_pairs_are_all_densities_at_all_points(kind: str) -> None:
    posterior = POSTERIORS[kind]()
    z = torch.randn(6, DIM)
    one_by_one = torch.stack([posterior.log_prob(point.expand(4, 1, -1))[:, 0] for point in z], 1)
    torch.testing.assert_close(posterior.pairs(z), one_by_one, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", POSTERIORS)
def test_a_rate_in_closed_form_is_that_of_draws(kind: str) -> None:
    posterior = POSTERIORS[kind]()
    prior = StandardNormal(Settings(), DIM)
    z = posterior.sample(StepNoise(0, 4, slice(None)), k=20_000)
    ratios = posterior.log_prob(z) - prior.log_prob(z)
    rate = prior.rate(posterior, z).sum(1)
    assert ((rate - ratios.mean(1)).abs() < 5 * ratios.std(1) / math.sqrt(20_000) + 1e-4).all()
