"""Importance-weighted objectives: values and gradients against their definitions, written out with autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from mmvae.core.experts import ProductOfExperts
from mmvae.core.latents import DiagonalGaussian
from mmvae.core.likelihoods import Gaussian
from mmvae.core.noise import StepNoise
from mmvae.core.objectives import ELBO, ImportanceWeighted, Terms
from mmvae.core.priors import Prior, StandardNormal
from mmvae.core.vae import Batch, Network

WIDTH, DIM, ROWS = 4, 2, 6


class Encoder(nn.Module):
    """The exact expert of x = W z + eps for orthonormal columns of W, with errors that can be learned away."""

    def __init__(self, weight: Tensor, error: float) -> None:
        super().__init__()
        self.weight = weight
        self.error = nn.Parameter(torch.full((2 * DIM,), error))

    def forward(self, x: Tensor) -> Tensor:
        exact = torch.cat([x @ self.weight, torch.zeros(len(x), DIM)], dim=1)
        return exact + self.error


class Decoder(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, z: Tensor) -> Gaussian:
        return Gaussian(z @ self.weight.T, torch.zeros(()))


def network(error: float = 0.3) -> Network:
    weight = torch.linalg.qr(torch.randn(WIDTH, DIM, generator=torch.Generator().manual_seed(1))).Q
    latent = ProductOfExperts(ProductOfExperts.Config(dim=DIM))
    return Network(
        {"x": Encoder(weight, error)}, {"x": Decoder(weight.clone())}, latent, StandardNormal(Prior.Config(), DIM)
    )


def batch(copies: int = 1) -> Batch:
    x = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(2)).repeat(copies, 1)
    return Batch({"x": x}, {"x": torch.ones(len(x), dtype=torch.bool)})


def noise(rows: int = ROWS) -> StepNoise:
    return StepNoise(3, rows, slice(None))


def run(net: Network, copies: int = 1, kl_weight: float = 1.0, **how: object) -> Terms:
    objective = ImportanceWeighted(ImportanceWeighted.Config.model_validate(how))
    return objective(net, batch(copies), noise(ROWS * copies), kl_weight)


def gradients(net: Network, loss: Tensor) -> tuple[Tensor, Tensor]:
    """Of the encoder's errors and of the decoder's matrix."""
    found = torch.autograd.grad(loss, list(net.parameters()))
    assert [name for name, _ in net.named_parameters()] == ["encoders.x.error", "decoders.x.weight"]
    return found[0], found[1]


def log_weights(net: Network, k: int, kl_weight: float = 1.0) -> Tensor:
    """log p(x|z) + w (log p(z) - log q(z|x)), [ROWS, k], for the draws that the objective takes."""
    posterior = net.posterior(batch())
    assert isinstance(posterior, DiagonalGaussian)
    z = posterior.sample(noise(), k)
    likelihood = net.decode(z.flatten(0, 1))["x"].log_prob(batch().values["x"].repeat_interleave(k, 0)).view(ROWS, k)
    q = Normal(posterior.mean[:, None], posterior.stddev[:, None]).log_prob(z).sum(-1)
    return likelihood + kl_weight * (Normal(0.0, 1.0).log_prob(z).sum(-1) - q)


def bound(weights: Tensor, groups: int = 1) -> Tensor:
    parts = weights.view(ROWS, groups, -1)
    return (parts.logsumexp(2) - math.log(parts.shape[2])).mean()


@pytest.mark.parametrize("kl_weight", [1.0, 0.4])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("elbo", [0.0, 0.3, 1.0])
def test_value_and_gradient_are_those_of_the_definition(groups: int, elbo: float, kl_weight: float) -> None:
    net = network()
    weights = log_weights(net, 6, kl_weight)
    expected = -((1 - elbo) * bound(weights, groups) + elbo * weights.mean())
    found = run(net, kl_weight=kl_weight, samples=6 // groups, groups=groups, elbo=elbo).loss
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(gradients(net, found), gradients(net, expected), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_elbo_may_come_first() -> None:
    net, objective = network(), ImportanceWeighted(ImportanceWeighted.Config(samples=3, after=0.5))
    objective.progress = 0.49
    elbo = ELBO(ELBO.Config())(net, batch(), noise(), 0.5)
    torch.testing.assert_close(objective(net, batch(), noise(), 0.5).loss, elbo.loss)
    objective.progress = 0.5
    torch.testing.assert_close(objective(net, batch(), noise(), 0.5).loss, run(net, kl_weight=0.5, samples=3).loss)


def test_groups_of_one_draw_are_the_elbo_of_the_mean_of_draws() -> None:
    net = network()
    one = ELBO(ELBO.Config())(net, batch(), noise())
    torch.testing.assert_close(run(net, samples=1, groups=1).distortion["x"], one.distortion["x"])
    torch.testing.assert_close(run(net, samples=1, groups=5).loss, -log_weights(net, 5).mean())


def test_the_decoder_learns_of_all_draws_and_the_encoder_of_groups() -> None:
    net = network()
    encoder, decoder = gradients(net, run(net, samples=2, groups=3, encoder="groups").loss)
    torch.testing.assert_close(encoder, gradients(net, -bound(log_weights(net, 6), groups=3))[0])
    torch.testing.assert_close(decoder, gradients(net, -bound(log_weights(net, 6)))[1])


def test_the_doubly_reparametrized_gradient_vanishes_at_the_exact_posterior() -> None:
    net = network(error=0.0)
    doubly, decoder = gradients(net, run(net, samples=4, encoder="dreg").loss)
    plain, same_decoder = gradients(net, run(net, samples=4).loss)
    assert doubly.abs().max() < 1e-5
    assert plain.abs().max() > 1e-2  # it vanishes on average only
    torch.testing.assert_close(decoder, same_decoder)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_doubly_reparametrized_gradient_is_the_same_on_average_and_varies_less(groups: int) -> None:
    net, parts = network(error=0.5), 20
    found: dict[str, list[Tensor]] = {"same": [], "dreg": []}
    for encoder, gradient in found.items():
        for seed in range(parts):
            objective = ImportanceWeighted(
                ImportanceWeighted.Config.model_validate({"samples": 4, "groups": groups, "encoder": encoder})
            )
            terms = objective(net, batch(1000), StepNoise(seed, 1000 * ROWS, slice(None)))
            gradient.append(gradients(net, terms.loss)[0])
    means, deviations = zip(*((torch.stack(g).mean(0), torch.stack(g).std(0)) for g in found.values()), strict=True)
    error = torch.stack(deviations).norm(dim=0) / parts**0.5
    assert ((means[0] - means[1]).abs() < 4 * error).all()
    assert means[0].abs().max() > 20 * error.max()
    assert (deviations[1] < 0.8 * deviations[0]).all()


def test_a_draw_that_weighs_nothing_still_teaches_its_group() -> None:
    net = network()
    with torch.no_grad():
        next(net.decoders.parameters()).mul_(60)  # log-weights thousands of nats apart
    encoder, decoder = gradients(net, run(net, samples=2, groups=3, encoder="groups").loss)
    expected = gradients(net, -bound(log_weights(net, 6), groups=3))[0]
    assert torch.isfinite(decoder).all()
    torch.testing.assert_close(encoder, expected, rtol=1e-3, atol=1e-3)


def test_the_elbo_has_no_doubly_reparametrized_gradient() -> None:
    with pytest.raises(ValueError, match=r"set objective\.elbo to 0"):
        run(network(), elbo=0.5, encoder="dreg")


@pytest.mark.parametrize("kl_weight", [0.0, 0.4, 2.0])
def test_the_doubly_reparametrized_gradient_knows_the_kl_weight(kl_weight: float) -> None:
    net, found = network(error=0.5), []
    for encoder in ("same", "dreg"):
        gradient = []
        for seed in range(20):
            how = ImportanceWeighted.Config.model_validate({"samples": 4, "groups": 2, "encoder": encoder})
            terms = ImportanceWeighted(how)(net, batch(1000), StepNoise(seed, 1000 * ROWS, slice(None)), kl_weight)
            gradient.append(gradients(net, terms.loss)[0])
        found.append(torch.stack(gradient))
    error = torch.stack([each.std(0) for each in found]).norm(dim=0) / 20**0.5
    assert ((found[0].mean(0) - found[1].mean(0)).abs() < 4 * error + 1e-5).all()


class Demanding(Gaussian):
    """A likelihood that asks for a small mean in training."""

    def auxiliary(self, x: Tensor) -> Tensor:
        return self.mean.square().sum(1)


class DemandingDecoder(Decoder):
    def forward(self, z: Tensor) -> Gaussian:
        return Demanding(z @ self.weight.T, torch.zeros(()))


@pytest.mark.parametrize("encoder", ["same", "groups", "dreg"])
def test_what_a_likelihood_asks_beside_counts_by_the_shares_of_its_draws(encoder: str) -> None:
    plain = network()
    asking = Network(
        dict(plain.encoders.items()),
        {"x": DemandingDecoder(next(plain.decoders.parameters()).detach().clone())},
        plain.latent,
        plain.prior,
    )
    losses = [run(net, samples=2, groups=3, encoder=encoder).loss for net in (plain, asking)]
    ours, theirs = (gradients(net, loss)[0] for net, loss in zip((plain, asking), losses, strict=True))
    weights = log_weights(plain, 6).detach()
    grouped = weights.view(ROWS, 3, 2).softmax(2).flatten(1) / 3
    share = {"same": grouped, "groups": grouped, "dreg": grouped**2 * 3}[encoder]
    posterior = plain.posterior(batch())
    mean = posterior.sample(noise(), 6) @ next(asking.decoders.parameters()).detach().T
    (expected,) = torch.autograd.grad((share * mean.square().sum(2)).sum(1).mean(), list(plain.encoders.parameters()))
    torch.testing.assert_close(theirs - ours, expected, rtol=1e-3, atol=1e-4)
