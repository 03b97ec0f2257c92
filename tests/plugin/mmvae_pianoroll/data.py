"""Pieces to train on: the chorales' JSON file, or made ones, as a folder of tables.

python -m mmvae_pianoroll.data FOLDER [JSON]
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

SPLITS = {"train": "train", "valid": "validation", "test": "test"}
WINDOW = 64  # 16ths
RANGES = ((60, 79), (55, 72), (48, 67), (40, 60))  # lowest and highest pitch of soprano, alto, tenor and bass
DEGREES = {"I": (0, 4, 7), "ii": (2, 5, 9), "IV": (5, 9, 0), "V": (7, 11, 2), "vi": (9, 0, 4)}
FOLLOWS = {
    "I": ("IV", "V", "vi", "ii"),
    "ii": ("V",),
    "IV": ("V", "I", "ii"),
    "V": ("I", "I", "vi"),
    "vi": ("ii", "IV"),
}


def compose(seed: int, steps: int = WINDOW) -> list[list[int]]:
    """A piece in a major key: chords of a quarter note that follow one another as in a hymn, to the nearest notes."""
    chance = random.Random(seed)
    key, degree = chance.randrange(12), "I"
    chord = [chance.randint((2 * low + high) // 3, (low + 2 * high) // 3) for low, high in RANGES]
    piece: list[list[int]] = []
    for quarter in range(steps // 4):
        last = quarter % 8 == 7  # each phrase of two bars ends at rest
        degree = "I" if quarter == 0 or last else "V" if quarter % 8 == 6 else chance.choice(FOLLOWS[degree])
        tones = [(key + tone) % 12 for tone in DEGREES[degree]]
        wanted = [tones, tones, tones, tones[:1]]  # the bass has the root
        for voice, (low, high) in enumerate(RANGES):
            fits = [pitch for pitch in range(low, high + 1) if pitch % 12 in wanted[voice]]
            chord[voice] = min(fits, key=lambda pitch: abs(pitch - chord[voice]) + chance.random() * 3)
        piece += [list(chord) for _ in range(4)]
    return piece


def made(pieces: int = 400) -> dict[str, list[list[list[int]]]]:
    """Pieces for each split, the same ones every time."""
    counts = {"train": pieces, "valid": pieces // 10, "test": pieces // 10}
    return {split: [compose(i + 1_000_000 * n) for i in range(counts[split])] for n, split in enumerate(counts)}


def write_tables(folder: Path, chorales: dict[str, list[list[list[int]]]]) -> None:
    """A .jsonl file for each split: windows of 4 bars in the column `chorale`, a new one every 2 bars."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in SPLITS.items():
        with (folder / f"{name}.jsonl").open("w") as file:
            for piece in chorales[split]:
                for start in range(0, max(1, len(piece) - WINDOW + 1), WINDOW // 2):
                    window = [[int(pitch) for pitch in chord] for chord in piece[start : start + WINDOW]]
                    file.write(json.dumps({"chorale": window}) + "\n")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    write_tables(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()) if sys.argv[2:] else made())
