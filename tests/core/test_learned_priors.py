"""Learned priors: densities that integrate to 1, draws that follow them, and what maximum likelihood makes of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from mmvae.core.experts import ProductOfExperts
from mmvae.core.latents import DiagonalGaussian
from mmvae.core.learned_priors import Flow, LearnedTree, Mixture
from mmvae.core.noise import Noise, StepNoise
from mmvae.core.priors import Prior, priors
from mmvae.core.vae import Batch


def nothing_said(batch: Batch) -> DiagonalGaussian:
    """Posteriors that no prior here asks for."""
    return DiagonalGaussian(torch.zeros(len(batch), 2), torch.ones(len(batch), 2))


def tree() -> LearnedTree:
    """Of one dimension that modalities a and b share, and one that is a's own."""
    latent = ProductOfExperts(ProductOfExperts.Config(dim=2))
    latent.attach({"a": 1, "b": 0})
    prior = LearnedTree(LearnedTree.Config(components=3, each=4, hidden=8), 2)
    prior.attach(latent, nothing_said)
    return prior


MADE = {
    "mixture": Mixture(Mixture.Config(components=5), 2),
    "flow": Flow(Flow.Config(transforms=2, hidden=16), 2),
    "tree": tree(),
}


@pytest.fixture(params=MADE)
def prior(request: pytest.FixtureRequest) -> Prior:
    """One whose weights are not those it begins with."""
    torch.manual_seed(0)
    found = MADE[request.param]
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return found


def grid(side: float = 10.0, points: int = 500) -> tuple[Tensor, float]:
    """Points of a square, and the area of each."""
    axis = torch.linspace(-side, side, points)
    return torch.cartesian_prod(axis, axis), (2 * side / (points - 1)) ** 2


def test_the_density_sums_to_one(prior: Prior) -> None:
    points, area = grid()
    assert prior.log_prob(points).exp().sum().item() * area == pytest.approx(1, abs=1e-3)


