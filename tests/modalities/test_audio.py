"""Audio: files of any rate and number of channels in, spectrograms and sound out, clear words for what is no sound."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from pydantic import ValidationError

from mmvae.modalities import sounds
from mmvae.modalities.audio import Audio
from mmvae.modalities.contract import as_stream
from mmvae.modalities.waveforms import WaveDecoder

RATE = 8000


def audio(**config: Any) -> Audio:
    """A quarter of a second at 8 kHz unless asked otherwise."""
    settings: dict[str, Any] = {"sample_rate": RATE, "seconds": 0.25, "fft": 256, "hop": 64, **config}
    return Audio(Audio.Config(**settings))


def tone(seconds: float = 0.25, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    """A decaying mix of sines with a little noise, [channels, samples]."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    sines = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220, 447, 910, 1660)) / 6
    mixed = [sines * np.exp(-8 * time) + 0.003 * random.standard_normal(len(time)) for _ in range(channels)]
    return np.stack(mixed).astype(np.float32)


def fitted(**config: Any) -> Audio:
    modality = audio(**config)
    seconds, channels = min(0.25, modality.config.seconds), modality.config.channels
    modality.fit([tone(seconds, channels=channels, seed=seed) for seed in range(3)])
    return modality


def saved(samples: np.ndarray, path: Path, rate: int = RATE, **how: Any) -> Path:
    soundfile.write(path, samples.T, rate, **how)
    return path


def db(error: torch.Tensor, signal: torch.Tensor) -> float:
    return 20 * torch.log10(error.norm() / signal.norm()).item()


# -- spectrograms -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.25, 0.1, 0.2501])
def test_sound_survives_the_way_to_a_spectrogram_and_back(channels: int, seconds: float) -> None:
    modality = fitted(channels=channels, seconds=seconds)
    raw = tone(seconds, channels=channels)
    again = modality.to_raw(modality.to_tensor(raw))
    assert again.shape == (channels, round(seconds * RATE))
    assert again.dtype == np.float32
    assert np.abs(again).max() <= 1
    ours, theirs = (
        modality.seen.levels(modality._window(sound)) ** (1 / modality.config.power) for sound in (raw, again)
    )
    assert db(ours - theirs, ours) < -15  # spectral convergence


def test_a_loud_sound_comes_back_within_full_scale() -> None:
    modality = fitted()
    assert np.abs(modality.to_raw(modality.to_tensor(8 * tone()))).max() <= 1


def test_a_sound_begins_and_ends_in_silence_and_is_around_zero() -> None:
    modality = fitted()
    raw = 0.3 + np.cos(2 * np.pi * 441 * np.arange(2000) / RATE, dtype=np.float32)[None] * 0.5
    again = modality.to_raw(modality.to_tensor(raw))
    assert again[0, 0] == again[0, -1] == 0
    assert np.abs(again[0, -4:]).max() < 0.1
    assert np.abs(again[0, 200:400]).max() > 0.3
    assert abs(again.mean()) < 0.005


