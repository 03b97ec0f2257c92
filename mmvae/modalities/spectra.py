"""Spectrograms of sounds, and sounds of spectrograms: short-time Fourier transforms with silence beyond the ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Analysis:
    """Frames of `fft` samples under a Hann window, one at each `hop` samples, the first centred on sample 0."""

    fft: int
    hop: int

    def spectrum(self, samples: Tensor) -> Tensor:
        """Complex [..., fft / 2 + 1, 1 + n / hop] of samples [..., n]."""
        # zeros, not a reflection, beyond the ends: one-shots start at sample 0
        window = torch.hann_window(self.fft)
        return torch.stft(
            samples, self.fft, self.hop, window=window, center=True, pad_mode="constant", return_complex=True
        )

    def samples(self, spectrum: Tensor, length: int) -> Tensor:
        """The sound whose spectrum is nearest, [..., length]."""
        return torch.istft(spectrum, self.fft, self.hop, window=torch.hann_window(self.fft), length=length)

    def sound(
        self,
        magnitude: Tensor,
        length: int,
        iterations: int,
        start: Literal["integrated", "random"] = "integrated",
        before: Tensor | None = None,
    ) -> Tensor:
        """Samples [channels, length] whose spectrogram is near `magnitude` [channels, fft / 2 + 1, frames].

        start: phases integrated from the gradients that the magnitude implies (Prusa et al. 2017), or random ones.
        They are refined by Griffin-Lim iterations with a momentum of 0.99 (Perraudin et al. 2013).
        before: samples [channels, m], m at least `fft`, that the sound begins with: it goes on in phase with them.
        """
        given = None
        if before is not None:  # frames that see nothing but these samples
            given = self.spectrum(before)[..., : 1 + (before.shape[1] - self.fft // 2) // self.hop].angle()
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

    def _phase(self, magnitude: Tensor, start: str, given: Tensor | None) -> Tensor:
        if start == "random":
            phase = 2 * math.pi * torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0))
            if given is not None:
                phase[..., : given.shape[-1]] = given
            return phase
        from mmvae.modalities.phase import integrated_phase  # numba takes a second to import

        known = [None] * len(magnitude) if given is None else given.numpy()
        channels = zip(magnitude.numpy(), known, strict=True)
        return torch.stack([torch.from_numpy(integrated_phase(part, self.fft, self.hop, of)) for part, of in channels])
