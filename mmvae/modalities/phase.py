"""Phase of a magnitude spectrogram: integrated from the gradients that the magnitude implies."""

from __future__ import annotations

import math

import numba
import numpy as np

HANN = 0.25645  # a Hann window of M samples is nearest to exp(-pi t^2 / (HANN M^2)) (Prusa et al. 2017)
FAINT = math.log(1e-6)  # of the loudest bin; below it the logarithm is noise, and so are the gradients
LEVELS = 2048  # bins are taken in the order of their loudness, to within so many steps of it


@numba.njit(cache=True, nogil=True)
def _integrate(level: np.ndarray, along_time: np.ndarray, along_frequency: np.ndarray, phase: np.ndarray) -> None:
    """Fill phase [frames, bins] outward from the loudest bins; those of a level below 0 keep what they have.

    What would be a heap is a queue with a bucket for each level, a linked list of bins.
    """
    bins = level.shape[1]
    levels, of_phase = level.ravel(), phase.ravel()
    of_time, of_frequency = along_time.ravel(), along_frequency.ravel()
    known = levels < 0
    first = np.full(LEVELS, -1, np.int64)  # bins whose neighbours are to be looked at
    after = np.empty(levels.size, np.int64)
    start = np.full(LEVELS, -1, np.int64)  # all bins
    later = np.empty(levels.size, np.int64)
    for index in range(levels.size):
        if levels[index] >= 0:
            later[index] = start[levels[index]]
            start[levels[index]] = index
    for loudest in range(LEVELS - 1, -1, -1):
        island = start[loudest]
        while island >= 0:
            if not known[island]:
                known[island] = True
                of_phase[island] = 0.0
                first[loudest] = island
                after[island] = -1
                top = loudest
                while top >= 0:
                    here = first[top]
                    if here < 0:
                        top -= 1
                        continue
                    first[top] = after[here]
                    bin_ = here % bins
                    for way in range(4):
                        if way == 0:
                            there, possible = here + bins, here + bins < levels.size
                        elif way == 1:
                            there, possible = here - bins, here >= bins
                        elif way == 2:
                            there, possible = here + 1, bin_ + 1 < bins
                        else:
                            there, possible = here - 1, bin_ > 0
                        if not possible or known[there]:
                            continue
                        gradient = of_time if way < 2 else of_frequency
                        step = 0.5 * (gradient[here] + gradient[there])  # the trapezoidal rule
                        of_phase[there] = of_phase[here] + (step if there > here else -step)
                        known[there] = True
                        at = levels[there]
                        after[there] = first[at]
                        first[at] = there
                        top = max(top, at)
            island = later[island]


def integrated_phase(magnitude: np.ndarray, fft: int, hop: int) -> np.ndarray:
    """Phases in radians of a magnitude spectrogram [bins, frames], all bins from 0 to fft / 2, of a Hann window of
    `fft` samples at each `hop`: phase-gradient heap integration (Prusa, Balazs & Sondergaard 2017, "A noniterative
    method for reconstruction of phase from STFT magnitude").

    Phases are those of `torch.stft`: against the first sample of each frame. Faint bins get random ones.
    """
    loudest = max(float(magnitude.max()), 1e-30)
    log = np.log(np.maximum(magnitude.T / loudest, 1e-10)).astype(np.float32)
    wide = HANN * fft * fft
    by_frame, by_bin = np.gradient(log)
    along_time = hop * fft / wide * by_bin + (2 * math.pi * hop / fft * np.arange(log.shape[1])).astype(np.float32)
    along_frequency = -wide / (hop * fft) * by_frame - math.pi
    phase = np.random.default_rng(0).uniform(0, 2 * math.pi, log.shape)
    level = np.where(log >= FAINT, (LEVELS - 1) * (1 - log / FAINT), -1).astype(np.int64)
    _integrate(level, along_time, along_frequency, phase)
    return np.ascontiguousarray(phase.T, np.float32)
