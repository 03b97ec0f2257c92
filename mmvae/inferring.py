"""Draws of z given what a row has, where the prior knows what no modality of the row speaks of."""

from __future__ import annotations

import torch
from torch import Tensor

from mmvae.core.latents import DiagonalGaussian
from mmvae.core.noise import Noise, mix
from mmvae.core.priors import Prior
from mmvae.core.vae import Batch, Network

ROWS = 64  # at a time
SURE = 1e-3  # standard deviation of what is taken as it is: what is shared stays where `encode` has it


def drawn(network: Network, prior: Prior, batch: Batch, n: int, seed: int, device: torch.device) -> Tensor:
    """n draws of each row of a batch, one after another, [B * n, D]: of its posterior, or, where a row lacks a modality
    with dimensions of its own, of that with this prior in the place of N(0, I)."""
    draws = []
    for number, part in enumerate(batch.split(ROWS)):
        rows = range(number * ROWS, number * ROWS + len(part))
        noise = Noise([mix(seed, "translate", row) for row in rows], device)
        part = part.to(device)
        posterior, whole = network.posterior(part), network.latent.known(part.present).all(1)
        z = posterior.sample(noise, n)
        parts = None if whole.all() else posterior.gaussians(noise, n)
        if parts is not None:
            each = len(parts.mean) // len(part)
            of_parts = Noise([mix(seed, "given", row, i) for row in rows for i in range(each)], device)
            z = torch.where(whole[:, None, None], z, prior.given(parts).sample(of_parts, n // each).view_as(z))
        draws.append(z.flatten(0, 1))
    return torch.cat(draws)


def placed(network: Network, prior: Prior, batch: Batch, device: torch.device) -> Tensor:
    """Posterior means [B, D] of a batch's rows; in the dimensions that no modality of a row speaks of, the prior's mean
    given all others: what a picture has of its own goes with what is shared, as in the training set."""
    means = []
    for part in batch.to(device).split(ROWS):
        mean, known = network.posterior(part).mean, network.latent.known(part.present)
        if not known.all():
            sure = DiagonalGaussian(mean, torch.where(known, SURE, 1.0))
            mean = torch.where(known, mean, prior.given(sure).mean)
        means.append(mean)
    return torch.cat(means)