def test_draws_follow_the_density(prior: Prior) -> None:
    points, area = grid()
    mass = prior.log_prob(points).exp() * area
    z = prior.sample(StepNoise(0, 20_000, slice(None)))
    mean = (mass[:, None] * points).sum(0)
    variance = (mass[:, None] * (points - mean) ** 2).sum(0)
    torch.testing.assert_close(z.mean(0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(z.var(0), variance, atol=0.0, rtol=0.08)
    right = mass[points[:, 0] > 0.3].sum()
    torch.testing.assert_close((z[:, 0] > 0.3).float().mean(), right, atol=0.02, rtol=0)


def test_a_draw_depends_on_its_own_seed(prior: Prior) -> None:
    torch.testing.assert_close(prior.sample(Noise([3, 4, 5]))[1:], prior.sample(Noise([4, 5])))


def test_the_rate_is_estimated_from_draws_and_reaches_the_prior(prior: Prior) -> None:
    posterior = DiagonalGaussian(torch.randn(4, 2), torch.rand(4, 2) + 0.1)
    z = posterior.sample(Noise(range(4)), k=3)
    rate = prior.rate(posterior, z)
    torch.testing.assert_close(rate, (posterior.log_prob(z) - prior.log_prob(z)).mean(1, keepdim=True))
    rate.sum().backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in prior.parameters())


def test_under_autocast_the_density_stays_in_float32(prior: Prior) -> None:
    points, _ = grid(points=10)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = prior.log_prob(points)
    torch.testing.assert_close(rounded, prior.log_prob(points), atol=0, rtol=0)


@pytest.mark.parametrize("kind", ["mixture", "flow"])
def test_maximum_likelihood_finds_two_clouds(kind: str) -> None:
    torch.manual_seed(0)
    clouds = MixtureSameFamily(
        Categorical(torch.tensor([0.3, 0.7])),
        Independent(Normal(torch.tensor([[-2.0, 1.0], [2.0, 0.0]]), torch.tensor([[0.3, 0.5], [0.5, 0.2]])), 1),
    )
    part = priors.get(kind)
    prior = part(part.Config(), 2)
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        (-prior.log_prob(clouds.sample((256,))).mean()).backward()
        optimizer.step()
    z = clouds.sample((4000,))
    lost = (clouds.log_prob(z) - prior.log_prob(z)).mean()  # KL from the truth, nats
    alone = (clouds.log_prob(z) - Normal(0.0, 1.0).log_prob(z).sum(1)).mean()
    assert -0.01 < lost < 0.12 < 1 < alone


def test_one_dimension_is_too_few_for_couplings() -> None:
    with pytest.raises(ValueError, match=r"set latent\.dim to 2"):
        Flow(Flow.Config(), 1)


def test_a_flow_is_placed_where_the_draws_are() -> None:
    torch.manual_seed(0)
    draws = 50 + 20 * torch.randn(2000, 3)
    flow = Flow(Flow.Config(hidden=8), 3)
    flow.place(draws)
    truth = Normal(50.0, 20.0).log_prob(draws).sum(1)
    assert (truth - flow.log_prob(draws)).mean() < 3  # untrained; not placed it would be some thousand nats
    z = flow.sample(StepNoise(0, 2000, slice(None)))
    torch.testing.assert_close(z.mean(0), torch.full((3,), 50.0), atol=20, rtol=0)


def test_what_evidence_leaves_open_is_as_a_learned_mixture_has_it_given_the_rest() -> None:
    """Evidence of the first of two dimensions chooses between components, and they say where the second is."""
    prior = Mixture(Mixture.Config(components=2), 2)
    with torch.no_grad():
        prior.means.copy_(torch.tensor([[-2.0, 1.0], [2.0, -3.0]]))
        prior.log_scales.copy_(torch.tensor([[0.5, 0.2], [0.5, 0.1]]).log())
        prior.logits.copy_(torch.tensor([0.0, 1.0]))
        # precisions 1 of N(0, I) and 3 of what is said, 1.5
        given = prior.given(DiagonalGaussian(torch.tensor([[1.5 * 3 / 4, 0.0]]), torch.tensor([[0.5, 1.0]])))
        side = torch.linspace(-8, 8, 1201)
        grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1)
        weight = (prior.log_prob(grid) - 1.5 * (grid[..., 0] - 1.5).square()).double().exp()
        mean = (weight[..., None] * grid).sum((0, 1)) / weight.sum()
        torch.testing.assert_close(given.mean[0], mean.float(), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(given.sample(Noise([0]), 40_000)[0].mean(0), mean.float(), atol=0.03, rtol=0)


def test_a_learned_tree_finds_what_is_a_modalitys_own_whatever_rows_lack_it() -> None:
    torch.manual_seed(0)
    prior = tree()
    optimizer = torch.optim.Adam(prior.parameters(), 0.02)
    for step in range(600):
        shared = torch.randn(128, 1)
        mean, stddev = torch.cat([shared, 3 * shared.sign()], 1), torch.full((128, 2), 0.2)
        lacking = torch.rand(128) < 0.7
        mean[lacking, 1], stddev[lacking, 1] = 0.0, 1.0  # as families have what no modality speaks of
        posterior = DiagonalGaussian(mean, stddev)
        loss = prior.rate(posterior, posterior.sample(StepNoise(step, 128, slice(None)))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z = prior.sample(StepNoise(0, 4000, slice(None))).detach()
    sure = z[z[:, 0].abs() > 0.5]
    assert ((sure[:, 1] * sure[:, 0].sign() - 3).abs() < 1).float().mean() > 0.95
    evidence = DiagonalGaussian(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[0.1, 1.0], [0.1, 1.0]]))
    given = prior.given(evidence)
    torch.testing.assert_close(given.mean[:, 1], torch.tensor([3.0, -3.0]), atol=0.3, rtol=0)
    drawn = given.sample(Noise([1, 2]), 500)[..., 1].mean(1)
    torch.testing.assert_close(drawn, torch.tensor([3.0, -3.0]), atol=0.3, rtol=0)


def test_a_learned_tree_without_private_dimensions_is_a_mixture() -> None:
    latent = ProductOfExperts(ProductOfExperts.Config(dim=3))
    prior = LearnedTree(LearnedTree.Config(), 3)
    prior.attach(latent, nothing_said)
    z = torch.randn(5, 3)
    assert torch.equal(prior.log_prob(z), prior.trunk.log_prob(z))
    assert list(prior.parts()) == []
