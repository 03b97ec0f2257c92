"""Sequences of observations, each drawn in view of those before it: what `VAE.compose` is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mmvae.core.noise import Noise, mix
from mmvae.core.priors import Prior
from mmvae.core.sequences import LENGTH, SequencePrior
from mmvae.core.vae import Batch, Network
from mmvae.inputs import collated, hear, quote
from mmvae.modalities.contract import Modality, Raw
from mmvae.recipe import Recipe
from mmvae.samples import Samples

ROWS = 64  # drawn at a time


class _Model(Protocol):
    """What a trained model offers for it."""

    network: Network
    modalities: dict[str, Modality]
    recipe: Recipe
    sequence: SequencePrior | None

    @property
    def device(self) -> torch.device: ...
    def prior(self) -> Prior: ...
    def encode(self, inputs: Any) -> Tensor: ...
    def draw(self, name: str, z: Tensor, seeds: list[int], temperature: float | None) -> Tensor: ...
    def joined(self, name: str, said: Mapping[str, list[Raw]], values: Sequence[Tensor]) -> Raw: ...
    def note(
        self, verb: str, seed: int, index: int, temperature: float | None, rows: int, z: Tensor
    ) -> dict[str, Any]: ...


def sequences(
    vae: _Model, n: int, length: int, opening: Sequence[str | Path], seed: int, temperature: float | None
) -> Samples:
    """n sequences that begin with an opening and go on with `length` new observations, of a model that has a prior over
    sequences."""
    assert vae.sequence is not None
    said, heard = hear(vae.recipe, vae.modalities, opening)
    context = (
        vae.encode(collated(vae.modalities, heard))
        if opening
        else torch.empty(0, vae.network.latent.dim, device=vae.device)
    )
    raws: dict[str, list[Raw]] = {name: [] for name in vae.modalities}
    made: list[dict[str, Any]] = []
    latents = []
    for start in range(0, n, ROWS):
        rows = range(start, min(n, start + ROWS))
        means, drawn = context.expand(len(rows), *context.shape), []
        written: dict[str, list[Tensor]] = {name: [] for name in raws}
        for place in range(length):
            noise = Noise([mix(seed, "sequence", row, place) for row in rows], vae.device)
            z = vae.sequence(means[:, -LENGTH:])[:, -1].sample(noise, vae.prior().sample(noise))
            seeds = [mix(seed, "decode", row, place) for row in rows]
            values = {name: vae.draw(name, z, seeds, temperature) for name in raws}
            present = dict.fromkeys(raws, torch.ones(len(rows), dtype=torch.bool, device=vae.device))
            means = torch.cat([means, vae.network.posterior(Batch(values, present)).mean[:, None]], 1)
            drawn.append(z)
            for name, column in written.items():
                column.append(values[name].cpu())
        latents.append(torch.stack(drawn, 1))
        for name, column in written.items():
            raws[name] += [vae.joined(name, said, row) for row in zip(*column, strict=True)]
        about = {"sequence": True, "opening": quote(opening)}
        made += [
            vae.note("generate", seed, row, temperature, len(rows), z) | about
            for row, z in zip(rows, latents[-1], strict=True)
        ]
    return Samples(raws, torch.cat(latents), made, vae.modalities)
