"""Discrete latents: books that follow what they stand for, probabilities by enumeration, and bounds that are exact."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmvae.core.codes import (
    Categorical,
    CodePrior,
    Discrete,
    FiniteScalar,
    GumbelSoftmax,
    UniformCodes,
    VectorQuantized,
)
from mmvae.core.experts import ProductOfExperts
from mmvae.core.likelihoods import Gaussian
from mmvae.core.noise import Noise, StepNoise
from mmvae.core.objectives import ELBO, importance_weighted_bound
from mmvae.core.priors import Prior
from mmvae.core.vae import Batch, Network

CODES, VALUES, WIDTH = 2, 3, 2
ROWS = 4
ALL = torch.ones(ROWS, dtype=torch.bool)


def family(kind: str) -> Discrete:
    torch.manual_seed(0)
    sizes = {"dim": CODES * WIDTH, "codes": CODES, "values": VALUES}
    if kind == "vq":
        return VectorQuantized(VectorQuantized.Config.model_validate(sizes))
    if kind == "gumbel":
        return GumbelSoftmax(GumbelSoftmax.Config.model_validate(sizes))
    return FiniteScalar(FiniteScalar.Config(dim=CODES, values=VALUES))


def all_codes() -> Tensor:
    """Every observation there could be, [K^G, G]."""
    return torch.cartesian_prod(*[torch.arange(VALUES)] * CODES)


class Linear(nn.Module):
    """p(x|z) = N(W z, 1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, dim, generator=torch.Generator().manual_seed(2)))

    def forward(self, z: Tensor) -> Gaussian:
        return Gaussian(z @ self.weight.T, torch.zeros(()))


def network(kind: str) -> Network:
    latent = family(kind)
    prior = UniformCodes(Prior.Config(), latent.dim)
    return Network({"x": nn.Linear(5, latent.outputs)}, {"x": Linear(latent.dim)}, latent, prior).eval()


def codes_in(ours: Network) -> Discrete:
    assert isinstance(ours.latent, Discrete)
    return ours.latent


def decoded(ours: Network, z: Tensor) -> Tensor:
    """The means of p(x|z)."""
    likelihood = ours.decode(z)["x"]
    assert isinstance(likelihood, Gaussian)
    return likelihood.mean


def batch() -> Batch:
    return Batch({"x": torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(1))}, {"x": ALL})


@pytest.mark.parametrize("kind", ["vq", "fsq", "gumbel"])
def test_codes_and_their_vectors_are_one_another(kind: str) -> None:
    latent, codes = family(kind), all_codes()
    z = latent.vectors_of(codes)
    assert z.shape == (VALUES**CODES, latent.dim)
    assert torch.equal(latent.codes_of(z), codes)
    assert torch.equal(latent.codes_of(z + 1e-3), codes)


@pytest.mark.parametrize("kind", ["vq", "fsq", "gumbel"])
def test_posteriors_and_draws_of_the_prior_are_codes(kind: str) -> None:
    ours = network(kind)
    known = codes_in(ours).vectors_of(all_codes())
    for z in (ours.posterior(batch()).sample(Noise(range(ROWS)), 3).flatten(0, 1), ours.prior.sample(Noise(range(50)))):
        torch.testing.assert_close(z, codes_in(ours).vectors_of(codes_in(ours).codes_of(z)))
        assert (torch.cdist(z, known).amin(1) < 1e-3).all()
    shares = codes_in(ours).codes_of(ours.prior.sample(StepNoise(0, 30_000, slice(None)))).double()
    assert (shares == 1).double().mean().item() == pytest.approx(1 / VALUES, abs=0.01)


@pytest.mark.parametrize("kind", ["vq", "fsq"])
def test_the_bound_of_a_code_is_the_likelihood_and_what_the_codes_cost(kind: str) -> None:
    ours = network(kind)
    terms = ELBO(ELBO.Config())(ours, batch(), Noise(range(ROWS)))
    torch.testing.assert_close(terms.rate, torch.full((ROWS,), CODES * math.log(VALUES)))
    everything = decoded(ours, codes_in(ours).vectors_of(all_codes()))
    x = batch().values["x"]
    logs = torch.stack([Gaussian(everything, torch.zeros(())).log_prob(row.expand(9, -1)) for row in x])
    evidence = logs.logsumexp(1) - CODES * math.log(VALUES)
    (bound,) = importance_weighted_bound(ours, batch(), Noise(range(ROWS)), 1)
    torch.testing.assert_close(bound, -terms.negative_elbo)
    assert (bound <= evidence + 1e-5).all()
    # further draws would be the same: none is decoded, however many are asked for
    assert torch.equal(importance_weighted_bound(ours, batch(), Noise(range(ROWS)), 10**12)[0], bound)


