"""Sound files: read in part at any rate, checked, and written as WAV."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

FADE = 0.005  # seconds
ATTACK = 0.0005  # seconds; what begins at once, as drums do, keeps its edge
LOUDEST = 100.0  # of full scale: beyond are integers that were stored as they are
LEVEL = 0.05  # seconds over which loudness is taken
SILENT = 1e-3  # a peak below it, -60 dB, is noise
INEXACT = {"OGG", "MP3"}  # formats in which libsndfile finds a place only roughly
SAMPLES = {b"RIFF": b"data", b"FORM": b"SSND"}  # the chunk of samples, by the kind of file
SHORTEST = 64  # samples that have a pitch to be shifted
BEFORE = 65536  # samples that are read before a place, and dropped: after so many it is right
BLOCK = 65536  # samples that are written at a time
LONGEST = 2**40  # samples; a file that does not say how many it has claims more
ENDLESS = "the file does not say how long it is: write it anew, for example as WAV"


def length(file: Path, rate: int) -> int:
    """Samples of a whole file at a rate in Hz. Raises ValueError for what is no sound."""
    import soundfile

    try:
        about = soundfile.info(file)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"not a readable sound: {error}") from None
    if about.frames > LONGEST:
        raise ValueError(ENDLESS)
    return round(about.frames * rate / about.samplerate)


def survey(file: Path) -> dict[str, float]:
    """Length, rate and channels of a file."""
    import soundfile

    about = soundfile.info(file)
    return {"seconds": about.frames / about.samplerate, "Hz": about.samplerate, "channels": about.channels}


def read(file: Path | BinaryIO, start: int, count: int, rate: int, channels: int) -> np.ndarray:
    """Up to `count` samples from `start` on, both at a rate in Hz, [channels, n]; the file may have another rate.

    Raises ValueError for what cannot be read, is cut off or holds no numbers.
    """
    import soundfile

    _check_length(file)
    try:
        with soundfile.SoundFile(file) as sound:
            own, declared = sound.samplerate, sound.frames
            ratio = own / rate
            margin = 0 if own == rate else math.ceil(32 * max(1.0, ratio))  # of the resampler's filter
            grid = own // math.gcd(own, rate)  # where samples of both rates meet
            first = max(0, math.floor(start * ratio) - margin) // grid * grid
            wanted = math.ceil((start + count) * ratio) + margin - first
            spare = min(first, BEFORE) if sound.format in INEXACT else 0
            if declared > LONGEST:
                raise ValueError(ENDLESS)
            sound.seek(min(first - spare, declared))
            samples = sound.read(spare + wanted, dtype="float32", always_2d=True).T[:, spare:]
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"not a readable sound: {error}") from None
    if not declared:
        raise ValueError("the file holds no samples")
    if samples.shape[1] < min(wanted, declared - first):
        there = first + samples.shape[1]
        raise ValueError(f"the file is cut off: {declared} samples are declared, {there} are there")
    skipped = start - first * rate // own
    return convert(samples, own, rate, channels)[:, skipped : skipped + count]


def convert(samples: np.ndarray, own: int, rate: int, channels: int) -> np.ndarray:
    """Samples [c, n] of one rate and channel count at another; mono is the average of the channels."""
    if not np.isfinite(samples).all():
        raise ValueError("the sound holds samples that are not finite")
    if (peak := np.abs(samples).max(initial=0)) > LOUDEST:
        raise ValueError(f"samples reach {peak:,.6g}, where full scale is 1: divide them by what theirs is")
    if channels == 1:
        samples = samples.mean(0, keepdims=True)
    elif len(samples) != channels:
        samples = samples[:channels] if len(samples) > 1 else np.repeat(samples, 2, axis=0)
    if own != rate:
        import soxr  # torchaudio's resampler needs gigabytes where the two rates have no common factor

        samples = soxr.resample(samples.T, own, rate).T
        if not samples.size:
            raise ValueError(f"too short: no sample is left of it at {rate} Hz")
    return samples


def scaled(values: Any) -> np.ndarray:
    """Samples as float32; integers of 8, 16 or 32 bits, as programs give them, by their full scale (that of bytes is
    around 128), others as they are. Raises ValueError for what is neither real nor a whole number."""
    values = np.asarray(values)
    kind, bits = values.dtype.kind, 8 * values.dtype.itemsize
    if kind not in "iuf":
        raise ValueError(f"{'text' if kind in 'US' else values.dtype} is neither float nor integer")
    if values.dtype == np.uint8:
        return values.astype(np.float32) / 128 - 1
    return values.astype(np.float32) / (1 << bits - 1 if kind == "i" and bits < 64 else 1)


def fade(samples: np.ndarray, rate: int, start: bool = True) -> np.ndarray:
    """Samples [channels, n] that end in silence, and start from it: cut off, they would click."""
    return samples * _gain(np.arange(samples.shape[1]), samples.shape[1], rate, start)


def _gain(places: np.ndarray, count: int, rate: int, start: bool = True) -> np.ndarray:
    """By what samples at some places of `count` are multiplied to begin and end in silence, float32."""
    ends = ((FADE, count - 1 - places), *([(ATTACK, places)] if start else []))
    gains = [away / max(1, min(count // 2, round(seconds * rate)) - 1) for seconds, away in ends]
    return np.clip(np.minimum.reduce(gains), 0, 1).astype(np.float32)


def centered(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples [channels, n] without an offset. It is taken from where there is sound: what is silent stays so."""
    from scipy.ndimage import uniform_filter1d

    levels = uniform_filter1d(np.abs(samples), max(1, round(LEVEL * rate)), axis=1, mode="constant")
    levels /= np.maximum(levels.mean(1, keepdims=True), 1e-12)
    return samples - levels * samples.mean(1, keepdims=True)


