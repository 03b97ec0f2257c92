"""Drum loops of the built-in one-shots, to learn what follows what in a sound longer than a window.

    python benchmarks/loops.py FOLDER [--n 300]

writes WAVs into the folders train, validation and test: four bars of 16 steps each, of 80 to 140 beats a minute. A loop
has one kit and one pattern, which all its bars repeat, the last with a fill.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from mmvae.commands.terminal import mendable
from mmvae.data.rows import read_cell
from mmvae.data.sources import open_source
from mmvae.modalities.audio import Audio

RATE, BARS, STEPS = 16000, 4, 16
KIT = {
    "kick": ("bd_", "drum_heavy_kick", "elec_hollow_kick", "elec_soft_kick"),
    "snare": ("sn_", "drum_snare", "elec_snare", "elec_mid_snare", "elec_lo_snare", "elec_hi_snare"),
    "hat": ("drum_cymbal_closed", "drum_cymbal_pedal", "elec_tick", "elec_cymbal"),
    "other": ("drum_tom", "drum_cowbell", "perc_", "tabla_", "elec_wood"),
}
LEVEL = {"kick": 0.8, "snare": 0.6, "hat": 0.3, "other": 0.4}


def pattern(random: np.random.Generator) -> dict[str, np.ndarray]:
    """How loud each drum is at each step of a bar, [STEPS], 0 where it is silent."""
    bar = {name: np.zeros(STEPS) for name in KIT}
    bar["kick"][[0, 8] if random.random() < 0.6 else [0, 4, 8, 12]] = 1
    bar["kick"][random.choice([3, 6, 7, 10, 11, 14], random.integers(0, 3), replace=False)] = 0.8
    bar["snare"][[4, 12]] = 1
    bar["snare"][random.choice([7, 9, 15], random.integers(0, 2), replace=False)] = 0.4
    bar["hat"][:: random.choice([1, 2, 4])] = 1
    bar["hat"][1::2] *= 0.6
    bar["other"][random.choice(STEPS, random.integers(0, 4), replace=False)] = 1
    return bar


def loop(drums: dict[str, np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Samples [n] with a peak of 0.9."""
    bar, step = pattern(random), 60 / random.uniform(80, 140) / 4
    kit = {
        name: drums[random.choice([drum for drum in drums if drum.startswith(kinds)])] for name, kinds in KIT.items()
    }
    sound = np.zeros(round(BARS * STEPS * step * RATE))
    for at in range(BARS * STEPS):
        fill = at >= BARS * STEPS - 4
        for name, samples in kit.items():
            loud = 0.5 + 0.1 * (at % 4) if fill and name == "snare" else bar[name][at % STEPS]
            start = round(at * step * RATE)
            heard = samples[: len(sound) - start]
            sound[start : start + len(heard)] += LEVEL[name] * loud * random.uniform(0.85, 1.0) * heard
    return 0.9 * sound / np.abs(sound).max()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=300)
    args = parser.parse_args()
    audio = Audio(Audio.Config(sample_rate=RATE, seconds=1.0))
    (rows,) = open_source("drums", None, {"audio": audio}).splits.values()
    drums = {cells["name"]: read_cell(audio, cells["audio"])[0] for cells in rows.cells}
    random = np.random.default_rng(0)
    for number in range(args.n):
        split = "test" if number % 10 == 9 else "validation" if number % 10 == 8 else "train"
        (args.folder / split).mkdir(parents=True, exist_ok=True)
        soundfile.write(args.folder / split / f"{number:04d}.wav", loop(drums, random), RATE)
    print(f"{args.n} loops in {args.folder}")


if __name__ == "__main__":
    with mendable():
        main()
