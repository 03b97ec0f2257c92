"""Fitted priors of what modalities share, and of what each has of its own given that."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import mmvae.core.fitted as fitted_module
import mmvae.core.priors as priors_module
from mmvae.core.experts import ProductOfExperts
from mmvae.core.fitted import FittedMixture, FittedTree
from mmvae.core.latents import DiagonalGaussian, log_standard_normal
from mmvae.core.likelihoods import Gaussian
from mmvae.core.noise import Noise, StepNoise
from mmvae.core.priors import StandardNormal
from mmvae.core.vae import Network
from mmvae.evaluation import bounds
from tests.core.test_evidence import Kept

LINE = torch.linspace(-12, 12, 241)


def bent(dim: int, seed: int) -> FittedMixture:
    """Three Gaussians apart, of unequal weights and shapes."""
    generator = torch.Generator().manual_seed(seed)
    means = 2 * torch.randn(3, dim, generator=generator)
    factors = 0.3 * torch.randn(3, dim, dim, generator=generator).tril() + torch.eye(dim)
    return FittedMixture.of(torch.tensor([0.2, 0.5, 0.3]), means, factors)


def tree() -> FittedTree:
    """One shared dimension, and one each of two modalities."""
    return FittedTree(bent(1, 0), [bent(2, 1), bent(2, 2)])


def grid(dims: int) -> Tensor:
    return torch.cartesian_prod(*[LINE] * dims)


def integral(log_density: Tensor, dims: int) -> Tensor:
    density = log_density.double().exp().view(*[len(LINE)] * dims)
    for _ in range(dims):
        density = torch.trapezoid(density, LINE.double(), dim=-1)
    return density


def test_a_tree_is_a_density_in_which_each_modality_depends_on_what_is_shared_alone() -> None:
    prior = tree()
    log_density = torch.cat([prior.log_prob(part) for part in grid(3).split(2**20)])
    assert integral(log_density, 3).item() == pytest.approx(1, abs=1e-3)
    z = torch.randn(50, 3)
    other = torch.cat([z[:, :1], torch.randn(50, 2)], 1)
    swapped = [torch.cat([z[:, :2], other[:, 2:]], 1), torch.cat([other[:, :2], z[:, 2:]], 1)]
    ours, crossed = prior.log_prob(z) + prior.log_prob(other), sum(map(prior.log_prob, swapped))
    torch.testing.assert_close(ours, crossed, atol=1e-4, rtol=1e-4)


def test_a_tree_of_one_branch_and_its_margin_is_that_branch() -> None:
    branch = bent(4, 3)
    trunk = FittedMixture.of(branch.weights, branch.means[:, :2], branch.factors[:, :2, :2])
    prior, z = FittedTree(trunk, [branch]), torch.randn(20, 4)
    torch.testing.assert_close(prior.log_prob(z), branch.log_prob(z))
    stddev = torch.tensor([[0.5, 0.3, 1.0, 1.0]]).expand(5, -1)  # of what is shared alone Bayes' rule is exact
    evidence = DiagonalGaussian(torch.randn(5, 4) * (stddev < 1), stddev)
    ours, whole = prior.given(evidence), branch.given(evidence)
    z = ours.sample(Noise(range(5)), 20_000)
    torch.testing.assert_close(ours.log_prob(z), whole.log_prob(z), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(z.mean(1), whole.mean, atol=0.1, rtol=0)


def test_draws_of_a_tree_are_of_its_density() -> None:
    prior = tree()
    z = prior.sample(StepNoise(0, 100_000, slice(None)))
    points = grid(3)
    weights = torch.cat([prior.log_prob(part) for part in points.split(2**20)]).double().softmax(0)
    for power in (1, 2, 3):
        expected = weights @ points.double() ** power
        torch.testing.assert_close((z.double() ** power).mean(0), expected, atol=4.0**power / 100, rtol=0)
    expected = (points.T.double() * weights) @ points.double()
    torch.testing.assert_close(z.T.double() @ z.double() / len(z), expected, atol=0.1, rtol=0)
    assert torch.equal(prior.sample(Noise([1, 2, 3]))[1], prior.sample(Noise([9, 2]))[1])


def test_draws_given_what_is_said_of_what_is_shared_are_those_of_bayes_rule() -> None:
    prior = tree()
    given = prior.given(DiagonalGaussian(torch.tensor([[0.7, 0.0, 0.0]]), torch.tensor([[0.5, 1.0, 1.0]])))
    points = grid(3)
    said = DiagonalGaussian(torch.tensor([[0.7]]), torch.tensor([[0.5]]))
    bayes = torch.cat(
        [prior.log_prob(part) + said.log_prob(part[None, :, :1])[0] - log_standard_normal(part[:, :1]) for part in
         points.split(2**20)]
    )  # fmt: skip
    exact = bayes.log_softmax(0) - 3 * (LINE[1] - LINE[0]).log()
    some = exact.topk(5000).indices
    torch.testing.assert_close(given.log_prob(points[None, some])[0], exact[some], atol=2e-3, rtol=1e-4)
    z, mean = given.sample(Noise([1]), 100_000)[0], exact.double().softmax(0) @ points.double()
    torch.testing.assert_close(z.double().mean(0), mean, atol=0.03, rtol=0)


def test_what_is_said_of_a_modality_is_taken_and_what_is_not_said_is_as_the_tree_has_it() -> None:
    prior = tree()
    mean, stddev = torch.tensor([[0.7, -0.5, 0.0], [0.7, 0.0, 0.0]]), torch.tensor([[0.5, 0.4, 1.0], [0.5, 1.0, 1.0]])
    given, points = prior.given(DiagonalGaussian(mean, stddev)), grid(3)
    log_density = torch.cat([given.log_prob(part.expand(2, -1, -1))[0] for part in points.split(2**17)])
    assert integral(log_density, 3).item() == pytest.approx(1, abs=2e-3)
    z = given.sample(Noise([1, 2]), 50_000)
    expected_mean = log_density.double().softmax(0) @ points.double()
    torch.testing.assert_close(z[0].double().mean(0), expected_mean, atol=0.03, rtol=0)
    torch.testing.assert_close(z[0, :, 1].std(), torch.tensor(0.4), atol=0.01, rtol=0)
    assert (z[1, :, 1].mean() - z[0, :, 1].mean()).abs() > 0.1
    torch.testing.assert_close(z[1, :, [0, 2]].mean(0), z[0, :, [0, 2]].mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(given.mean[:, 0], z[:, :, 0].mean(1), atol=0.02, rtol=0)


def test_a_tree_is_exact_where_what_is_shared_is_known_and_does_not_depend_on_what_is_held_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prior = tree()
    mean, stddev = torch.randn(5, 3), torch.tensor([[1e-3, 0.3, 1.0]]).expand(5, -1)
    mean[:, 2] = 0.0
    given = prior.given(DiagonalGaussian(mean, stddev))
    branch, own = list(prior.parts())[1]
    assert isinstance(branch, FittedMixture)
    joint = torch.stack([mean[:, :1].expand(-1, len(LINE)), LINE.expand(5, -1)], 2)
    along = branch.log_prob(joint).softmax(1)
    torch.testing.assert_close(given.mean[:, :1], mean[:, :1], atol=1e-3, rtol=0)
    torch.testing.assert_close(given.mean[:, own], (along @ LINE)[:, None], atol=5e-3, rtol=0)
    z, mean_of, log_prob = given.sample(Noise(range(5)), 7), given.mean, given.log_prob(torch.ones(5, 7, 3))
    monkeypatch.setattr(priors_module, "NUMBERS", 1)
    monkeypatch.setattr(fitted_module, "ROWS", 2)
    parts = prior.given(DiagonalGaussian(mean, stddev))
    torch.testing.assert_close(parts.sample(Noise(range(5)), 7), z)
    torch.testing.assert_close(parts.mean, mean_of)
    torch.testing.assert_close(parts.log_prob(torch.ones(5, 7, 3)), log_prob)


def test_a_tree_fitted_to_modalities_that_met_at_random_needs_no_component_for_each_meeting() -> None:
    generator = torch.Generator().manual_seed(0)

    def clouds(n: int) -> Tensor:
        """Of two classes, in each of which both modalities are one of four things, whatever the other is."""
        kinds = torch.randint(2, (n, 1), generator=generator), torch.randint(4, (n, 2), generator=generator)
        z = torch.cat([6.0 * kinds[0], 4.0 * kinds[1] + kinds[0]], 1)
        return z + 0.3 * torch.randn(n, 3, generator=generator)

    draws, others = clouds(800), clouds(800)
    prior = FittedTree.fit(draws[:, None], others[:400], 8, 0, [1, 1])
    whole = FittedMixture.fit(draws[:, None], others[:400], 8, 0)
    more = (prior.log_prob(others[400:]) - whole.log_prob(others[400:])).mean().item()
    assert [branch.dim for branch in prior.branches if isinstance(branch, FittedMixture)] == [2, 2]
    assert more > 0.5


def test_what_is_missing_costs_nothing_under_a_tree() -> None:
    """Of two modalities, of 2 shared and 8 private dimensions each and noise of N(0, I), one alone under a prior whose
    private dimensions are far from N(0, I): its evidence is known."""

    class Says(nn.Module):
        """An expert of its shared and private dimensions that is exact under N(0, I)."""

        def __init__(self, own: Tensor) -> None:
            super().__init__()
            self.own = own

        def forward(self, x: Tensor) -> Tensor:
            mean = torch.zeros(len(x), 18)
            mean[:, self.own] = x
            return torch.cat([mean, torch.zeros(len(x), 18)], 1)

    class Shows(nn.Module):
        def __init__(self, own: Tensor) -> None:
            super().__init__()
            self.own = own

        def forward(self, z: Tensor) -> Gaussian:
            return Gaussian(z[:, self.own], torch.zeros(1))

    owns = {"x": torch.arange(10), "y": torch.tensor([0, 1, *range(10, 18)])}
    latent = ProductOfExperts(ProductOfExperts.Config(dim=18))
    prior = StandardNormal(StandardNormal.Config(), 18)
    network = Network(
        {name: Says(own) for name, own in owns.items()},
        {name: Shows(own) for name, own in owns.items()},
        latent,
        prior,
        None,
        {"x": 8, "y": 8},
    )
    mean, stddev = torch.tensor([0.0] * 2 + [0.8] * 8), torch.tensor([1.0] * 2 + [0.5] * 8)
    branch = FittedMixture.of(torch.ones(1), mean[None], stddev.diag()[None])
    trunk = FittedMixture.of(torch.ones(1), mean[None, :2], stddev[:2].diag()[None])
    torch.manual_seed(0)
    x = mean + stddev * torch.randn(100, 10) + torch.randn(100, 10)
    known = -Normal(mean, (1 + stddev**2).sqrt()).log_prob(x).sum(1)
    store = Kept(x=x, y=torch.zeros(100, 10))
    given = FittedTree(trunk, [branch, branch])
    ours = bounds.nll_alone(network, given, store, torch.device("cpu"), 1000, torch.arange(100), "x")
    torch.testing.assert_close(ours.mean(), known.mean(), atol=0.15, rtol=0)
    again = bounds.importance_nll(network, store, torch.device("cpu"), 1000, priors=[given], of=["x"])[1]
    torch.testing.assert_close(again.mean(), known.mean(), atol=0.15, rtol=0)
    posterior = network.posterior(store.batch(range(100)).of(["x"]))
    z = posterior.sample(Noise(range(100)), 3)
    moved = z.clone()
    moved[..., 10:] = 100.0  # of which nothing is said
    assert torch.equal(given.log_ratio(posterior, z), given.log_ratio(posterior, moved))