def within(samples: np.ndarray) -> np.ndarray:
    """Samples brought down to a peak of 1, where it is above."""
    return samples / max(np.abs(samples).max(), 1.0)


def vary(
    samples: np.ndarray,
    rate: int,
    *,
    gain: float,
    shift: float,
    speed: float,
    pitch: float,
    noise: float | None,
    random: np.random.Generator,
) -> np.ndarray:
    """A changed sound: `gain` in dB, `shift` in seconds of silence before it, `speed` as a factor that changes pitch as
    well, `pitch` in semitones, `noise` in dB that white noise is below the sound."""
    if speed != 1:
        import soxr

        samples = soxr.resample(samples.T, round(rate * speed), rate).T
    if pitch and samples.shape[1] >= SHORTEST:
        import librosa

        size = min(2048, 2 ** int(np.log2(samples.shape[1])))
        samples = librosa.effects.pitch_shift(samples, sr=rate, n_steps=pitch, n_fft=size)
    if noise is not None:
        level = np.sqrt(np.square(samples).mean()) * 10 ** (-noise / 20)
        samples = samples + level * random.standard_normal(samples.shape)
    samples = np.pad(samples, ((0, 0), (round(shift * rate), 0)))
    return (samples * 10 ** (gain / 20)).astype(np.float32)


def writer(file: Path | BinaryIO, rate: int, channels: int) -> Any:
    """A WAV of 16 bits that is open for blocks [n, channels]."""
    import soundfile

    return soundfile.SoundFile(file, "w", rate, channels, "PCM_16", format="WAV")


def stream(parts: Iterable[np.ndarray], count: int, rate: int, channels: int, path: Path) -> None:
    """Write the first `count` samples of parts [channels, n] as one WAV, faded as `fade` has it and brought down as
    `within` has it; of which only a part is held at a time."""
    peak, total, first = 1.0, 0, 0
    # beside the file: elsewhere it may be kept in memory
    with tempfile.TemporaryFile(dir=path.parent) as aside, writer(path, rate, channels) as file:
        for part in parts:
            kept = part[:, : count - total]
            aside.write(kept.T.astype("<f4").tobytes())
            peak, total = max(peak, np.abs(kept).max(initial=0)), total + kept.shape[1]
        aside.seek(0)
        while block := aside.read(4 * channels * BLOCK):
            samples = np.frombuffer(block, "<f4").reshape(-1, channels)
            file.write(samples * _gain(first + np.arange(len(samples)), total, rate)[:, None] / peak)
            first += len(samples)


def save(samples: np.ndarray, rate: int, file: Path | BinaryIO, note: str = "") -> None:
    """Write samples [channels, n] as a WAV of 16 bits, with a note inside."""
    with writer(file, rate, len(samples)) as sound:
        if note:
            sound.comment = note
        sound.write(samples.T)


def tag(path: Path, note: str) -> bool:
    """Put a note into a WAV; False where it is too long for the format's readers."""
    import soundfile

    if len(note.encode()) > 2000:  # libsndfile writes longer ones, and does not read them
        return False
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    save(samples.T, rate, path, note)
    return True


def read_tag(path: Path) -> str:
    """The note in a sound file, or nothing."""
    import soundfile

    with soundfile.SoundFile(path) as sound:
        return sound.comment


def _check_length(file: Path | BinaryIO) -> None:
    """Raise ValueError where a WAV or AIFF file ends within its samples: libsndfile reads what is there."""
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(0)
        kind, place = opened.read(12)[:4], 12
        while kind in SAMPLES and len(chunk := opened.read(8)) == 8:
            declared = int.from_bytes(chunk[4:], "little" if kind == b"RIFF" else "big")
            place += 8 + declared
            if chunk[:4] == SAMPLES[kind]:
                # a program that writes into a pipe declares 0 or the largest size
                if size < place and declared < 2**31 - 2**16:
                    there = size - place + declared
                    raise ValueError(
                        f"the file is cut off: {declared} bytes of samples are declared, {there} are there"
                    )
                break
            place = opened.seek(place + declared % 2)
        opened.seek(0)