def test_the_categorical_sums_to_one_and_its_bound_reaches_the_evidence() -> None:
    ours = network("gumbel")
    z = codes_in(ours).vectors_of(all_codes())
    posterior = ours.posterior(batch())
    assert isinstance(posterior, Categorical)
    torch.testing.assert_close(posterior.pairs(z).exp().sum(1), torch.ones(ROWS))
    torch.testing.assert_close(ours.prior.log_prob(z).exp().sum(), torch.tensor(1.0))
    everything = decoded(ours, z)
    x = batch().values["x"]
    logs = torch.stack([Gaussian(everything, torch.zeros(())).log_prob(row.expand(9, -1)) for row in x])
    (bound,) = importance_weighted_bound(ours, batch(), Noise(range(ROWS)), 20_000)
    torch.testing.assert_close(bound, logs.logsumexp(1) - CODES * math.log(VALUES), atol=0.05, rtol=0)
    drawn = posterior.sample(Noise(range(ROWS)), 20_000)
    torch.testing.assert_close(drawn.mean(1), posterior.mean, atol=0.03, rtol=0)
    rate = ours.prior.rate(posterior, drawn)
    estimated = (posterior.log_prob(drawn) - ours.prior.log_prob(drawn)).mean(1)
    torch.testing.assert_close(rate.sum(1), estimated, atol=0.02, rtol=0)


def test_log_probabilities_of_modalities_add() -> None:
    latent = family("gumbel")
    experts = {name: torch.randn(ROWS, latent.outputs) for name in ("x", "y")}
    both = latent(experts, dict.fromkeys(experts, ALL), ROWS)
    summed = (experts["x"] + experts["y"]).view(ROWS, CODES, VALUES).log_softmax(2)
    torch.testing.assert_close(both.logs, summed)
    nothing = latent({}, {"x": ~ALL}, ROWS)
    torch.testing.assert_close(nothing.rate_from_uniform(), torch.zeros(ROWS, CODES))


@pytest.mark.parametrize("kind", ["vq", "fsq", "gumbel"])
def test_the_encoder_learns_through_the_codes(kind: str) -> None:
    ours = network(kind)
    ELBO(ELBO.Config())(ours, batch(), Noise(range(ROWS))).loss.backward()
    for parameter in ours.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_vectors_come_to_stand_for_clusters_and_idle_ones_are_used_again() -> None:
    latent = VectorQuantized(VectorQuantized.Config(dim=2, codes=2, values=8, commitment=1.0))
    centers = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    with torch.no_grad():
        latent.sums.fill_(50.0)  # all far from what there is
        latent.counts.fill_(1.0)
    latent.train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(600):
        rows = centers[torch.randint(4, (64, 2), generator=generator)] + 0.05 * torch.randn(64, 2, generator=generator)
        latent({"x": rows}, {"x": torch.ones(64, dtype=torch.bool)}, 64)
    for vectors in latent.codebook.squeeze(2):
        assert (vectors[:, None] - centers).abs().amin(0).max() < 0.2
    assert (latent.counts > 0.1).all()
    cost = latent({"x": centers[None, :2]}, {"x": torch.ones(1, dtype=torch.bool)}, 1).auxiliary()
    assert cost is not None
    assert cost.item() < 0.05


def test_a_fitted_prior_of_codes_sums_to_one_and_finds_what_goes_with_what() -> None:
    latent = family("gumbel")
    torch.manual_seed(1)
    prior = CodePrior(latent, hidden=16)
    z = latent.vectors_of(all_codes()).detach()
    torch.testing.assert_close(prior.log_prob(z).exp().sum(), torch.tensor(1.0))
    same = latent.vectors_of(torch.arange(VALUES)[:, None].expand(-1, CODES)).detach()  # both codes alike
    optimizer = torch.optim.Adam(prior.parameters(), 0.02)
    for _ in range(200):
        optimizer.zero_grad()
        (-prior.log_prob(same).mean()).backward()
        optimizer.step()
    assert -prior.log_prob(same).mean().item() == pytest.approx(math.log(VALUES), abs=0.05)
    drawn = latent.codes_of(prior.sample(Noise(range(300))))
    assert (drawn[:, 0] == drawn[:, 1]).double().mean() > 0.95
    assert torch.equal(drawn[1:], latent.codes_of(prior.sample(Noise(range(1, 300)))))


def test_codes_need_codes() -> None:
    with pytest.raises(ValueError, match=r"prior\.kind = codes"):
        Network({}, {}, ProductOfExperts(ProductOfExperts.Config(dim=3)), UniformCodes(Prior.Config(), 3))
    with pytest.raises(ValueError, match="codes = 3 must divide"):
        VectorQuantized(VectorQuantized.Config(dim=4, codes=3))


@pytest.mark.parametrize("width", [1, 2, 3])
def test_vectors_of_any_width_come_to_stand_for_what_is_said(width: int) -> None:
    torch.manual_seed(0)
    latent = VectorQuantized(VectorQuantized.Config(dim=4 * width, codes=4, values=16)).train()
    for _ in range(50):
        latent({"x": torch.randn(500, 4 * width)}, {"x": torch.ones(500, dtype=torch.bool)}, 500)
    said = torch.randn(500, 4 * width, requires_grad=True)
    posterior = latent.eval()({"x": said}, {"x": torch.ones(500, dtype=torch.bool)}, 500)
    codes = latent.codes_of(posterior.mean)
    shares = F.one_hot(codes, 16).double().mean(0)
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum(1)
    assert entropy.min() > 0.8 * math.log(16)
    (gradient,) = torch.autograd.grad((posterior.mean * torch.randn(500, 4 * width)).sum(), said)
    assert gradient.abs().median() > 0.1
