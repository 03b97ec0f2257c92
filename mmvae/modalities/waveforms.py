"""A decoder of sound that learns its phase: trained on waveforms as well as on magnitudes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmvae.core.likelihoods import Likelihood
from mmvae.core.noise import Noise
from mmvae.modalities.spectra import RESOLUTIONS, Analysis

POWER = 0.3


class WithPhase(Likelihood):
    """Magnitudes under a density, and one phase for each, that no density has. x: [B, 3C, H, W], the magnitudes and the
    cosines and sines of their phases."""

    def __init__(self, density: Likelihood, phase: Tensor, cost: Callable[[Tensor, Tensor], Tensor] | None) -> None:
        self.density, self.cost = density, cost
        self.channels = phase.shape[1] // 2
        self.phase = nn.functional.normalize(phase.float().unflatten(1, (2, -1)), dim=1).flatten(1, 2)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.density.log_prob(x[:, : self.channels])

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        return torch.cat([self.density.sample(noise, temperature), self.phase], 1)

    def mode(self) -> Tensor:
        return torch.cat([self.density.mode(), self.phase], 1)

    def center(self) -> Tensor:
        return self.mode()

    def auxiliary(self, x: Tensor) -> Tensor | None:
        return None if self.cost is None else self.cost(x.float(), self.mode())


class WaveDecoder(nn.Module):
    """z [B, latent] to magnitudes and phases [B, 3C, H, W]. In training the sounds of both are compared as well."""

    def __init__(
        self, magnitudes: nn.Module, phases: nn.Module, sounds: Callable[[Tensor], Tensor], weight: float
    ) -> None:
        """sounds: [B, 3C, H, W] to samples [B, C, n], with a gradient. weight: of the comparison."""
        super().__init__()
        self.magnitudes, self.phases, self.sounds, self.weight = magnitudes, phases, sounds, weight

    def forward(self, z: Tensor) -> Likelihood:
        return WithPhase(self.magnitudes(z), self.phases(z), self._cost if self.training else None)

    def _cost(self, real: Tensor, ours: Tensor) -> Tensor:
        return self.weight * multi_resolution_distance(self.sounds(real), self.sounds(ours))


def multi_resolution_distance(real: Tensor, ours: Tensor) -> Tensor:
    """Of sounds [B, C, n]: the absolute differences of their spectrograms under a power law, summed over bins, a mean
    over resolutions, [B] (after Yamamoto et al. 2020)."""
    distances = []
    for fft in RESOLUTIONS:
        analysis = Analysis(fft, fft // 4)
        levels = []
        for sound in (real, ours):
            spectrum = torch.view_as_real(analysis.spectrum(sound.flatten(0, 1)))
            levels.append((spectrum.square().sum(-1) + 1e-8) ** (POWER / 2))  # 1e-8: a finite slope at silence
        distances.append((levels[0] - levels[1]).abs().unflatten(0, real.shape[:2]).flatten(1).sum(1))
    return torch.stack(distances).mean(0)
