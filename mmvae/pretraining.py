"""Pretraining as an autoencoder: after it the decoders begin anew, on a latent that already says something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from mmvae import checkpoint
from mmvae.core.noise import mix
from mmvae.core.vae import Network
from mmvae.modalities.contract import Modality
from mmvae.recipe import Recipe


def renew_decoders(
    recipe: Recipe, modalities: Mapping[str, Modality], networks: Iterable[Network], optimizer: torch.optim.Optimizer
) -> None:
    """Draw the decoders' weights anew, the same in each of the networks, but those that encoders share.

    Li et al. 2019, "A Surprisingly Effective Fix for Deep Latent Variable Modeling of Text".
    """
    torch.manual_seed(mix(recipe.train.seed, "decoders"))
    fresh = checkpoint.build(recipe, modalities).decoding_weights()
    for network in networks:
        for ours, new in zip(network.decoding_weights(), fresh, strict=True):
            ours.data.copy_(new.data)
            optimizer.state.pop(ours, None)