def test_a_sound_that_starts_at_the_first_sample_is_not_mirrored_before_it() -> None:
    modality = fitted()
    click = np.zeros((1, 2000), np.float32)
    click[0, 0] = 1
    # the first frame holds the click once, under the middle of the window; a reflection would double what follows
    later = click.copy()
    later[0, [0, 50]] = 0, 1
    first = modality.seen.levels(modality._window(later))[0, :, 0] ** (1 / modality.config.power)
    window = torch.hann_window(modality.config.fft)[modality.config.fft // 2 + 50]
    torch.testing.assert_close(first, window.expand_as(first), atol=1e-4, rtol=1e-4)


def test_the_tensor_is_standardized_half_precision_with_the_shape_that_is_declared() -> None:
    modality = fitted()
    tensors = torch.stack([modality.to_tensor(tone(seed=seed)) for seed in range(3)])
    assert tensors.dtype == torch.float16
    assert tensors.shape[1:] == modality.shape == (1, 128, 33)
    assert tensors.float().mean().item() == pytest.approx(0, abs=1e-2)
    assert tensors.float().std().item() == pytest.approx(1, abs=1e-2)


def test_a_shorter_sound_is_followed_by_silence() -> None:
    modality = fitted()
    short = tone(0.1)
    padded = np.pad(short, ((0, 0), (0, 2000 - short.shape[1])))
    assert torch.equal(modality.to_tensor(short), modality.to_tensor(padded))


def test_the_same_spectrogram_gives_the_same_sound() -> None:
    modality = fitted()
    tensor = modality.to_tensor(tone())
    assert np.array_equal(modality.to_raw(tensor), modality.to_raw(tensor))


@pytest.mark.parametrize(("scale", "bands"), [("power", 0), ("log", 0), ("power", 48), ("log", 48)])
def test_every_representation_leads_back_to_the_sound(scale: str, bands: int) -> None:
    modality = fitted(scale=scale, bands=bands)
    raw = tone()
    tensor = modality.to_tensor(raw)
    assert tensor.shape == modality.shape == (1, bands or 128, 33)
    again = modality.to_raw(tensor)
    wanted, found = (modality.seen.analysis.spectrum(torch.from_numpy(sound)).abs() for sound in (raw, again))
    assert db(found - wanted, wanted) < (-12 if bands else -18)


def test_loudness_is_kept_or_brought_to_a_peak_of_one(tmp_path: Path) -> None:
    path = saved(0.1 * tone(), tmp_path / "quiet.wav", subtype="FLOAT")
    assert np.abs(audio().read(path)).max() < 0.1
    loud = audio(loudness="peak")
    assert np.abs(loud.read(path)).max() == pytest.approx(1)
    assert np.abs(loud.parse(0.01 * tone())).max() == pytest.approx(1)
    assert not loud.parse(np.zeros((1, 100))).any()
    with pytest.raises(ValueError, match=r"only where modalities\.NAME\.loudness is 'kept'"):
        as_stream(loud)


def test_more_bands_than_frequencies_are_refused() -> None:
    with pytest.raises(ValueError, match=r"bands = 120 are too many for fft = 256 at 8000 Hz"):
        audio(bands=120)


def test_what_is_fitted_is_in_the_state() -> None:
    modality, again = fitted(), audio()
    again.load_state(modality.state())
    assert torch.equal(again.to_tensor(tone()), modality.to_tensor(tone()))


def test_silence_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="silent"):
        audio().fit([np.zeros((1, 2000), np.float32)] * 2)


