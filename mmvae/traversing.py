"""Latent traversals: one dimension after another moved while the others stay."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmvae.combinations import CODES
from mmvae.core.noise import Noise, mix
from mmvae.core.vae import Batch
from mmvae.generation import ROWS, VAE
from mmvae.samples import Samples

DRAWN = 256  # samples by which it is seen what dimensions are in use


@torch.inference_mode()
def traverse(
    model: VAE | str | Path,
    start: Any = None,
    dims: int = 8,
    steps: int = 9,
    reach: float = 2.0,
    seed: int = 0,
    temperature: float | None = 0.0,
) -> Samples:
    """A walk of `steps` observations along each of at most `dims` dimensions, the most used ones, in this order.
    `Samples.dims` says which they are, counted from 0.

    start: a file or raw observation from whose latent they set out; by default one sample. A dimension goes from
    `reach` standard deviations below its mean to as many above. In use: by the variance of its posterior mean (as Burda
    et al. 2016 count active units), here over the model's own samples. Raises ValueError for latents that are codes
    or directions, and for an input that cannot be read.
    """
    vae = model if isinstance(model, VAE) else VAE.load(model)
    for name, value, fits, least in (
        ("dims", dims, dims >= 1, "from 1"),
        ("steps", steps, steps >= 2, "from 2"),
        ("reach", reach, 0 < reach < math.inf, "a number above 0"),
    ):
        if not fits:
            raise ValueError(f"{name} = {value:g}: it is {least}")
    if (kind := vae.recipe.latent["kind"]) in ("none", "sphere", *CODES):
        raise ValueError(f"latent.kind = {kind} has no dimension that can be moved while the others stay")
    drawn = vae.prior().sample(Noise([mix(seed, "prior", i) for i in range(DRAWN)], vae.device))
    read = []
    for first in range(0, DRAWN, ROWS):
        part = drawn[first : first + ROWS]
        seeds = [mix(seed, "decode", first + i) for i in range(len(part))]
        values = {name: vae.draw(name, part, seeds, None) for name in vae.modalities}
        everything = torch.ones(len(part), dtype=torch.bool, device=vae.device)
        read.append(vae.encode(Batch(values, dict.fromkeys(values, everything))))
    means = torch.cat(read)
    used = means.var(0).argsort(descending=True)[:dims].tolist()
    origin = vae.place([start])[0] if start is not None else drawn[0]
    ways = origin.repeat(len(used), steps, 1)
    for way, dim in zip(ways, used, strict=True):
        way[:, dim] = drawn[:, dim].mean() + drawn[:, dim].std() * torch.linspace(
            -reach, reach, steps, device=vae.device
        )
    return replace(vae.decode(ways.flatten(0, 1), seed, temperature, "traverse"), steps=steps, dims=tuple(used))
