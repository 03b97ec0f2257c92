"""The linear-Gaussian oracle: bounds, posteriors and latent use against their closed forms.

x = W z + s eps with z ~ N(0, I) has the evidence N(x; 0, W W' + s^2 I). Where the columns of W are orthogonal
the exact posterior is diagonal, and one Gaussian expert for each modality, times the prior, can be exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from mmvae.core.experts import ProductOfExperts
from mmvae.core.fitted import FittedMixture
from mmvae.core.latents import DiagonalGaussian
from mmvae.core.likelihoods import Gaussian
from mmvae.core.noise import Noise, StepNoise
from mmvae.core.objectives import ELBO, ImportanceWeighted, importance_weighted_bound, without_prior
from mmvae.core.priors import Prior, StandardNormal
from mmvae.core.vae import Batch, Network
from mmvae.data.store import Store
from mmvae.evaluation import bounds
from mmvae.evaluation.apart import apart, places, retrieval

DIM, SCALE = 3, 0.6
CPU = torch.device("cpu")


class LinearDecoder(nn.Module):
    """p(x|z) = N(W z, s^2)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, z: Tensor) -> Gaussian:
        return Gaussian(z @ self.weight.T, torch.tensor(SCALE).log())


class LinearEncoder(nn.Module):
    """The expert p(x|z) as a function of z: exact where the columns of W are orthogonal.

    shift, spread: errors put into its mean and standard deviation.
    """

    def __init__(self, weight: Tensor, shift: float = 0.0, spread: float = 1.0) -> None:
        super().__init__()
        self.gram, self.weight = (weight**2).sum(0), weight
        self.shift, self.spread = shift, spread

    def forward(self, x: Tensor) -> Tensor:
        mean = x @ self.weight / self.gram + self.shift
        log_precision = (self.gram / SCALE**2 / self.spread**2).log()
        return torch.cat([mean, log_precision.expand_as(mean)], dim=1)


