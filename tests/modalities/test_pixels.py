"""Pixels: densities over [0, 1], dense networks, and pictures that are moved or spoilt by stated amounts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmvae.core.noise import Noise, StepNoise
from mmvae.modalities.image import Image
from mmvae.modalities.pixels import ContinuousBernoulli, PixelDecoder, PixelEncoder, Shades, blurred, moved, occluded

VALUES = torch.arange(256, dtype=torch.uint8)


@pytest.mark.parametrize("logit", [-200.0, -50.0, -12.0, -3.0, -0.02, -1e-3, 0.0, 0.4, 8.0, 20.0, 90.0])
def test_the_continuous_bernoulli_is_proportional_to_its_exponential_and_sums_to_one(logit: float) -> None:
    density = ContinuousBernoulli(torch.full((256, 1), logit))
    logs = density.log_prob(VALUES[:, None]).double()
    x = VALUES.double() / 255
    torch.testing.assert_close(logs - logs[0], logit * x, atol=1e-4, rtol=1e-4)
    normalizer = 0.0 if logit == 0 else math.log(math.expm1(abs(logit)) / abs(logit)) + min(logit, 0)
    assert logs[0].item() == pytest.approx(-normalizer, abs=2e-3)
    middle = 0.5 if logit == 0 else 1 / -math.expm1(-logit) - 1 / logit
    assert density.center()[0].item() == pytest.approx(middle, abs=1e-3)


def test_a_sure_continuous_bernoulli_still_learns_and_reaches_black() -> None:
    logits = torch.tensor([[-300.0]], requires_grad=True)
    density = ContinuousBernoulli(logits)
    (gradient,) = torch.autograd.grad(density.log_prob(torch.tensor([[255]], dtype=torch.uint8)).sum(), logits)
    assert gradient.item() == pytest.approx(1.0, abs=0.01)
    assert density.mode().item() == 1  # 255 / 300


def test_draws_of_the_continuous_bernoulli_have_its_mean_and_colder_ones_are_nearer_to_it() -> None:
    n, logits = 20_000, torch.tensor([-6.0, -1.0, 2.0])
    density = ContinuousBernoulli(logits.expand(n, 3))
    drawn = density.sample(StepNoise(0, n, slice(None))).double() / 255
    expected = 1 / (1 - torch.exp(-logits.double())) - 1 / logits.double()
    torch.testing.assert_close(drawn.mean(0), expected, atol=0.01, rtol=0)
    cold = density.sample(StepNoise(0, n, slice(None)), temperature=0.5).double() / 255
    torch.testing.assert_close(cold.std(0), drawn.std(0) / 2, atol=0.01, rtol=0)
    torch.testing.assert_close(density.mode()[0].double() / 255, expected, atol=0.003, rtol=0)


def test_shades_are_normal_densities_of_pixels_from_0_to_1() -> None:
    density = Shades(torch.tensor([[0.5]]), torch.tensor(0.1).log())
    expected = torch.distributions.Normal(0.5, 0.1).log_prob(torch.tensor(51 / 255))
    torch.testing.assert_close(density.log_prob(torch.tensor([[51]], dtype=torch.uint8))[0], expected)
    assert density.mode().item() == 128
    assert density.sample(Noise([0])).dtype == torch.uint8


@pytest.mark.parametrize("networks", ["convolutions", "dense"])
@pytest.mark.parametrize("likelihood", ["logistic", "bernoulli", "continuous-bernoulli", "gaussian"])
def test_networks_of_either_kind_have_a_likelihood_of_each(networks: str, likelihood: str) -> None:
    config = Image.Config.model_validate({"networks": networks, "likelihood": likelihood, "widths": [8, 6]})
    modality = Image(config)
    modality.fit([np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)])
    encoder, decoder = modality.encoder(5), modality.decoder(4)
    assert isinstance(encoder, PixelEncoder)
    assert isinstance(decoder, PixelDecoder)
    x = torch.randint(0, 256, (2, 3, 9, 12), dtype=torch.uint8)
    assert encoder(x).shape == (2, 5)
    density = decoder(torch.randn(2, 4))
    density.log_prob(x).sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())
    assert density.sample(Noise([0, 1])).shape == density.mode().shape == x.shape


def test_only_probabilities_have_bits() -> None:
    nll, values = torch.tensor([8 * math.log(2)]), torch.zeros(1, 1, 2, 2)
    assert Image(Image.Config(likelihood="logistic")).scores(nll, values)["bits/dim"] == pytest.approx(2)
    assert Image(Image.Config(likelihood="gaussian")).scores(nll, values) == {}


def dot(height: int = 20, width: int = 30) -> np.ndarray:
    raw = np.zeros((height, width, 1), np.uint8)
    raw[5, 10] = 255
    return raw


def test_a_picture_is_moved_by_so_many_pixels() -> None:
    assert np.array_equal(moved(dot(), 0, 0, 1, 0), dot())
    shifted = moved(dot(), 4, -3, 1, 0)
    assert np.unravel_index(shifted.argmax(), shifted.shape)[:2] == (2, 14)
    bar = np.zeros((21, 21, 1), np.uint8)
    bar[10] = 255
    upright = moved(bar, 0, 0, 1, 90)[..., 0]
    assert upright[:, 10].min() > 200
    assert upright[:, :8].max() < 50
    assert moved(bar, 0, 0, 2, 0).mean() > 1.5 * bar.mean()


def test_a_picture_that_is_only_shifted_keeps_the_values_of_its_pixels() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    shifted = moved(raw, 2.4, -1.3, 1, 0)
    assert np.array_equal(shifted[:-1, 2:], raw[1:, :-2])
    assert np.array_equal(shifted[0, :2], raw[1, [0, 0]])


def test_variants_are_of_the_amounts_that_the_recipe_states() -> None:
    still = Image(Image.Config(vary_shift=0, vary_scale=0, vary_turn=0))
    assert np.array_equal(still.vary(dot(), np.random.default_rng(0)), dot())
    flipped = Image(Image.Config(vary_flip=True, vary_shift=0, vary_scale=0, vary_turn=0))
    seen = {int(flipped.vary(dot(), np.random.default_rng(seed)).argmax()) % 30 for seed in range(20)}
    assert seen == {10, 19}


def test_pictures_are_disturbed_by_stated_amounts() -> None:
    gray = np.full((40, 40, 3), 128, np.uint8)
    white = np.full((40, 40, 3), 255, np.uint8)
    disturbed = Image(Image.Config()).disturb(gray, np.random.default_rng(0))
    assert np.std(disturbed["noise of 10%"].astype(float)) == pytest.approx(25.5, rel=0.05)
    assert (occluded(white, np.random.default_rng(1)) == 128).mean() == 0.25
    assert np.array_equal(blurred(gray), gray)
    edge = np.repeat(np.repeat([[[0], [255]]], 20, 1), 40, 0).astype(np.uint8)
    assert 0 < blurred(edge)[20, 19, 0] < 128 < blurred(edge)[20, 20, 0] < 255
