"""Audio: sounds found again from their magnitudes alone, by `mmvae` and by torchaudio's Griffin-Lim, on one core.

    python benchmarks/audio_phase.py [--data drums] [--rate 22050] [--fft 1024] [--hop 256] [--limit 100]

prints one JSON object: for each method the spectral convergence in dB, the norm of the difference of magnitudes over
that of the magnitudes, a mean over sounds (lower is better), and the real-time factor, seconds of work a second of
sound.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn

from mmvae.commands.terminal import mendable
from mmvae.data.rows import default_column, read_cell
from mmvae.data.sources import open_source
from mmvae.modalities.audio import Audio
from mmvae.modalities.hearing import convergence
from mmvae.modalities.spectra import Analysis


def sounds(data: str, rate: int, limit: int) -> list[Tensor]:
    """Samples [n] of up to `limit` sounds, mono, 30 seconds at most, 0.1 at least: torchaudio takes no shorter ones."""
    modality = Audio(Audio.Config(sample_rate=rate, seconds=30))
    splits = open_source(data, None, {"audio": modality}).splits
    rows = splits.get("test", splits["train"])
    column = default_column("audio", "audio", rows)
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), limit)).round().astype(int).tolist()
    heard = [torch.from_numpy(read_cell(modality, rows.cells[i][column]))[0] for i in chosen]
    return [nn.functional.pad(sound, (0, max(0, rate // 10 - len(sound)))) for sound in heard]


def main() -> None:
    """Measure each method on all sounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="drums")
    parser.add_argument("--rate", type=int, default=22050)
    parser.add_argument("--fft", type=int, default=1024)
    parser.add_argument("--hop", type=int, default=256)
    parser.add_argument("--limit", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    analysis = Analysis(args.fft, args.hop)
    theirs = torchaudio.transforms.GriffinLim(args.fft, 60, hop_length=args.hop, power=1.0)
    methods: dict[str, Callable[[Tensor, int], Tensor]] = {
        "integrated, 0 iterations": lambda m, n: analysis.sound(m[None], n, 0)[0],
        "integrated, 16 iterations": lambda m, n: analysis.sound(m[None], n, 16)[0],
        "random, 60 iterations": lambda m, n: analysis.sound(m[None], n, 60, "random")[0],
        "torchaudio, 60 iterations": lambda m, n: nn.functional.pad(theirs(m), (0, n))[:n],
    }
    heard = sounds(args.data, args.rate, args.limit)
    seconds = sum(len(sound) for sound in heard) / args.rate
    found = {}
    with torch.inference_mode():
        for name, method in methods.items():
            magnitudes = [analysis.spectrum(sound).abs() for sound in heard]
            method(magnitudes[0], len(heard[0]))  # compiles
            start = time.perf_counter()
            made = [method(m, len(sound)) for m, sound in zip(magnitudes, heard, strict=True)]
            taken = time.perf_counter() - start
            levels = [convergence(m, analysis.spectrum(sound).abs()) for m, sound in zip(magnitudes, made, strict=True)]
            found[name] = {"convergence (dB)": sum(levels) / len(levels), "real-time factor": taken / seconds}
    print(json.dumps({"sounds": len(heard), "seconds": round(seconds, 1), **found}, indent=1))


if __name__ == "__main__":
    with mendable():
        main()
