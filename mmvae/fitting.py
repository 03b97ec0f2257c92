"""Fitting a prior to a trained model: a density of the encoded training set."""

from __future__ import annotations

import torch

from mmvae.core.noise import StepNoise, mix
from mmvae.core.priors import FittedMixture
from mmvae.data.store import Store
from mmvae.generation import VAE

ROWS = 20_000  # encoded at most


@torch.inference_mode()
def fit_prior(vae: VAE, store: Store) -> None:
    """Give a model its fitted prior: a mixture of at most the recipe's `prior.fitted` Gaussians over one
    posterior draw of each training row."""
    if len(store) < 2:
        return  # nothing to fit a density to
    seed = vae.recipe.train.seed
    chosen = torch.randperm(len(store), generator=torch.Generator().manual_seed(seed))[:ROWS]
    rows = store.by_length()
    rows, draws = rows[torch.isin(rows, chosen)], []
    for part in rows.split(store.at_once(256)):
        noise = StepNoise(mix(seed, "fit", int(part[0])), len(part), slice(None), vae.device)
        draws.append(vae.network.posterior(store.batch(part).to(vae.device)).sample(noise)[:, 0])
    vae.fitted = FittedMixture.fit(torch.cat(draws), vae.recipe.prior["fitted"], seed).to(vae.device)
