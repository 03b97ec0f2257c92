"""Objectives: named, unweighted terms; free bits; rows that lack a modality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmvae.core.experts import ProductOfExperts
from mmvae.core.functions import HIGHEST, LOWEST
from mmvae.core.latents import Posterior
from mmvae.core.likelihoods import Bernoulli, Gaussian, Likelihood
from mmvae.core.noise import Noise, StepNoise
from mmvae.core.objectives import ELBO, ImportanceWeighted, Objective, Terms, objectives
from mmvae.core.priors import Prior, StandardNormal
from mmvae.core.registry import Settings
from mmvae.core.vae import Batch, Network

DIM, SIZES = 3, {"sound": 4, "bits": 5}
ROWS = 6
HAS = {
    "sound": torch.tensor([True, True, False, True, False, True]),
    "bits": torch.tensor([True, False, True, True, False, False]),
}


class Density(nn.Module):
    """A decoder with a Gaussian or Bernoulli likelihood."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.binary = name == "bits"
        self.layer = nn.Linear(DIM, SIZES[name])

    def forward(self, z: Tensor) -> Likelihood:
        return Bernoulli(self.layer(z)) if self.binary else Gaussian(self.layer(z), torch.tensor(-0.5))


@pytest.fixture
def network() -> Network:
    return Network(
        {name: nn.Linear(size, 2 * DIM) for name, size in SIZES.items()},
        {name: Density(name) for name in SIZES},
        ProductOfExperts(ProductOfExperts.Config(dim=DIM)),
        StandardNormal(Prior.Config(), DIM),
    )