def weights(outputs: int, seed: int) -> Tensor:
    """W [outputs, DIM] with orthogonal columns of different lengths."""
    square = torch.randn(outputs, outputs, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(square).Q[:, :DIM] * torch.tensor([0.5, 1.0, 2.0])


def linear(named: dict[str, Tensor], **errors: float) -> Network:
    """A network over linear modalities, exact unless errors are asked for."""
    return Network(
        {name: LinearEncoder(weight, **errors) for name, weight in named.items()},
        {name: LinearDecoder(weight) for name, weight in named.items()},
        ProductOfExperts(ProductOfExperts.Config(dim=DIM)),
        StandardNormal(Prior.Config(), DIM),
    )


def draw(weight: Tensor, rows: int, seed: int = 0) -> Tensor:
    """Observations [rows, outputs] from the model."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, weight.shape[1], generator=generator)
    return z @ weight.T + SCALE * torch.randn(rows, len(weight), generator=generator)


def evidence(x: Tensor, weight: Tensor) -> Tensor:
    """log p(x) in closed form, in float64."""
    weight = weight.double()
    covariance = weight @ weight.T + SCALE**2 * torch.eye(len(weight), dtype=torch.float64)
    return MultivariateNormal(torch.zeros(len(weight), dtype=torch.float64), covariance).log_prob(x.double()).float()


def exact_posterior(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [B, D] and standard deviation [D] of p(z|x), by solving the full system."""
    precision = torch.eye(DIM) + weight.T @ weight / SCALE**2
    covariance = torch.linalg.inv(precision)
    assert torch.allclose(covariance, torch.diag(covariance.diagonal()), atol=1e-5)
    return x @ weight @ covariance / SCALE**2, covariance.diagonal().sqrt()


def whole(**values: Tensor) -> Batch:
    """A batch whose rows have every modality."""
    return Batch(values, {name: torch.ones(len(x), dtype=torch.bool) for name, x in values.items()})


WEIGHT = weights(6, seed=1)
SECOND = weights(4, seed=2)


# -- one modality ---------------------------------------------------------------------------------


def test_with_the_exact_posterior_every_draw_gives_the_evidence() -> None:
    batch = whole(x=draw(WEIGHT, 20))
    network = linear({"x": WEIGHT})
    posterior = network.posterior(batch)
    z = posterior.sample(Noise(range(20)), k=50)
    expected = evidence(batch.values["x"], WEIGHT)[:, None].expand(20, 50)
    weights = without_prior(network, batch, posterior, z) + network.prior.log_prob(z)
    torch.testing.assert_close(weights, expected, atol=1e-4, rtol=0)


def test_the_elbo_of_the_exact_posterior_is_the_evidence() -> None:
    x = draw(WEIGHT, 4)
    batch = whole(x=x).repeat(20_000)
    terms = ELBO(ELBO.Config())(linear({"x": WEIGHT}), batch, StepNoise(0, len(batch), slice(None)))
    elbo = -terms.negative_elbo.view(4, -1)
    error = elbo.std(1) / math.sqrt(elbo.shape[1])
    assert ((elbo.mean(1) - evidence(x, WEIGHT)).abs() < 4 * error).all()
    assert (error < 0.03).all()


def test_the_elbo_of_a_wrong_encoder_is_below_the_evidence_by_the_divergence_from_the_true_posterior() -> None:
    x = draw(WEIGHT, 3)
    network = linear({"x": WEIGHT}, shift=0.3, spread=1.5)
    batch = whole(x=x).repeat(20_000)
    terms = ELBO(ELBO.Config())(network, batch, StepNoise(0, len(batch), slice(None)))
    elbo = -terms.negative_elbo.view(3, -1)
    posterior, (mean, stddev) = network.posterior(whole(x=x)), exact_posterior(x, WEIGHT)
    assert isinstance(posterior, DiagonalGaussian)
    gap = kl_divergence(Normal(posterior.mean, posterior.stddev), Normal(mean, stddev.expand_as(mean))).sum(1)
    assert (gap > 0.1).all()
    expected = evidence(x, WEIGHT) - gap
    assert ((elbo.mean(1) - expected).abs() < 4 * elbo.std(1) / math.sqrt(20_000)).all()


def importance_means(network: Network, x: Tensor, draws: Sequence[int], repeats: int) -> Tensor:
    """The bound for each number of draws, averaged over rows and repeats."""
    batch = whole(x=x).repeat(repeats)
    with torch.no_grad():
        found = [
            importance_weighted_bound(network, batch, StepNoise(k, len(batch), slice(None)), k)[0].mean() for k in draws
        ]
    return torch.stack(found)


def test_the_importance_weighted_bound_rises_with_the_draws_to_the_evidence() -> None:
    x = draw(WEIGHT, 4)
    means = importance_means(linear({"x": WEIGHT}, shift=0.2, spread=1.6), x, (1, 4, 16, 64, 512), repeats=400)
    assert (means.diff() > 0).all()
    truth = evidence(x, WEIGHT).mean()
    assert means[0] < truth - 0.2
    assert means[-1] == pytest.approx(truth.item(), abs=0.01)


def test_one_draw_of_the_importance_weighted_bound_is_the_elbo() -> None:
    batch, noise = whole(x=draw(WEIGHT, 8)), range(8)
    network = linear({"x": WEIGHT}, shift=0.3)
    terms = ImportanceWeighted(ImportanceWeighted.Config(samples=1))(network, batch, Noise(noise))
    (bound,) = importance_weighted_bound(network, batch, Noise(noise), k=1)
    torch.testing.assert_close(-terms.negative_elbo, bound)
    torch.testing.assert_close(terms.loss, -bound.mean())


# -- the measures of a whole split ----------------------------------------------------------------


class Kept(Store):
    """A split held in memory."""

    def __init__(self, **values: Tensor) -> None:
        self.values = values
        has = {name: SimpleNamespace(present=torch.ones(len(x), dtype=torch.bool)) for name, x in values.items()}
        self.columns = has  # type: ignore[assignment]

    def observed(self, indices: Tensor, noise: Noise) -> Batch:
        return self.batch(indices)

    def lengths(self) -> None:
        return None

    def at_once(self, most: int) -> int:
        return most

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def batch(self, indices: Tensor | Sequence[int]) -> Batch:
        rows = torch.as_tensor(indices)
        present = {name: column.present[rows] for name, column in self.columns.items()}
        return Batch({name: values[rows][present[name]] for name, values in self.values.items()}, present)


def test_the_evaluated_nll_of_the_exact_posterior_is_minus_the_evidence_for_any_number_of_draws() -> None:
    x = draw(WEIGHT, 50)
    for k in (1, 10, 192):
        (nll,) = bounds.importance_nll(linear({"x": WEIGHT}), Kept(x=x), CPU, k)
        torch.testing.assert_close(nll, -evidence(x, WEIGHT), atol=1e-4, rtol=0)


def test_under_another_prior_the_nll_nears_its_own_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = FittedMixture(DIM, 1)
    fitted.means.copy_(torch.tensor([[0.4, -0.3, 0.2]]))
    fitted.factors.copy_(torch.diag(torch.tensor([0.8, 0.9, 0.7]))[None])
    x = draw(WEIGHT, 50)
    plain, other = bounds.importance_nll(linear({"x": WEIGHT}), Kept(x=x), CPU, 3000, priors=[fitted])
    torch.testing.assert_close(plain, -evidence(x, WEIGHT), atol=1e-4, rtol=0)
    factor = WEIGHT @ fitted.factors[0]
    covariance = factor @ factor.T + SCALE**2 * torch.eye(len(WEIGHT))
    known = -MultivariateNormal(WEIGHT @ fitted.means[0], covariance).log_prob(x)
    torch.testing.assert_close(other, known, atol=0.1, rtol=0)
    assert (other - plain).abs().max() > 0.3

    def alone(k: int) -> Tensor:
        return bounds.nll_alone(linear({"x": WEIGHT}), fitted, Kept(x=x), CPU, k, torch.arange(50), "x")

    # one draw is of the exact posterior under it; of many half are of the prior
    torch.testing.assert_close(alone(1), known, atol=1e-3, rtol=0)
    torch.testing.assert_close(alone(3000), known, atol=0.1, rtol=0)
    with monkeypatch.context() as patch:  # of an encoder that is far too sure of what is wrong
        patch.setattr(FittedMixture, "given", lambda _, of: DiagonalGaussian(of.mean + of.stddev, of.stddev / 4))
        assert 0 < (alone(3000) - known).mean() < 0.3
    monkeypatch.setattr(DiagonalGaussian, "gaussians", lambda *_: None)  # as of a family that has none
    torch.testing.assert_close(alone(3000), known, atol=0.1, rtol=0)


def test_the_evaluated_elbo_of_the_exact_posterior_is_the_evidence() -> None:
    x = draw(WEIGHT, 20_000)
    terms = bounds.elbo(linear({"x": WEIGHT}), Kept(x=x), CPU, size=4000)
    assert -terms.total == pytest.approx(evidence(x, WEIGHT).mean().item(), abs=0.05)


def test_further_draws_gain_what_the_elbo_lacks() -> None:
    network, store = linear({"x": WEIGHT}, shift=0.3), Kept(x=draw(WEIGHT, 10))
    terms = bounds.elbo(network, store, CPU, draws=30)
    nll = bounds.importance_nll(network, store, CPU, 30).mean().item()
    assert terms.total - terms.gain == pytest.approx(nll)
    assert terms.gain > 0.02
    assert terms.figures()["NLL, k = 30"] == pytest.approx(nll)
    assert f", NLL (k = 30) {nll:,.2f} nats" in str(terms)


def test_evaluation_does_not_depend_on_the_batches() -> None:
    store, network = Kept(x=draw(WEIGHT, 10)), linear({"x": WEIGHT}, shift=0.3)
    by_three, at_once = (bounds.elbo(network, store, CPU, size=size) for size in (3, 10))
    assert by_three.rate == pytest.approx(at_once.rate, rel=1e-5)
    assert by_three.distortion["x"] == pytest.approx(at_once.distortion["x"], rel=1e-5)


def test_latent_use_equals_the_closed_forms() -> None:
    use = bounds.latent_use(linear({"x": WEIGHT}), Kept(x=draw(WEIGHT, 3000)), CPU)
    assert use["active units"] == DIM
    information = 0.5 * torch.log1p((WEIGHT**2).sum(0) / SCALE**2).sum().item()
    assert use["mutual information"] == pytest.approx(information, abs=0.1)
    assert use["aggregate variance"] == pytest.approx(1.0, abs=0.05)


def test_a_posterior_that_ignores_its_input_has_no_active_unit_and_no_information() -> None:
    network = linear({"x": WEIGHT}, spread=1e4)
    use = bounds.latent_use(network, Kept(x=draw(WEIGHT, 500)), CPU)
    assert use["active units"] == 0
    assert use["mutual information"] == pytest.approx(0, abs=1e-3)


# -- two modalities -------------------------------------------------------------------------------


def test_the_product_of_experts_is_the_exact_posterior_of_every_subset() -> None:
    network = linear({"x": WEIGHT, "y": SECOND})
    both = draw(torch.cat([WEIGHT, SECOND]), 4)
    x, y = both.split([6, 4], dim=1)
    # row 0 has both, row 1 only x, row 2 only y, row 3 neither
    has_x, has_y = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    posterior = network.posterior(Batch({"x": x[has_x], "y": y[has_y]}, {"x": has_x, "y": has_y}))
    assert isinstance(posterior, DiagonalGaussian)
    expected = [
        exact_posterior(both[:1], torch.cat([WEIGHT, SECOND])),
        exact_posterior(x[1:2], WEIGHT),
        exact_posterior(y[2:3], SECOND),
        (torch.zeros(1, DIM), torch.ones(DIM)),
    ]
    torch.testing.assert_close(posterior.mean, torch.cat([mean for mean, _ in expected]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(posterior.stddev, torch.stack([std for _, std in expected]), atol=1e-5, rtol=1e-5)


def test_with_both_modalities_every_draw_gives_the_joint_evidence() -> None:
    weight = torch.cat([WEIGHT, SECOND])
    both = draw(weight, 10)
    batch, network = whole(x=both[:, :6], y=both[:, 6:]), linear({"x": WEIGHT, "y": SECOND})
    posterior = network.posterior(batch)
    z = posterior.sample(Noise(range(10)), k=20)
    expected = evidence(both, weight)[:, None].expand(10, 20)
    weights = without_prior(network, batch, posterior, z) + network.prior.log_prob(z)
    torch.testing.assert_close(weights, expected, atol=2e-4, rtol=0)


def test_a_row_without_a_modality_is_bounded_by_the_evidence_of_what_it_has() -> None:
    x = draw(WEIGHT, 5)
    has = {"x": torch.ones(5, dtype=torch.bool), "y": torch.zeros(5, dtype=torch.bool)}
    batch = Batch({"x": x, "y": torch.zeros(0, 4)}, has)
    (bound,) = importance_weighted_bound(linear({"x": WEIGHT, "y": SECOND}), batch, Noise(range(5)), k=3)
    torch.testing.assert_close(bound, evidence(x, WEIGHT), atol=1e-4, rtol=0)


def test_what_each_modality_costs_alone_and_given_the_other_is_the_evidence_of_the_parts() -> None:
    weight = torch.cat([WEIGHT, SECOND])
    both = draw(weight, 40)
    x, y = both.split([6, 4], dim=1)
    network, store = linear({"x": WEIGHT, "y": SECOND}), Kept(x=x, y=y)
    found = apart(network, store, CPU, k=1, fitted=FittedMixture(DIM, 2))  # which is N(0, I)
    joint, of_x, of_y = (-evidence(part, of).mean().item() for part, of in ((both, weight), (x, WEIGHT), (y, SECOND)))
    assert found == pytest.approx(
        {
            "NLL of x alone, k = 1, N = 40 (nats)": of_x,
            "NLL of x alone under the fitted prior, k = 1, N = 40 (nats)": of_x,
            "NLL of y alone under the fitted prior, k = 1, N = 40 (nats)": of_y,
            "NLL of x given y, k = 1, N = 40 (nats)": joint - of_y,
            "NLL of y alone, k = 1, N = 40 (nats)": of_y,
            "NLL of y given x, k = 1, N = 40 (nats)": joint - of_x,
        },
        abs=1e-3,
    )


def test_of_three_each_is_given_the_others_together_and_one_by_one() -> None:
    parts = {"x": WEIGHT, "y": SECOND, "w": weights(5, seed=3)}
    both = draw(torch.cat(list(parts.values())), 30)
    values = dict(zip(parts, both.split([6, 4, 5], dim=1), strict=True))

    def nats(*names: str) -> float:
        weight = torch.cat([parts[name] for name in names])
        return -evidence(torch.cat([values[name] for name in names], 1), weight).mean().item()

    found = apart(linear(parts), Kept(**values), CPU, k=1)
    given = {what: value for what, value in found.items() if "given" in what}
    expected = {"y and w": nats("x", "y", "w") - nats("y", "w"), "y": nats("x", "y") - nats("y")}
    for what, value in expected.items():
        assert given[f"NLL of x given {what}, k = 1, N = 30 (nats)"] == pytest.approx(value, abs=1e-3)
    assert len(given) == 9


def test_what_z_says_of_each_modality_alone_is_the_closed_form_and_none_of_what_is_missing() -> None:
    weight = torch.cat([WEIGHT, SECOND])
    x, y = draw(weight, 3000).split([6, 4], dim=1)
    use = bounds.latent_use(linear({"x": WEIGHT, "y": SECOND}), Kept(x=x, y=y), CPU)
    for name, of in (("x", WEIGHT), ("y", SECOND), ("", weight)):
        information = 0.5 * torch.log1p((of**2).sum(0) / SCALE**2).sum().item()
        assert use[f"mutual information alone, {name}" if name else "mutual information"] == pytest.approx(
            information, abs=0.1
        )
    store = Kept(x=x, y=y)
    store.columns["y"].present[:] = False
    assert "mutual information alone, y" not in bounds.latent_use(linear({"x": WEIGHT, "y": SECOND}), store, CPU)


def test_what_a_modality_keeps_to_itself_is_nothing_that_others_could_be_made_of() -> None:
    torch.manual_seed(0)
    latent = ProductOfExperts(ProductOfExperts.Config(dim=3))  # shared, of x, of y
    encoders = {name: nn.Linear(1, 6) for name in ("x", "y")}
    network = Network(encoders, {}, latent, StandardNormal(Prior.Config(), 3), private={"x": 1, "y": 1})
    with torch.no_grad():
        for encoder in encoders.values():
            encoder.weight.zero_()
            encoder.weight[1:3] = 3.0  # the means of private dimensions alone
            encoder.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 3.0, 3.0, 3.0]))
    use = bounds.latent_use(network, Kept(x=torch.randn(500, 1), y=torch.randn(500, 1)), CPU)
    assert use["mutual information"] > 2
    assert use["mutual information alone, x"] == pytest.approx(0, abs=1e-4)


