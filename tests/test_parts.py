"""Each posterior family, prior and objective of the core in a model of each modality: trained, saved, measured."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import mmvae
from mmvae.core.noise import Noise
from mmvae.core.objectives import ELBO, Inferred, objectives
from mmvae.core.priors import Prior, priors
from mmvae.core.vae import Network
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
    "miwae": ["objective.kind=importance", "objective.samples=2", "objective.groups=2"],
    "piwae": ["objective.kind=importance", "objective.samples=2", "objective.groups=2", "objective.encoder=groups"],
    "ciwae": ["objective.kind=importance", "objective.samples=2", "objective.elbo=0.5"],
    "free bits": ["objective.free_bits=0.5"],
    "target rate": ["objective.target_rate=3", "kl.weight=10"],
    "fitted mixture": ["prior.fitted=2"],
    "fitted flow": ["prior.fitted=flow"],
    "no latent": ["latent.kind=none", "prior.kind=none"],
    "least rate": ["latent.min_rate=0.1"],
    "normalized means": ["latent.mean_scale=0.6"],
    "hamiltonian": ["objective.kind=hamiltonian"],
    "total correlation": ["objective.kind=total-correlation"],
    "adversary": ["objective.kind=adversarial", "objective.units=16"],
    "adversarial autoencoder": ["objective.kind=adversarial", "kl.weight=0", "latent.kind=deterministic"],
    "shuffled": ["objective.kind=adversarial", "objective.against=shuffled", "objective.units=16"],
    "dip": ["objective.kind=dip"],
    "dip of z": ["objective.kind=dip", "objective.of=z"],
    "mmd": ["objective.kind=mmd"],
    "wae": ["objective.kind=mmd", "kl.weight=0", "latent.kind=deterministic"],
    "rae": ["objective.kind=rae", "objective.decoder=0.1", "latent.kind=deterministic"],
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


@pytest.mark.usefixtures("cache")
def test_parts_of_ones_own_are_a_registration_away(tmp_path: Path) -> None:
    @objectives.register("short")
    class Short(ELBO):
        """The ELBO and the length of z."""

        class Config(ELBO.Config):
            length: float = 1.0

        def penalty(self, network: Network, inferred: Inferred, z: Tensor, noise: Noise) -> Tensor:
            return self.config.length * z.square().sum(1).mean()

    @priors.register("wide")
    class Wide(Prior):
        """N(0, 4)."""

        def log_prob(self, z: Tensor) -> Tensor:
            return torch.distributions.Normal(0.0, 2.0).log_prob(z).sum(-1)

        def sample(self, noise: Noise) -> Tensor:
            return 2 * noise.normal(self.dim)

    overrides = [*SHORT, *OF["image/digits"], "objective.kind=short", "objective.length=3", "prior.kind=wide"]
    vae = train("image/digits", overrides, tmp_path / "run", progress=False)
    assert vae.recipe.objective["length"] == 3
    z = mmvae.VAE.load(tmp_path / "run").prior().sample(Noise(range(2000)))
    assert z.std() == pytest.approx(2, rel=0.05)
    with pytest.raises(ValueError, match=r"objective\.lenth"):
        train("image/digits", [*overrides, "objective.lenth=3"], tmp_path / "other", progress=False)