def values(rows: int = ROWS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {
        "sound": torch.randn(rows, SIZES["sound"], generator=generator),
        "bits": torch.randint(0, 2, (rows, SIZES["bits"]), generator=generator).float(),
    }


def mixed(rows: Tensor | None = None) -> Batch:
    """ROWS rows, of which each modality lacks some (row 4 has none); or those at `rows`."""
    rows = torch.arange(ROWS) if rows is None else rows
    has = {name: present[rows] for name, present in HAS.items()}
    return Batch({name: column[rows][has[name]] for name, column in values().items()}, has)


def complete(rows: int = ROWS) -> Batch:
    return Batch(values(rows), {name: torch.ones(rows, dtype=torch.bool) for name in SIZES})


def elbo(free_bits: float = 0.0) -> ELBO:
    return ELBO(ELBO.Config(free_bits=free_bits))


def importance(samples: int = 5) -> ImportanceWeighted:
    return ImportanceWeighted(ImportanceWeighted.Config(samples=samples))


BOTH = pytest.mark.parametrize("objective", [elbo(), importance()], ids=["elbo", "importance"])


def distortion(terms: Terms) -> Tensor:
    """The nats of both modalities, [B]."""
    return terms.distortion["sound"] + terms.distortion["bits"]


# -- terms ----------------------------------------------------------------------------------------


@BOTH
def test_terms_do_not_change_with_the_kl_weight(objective: Objective, network: Network) -> None:
    light, full = (objective(network, complete(), Noise(range(ROWS)), weight) for weight in (0.01, 1.0))
    torch.testing.assert_close(light.rate, full.rate, atol=0, rtol=0)
    for name in SIZES:
        torch.testing.assert_close(light.distortion[name], full.distortion[name], atol=0, rtol=0)
    assert light.loss < full.loss


def test_the_loss_is_distortion_plus_the_weighted_rate(network: Network) -> None:
    for weight in (0.0, 0.3, 1.0, 4.0):
        terms = elbo()(network, complete(), Noise(range(ROWS)), weight)
        torch.testing.assert_close(terms.loss, (distortion(terms) + weight * terms.rate).mean())


def test_distortion_is_minus_the_log_likelihood_and_holds_no_rate(network: Network) -> None:
    batch = complete()
    z = network.posterior(batch).sample(Noise(range(ROWS)))[:, 0]
    terms = elbo()(network, batch, Noise(range(ROWS)))
    for name, likelihood in network.decode(z).items():
        torch.testing.assert_close(terms.distortion[name], -likelihood.log_prob(batch.values[name]))


def test_the_negative_elbo_is_at_weight_one_whatever_the_loss_is(network: Network) -> None:
    terms = elbo(free_bits=50.0)(network, complete(), Noise(range(ROWS)), 0.1)
    torch.testing.assert_close(terms.negative_elbo, terms.rate + distortion(terms))


@BOTH
def test_reading_the_terms_does_not_change_them(objective: Objective, network: Network) -> None:
    terms = objective(network, complete(), Noise(range(ROWS)))
    before = {name: nats.clone() for name, nats in terms.distortion.items()}
    for _ in range(3):
        _ = terms.negative_elbo
    for name, nats in terms.distortion.items():
        assert torch.equal(nats, before[name])


@BOTH
def test_a_gradient_reaches_every_weight(objective: Objective, network: Network) -> None:
    objective(network, complete(), Noise(range(ROWS))).loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_more_importance_samples_give_a_lower_loss_on_average(network: Network) -> None:
    batch = complete().repeat(500)
    with torch.no_grad():
        losses = [importance(k)(network, batch, StepNoise(k, len(batch), slice(None))).loss.item() for k in (1, 5, 50)]
    assert losses[0] > losses[1] > losses[2]


# -- free bits ------------------------------------------------------------------------------------


def rate_gradients(network: Network, free_bits: float) -> list[Tensor]:
    """Gradients of the encoders from the rate alone: those of the loss less those without a KL weight."""
    batch, parameters = complete(), list(network.encoders.parameters())
    with_rate, without = (
        torch.autograd.grad(elbo(free_bits)(network, batch, Noise(range(ROWS)), weight).loss, parameters)
        for weight in (1.0, 0.0)
    )
    return [ours - theirs for ours, theirs in zip(with_rate, without, strict=True)]


def test_below_the_floor_the_rate_gives_no_gradient(network: Network) -> None:
    assert all((gradient == 0).all() for gradient in rate_gradients(network, free_bits=100.0))
    assert any((gradient != 0).any() for gradient in rate_gradients(network, free_bits=0.0))


def test_the_floor_is_on_each_dimension_and_on_the_mean_of_the_batch(network: Network) -> None:
    batch = complete()
    posterior = network.posterior(batch)
    rate = network.prior.rate(posterior, posterior.sample(Noise(range(ROWS)))).mean(0)
    floor = rate.sort().values[1].item() + 1e-4  # above two dimensions, below the third
    terms = elbo(floor)(network, batch, Noise(range(ROWS)))
    expected = 2 * floor + rate.max() + distortion(terms).mean()
    torch.testing.assert_close(terms.loss, expected)


def test_the_reported_rate_knows_no_floor(network: Network) -> None:
    free, floored = (elbo(bits)(network, complete(), Noise(range(ROWS))) for bits in (0.0, 100.0))
    torch.testing.assert_close(free.rate, floored.rate, atol=0, rtol=0)
    assert floored.loss > free.loss + 100


class Estimated(StandardNormal):
    """A prior whose rate has no closed form: it is estimated from a draw, and may come out negative."""

    rate = Prior.rate


def test_without_free_bits_an_estimated_rate_below_zero_counts_in_full(network: Network) -> None:
    network.prior = Estimated(Prior.Config(), DIM)
    found = [elbo()(network, complete(1), Noise([seed])) for seed in range(20)]
    assert any(terms.rate.mean() < 0 for terms in found)
    for terms in found:
        torch.testing.assert_close(terms.loss, terms.negative_elbo.mean())


# -- rows that lack a modality ----------------------------------------------------------------------


def test_a_missing_modality_scores_zero(network: Network) -> None:
    scores, _ = network.score(mixed(), torch.randn(ROWS, DIM))
    for name, present in HAS.items():
        assert (scores[name][~present] == 0).all()
        assert (scores[name][present] != 0).all()


@BOTH
def test_a_mixed_batch_is_the_average_of_its_rows(objective: Objective, network: Network) -> None:
    whole = objective(network, mixed(), Noise(range(ROWS)))
    alone = [objective(network, mixed(torch.tensor([row])), Noise([row])) for row in range(ROWS)]
    torch.testing.assert_close(whole.loss, torch.stack([terms.loss for terms in alone]).mean())
    torch.testing.assert_close(whole.rate, torch.cat([terms.rate for terms in alone]))
    for name in SIZES:
        torch.testing.assert_close(whole.distortion[name], torch.cat([terms.distortion[name] for terms in alone]))


def test_a_row_without_anything_costs_nothing_and_has_the_prior(network: Network) -> None:
    terms = elbo()(network, mixed(), Noise(range(ROWS)))
    assert terms.negative_elbo[4] == 0


def test_one_row_changes_no_other(network: Network) -> None:
    batch, changed = mixed(), mixed()
    changed.values["sound"][0] += 10  # of row 0
    changed.values["bits"][0] = 1 - changed.values["bits"][0]
    ours, theirs = (elbo()(network, rows, Noise(range(ROWS))).negative_elbo for rows in (batch, changed))
    assert ours[0] != theirs[0]
    torch.testing.assert_close(ours[1:], theirs[1:])


def test_networks_of_an_absent_modality_get_no_gradient(network: Network) -> None:
    rows = torch.tensor([1, 5])  # both have sound only
    elbo()(network, mixed(rows), Noise([0, 1])).loss.backward()
    for part in (network.encoders["bits"], network.decoders["bits"]):
        assert all(parameter.grad is None or (parameter.grad == 0).all() for parameter in part.parameters())
    for part in (network.encoders["sound"], network.decoders["sound"]):
        assert all(parameter.grad is not None and (parameter.grad != 0).any() for parameter in part.parameters())


def test_repeating_a_batch_keeps_each_rows_copies_together(network: Network) -> None:
    twice = mixed().repeat(2)
    assert len(twice) == 2 * ROWS
    z = torch.randn(ROWS, DIM)
    (single, _), (double, _) = network.score(mixed(), z), network.score(twice, z.repeat_interleave(2, 0))
    for name in SIZES:
        torch.testing.assert_close(double[name], single[name].repeat_interleave(2))


# -- parts of the network -----------------------------------------------------------------------------


def test_decoding_names_the_modalities_asked_for(network: Network) -> None:
    z = torch.randn(2, DIM)
    assert network.decode(z).keys() == SIZES.keys()
    assert network.decode(z, ["bits"]).keys() == {"bits"}


def test_an_expert_sure_beyond_reason_stays_finite() -> None:
    latent = ProductOfExperts(ProductOfExperts.Config(dim=1))
    expert = torch.tensor([[3.0, 1e6], [3.0, -1e6]])
    posterior = latent({"x": expert}, {"x": torch.ones(2, dtype=torch.bool)}, 2)
    assert torch.isfinite(posterior.log_prob(posterior.sample(Noise([0, 1])))).all()
    precision = torch.tensor([HIGHEST, LOWEST]).exp()
    torch.testing.assert_close(posterior.mean[:, 0], 3.0 * precision / (1 + precision))


def test_the_product_of_experts_stays_in_float32_under_autocast(network: Network) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        terms = elbo()(network, complete(), Noise(range(ROWS)))
    assert {nats.dtype for nats in (terms.loss, terms.rate, *terms.distortion.values())} == {torch.float32}


def test_objectives_are_known_by_name() -> None:
    assert {"elbo", "importance"} <= set(objectives.names())


@pytest.mark.parametrize("target", [0.0, 3.0, 50.0])
def test_a_target_weights_the_distance_of_the_rate_from_it(network: Network, target: float) -> None:
    plain = ELBO(ELBO.Config())(network, mixed(), Noise(range(ROWS)), 0.5)
    aimed = ELBO(ELBO.Config(target_rate=target))(network, mixed(), Noise(range(ROWS)), 0.5)
    distortion = torch.stack(list(plain.distortion.values())).sum(0).mean()
    torch.testing.assert_close(aimed.loss, distortion + 0.5 * (plain.rate.mean() - target).abs())
    torch.testing.assert_close(aimed.rate, plain.rate)


# -- several processes ------------------------------------------------------------------------------


class Rates(StandardNormal):
    """A prior whose rate is a function of the posterior's mean alone: its square."""

    def rate(self, posterior: Posterior, z: Tensor) -> Tensor:
        return posterior.mean**2


def floored_gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient of the rates with a floor of 1, one dimension for each column of x [B, D]."""
    weight = torch.ones(x.shape[1], requires_grad=True)

    class Scaled(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            mean = values * weight
            return torch.cat([mean, torch.full_like(mean, 12.0)], dim=1)  # so precise that the prior does not pull

    latent = ProductOfExperts(ProductOfExperts.Config(dim=x.shape[1]))
    network = Network({"x": Scaled()}, {"x": Flat()}, latent, Rates(Settings(), x.shape[1]))
    batch = Batch({"x": x}, {"x": torch.ones(len(x), dtype=torch.bool)})
    loss = ELBO(ELBO.Config(free_bits=1.0))(network, batch, Noise(range(len(x)))).loss
    (gradient,) = torch.autograd.grad(loss, weight)
    return loss.detach(), gradient


class Flat(nn.Module):
    """A decoder under which all is equally likely."""

    def forward(self, z: Tensor) -> Likelihood:
        return Bernoulli(torch.zeros_like(z))


# over the whole batch the first dimension is above the floor and the second below it; over each half it is not so
HALVES = torch.tensor([[[2.0, 1.2], [2.0, 1.2]], [[0.1, 0.1], [0.1, 0.1]]])


def one_process(rank: int, file: str, results: Any) -> None:
    """Measure one half of the batch as one of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    results.put((rank, *(value.tolist() for value in floored_gradient(HALVES[rank]))))
    dist.barrier()
    dist.destroy_process_group()


def test_the_floor_of_free_bits_is_that_of_the_whole_batch_whatever_the_processes(tmp_path: Path) -> None:
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    processes = [context.Process(target=one_process, args=(rank, str(tmp_path / "meet"), results)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join(60)
    loss, gradient = floored_gradient(HALVES.flatten(0, 1))
    assert gradient[0] > 0
    assert gradient[1] == 0
    torch.testing.assert_close(torch.tensor([loss for _, loss, _ in found]).mean(), loss)
    torch.testing.assert_close(torch.tensor([row for _, _, row in found]).mean(0), gradient)
