"""Each posterior family, prior and objective of the core in a model of each modality: trained, saved, measured."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import mmvae
from mmvae.core.noise import Noise
from mmvae.training import train

CODES = ["prior.kind=codes", "prior.fitted=codes"]
PARTS = {
    "correlated": ["latent.kind=correlated"],
    "flow": ["latent.kind=flow"],
    "planar": ["latent.kind=flow", "latent.flow=planar"],
    "maf": ["latent.kind=flow", "latent.flow=maf"],
    "coupling": ["latent.kind=flow", "latent.flow=coupling"],
    "hyperbolic": ["latent.kind=hyperbolic"],
    "sphere": ["latent.kind=sphere", "prior.kind=sphere"],
    "ladder": ["latent.kind=ladder", "prior.kind=ladder", "latent.upper=2"],
    "vq": ["latent.kind=vq", "latent.codes=2", *CODES],
    "fsq": ["latent.kind=fsq", *CODES],
    "gumbel": ["latent.kind=gumbel", "latent.codes=2", *CODES],
    "mixture of experts": ["latent.kind=mixture", "latent.of=products"],
    "mixture": ["prior.kind=mixture"],
    "flow prior": ["prior.kind=flow"],
    "vamp": ["prior.kind=vamp", "prior.components=7"],
    "importance": ["objective.kind=importance", "objective.samples=3"],
    "dreg": ["objective.kind=importance", "objective.samples=3", "objective.encoder=dreg"],
    "piwae": ["objective.kind=importance", "objective.samples=2", "objective.groups=2", "objective.encoder=groups"],
    "ciwae": ["objective.kind=importance", "objective.samples=2", "objective.elbo=0.5"],
    "free bits": ["objective.free_bits=0.5"],
    "target rate": ["objective.target_rate=3", "kl.weight=10"],
    "fitted flow": ["prior.fitted=flow"],
    "hamiltonian": ["objective.kind=hamiltonian"],
    "total correlation": ["objective.kind=total-correlation"],
    "adversary": ["objective.kind=adversarial", "objective.units=16"],
    "adversarial autoencoder": ["objective.kind=adversarial", "kl.weight=0", "latent.kind=deterministic"],
    "shuffled": ["objective.kind=adversarial", "objective.against=shuffled", "objective.units=16"],
    "dip": ["objective.kind=dip"],
    "dip of z": ["objective.kind=dip", "objective.of=z"],
    "mmd": ["objective.kind=mmd"],
    "wae": ["objective.kind=mmd", "kl.weight=0", "latent.kind=deterministic"],
    "rae": ["objective.kind=rae", "latent.kind=deterministic"],
}
SHORT = ["train.steps=6", "train.evaluate_every=3", "train.batch_size=16", "latent.dim=4", "prior.fitted=0"]
OF = {
    "image/digits": ["data.limit=120", "modalities.image.widths=[8]"],
    "text/names": ["modalities.text.hidden=16"],
    "audio/drums": ["modalities.audio.widths=[4,4]"],
}


@pytest.fixture
def names(tmp_path: Path) -> str:
    """A file of names of unlike length."""
    path = tmp_path / "names.txt"
    path.write_text("\n".join("abcdefghij"[: 1 + i % 9] + "aeiou"[i % 5] for i in range(150)), encoding="utf-8")
    return f"data.path={path}"


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("recipe", OF)
def test_a_part_goes_with_every_modality(recipe: str, part: str, tmp_path: Path, names: str) -> None:
    overrides = [*SHORT, *OF[recipe], *PARTS[part], *([names] if "text" in recipe else [])]
    vae = train(recipe, overrides, tmp_path / "run", progress=False)
    again = mmvae.VAE.load(tmp_path / "run")
    (name,) = vae.modalities
    z = vae.prior().sample(Noise([1, 2]))
    torch.testing.assert_close(again.prior().sample(Noise([1, 2])), z)
    assert len(again.generate(3)[name]) == 3
    figures = mmvae.evaluate(again, "validation", k=3)
    assert all(math.isfinite(value) for value in figures.values() if isinstance(value, float))
    if part not in ("rae", "wae", "adversarial autoencoder"):  # points have no bounds
        bound, elbo = figures["NLL, importance-weighted, k = 3 (nats)"], figures["-ELBO (nats)"]
        assert bound < elbo + 0.02 * abs(elbo)
