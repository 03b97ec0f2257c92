"""How near one sound comes to another."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from mmvae.modalities.spectra import RESOLUTIONS, Analysis

FLOOR = 1e-4  # of the loudest bin of the real sound, -80 dB: what is fainter counts as silence
QUIET = 0.01  # of full scale; of a sound that is less loud, or silent, the floor is that of one that is as loud


def compare(
    real: np.ndarray, other: np.ndarray, analysis: Analysis, rate: int, aligned: bool = False
) -> dict[str, float]:
    """Measures of sounds [channels, n] at a rate in Hz; the shorter one is followed by silence. aligned: whether the
    other one is to have the real one's phases, so that it may be compared by samples as well."""
    length = max(real.shape[1], other.shape[1])
    real, other = (np.pad(sound, ((0, 0), (0, length - sound.shape[1]))) for sound in (real, other))
    a, b = torch.from_numpy(real), torch.from_numpy(other)
    return {
        "log-spectral distance (dB)": log_spectral_distance(a, b, analysis),
        "spectral convergence (dB)": spectral_convergence(a, b),
        **(distortion_ratio(a, b) if aligned else {}),
        **speech_scores(real.mean(0), other.mean(0), rate),
    }


def means(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each measure; where not all sounds have it, such as a score of speech, its name says how many."""
    found: dict[str, list[float]] = {}
    for score in scores:
        for what, value in score.items():
            found.setdefault(what, []).append(value)
    counts = {what: "" if len(values) == len(scores) else f" of {len(values)}" for what, values in found.items()}
    return {what + counts[what]: sum(values) / len(values) for what, values in found.items()}


def log_spectral_distance(real: Tensor, other: Tensor, analysis: Analysis) -> float:
    """In dB: the root mean square over frequencies of the difference of levels, a mean over frames and channels."""
    wanted, found = (analysis.spectrum(sound).abs() for sound in (real, other))
    floor = FLOOR * wanted.max().clamp(min=QUIET * analysis.fft / 4)  # a sine of amplitude 1 has a bin of fft / 4
    difference = 20 * torch.log10((found + floor) / (wanted + floor))
    return difference.square().mean(-2).sqrt().mean().item()


def spectral_convergence(real: Tensor, other: Tensor) -> float:
    """In dB: the norm of the difference of magnitudes over that of the magnitudes, a mean over resolutions."""
    levels = []
    for fft in RESOLUTIONS:
        analysis = Analysis(fft, fft // 4)
        levels.append(convergence(*(analysis.spectrum(sound).abs() for sound in (real, other))))
    return sum(levels) / len(levels)


def convergence(wanted: Tensor, found: Tensor) -> float:
    """Of two magnitude spectrograms, in dB, from -120 to 20: beyond, as beside silence, it says no more."""
    ratio = (found - wanted).norm() / wanted.norm().clamp(min=1e-9)
    return 20 * math.log10(min(max(ratio.item(), 1e-6), 10.0))


def distortion_ratio(real: Tensor, other: Tensor) -> dict[str, float]:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019), a mean over channels; none of silence."""
    if not real.any() or not other.any():
        return {}
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as of  # takes seconds to import

    return {"SI-SDR (dB)": of(other.double(), real.double()).mean().item()}


def speech_scores(real: np.ndarray, other: np.ndarray, rate: int) -> dict[str, float]:
    """PESQ (ITU-T P.862) and STOI (Taal et al. 2011) of mono speech, where the packages pesq and pystoi are installed
    and the rate is one of theirs; neither for sounds in which they hear no speech."""
    found: dict[str, float] = {}
    if not real.any():
        return found
    if rate in (8000, 16000) and find_spec("pesq"):
        pesq = import_module("pesq")
        # too short, or no speech; of a silent reconstruction it warns that it divides by 0
        quiet = warnings.catch_warnings(action="ignore", category=RuntimeWarning)
        with quiet, suppress(pesq.PesqError, ValueError):
            found["PESQ"] = pesq.pesq(rate, real, other, "nb" if rate == 8000 else "wb")
    if find_spec("pystoi"):
        pystoi = import_module("pystoi")
        short = RuntimeWarning, ValueError  # fewer frames than it asks for, or than one
        with warnings.catch_warnings(action="error", category=RuntimeWarning), suppress(*short):
            found["STOI"] = float(pystoi.stoi(real, other, rate))
    return found
