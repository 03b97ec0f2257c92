"""Sounds as the networks see them: standardized planes of magnitudes, and of phases where these are learned."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from mmvae.modalities.spectra import Analysis, MelBands


class Representation:
    """Samples [C, n] to planes [C, bins, frames] and back. With phases, their cosines and sines follow: [3C, bins,
    frames]. The highest frequency, half the rate, is left out; `mel` has bands in place of frequencies."""

    def __init__(
        self, analysis: Analysis, mel: MelBands | None, scale: Literal["power", "log"], power: float, phases: bool
    ) -> None:
        self.analysis, self.mel, self.scale, self.power, self.phases = analysis, mel, scale, power, phases
        self.mean, self.std = 0.0, 1.0

    def fit(self, sounds: Iterable[Tensor]) -> None:
        """Learn mean and deviation of the scaled magnitudes. Raises ValueError when there is only silence."""
        count, total, squares = 0, 0.0, 0.0
        for samples in sounds:
            levels = self.levels(samples).double()
            count += levels.numel()
            total += levels.sum().item()
            squares += levels.square().sum().item()
        self.mean = total / count
        self.std = math.sqrt(max(squares / count - self.mean**2, 0.0))
        if self.std < 1e-6:
            raise ValueError("the training sounds are all silent")

    def levels(self, samples: Tensor) -> Tensor:
        """The scaled magnitudes [C, bins, frames]."""
        return self._scaled(self.analysis.spectrum(samples).abs())

    def _scaled(self, magnitude: Tensor) -> Tensor:
        bins = self.mel.of(magnitude) if self.mel else magnitude[:, :-1]
        return bins**self.power if self.scale == "power" else torch.log1p(10 * bins)

    def planes(self, samples: Tensor) -> Tensor:
        """What networks see, in half precision."""
        spectrum = self.analysis.spectrum(samples)
        levels = (self._scaled(spectrum.abs()) - self.mean) / self.std
        if not self.phases:
            return levels.half()
        return torch.cat([levels, *torch.view_as_real(torch.sgn(spectrum[:, :-1])).unbind(-1)]).half()

    def magnitude(self, levels: Tensor) -> Tensor:
        """Standardized levels [..., bins, frames] to magnitudes [..., fft / 2 + 1, frames]."""
        scaled = (levels * self.std + self.mean).clamp(min=0)
        bins = scaled ** (1 / self.power) if self.scale == "power" else torch.expm1(scaled) / 10
        return self.mel.back(bins) if self.mel else nn.functional.pad(bins, (0, 0, 0, 1))

    def sound(
        self,
        planes: Tensor,
        length: int,
        iterations: int,
        start: Literal["integrated", "random"],
        before: Tensor | None = None,
    ) -> Tensor:
        """Samples [C, length] of planes, by phases that are found (see `Analysis.sound`), or those of the planes."""
        if not self.phases:
            return self.analysis.sound(self.magnitude(planes), length, iterations, start, before)
        levels, cosine, sine = planes.chunk(3)
        phase = nn.functional.pad(torch.atan2(sine, cosine), (0, 0, 0, 1))
        return self.analysis.sound(self.magnitude(levels), length, iterations, phase, before)

    def waves(self, planes: Tensor, length: int) -> Tensor:
        """Samples [B, C, length] of planes with phases [B, 3C, bins, frames], with a gradient."""
        levels, cosine, sine = planes.chunk(3, dim=1)
        phase = nn.functional.pad(torch.complex(cosine, sine), (0, 0, 0, 1))
        spectrum = self.magnitude(levels) * phase
        return self.analysis.samples(spectrum.flatten(0, 1), length).unflatten(0, spectrum.shape[:2])
