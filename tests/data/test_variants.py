"""Changed versions of training rows: reproducible, never in a split that is measured, and changed as was asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from mmvae.data.prepare import prepare
from mmvae.modalities import sounds
from mmvae.modalities.audio import Audio
from mmvae.recipe import Recipe

pytestmark = pytest.mark.usefixtures("cache")

RATE = 8000


def tone(pitch: float, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE, dtype=np.float32)[None] * 0.5


def peak(samples: np.ndarray) -> float:
    """Hz of the loudest frequency."""
    spectrum = np.abs(np.fft.rfft(samples[0] * np.hanning(samples.shape[1])))
    return spectrum.argmax() * RATE / samples.shape[1]


def vary(**how: Any) -> np.ndarray:
    plain: dict[str, Any] = {"gain": 0.0, "shift": 0.0, "speed": 1.0, "pitch": 0.0, "noise": None}
    return sounds.vary(tone(500), RATE, **{**plain, **how}, random=np.random.default_rng(0))


def test_each_change_does_what_it_says() -> None:
    np.testing.assert_array_equal(vary(), tone(500))
    np.testing.assert_allclose(vary(gain=-6.0206), tone(500) / 2, rtol=1e-5)
    np.testing.assert_array_equal(vary(shift=0.1), np.pad(tone(500), ((0, 0), (800, 0))))
    fast = vary(speed=1.25)
    assert fast.shape == (1, 3200)
    assert peak(fast) == pytest.approx(625, abs=3)
    high = vary(pitch=12)
    assert high.shape == (1, 4000)
    assert peak(high) == pytest.approx(1000, abs=5)
    noise = vary(noise=20.0) - tone(500)
    assert 20 * np.log10(np.sqrt((tone(500) ** 2).mean() / (noise**2).mean())) == pytest.approx(20, abs=0.5)


@pytest.fixture
def hits(tmp_path: Path) -> Path:
    folder = tmp_path / "hits"
    folder.mkdir()
    for index in range(20):
        soundfile.write(folder / f"{index}.wav", tone(200 + 50 * index, 0.1)[0], RATE)
    return folder


def test_training_rows_have_variants_and_no_others_do(hits: Path, recipe_for: Callable[..., Recipe]) -> None:
    plain = prepare(recipe_for("audio", hits, sample_rate=RATE))
    varied = prepare(recipe_for("audio", hits, {"variants": 3}, sample_rate=RATE))
    assert {name: len(split) for name, split in varied.splits.items()} == {"train": 64, "validation": 2, "test": 2}
    assert "train 16, each in 4 versions, validation 2, test 2" in next(varied.lines())
    for name in ("validation", "test"):
        values = [prepared.splits[name].store.batch([0, 1]).values["audio"] for prepared in (plain, varied)]
        assert torch.equal(*values)
    versions = varied.splits["train"].store.batch(range(4)).values["audio"]
    assert torch.equal(versions[0], plain.splits["train"].store.batch([0]).values["audio"][0])
    assert all(not torch.equal(versions[0], other) for other in versions[1:])
    for index in range(4):
        np.testing.assert_array_equal(varied.splits["train"].raw("audio", index), plain.splits["train"].raw("audio", 0))
    assert not varied.report.notes


def test_a_trained_model_is_measured_on_what_was_recorded(hits: Path, recipe_for: Callable[..., Recipe]) -> None:
    recipe = recipe_for("audio", hits, {"variants": 3}, sample_rate=RATE)
    fitted = prepare(recipe).modalities
    assert len(prepare(recipe, fitted, "train").splits["train"]) == 16


def test_very_short_sounds_keep_their_pitch() -> None:
    assert sounds.vary(
        tone(500)[:, :3], RATE, gain=0.0, shift=0.0, speed=1.0, pitch=3.0, noise=None, random=np.random.default_rng(0)
    ).shape == (1, 3)


def test_variants_are_the_same_every_time(
    hits: Path, recipe_for: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for("audio", hits, {"variants": 2}, sample_rate=RATE, vary_noise=20.0)
    first = prepare(recipe).splits["train"].store.batch(range(48)).values["audio"]
    monkeypatch.setenv("MMVAE_CACHE", str(tmp_path / "other"))
    assert torch.equal(first, prepare(recipe).splits["train"].store.batch(range(48)).values["audio"])


def test_a_variant_stays_within_the_window_and_the_peak_that_was_asked_for() -> None:
    modality = Audio(Audio.Config(sample_rate=RATE, seconds=0.5, loudness="peak"))
    for seed in range(5):
        varied = modality.vary(tone(500), np.random.default_rng(seed))
        assert varied.shape[1] <= 4000
        assert np.abs(varied).max() == pytest.approx(1)
    assert not modality.notes


def test_a_shift_leaves_at_least_half_a_window_whatever_was_asked_for() -> None:
    modality = Audio(Audio.Config(sample_rate=RATE, seconds=0.2, vary_shift=1.0, vary_speed=0.0))
    variants = [modality.vary(tone(500, 0.2), np.random.default_rng(seed)) for seed in range(20)]
    begins = [np.flatnonzero(np.abs(varied[0]) > 0.01)[0] / RATE for varied in variants]
    assert max(begins) <= 0.101
    assert max(begins) > 0.05


def test_what_cannot_be_varied_is_said(tmp_path: Path, hits: Path, recipe_for: Callable[..., Recipe]) -> None:
    (tmp_path / "lines.txt").write_text("a b\n" * 20)
    with pytest.raises(ValueError, match=r"observations of text cannot be varied: set data\.variants to 0"):
        prepare(recipe_for("text", tmp_path / "lines.txt", {"variants": 1}))
    with pytest.raises(ValueError, match=r"data\.variants: what follows what is learned of rows as they are"):
        Recipe.load(recipe_for("audio", hits, {"variants": 1, "pieces": True}), ["prior.sequence=8"])


def test_pieces_of_a_long_sound_are_varied_each(tmp_path: Path, recipe_for: Callable[..., Recipe]) -> None:
    for index in range(8):
        soundfile.write(tmp_path / f"{index}.wav", tone(300, 0.5)[0], RATE)
    prepared = prepare(recipe_for("audio", tmp_path, {"variants": 1, "pieces": True}, sample_rate=RATE))
    assert ", each in 2 versions" in next(prepared.lines())
    train = prepared.splits["train"]
    values = train.store.batch(range(len(train))).values["audio"]
    assert [len(set(train.kept[i : i + 2])) for i in range(0, len(train), 2)] == [1] * (len(train) // 2)
    assert all(not torch.equal(*pair) for pair in values.split(2))
