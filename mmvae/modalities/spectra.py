"""Spectrograms of sounds and sounds of spectrograms: Fourier transforms with silence beyond the ends, mel bands."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor, nn

RESOLUTIONS = (256, 512, 1024, 2048)  # samples of a frame, where sounds are compared


@dataclass(frozen=True)
class Analysis:
    """Frames of `fft` samples under a Hann window, one at each `hop` samples, the first centred on sample 0."""

    fft: int
    hop: int

    def spectrum(self, samples: Tensor) -> Tensor:
        """Complex [..., fft / 2 + 1, 1 + n / hop] of samples [..., n]; n / hop is rounded up, or the last samples would
        be divided by next to nothing on the way back."""
        # zeros, not a reflection, beyond the ends: one-shots start at sample 0
        samples = nn.functional.pad(samples, (0, -samples.shape[-1] % self.hop))
        window = torch.hann_window(self.fft, device=samples.device)
        return torch.stft(
            samples, self.fft, self.hop, window=window, center=True, pad_mode="constant", return_complex=True
        )

    def samples(self, spectrum: Tensor, length: int) -> Tensor:
        """The sound whose spectrum is nearest, [..., length]."""
        window = torch.hann_window(self.fft, device=spectrum.device)
        whole = length + -length % self.hop
        return torch.istft(spectrum, self.fft, self.hop, window=window, length=whole)[..., :length]

    def sound(
        self,
        magnitude: Tensor,
        length: int,
        iterations: int,
        start: Literal["integrated", "random"] | Tensor = "integrated",
        before: Tensor | None = None,
    ) -> Tensor:
        """Samples [channels, length] whose spectrogram is near `magnitude` [channels, fft / 2 + 1, frames].

        start: phases integrated from the gradients that the magnitude implies (Prusa et al. 2017), random ones, or
        those to start from, in radians. Found phases are the same in all channels, or the ear would hear none of them
        at its place. They are refined by Griffin-Lim iterations with a momentum of 0.99 (Perraudin et al. 2013).
        before: samples [channels, m], m at least `fft`, that the sound begins with: it goes on in phase with them.
        """
        given = None
        if before is not None:  # frames that see nothing but these samples
            given = self.spectrum(before)[..., : 1 + (before.shape[1] - self.fft // 2) // self.hop]
        phase = torch.polar(torch.ones_like(magnitude), self._phase(magnitude, start, given))
        last = None
        for _ in range(iterations):
            samples = self.samples(magnitude * phase, length)
            if before is not None:
                samples[:, : before.shape[1]] = before
            rebuilt = self.spectrum(samples)
            phase = torch.sgn(rebuilt if last is None else rebuilt + 0.99 * (rebuilt - last))
            last = rebuilt
        samples = self.samples(magnitude * phase, length)
        if before is not None:
            fade = torch.linspace(0, 1, before.shape[1])
            samples[:, : before.shape[1]] = torch.lerp(before, samples[:, : before.shape[1]], fade)
        return samples

    def _phase(
        self, magnitude: Tensor, start: Literal["integrated", "random"] | Tensor, given: Tensor | None
    ) -> Tensor:
        if start == "random":
            start = 2 * math.pi * torch.rand(magnitude.shape[1:], generator=torch.Generator().manual_seed(0))
        elif start == "integrated":
            from mmvae.modalities.phase import integrated_phase  # numba takes a second to import

            level, known = magnitude.square().mean(0).sqrt().numpy(), None if given is None else given.sum(0).angle()
            start = torch.from_numpy(
                integrated_phase(level, self.fft, self.hop, None if known is None else known.numpy())
            )
            if given is not None and known is not None:  # channels stay as far apart as they were
                start = start + (given.angle() - known)[..., -1:]
        start = start.expand_as(magnitude)
        return start if given is None else torch.cat([given.angle(), start[..., given.shape[-1] :]], -1)


class MelBands:
    """Magnitudes summed over `count` bands that are as far apart as the ear has it, from 0 Hz to half the rate.

    Raises ValueError where a band holds no frequency of the analysis.
    """

    def __init__(self, count: int, fft: int, rate: int) -> None:
        import torchaudio

        with warnings.catch_warnings():  # of empty bands: said below
            warnings.simplefilter("ignore")
            self.weights = torchaudio.functional.melscale_fbanks(fft // 2 + 1, 0.0, rate / 2, count, rate)
        if not self.weights.sum(0).all():
            raise ValueError(
                f"bands = {count} are too many for fft = {fft} at {rate} Hz: some hold no frequency; raise fft"
            )

    def of(self, magnitude: Tensor) -> Tensor:
        """[..., fft / 2 + 1, frames] to [..., count, frames]."""
        return self.weights.T @ magnitude

    def back(self, bands: Tensor, iterations: int = 30) -> Tensor:
        """A magnitude that has these bands, by multiplicative updates, which keep it above 0 (Lee & Seung 2000)."""
        mean = bands / self.weights.sum(0)[:, None]
        magnitude = self.weights @ mean / self.weights.sum(1, keepdim=True).clamp(min=1e-12)
        wanted = self.weights @ bands
        for _ in range(iterations):
            magnitude = magnitude * wanted / (self.weights @ self.of(magnitude)).clamp(min=1e-12)
        return magnitude


def grid(pictures: Sequence[Pillow.Image], columns: int) -> Pillow.Image:
    """Pictures of one height in rows of so many."""
    width, height = max(each.width for each in pictures) + 4, pictures[0].height + 4
    whole = Pillow.new("L", (columns * width, -(-len(pictures) // columns) * height), 255)
    for index, each in enumerate(pictures):
        whole.paste(each, (index % columns * width, index // columns * height))
    return whole


def picture(spectrogram: Tensor) -> Pillow.Image:
    """Of a spectrogram [bins, frames], low notes at the bottom, loud dark; 2 pixels a frame."""
    level = spectrogram.flip(0).numpy()
    gray = Pillow.fromarray(255 - (255 * level / max(level.max(), 1e-6)).astype(np.uint8))
    return gray.resize((2 * gray.width, 96), Pillow.Resampling.BILINEAR)
