"""Draws of z given what a row has, and of what no modality of a row says anything of, given the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from mmvae.core.noise import Noise, mix
from mmvae.core.priors import Prior
from mmvae.core.vae import Batch, Network

ROWS = 64  # at a time


def infer(network: Network, prior: Prior, batch: Batch, n: int, seed: int, device: torch.device) -> Tensor:
    """n draws of each row of a batch, one after another, [B * n, D]."""
    draws = []
    for number, part in enumerate(batch.split(ROWS)):
        noise = Noise([mix(seed, "translate", number * ROWS + row) for row in range(len(part))], device)
        draws.append(network.posterior(part.to(device)).sample(noise, n))
    return completed(network, prior, torch.cat(draws), batch, seed).flatten(0, 1)


def completed(network: Network, prior: Prior, z: Tensor, batch: Batch, seed: int) -> Tensor:
    """z [B, n, D] of a batch's rows, in which the private dimensions of modalities that a row lacks are drawn from the
    prior given all others: what a picture has of its own goes with what is shared, as it did in the training set."""
    present = {name: rows.to(z.device) for name, rows in batch.present.items()}
    known = network.latent.known(present).repeat_interleave(z.shape[1], 0)
    if known.all():
        return z
    noise = Noise([mix(seed, "complete", row, i) for row in range(len(z)) for i in range(z.shape[1])], z.device)
    return prior.completed(z.flatten(0, 1), known, noise).view_as(z)
