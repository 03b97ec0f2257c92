"""Audio: whether samples of a model are clean, cover its training sounds, and are no copies of them.

    python benchmarks/audio_samples.py MODEL [--n 1000] [--seed 1]

prints one JSON object. Distances are Euclidean, between mel spectrograms of 64 bands under the power 0.3. How far a
training sound is from the nearest other one says what "new" means: of the samples, the share that is as far from the
training set as the nearest 10 % and 50 % of its own sounds are from one another; and so of the sounds of other splits.
Coverage (Naeem et al. 2020): the share of training sounds with a sample no farther than their 5th nearest training
sound.
"""

from __future__ import annotations

import argparse
import json
from itertools import chain

import numpy as np
import torch
from torch import Tensor

import mmvae
from mmvae.commands.terminal import mendable
from mmvae.data.prepare import prepare
from mmvae.distances import coverage
from mmvae.modalities.audio import Audio
from mmvae.modalities.spectra import Analysis, MelBands

BANDS, POWER = 64, 0.3


def features(sounds: list[np.ndarray], modality: Audio) -> Tensor:
    """Flat mel spectrograms [n, F]."""
    mel = MelBands(BANDS, modality.config.fft * 2, modality.config.sample_rate)
    finer = Analysis(modality.config.fft * 2, modality.config.hop * 2)
    whole = [np.pad(sound, ((0, 0), (0, modality.samples - sound.shape[1]))) for sound in sounds]
    return torch.stack([(mel.of(finer.spectrum(torch.from_numpy(sound)).abs()) ** POWER).flatten() for sound in whole])


def main() -> None:
    """Sample, and compare with the training split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    vae = mmvae.VAE.load(args.model)
    name, modality = next(iter(vae.modalities.items()))
    if len(vae.modalities) > 1 or not isinstance(modality, Audio):
        raise ValueError(f"{args.model} is a model of {' and '.join(vae.modalities)}: name one of audio alone")
    whole = prepare(vae.recipe, vae.modalities).splits
    splits = whole | prepare(vae.recipe, vae.modalities, "train").splits  # those without their varied copies
    sounds = {split: [own.raw(name, index) for index in range(len(own))] for split, own in splits.items()}
    train = sounds.pop("train")
    real, held = features(train, modality), features([*chain.from_iterable(sounds.values())], modality)
    samples = vae.generate(args.n, args.seed)[name]
    drawn = features(samples, modality)
    own = torch.cdist(real, real).fill_diagonal_(torch.inf)
    nearest = own.amin(1)
    away, of_held = torch.cdist(drawn, real), torch.cdist(held, real)
    again = features(vae.reconstruct(train)[name], modality)
    found = {
        "samples": len(samples),
        "training sounds": len(real),
        "peak": max(float(np.abs(sound).max()) for sound in samples),
        "first sample": max(float(np.abs(sound[:, 0]).max()) for sound in samples),
        "last sample": max(float(np.abs(sound[:, -1]).max()) for sound in samples),
        "mean": max(float(np.abs(sound.mean(1)).max()) for sound in samples),
        "coverage": coverage(real, drawn)["coverage"],
        f"coverage by the first {len(real)} samples": coverage(real, drawn[: len(real)])["coverage"],
        "as new as the nearest 10 %": (away.amin(1) >= nearest.quantile(0.1)).double().mean().item(),
        "as new as the nearest 50 %": (away.amin(1) >= nearest.quantile(0.5)).double().mean().item(),
        f"of {len(held)} sounds of other splits, 10 %": (of_held.amin(1) >= nearest.quantile(0.1))
        .double()
        .mean()
        .item(),
        f"of {len(held)} sounds of other splits, 50 %": (of_held.amin(1) >= nearest.quantile(0.5))
        .double()
        .mean()
        .item(),
        "distance to training, median": away.amin(1).median().item(),
        "distance between training sounds, median": nearest.median().item(),
        "distance of reconstructions, median": (again - real).norm(dim=1).median().item(),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    with mendable():
        main()