@pytest.mark.parametrize("likelihood", ["laplace", "gaussian"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("convolutions", ["1d", "2d"])
@pytest.mark.parametrize("waveform", [0.0, 1.0])
def test_a_batch_is_scored_drawn_and_read_back(
    likelihood: str, channels: int, convolutions: str, waveform: float
) -> None:
    how = {"likelihood": likelihood, "channels": channels, "convolutions": convolutions, "waveform": waveform}
    modality = fitted(**how, widths=[4, 4], iterations=2)
    batch = torch.stack([modality.to_tensor(tone(seed=seed, channels=channels)) for seed in range(2)])
    with torch.no_grad():
        assert modality.encoder(6)(batch).shape == (2, 6)
        decoded = modality.decoder(3)(torch.randn(2, 3))
        assert torch.isfinite(decoded.log_prob(batch)).all()
        assert decoded.mode().shape == batch.shape
        assert modality.to_raw(decoded.mode()[0]).shape == (channels, 2000)


def test_learned_phases_make_the_sound_itself() -> None:
    modality = fitted(waveform=1.0, channels=2, iterations=0)
    raw = tone(channels=2)
    tensor = modality.to_tensor(raw)
    assert tensor.shape == (6, 128, 33)
    again = modality.to_raw(tensor)
    inner = slice(20, 1900)  # between the fades
    error = torch.from_numpy((again - raw)[:, inner])
    assert db(error, torch.from_numpy(raw[:, inner])) < -35


def test_waveforms_are_compared_in_training_only_and_cost_nothing_where_they_are_equal() -> None:
    modality = fitted(waveform=2.0, widths=[4, 4])
    real = torch.stack([modality.to_tensor(tone(seed=seed)) for seed in range(2)])
    decoder = modality.decoder(3)
    assert isinstance(decoder, WaveDecoder)
    likelihood = decoder(torch.randn(2, 3))
    cost = likelihood.auxiliary(real)
    assert cost.shape == (2,)
    assert (cost > 0).all()
    cost.sum().backward()
    grads = [weight.grad for weight in decoder.phases.parameters()]
    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads)
    assert grads[-1] is not None
    assert grads[-1].abs().sum() > 0
    assert likelihood.auxiliary(likelihood.mode()).abs().max() < 1e-3 * cost.max()
    double = fitted(waveform=4.0, widths=[4, 4]).decoder(3)
    double.load_state_dict(decoder.state_dict())
    z = torch.randn(2, 3)
    torch.testing.assert_close(double(z).auxiliary(real), 2 * decoder(z).auxiliary(real))
    assert decoder.eval()(z).auxiliary(real) is None


def test_a_window_holds_two_frames_at_least() -> None:
    with pytest.raises(ValueError, match=r"seconds = 0\.06: a window holds 480 samples; it must hold two frames"):
        audio(seconds=0.06)


def test_phases_are_learned_of_frequencies_only() -> None:
    with pytest.raises(ValueError, match=r"waveform: .* set bands to 0"):
        audio(waveform=1.0, bands=20)


# -- files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".aiff"])
@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_a_file_of_any_rate_becomes_the_recipes(suffix: str, rate: int, tmp_path: Path) -> None:
    path = saved(tone(0.2, rate), tmp_path / f"a{suffix}", rate)
    raw = audio().read(path)
    assert raw.shape == (1, pytest.approx(1600, abs=1))
    length = min(raw.shape[1], 1600)
    ours, expected = torch.from_numpy(raw[0, :length]), torch.from_numpy(tone(0.2)[0, :length])
    correlation = torch.corrcoef(torch.stack([ours, expected]))[0, 1]
    assert correlation > (0.95 if suffix == ".ogg" else 0.98)


def test_stereo_is_averaged_and_mono_is_doubled(tmp_path: Path) -> None:
    both = tone(channels=2)
    both[1] *= -0.5
    path = saved(both, tmp_path / "a.wav", subtype="FLOAT")
    np.testing.assert_allclose(audio().read(path), both.mean(0, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(audio(channels=2).read(path), both, atol=1e-6)
    path = saved(both[:1], tmp_path / "b.wav", subtype="FLOAT")
    np.testing.assert_allclose(audio(channels=2).read(path), both[[0, 0]], atol=1e-6)


def test_a_longer_sound_is_cut_and_counted_and_one_of_full_length_is_not(tmp_path: Path) -> None:
    modality = audio()
    assert modality.read(saved(tone(0.25), tmp_path / "a.wav")).shape == (1, 2000)
    assert not modality.notes
    assert modality.read(saved(tone(3), tmp_path / "b.wav")).shape == (1, 2000)
    assert modality.read(saved(tone(0.3, 44100), tmp_path / "c.wav", 44100)).shape == (1, 2000)
    assert dict(modality.notes) == {"longer than 0.25 s: only the start is used (mmvae resynthesize takes all)": 2}


def test_sound_survives_the_way_to_a_file(tmp_path: Path) -> None:
    modality = audio(channels=2)
    raw = tone(channels=2)
    modality.write(raw, tmp_path / "a.wav")
    np.testing.assert_allclose(modality.read(tmp_path / "a.wav"), raw, atol=1 / 32768)
    assert soundfile.info(tmp_path / "a.wav").samplerate == RATE


def test_samples_beyond_full_scale_are_clipped_not_wrapped(tmp_path: Path) -> None:
    modality = audio()
    modality.write(np.array([[1.5, -1.5, 0.5]], np.float32), tmp_path / "a.wav")
    np.testing.assert_allclose(modality.read(tmp_path / "a.wav"), [[1, -1, 0.5]], atol=1e-4)


def test_a_sound_is_read_from_an_open_file_too() -> None:
    file = io.BytesIO()
    soundfile.write(file, tone()[0], RATE, format="FLAC")
    file.seek(0)
    assert audio().read(file).shape == (1, 2000)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a sound at all, but some text"])
def test_what_is_no_sound_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable sound"):
        audio().read(tmp_path / "a.wav")


def test_a_header_without_samples_is_refused(tmp_path: Path) -> None:
    saved(np.zeros((1, 0)), tmp_path / "a.wav")
    with pytest.raises(ValueError, match="no samples"):
        audio().read(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff"])
def test_a_file_that_is_cut_off_is_refused(suffix: str, tmp_path: Path) -> None:
    path = saved(tone(), tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cut off|not a readable sound"):
        audio().read(path)


def test_a_file_streamed_with_an_open_length_is_read(tmp_path: Path) -> None:
    data = bytearray(saved(tone(), tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4  # what ffmpeg writes into a pipe
    (tmp_path / "a.wav").write_bytes(bytes(data))
    assert audio().read(tmp_path / "a.wav").shape == (1, 2000)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(wrong: float, tmp_path: Path) -> None:
    samples = tone()
    samples[0, 5] = wrong
    with pytest.raises(ValueError, match="not finite"):
        audio().read(saved(samples, tmp_path / "a.wav", subtype="FLOAT"))
    with pytest.raises(ValueError, match="not finite"):
        audio().parse(samples)


def test_integers_stored_as_floats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"samples reach 1\d,\d+.*full scale is 1: divide them"):
        audio().read(saved(32767 * tone(), tmp_path / "a.wav", subtype="FLOAT"))


def test_of_a_long_file_only_the_window_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = saved(tone(5), tmp_path / "a.wav"), []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n, **how: asked.append(n) or read(self, n, **how))
    audio().read(path)
    assert asked == [2001]


# -- values -------------------------------------------------------------------------------------------


def test_integers_are_taken_by_their_full_scale() -> None:
    for kind, half in ((np.int8, 64), (np.int16, 1 << 14), (np.int32, 1 << 30)):
        assert audio().parse(np.array([0, half, -half], kind)).tolist() == [[0.0, 0.5, -0.5]]
    assert audio().parse(np.array([128, 192, 64], np.uint8)).tolist() == [[0.0, 0.5, -0.5]]


def test_arrays_and_lists_are_taken() -> None:
    assert audio().parse([0.0, 0.5, -0.5]).tolist() == [[0.0, 0.5, -0.5]]
    assert audio().parse(tone(channels=2)).shape == (1, 2000)


@pytest.mark.parametrize(
    "value", ["a.b", None, [], [1j], [True], np.zeros((2, 3, 4)), np.zeros((1000, 2)), [[1.0], [1.0, 2.0]]]
)
def test_values_that_are_no_sound_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        audio().parse(value)


@pytest.mark.parametrize(
    "config", [{"seconds": 0}, {"sample_rate": 10}, {"channels": 3}, {"widths": [0]}, {"fft": 511}], ids=str
)
def test_settings_that_make_no_sense_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        audio(**config)


def test_a_hop_too_long_to_find_the_sound_again_is_refused() -> None:
    with pytest.raises(ValueError, match="hop = 200 must be at most half of fft = 256"):
        audio(hop=200)


# -- for people -----------------------------------------------------------------------------------------


def test_a_note_is_kept_in_the_sound_and_leaves_its_samples(tmp_path: Path) -> None:
    modality, path = audio(), tmp_path / "a.wav"
    modality.write(tone(), path)
    before = modality.read(path)
    assert Audio.read_tag(path) is None
    Audio.tag(path, '{"seed": 1, "über": "ß"}')
    assert Audio.read_tag(path) == '{"seed": 1, "über": "ß"}'
    assert np.array_equal(modality.read(path), before)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [2000, 2001, 50_000])
def test_a_note_of_any_length_is_found_again(size: int, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio().write(tone(), path)
    Audio.tag(path, "A" * size)
    assert Audio.read_tag(path) == "A" * size


def test_measures_are_exact_where_they_are_known() -> None:
    modality = fitted()
    same = modality.metrics([tone()], [tone()])
    assert (same["log-spectral distance (dB)"], same["spectral convergence (dB)"]) == (0, -120)
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 2000)).astype(np.float32)  # no bin is near the floor
    half = modality.metrics([noise], [noise / 2])
    assert half["spectral convergence (dB)"] == pytest.approx(20 * np.log10(0.5), abs=1e-3)
    assert half["log-spectral distance (dB)"] == pytest.approx(20 * np.log10(2), abs=0.2)
    short = modality.metrics([noise[:, :1500]], [np.pad(noise[:, :1500], ((0, 0), (0, 500)))])
    assert short["log-spectral distance (dB)"] == 0


def test_sounds_are_compared_by_samples_where_phases_are_learned() -> None:
    """SI-SDR: the level of what is orthogonal to the sound, whatever the loudness; none of silence."""
    sound, random = tone(), np.random.default_rng(1)
    noise = random.standard_normal(sound.shape).astype(np.float32)
    sound, noise = sound - sound.mean(), noise - noise.mean()
    noise -= sound * (noise * sound).sum() / np.square(sound).sum()
    noise *= np.linalg.norm(sound) / np.linalg.norm(noise) / 10
    modality = fitted(waveform=1.0)
    for louder in (1, 0.3):
        assert modality.metrics([sound], [louder * (sound + noise)])["SI-SDR (dB)"] == pytest.approx(20, abs=0.01)
    silence = np.zeros_like(sound)
    assert "SI-SDR (dB) of 1" in modality.metrics([sound, silence], [sound + noise, silence])
    assert "SI-SDR (dB)" not in fitted().metrics([sound], [sound + noise])


def test_speech_is_scored_where_the_packages_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins: one that takes no quiet sound, one that warns of it."""
    (tmp_path / "pesq.py").write_text(
        "class PesqError(RuntimeError): pass\n"
        "def pesq(rate, real, other, band):\n"
        "    if abs(real).max() < 0.01: raise PesqError('quiet')\n"
        "    return {8000: {'nb': 3.5}}[rate][band]\n"
    )
    (tmp_path / "pystoi.py").write_text(
        "import warnings\n"
        "warnings.warn('an old import', FutureWarning)\n"
        "def stoi(real, other, rate):\n"
        "    if abs(real).max() < 0.01: warnings.warn('too short', RuntimeWarning)\n"
        "    return 0.5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sounds = [tone(), 0.001 * tone()]
    with pytest.warns(FutureWarning):
        found = fitted().metrics(sounds, sounds)
    assert found["PESQ of 1"] == 3.5
    assert found["STOI of 1"] == 0.5
    for name in ("pesq", "pystoi"):
        del sys.modules[name]


def test_a_silent_sound_does_not_swamp_the_others() -> None:
    silence = np.zeros((1, 2000), np.float32)
    assert fitted().metrics([silence], [tone()])["spectral convergence (dB)"] == 20


def test_noise_is_as_far_below_a_sound_as_is_said() -> None:
    modality = fitted()
    for channels in (1, 2):
        raw = tone(channels=channels)[:, :800]  # of 2,000
        versions = modality.disturb(raw, np.random.default_rng(0))
        assert list(versions) == ["noise 20 dB below", "noise 10 dB below", "noise 0 dB below"]
        for snr, noisy in zip((20, 10, 0), versions.values(), strict=True):
            power = np.square(noisy[:, :800] - raw).mean() / np.square(raw).mean()
            assert np.square(noisy[:, 800:]).mean() == pytest.approx(power * np.square(raw).mean(), rel=0.2)
            assert -10 * np.log10(power) == pytest.approx(snr, abs=0.3)


def test_a_sheet_is_a_picture_and_a_sound_of_all(tmp_path: Path) -> None:
    modality = fitted()
    raws = [tone(seed=seed) for seed in range(3)]
    picture, sound = modality.sheet(raws, tmp_path / "sheet")
    assert picture.suffix == ".png"
    parts = soundfile.read(sound, dtype="float32")[0].reshape(3, 2000 + RATE // 10)
    np.testing.assert_allclose(parts[:, :2000], np.concatenate(raws), atol=2**-15)  # in order
    assert not parts[:, 2000:].any()


def test_a_sound_of_a_hub_table_brings_its_own_rate() -> None:
    modality = audio()
    rate = modality.config.sample_rate
    assert modality.parse({"array": np.zeros(2 * 400), "sampling_rate": 2 * rate}).shape == (1, 400)
    with pytest.raises(ValueError, match="array of numbers"):
        modality.parse({"array": None, "rate": 1})


def test_any_two_rates_can_be_converted(tmp_path: Path) -> None:
    assert audio(sample_rate=16000, seconds=0.1).read(saved(tone(), tmp_path / "a.wav", rate=44101)).size <= 1600


# -- what is unusual ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "factor"), [("int16", 2**15), (">i2", 2**15), ("int32", 2**31), ("float64", 1), ("int64", 1)]
)
def test_integers_of_sound_cards_are_brought_to_full_scale(dtype: str, factor: int) -> None:
    given = (np.round(0.5 * tone() * factor) if factor > 1 else tone()).astype(dtype)
    wanted = 0.5 * tone() if factor > 1 else given
    np.testing.assert_allclose(audio().parse(given), wanted, atol=1e-4)


def test_near_silence_is_counted_and_not_blown_up() -> None:
    modality = audio(loudness="peak")
    hiss = np.float32(2**-15) * np.sign(np.random.default_rng(0).standard_normal((1, 2000))).astype(np.float32)
    assert np.abs(modality.parse(hiss)).max() < 0.05
    assert np.abs(modality.parse(tone())).max() == pytest.approx(1)
    assert modality.notes["silent, or next to it"] == 1


def test_a_long_sound_begins_and_ends_in_silence_and_one_that_goes_on_begins_as_it_was() -> None:
    modality = fitted()
    steady = np.sin(2 * np.pi * 441 * np.arange(2000) / RATE, dtype=np.float32)[None] * 0.5
    windows = [modality.to_tensor(steady)] * 3
    long = modality.prolong(None, windows)
    assert abs(long[0, 0]) == abs(long[0, -1]) == 0
    assert np.abs(long).max() <= 1
    onward = modality.prolong(steady, windows)
    np.testing.assert_array_equal(onward[:, : 2000 - modality.overlap], steady[:, : 2000 - modality.overlap])
    assert onward[0, -1] == 0


def test_variants_of_a_sound_that_was_cut_end_in_silence_wherever_they_end() -> None:
    modality = audio(vary_shift=0.0, vary_speed=0.06)
    steady = np.sin(2 * np.pi * 441 * np.arange(2000) / RATE, dtype=np.float32)[None] * 0.5
    ends = [modality.vary(steady, np.random.default_rng(seed)) for seed in range(20)]
    assert len({end.shape[1] for end in ends}) > 5
    assert max(abs(end[0, -1]) for end in ends if end.shape[1] < 2000) < 0.05
    assert {np.sign(end[0, 3]) for end in ends} == {-1, 1}
    upright = audio(vary_shift=0.0, vary_polarity=False)
    assert {np.sign(upright.vary(steady, np.random.default_rng(seed))[0, 3]) for seed in range(20)} == {1}


def test_a_head_may_miscount_but_not_the_samples(tmp_path: Path) -> None:
    path = saved(tone(), tmp_path / "a.wav", subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[4:8] = (len(data) + 100).to_bytes(4, "little")
    path.write_bytes(data)
    assert audio().read(path).shape == (1, 2000)
    place = data.index(b"data") + 4
    data[place : place + 4] = (4000 + 2).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="the file is cut off: 4002 bytes of samples are declared, 4000 are there"):
        audio().read(path)


def test_a_file_that_does_not_say_how_long_it_is_is_refused(tmp_path: Path) -> None:
    path = saved(tone(), tmp_path / "a.flac")
    data = bytearray(path.read_bytes())
    place = 8 + 10  # the last 36 bits of these eight are the number of samples
    total = int.from_bytes(data[place : place + 8], "big")
    data[place : place + 8] = (total >> 36 << 36).to_bytes(8, "big")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="does not say how long it is: write it anew"):
        audio().read(path)


def test_a_sound_of_which_a_lower_rate_leaves_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sample is left of it at 8000 Hz"):
        audio().read(saved(np.ones((1, 1)), tmp_path / "a.wav", rate=44100))


def test_what_is_made_of_silence_is_not_endlessly_far_from_it() -> None:
    found = audio().metrics([np.zeros((1, 2000), np.float32)], [1e-3 * tone()])
    assert found["log-spectral distance (dB)"] < 30


def test_an_offset_comes_back_as_no_rumble() -> None:
    plain, modality = tone(), fitted()
    for raw in (plain, plain + 0.2):
        spectrum = modality.seen.analysis.spectrum(torch.from_numpy(raw))
        again = modality.seen.analysis.spectrum(modality._sound(modality.to_tensor(raw)))
        assert db(again.abs() - spectrum.abs(), spectrum) < -25
        assert np.abs(np.fft.rfft(modality.to_raw(modality.to_tensor(raw))[0])[5:30]).max() < 10  # 20 to 120 Hz


def test_an_offset_is_taken_from_where_there_is_sound() -> None:
    raw = np.pad(np.abs(tone(0.1)), ((0, 0), (0, 1200)))
    centered = sounds.centered(raw, RATE)
    assert raw.mean() > 0.01
    assert abs(centered.mean()) < 1e-6
    assert not centered[:, -900:].any()
    assert not sounds.centered(np.zeros((2, 100), np.float32), RATE).any()
    assert abs(sounds.centered(raw / 1e4, RATE).mean()) < 1e-10
    assert sounds.centered(raw + np.array([[0.0], [1.0]], np.float32), RATE).mean(1) == pytest.approx([0, 0], abs=1e-6)


def test_a_stream_is_written_as_long_as_it_is_from_silence_to_silence_within_full_scale(tmp_path: Path) -> None:
    loud = 1.5 * np.cos(np.arange(20_000) / 20, dtype=np.float32)[None].repeat(2, 0)
    parts = (loud[:, start : start + 999] for start in range(0, 20_000, 999))
    sounds.stream(parts, 19_500, RATE, 2, tmp_path / "out.wav")
    samples, _ = soundfile.read(tmp_path / "out.wav", always_2d=True)
    assert samples.shape == (19_500, 2)
    assert not samples[[0, -1]].any()
    assert np.abs(samples).max() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(samples[100:-100].T, loud[:, 100:19_400] / 1.5, atol=1e-3)
    for count in (2001, 2010):  # little of the last part is left
        halves = [loud[:, :2000], loud[:, 2000:4000]]
        sounds.stream(halves, count, RATE, 2, tmp_path / "out.wav")
        samples, _ = soundfile.read(tmp_path / "out.wav", always_2d=True)
        np.testing.assert_allclose(samples.T, sounds.fade(loud[:, :count], RATE) / 1.5, atol=1e-4)


@pytest.mark.parametrize("rate", [44100, 22050, 11025])
def test_a_piece_of_a_file_is_where_it_is_in_the_whole(rate: int, tmp_path: Path) -> None:
    time = np.arange(2 * rate) / rate
    path = saved(0.5 * np.sin(2 * np.pi * 3000 * time)[None], tmp_path / "a.wav", rate)
    whole = sounds.read(path, 0, 2 * RATE, RATE, 1)
    for start in (1, 1777, 9001):
        np.testing.assert_allclose(sounds.read(path, start, 500, RATE, 1), whole[:, start : start + 500], atol=2e-3)
