"""Mixtures of experts, dimensions of one modality alone, and what each says alone against what all say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from mmvae.core.experts import GaussianExperts, MixtureOfExperts, MixtureOfGaussians, ProductOfExperts
from mmvae.core.fitted import FittedMixture
from mmvae.core.latents import Deterministic, DiagonalGaussian, Latent
from mmvae.core.likelihoods import Gaussian
from mmvae.core.noise import Noise, StepNoise
from mmvae.core.objectives import ELBO, ImportanceWeighted, importance_weighted_bound, without_prior
from mmvae.core.priors import Prior, StandardNormal
from mmvae.core.regularizers import Alone
from mmvae.core.vae import Batch, Network
from mmvae.inferring import drawn, placed

DIM, ROWS = 3, 4
PRESENT = {"x": torch.tensor([True, True, False, False]), "y": torch.tensor([True, False, True, False])}
EXPERTS = {name: torch.randn(2, 2 * DIM, generator=torch.Generator().manual_seed(i)) for i, name in enumerate("xy")}


def mixture(of: str) -> MixtureOfGaussians:
    return MixtureOfExperts(MixtureOfExperts.Config.model_validate({"dim": DIM, "of": of}))(EXPERTS, PRESENT, ROWS)


def product(*names: str) -> Independent:
    """Of the prior and the experts of row 0."""
    given = {name: EXPERTS[name][:1] for name in names}
    found = ProductOfExperts(ProductOfExperts.Config(dim=DIM))(given, dict.fromkeys(names, torch.tensor([True])), 1)
    return Independent(Normal(found.mean[0], found.stddev[0]), 1)


def as_torch(*parts: Independent) -> MixtureSameFamily:
    means, stddevs = (torch.stack([getattr(part.base_dist, what) for part in parts]) for what in ("loc", "scale"))
    return MixtureSameFamily(Categorical(torch.ones(len(parts))), Independent(Normal(means, stddevs), 1))


@pytest.mark.parametrize(("of", "subsets"), [("experts", ("x", "y")), ("products", ("x", "y", "xy"))])
def test_a_mixture_is_even_over_experts_or_over_products_of_their_subsets(of: str, subsets: tuple[str, ...]) -> None:
    posterior, expected = mixture(of), as_torch(*(product(*subset) for subset in subsets))
    z = posterior.sample(Noise(range(ROWS)), k=40_000)
    torch.testing.assert_close(posterior.log_prob(z)[0], expected.log_prob(z[0]))
    torch.testing.assert_close(posterior.mean[0], expected.mean)
    torch.testing.assert_close(z[0].mean(0), expected.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(z[0].var(0), expected.variance, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("of", ["experts", "products"])
def test_a_row_with_one_modality_has_its_expert_and_one_with_none_the_prior(of: str) -> None:
    posterior = mixture(of)
    z = posterior.sample(Noise(range(ROWS)), k=5)
    alone = ProductOfExperts(ProductOfExperts.Config(dim=DIM))(EXPERTS, PRESENT, ROWS)
    for row in (1, 2, 3):
        torch.testing.assert_close(posterior.log_prob(z)[row], alone.log_prob(z)[row])
        torch.testing.assert_close(posterior.mean[row], alone.mean[row])
    torch.testing.assert_close(posterior.log_prob(z)[3], StandardNormal(Prior.Config(), DIM).log_prob(z)[3])


class Same(nn.Module):
    """p(x|z) = N(z, 1)."""

    def forward(self, z: Tensor) -> Gaussian:
        return Gaussian(z, torch.zeros(()))


def network(latent: Latent, private: dict[str, int] | None = None) -> Network:
    torch.manual_seed(0)
    encoders = {name: nn.Linear(latent.dim, latent.outputs) for name in "xy"}
    return Network(
        encoders, dict.fromkeys("xy", Same()), latent, StandardNormal(Prior.Config(), latent.dim), None, private
    )


def batch(rows: int) -> Batch:
    random = torch.Generator().manual_seed(1)
    present = {name: torch.ones(rows, dtype=torch.bool) for name in "xy"}
    return Batch({name: torch.randn(rows, DIM, generator=random) for name in "xy"}, present)


def test_the_importance_weighted_bound_of_a_mixture_comes_near_to_the_evidence() -> None:
    made = network(MixtureOfExperts(MixtureOfExperts.Config(dim=DIM)))
    rows = batch(6)
    x, y = rows.values["x"], rows.values["y"]
    # x = z + e, y = z + e': jointly Gaussian in each dimension
    both = torch.distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    evidence = both.log_prob(torch.stack([x, y], -1)).sum(1)
    with torch.no_grad():
        bound = importance_weighted_bound(made, rows, Noise(range(6)), 20_000)[0]
    torch.testing.assert_close(bound, evidence, atol=0.1, rtol=0)


def test_the_gaussians_that_draws_of_a_mixture_are_of_make_it_up() -> None:
    posterior = network(MixtureOfExperts(MixtureOfExperts.Config(dim=DIM))).posterior(batch(2))
    parts = posterior.gaussians(Noise(range(2)), 20_000)
    assert isinstance(parts, DiagonalGaussian)
    z = posterior.sample(Noise(range(2)), 20_000)
    torch.testing.assert_close(parts.mean.view_as(z).mean(1), posterior.mean, atol=0.02, rtol=0)
    total = parts.stddev.view_as(z).square().mean(1) + parts.mean.view_as(z).var(1)
    torch.testing.assert_close(total, z.var(1), atol=0.05, rtol=0)


@pytest.mark.parametrize("family", [ProductOfExperts, MixtureOfExperts])
def test_what_rows_lack_is_inferred_from_a_fitted_mixture_row_by_row(family: type[GaussianExperts]) -> None:
    made, prior = network(family(family.Config(dim=DIM)), {"x": 1, "y": 1}), FittedMixture(DIM, 2)
    prior.means[:, 2] = 50.0  # what is of y alone
    rows = batch(4).only({"x": torch.ones(4, dtype=torch.bool), "y": torch.tensor([True, False, False, True])})
    with torch.inference_mode():
        z = drawn(made, prior, rows, 5, 0, torch.device("cpu")).view(4, 5, DIM)
        first = drawn(made, prior, next(rows.split(2)), 5, 0, torch.device("cpu")).view(2, 5, DIM)
        places = placed(made, prior, rows, torch.device("cpu"))
    torch.testing.assert_close(z[:2], first)
    assert (z[1:3, :, 2] > 40).all()
    assert (z[::3, :, 2] < 10).all()
    torch.testing.assert_close(places[1:3, 2], torch.full((2,), 50.0))
    torch.testing.assert_close(places[:, :2], made.posterior(rows).mean[:, :2])


def test_groups_of_draws_are_of_one_expert_each_and_their_bound_is_that_of_shi() -> None:
    made, rows = network(MixtureOfExperts(MixtureOfExperts.Config(dim=DIM))), batch(3)
    posterior = made.posterior(rows)
    assert isinstance(posterior, MixtureOfGaussians)
    z = posterior.sample_groups(Noise(range(3)), 2, 40_000)
    means = torch.stack([part.mean(1) for part in z.chunk(2, 1)], 1)
    either = posterior.means[:, 1:]  # the first is that of rows that have nothing
    for mean, expected in zip(means, either, strict=True):
        torch.testing.assert_close(mean.sort(0).values, expected.sort(0).values, atol=0.05, rtol=0)
    objective = ImportanceWeighted(ImportanceWeighted.Config.model_validate({"samples": 40_000, "groups": 2}))
    with torch.no_grad():
        loss = objective(made, rows, StepNoise(1, 3, slice(None))).loss
        bounds = []
        for name in "xy":
            alone = made.posterior(rows.of([name])).sample(Noise(range(3)), 40_000)
            weights = without_prior(made, rows, posterior, alone) + made.prior.log_prob(alone)
            bounds.append(torch.logsumexp(weights, 1) - math.log(40_000))
    torch.testing.assert_close(-loss, torch.stack(bounds).mean(), atol=0.02, rtol=0)


def test_groups_take_turns_among_what_a_row_has() -> None:
    several = [
        mixture("products").sample_groups(Noise([seed + row for row in range(ROWS)]), 2, 1) for seed in range(3000)
    ]
    z = torch.stack(several, 1).flatten(1, 2)  # [rows, draws, D]
    torch.testing.assert_close(z[0].mean(0), mixture("products").mean[0], atol=0.06, rtol=0)  # of all three parts
    alone = ProductOfExperts(ProductOfExperts.Config(dim=DIM))(EXPERTS, PRESENT, ROWS)
    for row in (1, 2, 3):  # the one expert, or the prior
        torch.testing.assert_close(z[row].mean(0), alone.mean[row], atol=0.06, rtol=0)
        torch.testing.assert_close(z[row].std(0), alone.stddev[row], atol=0.06, rtol=0)


@pytest.mark.parametrize("encoder", ["same", "dreg"])
def test_gradients_of_a_mixture_are_those_of_its_bound(encoder: str) -> None:
    """Common random numbers: a bound of many draws, differentiated by hand."""
    made = network(MixtureOfExperts(MixtureOfExperts.Config(dim=DIM)))
    objective = ImportanceWeighted(ImportanceWeighted.Config.model_validate({"samples": 2, "encoder": encoder}))
    weight = made.encoders["x"].get_parameter("bias")
    with torch.no_grad():
        weight[:] = torch.tensor([1.5, -1.4, 1.6, 1.3, -1.0, 2.0])  # far from where the gradient is 0
    rows = batch(2)
    many = rows.repeat(60_000)
    objective(made, many, StepNoise(0, len(many), slice(None))).loss.backward()
    gradient = weight.grad
    assert gradient is not None
    for place in (0, 2, 3):  # of two means and a log-precision
        values = []
        for change in (0.05, -0.05):
            with torch.no_grad():
                weight[place] += change
                terms = objective(made, many, StepNoise(0, len(many), slice(None)))
                weight[place] -= change
            values.append(terms.loss.item())
        expected = (values[0] - values[1]) / 0.1
        assert abs(expected) > 0.05
        assert gradient[place].item() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("family", [ProductOfExperts, MixtureOfExperts])
def test_private_dimensions_are_said_and_seen_by_their_own_modality_alone(family: type[Latent]) -> None:
    made = network(family(family.Config(dim=DIM)), {"x": 1, "y": 1})  # shared, of x, of y
    only_x = batch(5).only({"x": torch.ones(5, dtype=torch.bool), "y": torch.zeros(5, dtype=torch.bool)})
    posterior = made.posterior(only_x)
    torch.testing.assert_close(posterior.mean[:, 2], torch.zeros(5))
    assert (posterior.mean[:, :2].abs() > 1e-4).all()
    z = posterior.sample(Noise(range(5)), k=4000)
    torch.testing.assert_close(z[..., 2].var(1), torch.ones(5), atol=0.1, rtol=0)
    decoded = made.decode(torch.ones(1, 3))
    assert decoded["x"].mode().tolist() == [[1, 1, 0]]
    assert decoded["y"].mode().tolist() == [[1, 0, 1]]
    scores, _ = made.score(batch(5), torch.ones(5, 3))
    torch.testing.assert_close(
        scores["x"], Gaussian(torch.tensor([[1.0, 1.0, 0.0]]), torch.zeros(())).log_prob(batch(5).values["x"])
    )


def test_a_modality_that_is_not_seen_still_says_its_private_dimensions_in_training() -> None:
    made = network(ProductOfExperts(ProductOfExperts.Config(dim=DIM)), {"x": 1, "y": 1})  # shared, of x, of y
    rows, hidden = batch(5), {"x": torch.ones(5, dtype=torch.bool), "y": torch.tensor([True, False, True, False, True])}
    trained, whole, without = made.posterior(rows, hidden), made.posterior(rows), made.posterior(rows.only(hidden))
    torch.testing.assert_close(trained.mean[:, 2], whole.mean[:, 2])
    torch.testing.assert_close(trained.mean[:, :2], without.mean[:, :2])
    assert not torch.isclose(without.mean[1, 0], whole.mean[1, 0])


def test_every_component_of_a_mixture_says_the_private_dimensions_of_all_that_a_row_has() -> None:
    made = network(MixtureOfExperts(MixtureOfExperts.Config(dim=DIM)), {"x": 1, "y": 1})
    rows, all_rows = batch(5), torch.ones(5, dtype=torch.bool)
    whole = made.posterior(rows)
    expected = network(ProductOfExperts(ProductOfExperts.Config(dim=DIM)), {"x": 1, "y": 1}).posterior(rows)
    assert isinstance(whole, MixtureOfGaussians)
    for component in (1, 2):  # of x alone, of y alone; the first is the prior
        torch.testing.assert_close(whole.means[:, component, 1:], expected.mean[:, 1:])
    hidden = made.posterior(rows, {"x": all_rows, "y": ~all_rows})
    assert isinstance(hidden, MixtureOfGaussians)
    assert hidden.there.tolist() == [[False, True, False]] * 5
    torch.testing.assert_close(hidden.mean, whole.means[:, 1])


def test_private_dimensions_are_refused_where_there_are_none() -> None:
    with pytest.raises(ValueError, match=r"3 private dimensions leave none of latent\.dim = 3"):
        network(ProductOfExperts(ProductOfExperts.Config(dim=DIM)), {"x": 2, "y": 1})
    with pytest.raises(ValueError, match=r"only latent\.kind 'gaussian' and 'mixture'"):
        network(Deterministic(Latent.Config(dim=DIM)), {"x": 1})
    for changes in ({"mean_scale": 0.5}, {"min_rate": 1.0}):
        with pytest.raises(ValueError, match=r"set them to 0"):
            network(ProductOfExperts(ProductOfExperts.Config.model_validate({"dim": DIM, **changes})), {"x": 1})


def test_what_each_says_alone_is_drawn_to_what_all_say() -> None:
    made = network(ProductOfExperts(ProductOfExperts.Config(dim=DIM)))
    rows = batch(3)
    many = rows.repeat(40_000)
    plain, with_it = (
        objective(made, many, StepNoise(0, len(many), slice(None)))
        for objective in (ELBO(ELBO.Config()), Alone(Alone.Config(alone=0.5)))
    )
    apart = torch.zeros(3)
    everything = torch.ones(3, dtype=torch.bool)
    for name in "xy":
        parts = [
            made.posterior(given) for given in (rows, rows.only({"x": ~everything, "y": ~everything, name: everything}))
        ]
        joint, alone = (Normal(part.mean, part.stddev) for part in parts)  # ty: ignore[missing-attribute]
        apart += kl_divergence(joint, alone).sum(1)
    assert (with_it.loss - plain.loss).item() == pytest.approx(0.5 * apart.mean().item(), rel=0.02)


def test_a_row_with_one_modality_costs_nothing_beside_its_elbo() -> None:
    made = network(ProductOfExperts(ProductOfExperts.Config(dim=DIM)))
    rows = batch(3).only({"x": torch.ones(3, dtype=torch.bool), "y": torch.zeros(3, dtype=torch.bool)})
    plain, other = (
        objective(made, rows, StepNoise(0, 3, slice(None)))
        for objective in (ELBO(ELBO.Config()), Alone(Alone.Config(alone=9.0)))
    )
    torch.testing.assert_close(plain.loss, other.loss)
