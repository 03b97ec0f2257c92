"""What a training begins with: the weights of another, or those of its own pretraining, whose decoders begin anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from mmvae import checkpoint
from mmvae.core.noise import mix
from mmvae.core.vae import Network
from mmvae.modalities.contract import Modality
from mmvae.recipe import Recipe
from mmvae.recipe_files import read_config


def fitted(recipe: Recipe, folder: Path) -> dict[str, Modality] | None:
    """The modalities of a recipe that starts from a model, as those in a folder were fitted; None where it starts from
    none. Raises ValueError or FileNotFoundError."""
    if recipe.train.start is None:
        return None
    theirs, ours = read_config(folder)["recipe"]["modalities"].keys(), recipe.modalities.keys()
    if theirs != ours:
        raise ValueError(f"train.start = {folder}: a model of {' and '.join(theirs)}, not of {' and '.join(ours)}")
    return checkpoint.load_modalities(recipe, folder)


def begin(recipe: Recipe, network: Network) -> None:
    """Give a network the weights of the model that the recipe starts from. Raises ValueError or FileNotFoundError."""
    if recipe.train.start is None:
        return
    try:
        network.load_state_dict(checkpoint.load(Path(recipe.train.start)).network.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(f"train.start = {recipe.train.start}: its weights do not fit the recipe: {reason}") from None


def renew_decoders(
    recipe: Recipe, modalities: Mapping[str, Modality], networks: Iterable[Network], optimizer: torch.optim.Optimizer
) -> None:
    """Draw the decoders' weights anew, the same in each of the networks, but those that encoders share.

    Li et al. 2019, "A Surprisingly Effective Fix for Deep Latent Variable Modeling of Text".
    """
    torch.manual_seed(mix(recipe.train.seed, "decoders"))
    fresh = checkpoint.build(recipe, modalities).decoders
    for network in networks:
        shared = {id(parameter) for parameter in network.encoders.parameters()}
        for ours, new in zip(network.decoders.parameters(), fresh.parameters(), strict=True):
            if id(ours) not in shared:
                ours.data.copy_(new.data)
                optimizer.state.pop(ours, None)
