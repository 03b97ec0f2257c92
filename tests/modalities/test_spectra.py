"""Spectrograms and the phase found for them."""

from __future__ import annotations

import heapq
import math
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from mmvae.modalities import phase
from mmvae.modalities.spectra import Analysis, MelBands

ANALYSIS = Analysis(256, 64)
LENGTH = 4000


def tones() -> Tensor:
    """Two sliding tones, one fading in and one out, and a click: [2, n]."""
    t = torch.arange(LENGTH) / 8000
    rising = torch.sin(2 * math.pi * (400 * t + 900 * t**2)) * t
    falling = torch.sin(2 * math.pi * (2500 * t - 1500 * t**2)) * (0.5 - t).clamp(min=0)
    click = torch.zeros(LENGTH)
    click[2011] = 1.0
    return torch.stack([rising + falling, rising + click])


def convergence(wanted: Tensor, sound: Tensor) -> float:
    return 20 * math.log10((ANALYSIS.spectrum(sound).abs() - wanted).norm() / wanted.norm())


def test_a_sound_comes_back_from_its_spectrum() -> None:
    torch.testing.assert_close(ANALYSIS.samples(ANALYSIS.spectrum(tones()), LENGTH), tones(), atol=1e-5, rtol=0)


def test_what_lies_beyond_the_ends_is_silence() -> None:
    click = torch.zeros(LENGTH)
    click[0] = 1.0
    magnitude = ANALYSIS.spectrum(click).abs()
    torch.testing.assert_close(magnitude[:, 0], torch.ones(129))  # a click under the window's middle, seen once
    assert magnitude[:, 2:].abs().max() < 1e-6


def test_integrated_phases_need_no_iterations_to_beat_random_ones_after_twenty() -> None:
    magnitude = ANALYSIS.spectrum(tones()).abs()
    integrated = [convergence(magnitude, ANALYSIS.sound(magnitude, LENGTH, n)) for n in (0, 16)]
    assert integrated[0] < convergence(magnitude, ANALYSIS.sound(magnitude, LENGTH, 20, "random"))
    assert integrated[0] < -20
    assert integrated[1] < integrated[0] - 5


@pytest.mark.parametrize("start", ["integrated", "random"])
def test_what_both_channels_hold_stays_in_the_middle(start: Literal["integrated", "random"]) -> None:
    middle, side = tones()
    stereo = torch.stack([middle + 0.1 * side, 0.8 * middle - 0.1 * side])
    found = ANALYSIS.sound(ANALYSIS.spectrum(stereo).abs(), LENGTH, 16, start)
    wanted, heard = torch.corrcoef(stereo)[0, 1], torch.corrcoef(found)[0, 1]
    assert heard > wanted - 0.05  # of phases found for each by itself: 0
    assert found.sum(0).norm() > 0.95 * stereo.sum(0).norm()


def test_channels_go_on_as_far_apart_as_they_were() -> None:
    middle, _ = tones()
    stereo = torch.stack([middle, -middle])
    found = ANALYSIS.sound(ANALYSIS.spectrum(stereo).abs(), LENGTH, 16, before=stereo[:, :1000])
    assert torch.corrcoef(found[:, 1000:])[0, 1] < -0.95


def test_silence_stays_silence() -> None:
    assert ANALYSIS.sound(torch.zeros(1, 129, 64), LENGTH, 4).abs().max() == 0


def test_loudness_does_not_change_phases() -> None:
    magnitude = ANALYSIS.spectrum(tones())[0].abs().numpy()
    loud = magnitude > 1e-3 * magnitude.max()
    quiet, full = (phase.integrated_phase(magnitude * gain, 256, 64)[loud] for gain in (0.25, 1.0))
    np.testing.assert_array_equal(quiet, full)


def integrated_by_a_heap(level: np.ndarray, along_time: np.ndarray, along_frequency: np.ndarray) -> np.ndarray:
    """The paper's algorithm, a bin at a time, the first of a row where levels are equal never needed."""
    found = np.full(level.shape, np.nan)
    for start in sorted(np.ndindex(level.shape), key=lambda at: -level[at]):
        if not np.isnan(found[start]):
            continue
        found[start] = 0.0
        heap = [(-level[start], start)]
        while heap:
            _, (n, k) = heapq.heappop(heap)
            for at, gradient in (
                ((n + 1, k), along_time),
                ((n - 1, k), along_time),
                ((n, k + 1), along_frequency),
                ((n, k - 1), along_frequency),
            ):
                inside = 0 <= at[0] < level.shape[0] and 0 <= at[1] < level.shape[1]
                if not inside or not np.isnan(found[at]):
                    continue
                sign = at[0] - n + at[1] - k
                found[at] = found[n, k] + sign * 0.5 * (gradient[n, k] + gradient[at])
                heapq.heappush(heap, (-level[at], at))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_queue_takes_bins_in_the_order_of_a_heap(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = (17, 23)
    level = random.permutation(math.prod(shape)).reshape(shape).astype(np.int64)  # no two alike
    along_time, along_frequency = random.normal(size=(2, *shape))
    found = np.full(shape, np.nan)
    phase._integrate(level, along_time, along_frequency, found, 0)
    np.testing.assert_allclose(found, integrated_by_a_heap(level, along_time, along_frequency), atol=1e-12)


def test_a_sound_goes_on_in_phase_with_the_samples_before_it() -> None:
    sound = tones()[:1, 800:3200]
    magnitude = ANALYSIS.spectrum(sound).abs()
    for sign in (1, -1):  # the magnitude is the same
        again = ANALYSIS.sound(magnitude, 2400, 16, before=sign * sound[:, :800])
        torch.testing.assert_close(again[:, 0], sign * sound[:, 0])
        # the samples themselves, not the spectrogram only, on both sides of the join
        difference = (again - sign * sound)[:, 500:1100]
        assert difference.norm() < 0.2 * sound[:, 500:1100].norm()


def test_a_magnitude_is_found_from_its_mel_bands() -> None:
    magnitude, mel = ANALYSIS.spectrum(tones()).abs(), MelBands(40, 256, 8000)
    bands = mel.of(magnitude)
    assert bands.shape == (2, 40, magnitude.shape[2])
    found = [mel.back(bands, n) for n in (0, 30)]
    misses = [(mel.of(back) - bands).norm() / bands.norm() for back in found]
    assert misses[1] < 0.3 * misses[0]
    assert all((back >= 0).all() for back in found)
    errors = [(back - magnitude).norm() / magnitude.norm() for back in found]
    assert errors[1] < errors[0] < 1
