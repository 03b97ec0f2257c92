"""Sound: how long files go through a model, what memory that takes, and whether they come out as long.

    python benchmarks/audio_long.py [modalities.audio.widths=[16,32,64] ...] [--minutes 1 3] [--threads 1]

makes stereo files of so many minutes at 44.1 kHz (chords that glide, and noise), trains a model of one-second windows
at that rate for two steps (what it has learned costs no time), and takes each file through it by `mmvae resynthesize`
in a process of its own. It prints one JSON object: of each the seconds that it took, in all and for a second of sound,
the largest memory in MB, and the samples that went in and came out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from mmvae.commands.terminal import mendable

RATE = 44100  # Hz
SETTINGS = [
    f"modalities.audio.sample_rate={RATE}",
    "modalities.audio.channels=2",
    "modalities.audio.seconds=1",
    "modalities.audio.fft=1408",
    "modalities.audio.hop=352",
    "train.steps=2",
    "train.evaluate_every=2",
    "train.batch_size=4",
    "prior.fitted=0",
]


def write(path: Path, minutes: float) -> int:
    """A stereo file, a second at a time; returns its number of samples."""
    count, random = round(minutes * 60 * RATE), np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for start in range(0, count, RATE):
            t = np.arange(start, min(start + RATE, count)) / RATE
            chord = sum(np.sin(2 * np.pi * (pitch * t + 5 * np.sin(t))) for pitch in (220, 330, 495)) / 6
            file.write(np.stack([chord, chord[::-1]], 1) + 0.05 * random.standard_normal((len(t), 2)))
    return count


def measured(*words: object, threads: int) -> tuple[float, float]:
    """Seconds and megabytes of a command of mmvae: of the latter never fewer than this program has, which is small."""
    line = [sys.executable, "-m", "mmvae", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:  # it has said why
        sys.exit(process.returncode)
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    """Make, train, take through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("changes", nargs="*", help="settings in place of the recipe's, as for mmvae train")
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = folder / "model"
        measured("train", "audio/drums", *SETTINGS, *args.changes, "--out", model, threads=args.threads)
        for minutes in args.minutes:
            sound, out = folder / f"{minutes}.wav", folder / f"{minutes}-again.wav"
            count = write(sound, minutes)
            seconds, memory = measured("resynthesize", model, sound, "--out", out, threads=args.threads)
            found[f"{minutes:g} minutes"] = {
                "seconds": seconds,
                "real-time factor": seconds * RATE / count,
                "memory (MB)": memory,
                "samples in": count,
                "samples out": soundfile.info(out).frames,
            }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    with mendable():
        main()
