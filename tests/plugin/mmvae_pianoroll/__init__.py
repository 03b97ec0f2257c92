"""Piano rolls: four-part music in 16th notes as a modality of mmvae, written as MIDI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pydantic import Field
from torch import Tensor, nn

from mmvae import Modality, Settings
from mmvae.core.registry import network
from mmvae_pianoroll import midi
from mmvae_pianoroll.networks import Decoder, Encoder

VOICES = 4
COLORS = ("#c0392b", "#d68910", "#1e8449", "#2471a3")

Chord = list[int]  # MIDI pitches of soprano, alto, tenor and bass; 0 is silent


class PianoRoll(Modality):
    """Raw: a list of chords, one for each 16th note. Tensor: int64 [steps, 4], 0 silent, 1 the lowest pitch."""

    suffix = ".mid"
    reads = (".midi",)
    temperature = 0.7

    class Config(Settings):
        steps: int = Field(
            64, ge=1, description="window in 16th notes: shorter pieces are followed by silence, longer ones cut"
        )
        width: int = network(64, "channels of the convolutions", ge=1)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lowest, self.highest = 0, 0

    def read(self, file: Path | BinaryIO) -> list[Chord]:
        data = file.read_bytes() if isinstance(file, Path) else file.read()
        return midi.parse(data, most=self.config.steps)

    def write(self, raw: list[Chord], path: Path) -> None:
        path.write_bytes(midi.render(raw))

    def parse(self, value: Any) -> list[Chord]:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise ValueError("a piece is a list of chords, one for each 16th note")
        return [_chord(chord) for chord in value]

    def fit(self, raws: Iterable[list[Chord]]) -> None:
        pitches = {pitch for raw in raws for chord in raw for pitch in chord if pitch}
        if not pitches:
            raise ValueError("the training pieces are all silent")
        self.lowest, self.highest = min(pitches), max(pitches)

    def state(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "highest": self.highest}

    def load_state(self, state: dict[str, Any]) -> None:
        self.lowest, self.highest = state["lowest"], state["highest"]

    def to_tensor(self, raw: list[Chord]) -> Tensor:
        if len(raw) > self.config.steps:
            self.note(f"longer than {self.config.steps} 16ths: only the start is used")
        tensor = torch.zeros(self.config.steps, VOICES, dtype=torch.int64)
        pitches = torch.tensor(raw[: self.config.steps])
        outside = pitches[(pitches != 0) & ((pitches < self.lowest) | (pitches > self.highest))]
        if len(outside):
            raise ValueError(f"pitch {outside[0]} is outside the training set's, {self.lowest} to {self.highest}")
        tensor[: len(pitches)] = (pitches - self.lowest + 1).clamp(min=0)
        return tensor

    def to_raw(self, tensor: Tensor) -> list[Chord]:
        return (tensor + self.lowest - 1).masked_fill(tensor == 0, 0).tolist()

    def encoder(self, outputs: int) -> nn.Module:
        return Encoder(self.config.steps, self.highest - self.lowest + 2, outputs, self.config.width)

    def decoder(self, latent: int) -> nn.Module:
        return Decoder(latent, self.config.steps, self.highest - self.lowest + 2, self.config.width)

    def metrics(self, raws: Sequence[list[Chord]], reconstructions: Sequence[list[Chord]]) -> dict[str, float]:
        ours, theirs = (torch.stack([self.to_tensor(raw) for raw in some]) for some in (raws, reconstructions))
        return {"notes kept": (ours == theirs).float().mean().item()}

    def preview(self, raw: list[Chord]) -> str:
        """A piano roll, time from left to right, one colour a voice."""
        bars = []
        for voice, color in enumerate(COLORS):
            for start, end, pitch in midi.notes(raw, voice):
                place = f'x="{4 * start}" y="{3 * (127 - pitch)}" width="{4 * (end - start) - 1}" height="3"'
                bars.append(f'<rect {place} fill="{color}"/>')
        top = 3 * (127 - max(self.highest, 60))
        box = f"0 {top} {4 * len(raw)} {3 * (127 - min(self.lowest, 60)) + 3 - top}"
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" height="120">{"".join(bars)}</svg>'


def _chord(value: Any) -> Chord:
    """Four pitches; where there are fewer, the lower voices are silent."""
    if not isinstance(value, Sequence) or len(value) > VOICES:
        raise ValueError(f"a chord is a list of at most {VOICES} pitches, not {value!r}")
    if not all(isinstance(pitch, int | float) and pitch in range(128) for pitch in value):
        raise ValueError(f"a pitch is a MIDI number from 0 (silent) to 127: {value!r}")
    return [int(pitch) for pitch in value] + [0] * (VOICES - len(value))