def test_the_right_one_is_found_where_both_modalities_say_the_same_and_by_chance_where_not() -> None:
    z = torch.randn(100, DIM, generator=torch.Generator().manual_seed(0))
    network = linear({"x": 20 * WEIGHT, "y": 20 * SECOND})
    x, y = z @ (20 * WEIGHT).T, z @ (20 * SECOND).T
    what = "retrieval, x to y: median place among 100"
    assert retrieval(network, Kept(x=x, y=y), CPU)[what] == 1
    assert 30 < retrieval(network, Kept(x=x, y=y.roll(7, 0)), CPU)[what] < 70
    silent = linear({"x": 20 * WEIGHT, "y": 20 * SECOND}, spread=1e9)
    silent.encoders["y"].forward = lambda rows: torch.full((len(rows), 2 * DIM), -12.0)
    assert retrieval(silent, Kept(x=x, y=y), CPU)[what] == pytest.approx(50.5)


def test_places_are_those_of_the_rows_in_order_whatever_order_they_are_read_in(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.randn(100, DIM, generator=torch.Generator().manual_seed(0))
    x, y = z @ (20 * WEIGHT).T, z @ (20 * SECOND).T
    store = Kept(x=x, y=torch.cat([y[:50], y[50:].roll(7, 0)]))
    monkeypatch.setattr(store, "by_length", lambda: torch.arange(99, -1, -1))
    found = places(linear({"x": 20 * WEIGHT, "y": 20 * SECOND}), store, torch.arange(100), "x", "y", CPU)
    assert (found[:50] == 1).double().mean() > 0.9
    assert found[50:].median() > 10


def test_where_no_row_has_all_each_figure_is_of_the_rows_that_have_what_it_names() -> None:
    parts = {"x": 20 * WEIGHT, "y": 20 * SECOND, "w": 20 * weights(5, seed=3)}
    both = draw(torch.cat(list(parts.values())), 90)
    store = Kept(**dict(zip(parts, both.split([6, 4, 5], dim=1), strict=True)))
    for index, column in enumerate(store.columns.values()):
        column.present[index::3] = False
    rows = torch.arange(90) % 3 == 2  # which have x and y
    weight = torch.cat([parts["x"], parts["y"]])
    joint, of_y = evidence(both[rows, :10], weight), evidence(both[rows, 6:10], parts["y"])
    found = apart(linear(parts), store, CPU, k=1)
    assert found["NLL of x given y, k = 1, N = 30 (nats)"] == pytest.approx((of_y - joint).mean().item(), abs=1e-3)
    assert not [what for what in found if "y and w" in what]
    assert retrieval(linear(parts), store, CPU)["retrieval, x to y: median place among 30"] == 1


def test_what_only_one_modality_says_does_not_count_in_a_search() -> None:
    z = torch.randn(100, DIM, generator=torch.Generator().manual_seed(0))
    shared = z.clone()
    z[:, 1:] *= 1000  # what is of one alone drowns the rest
    encoders = {name: nn.Linear(DIM, 2 * DIM) for name in "xy"}
    with torch.no_grad():
        for encoder in encoders.values():
            encoder.weight[:DIM], encoder.weight[DIM:], encoder.bias[:] = torch.eye(DIM), 0, 0
            encoder.bias[DIM:] = 6
    prior, latent = StandardNormal(Prior.Config(), DIM), ProductOfExperts(ProductOfExperts.Config(dim=DIM))
    decoders = {name: LinearDecoder(torch.eye(DIM)) for name in "xy"}
    network = Network(encoders, decoders, latent, prior, None, {"x": 1, "y": 1})
    found = retrieval(network, Kept(x=z, y=torch.cat([shared[:, :1], z[:, 1:].roll(3, 0)], 1)), CPU)
    # by the sign of one shared dimension alone: half of the rows are as near
    assert found["retrieval, x to y: median place among 100"] < 30
