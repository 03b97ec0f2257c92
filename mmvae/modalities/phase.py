"""Phase of a magnitude spectrogram: integrated from the gradients that the magnitude implies."""

from __future__ import annotations

import math

import numba
import numpy as np

HANN = 0.25645  # a Hann window of M samples is nearest to exp(-pi t^2 / (HANN M^2)) (Prusa et al. 2017)
OFFSET = 0.65  # log of how far 0 Hz stands above the next bin; of an offset alone, of a Hann window, log 2
FAINT = math.log(1e-6)  # of the loudest bin; below it the logarithm is noise, and so are the gradients
LEVELS = 2048  # bins are taken in the order of their loudness, to within so many steps of it


@numba.njit(cache=True, nogil=True)
def _spread(
    top: int,
    first: np.ndarray,
    after: np.ndarray,
    known: np.ndarray,
    level: np.ndarray,
    along_time: np.ndarray,
    along_frequency: np.ndarray,
    phase: np.ndarray,
    bins: int,
) -> None:
    """From the bins in the queue, the loudest of level `top`, to all that can be reached. All arrays but first are
    flat, [frames * bins].

    What would be a heap is a queue with a bucket for each level: first[l] is a bin, after[first[l]] the next one.
    """
    while top >= 0:
        here = first[top]
        if here < 0:
            top -= 1
            continue
        first[top] = after[here]
        for way in range(4):
            if way == 0:
                there, possible = here + bins, here + bins < level.size
            elif way == 1:
                there, possible = here - bins, here >= bins
            elif way == 2:
                there, possible = here + 1, here % bins + 1 < bins
            else:
                there, possible = here - 1, here % bins > 0
            if not possible or known[there]:
                continue
            gradient = along_time if way < 2 else along_frequency
            step = 0.5 * (gradient[here] + gradient[there])  # the trapezoidal rule
            phase[there] = phase[here] + (step if there > here else -step)
            known[there] = True
            after[there] = first[level[there]]
            first[level[there]] = there
            top = max(top, level[there])


@numba.njit(cache=True, nogil=True)
def _integrate(
    level: np.ndarray, along_time: np.ndarray, along_frequency: np.ndarray, phase: np.ndarray, given: int
) -> None:
    """Fill phase [frames, bins] outward from the `given` first frames, whose phases are there, then from the loudest
    bins; those of a level below 0 keep what they have."""
    bins = level.shape[1]
    flat = level.ravel()
    of_time, of_frequency, found = along_time.ravel(), along_frequency.ravel(), phase.ravel()
    known = flat < 0
    known[: given * bins] = True
    first = np.full(LEVELS, -1, np.int64)
    after = np.empty(flat.size, np.int64)
    for index in range(max(0, (given - 1) * bins), given * bins):
        if flat[index] >= 0:
            after[index] = first[flat[index]]
            first[flat[index]] = index
    _spread(LEVELS - 1, first, after, known, flat, of_time, of_frequency, found, bins)
    start = np.full(LEVELS, -1, np.int64)
    later = np.empty(flat.size, np.int64)
    for index in range(flat.size):
        if not known[index]:
            later[index] = start[flat[index]]
            start[flat[index]] = index
    for loudest in range(LEVELS - 1, -1, -1):
        island = start[loudest]
        while island >= 0:
            if not known[island]:
                known[island] = True
                found[island] = 0.0
                first[loudest] = island
                after[island] = -1
                _spread(loudest, first, after, known, flat, of_time, of_frequency, found, bins)
            island = later[island]


def integrated_phase(magnitude: np.ndarray, fft: int, hop: int, given: np.ndarray | None = None) -> np.ndarray:
    """Phases in radians of a magnitude spectrogram [bins, frames], all bins from 0 to fft / 2, of a Hann window of
    `fft` samples at each `hop`: phase-gradient heap integration (Prusa, Balazs & Sondergaard 2017, "A noniterative
    method for reconstruction of phase from STFT magnitude").

    Phases are those of `torch.stft`: against the first sample of each frame. Faint bins get random ones.
    given: phases [bins, m] of the first m frames, which are kept and gone on from.
    """
    loudest = max(float(magnitude.max()), 1e-30)
    log = np.log(np.maximum(magnitude.T / loudest, 1e-10)).astype(np.float32)
    wide = HANN * fft * fft
    by_frame, by_bin = np.gradient(log)
    # magnitudes are even about 0 Hz: where an offset peaks there, the slope of one side alone would make it rumble
    by_bin[:, 0] *= np.clip((log[:, 1] - log[:, 0] + OFFSET) / (OFFSET / 5), 0, 1)
    along_time = hop * fft / wide * by_bin + (2 * math.pi * hop / fft * np.arange(log.shape[1])).astype(np.float32)
    along_frequency = -wide / (hop * fft) * by_frame - math.pi
    phase = np.random.default_rng(0).uniform(0, 2 * math.pi, log.shape)
    level = np.where(log >= FAINT, (LEVELS - 1) * (1 - log / FAINT), -1).astype(np.int64)
    count = 0 if given is None else given.shape[1]
    if given is not None:
        phase[:count] = given.T
    _integrate(level, along_time, along_frequency, phase, count)
    return np.ascontiguousarray(phase.T, np.float32)
