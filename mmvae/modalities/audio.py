"""Audio: power-law magnitude spectrograms, 2-D convolutions, and phase found again from the magnitude."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from PIL import Image as Pillow
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from mmvae.core.likelihoods import Gaussian, Laplace
from mmvae.core.registry import Settings, network
from mmvae.modalities import hearing, sounds
from mmvae.modalities.contract import Stream
from mmvae.modalities.networks import ConvDecoder, ConvEncoder, DensityDecoder
from mmvae.modalities.representation import Representation
from mmvae.modalities.spectra import Analysis, MelBands, grid, picture
from mmvae.modalities.waveforms import WaveDecoder

NOISE = (20, 10, 0)  # dB below the sound, of white noise that a model is tried with


class Audio(Stream):
    """Sounds of a fixed length, mono or stereo.

    Raw: float32 array [channels, samples] at the recipe's rate. Tensor: float16 [channels, bins, frames];
    with learned phases their cosines and sines follow, [3 channels, bins, frames].
    """

    suffix = ".wav"
    reads = (".flac", ".ogg", ".mp3", ".opus", ".aif", ".aiff", ".aifc", ".au", ".caf", ".rf64", ".w64")

    class Config(Settings):
        sample_rate: int = Field(16000, ge=1000, le=192000, description="Hz; files are converted to it")
        channels: Literal[1, 2] = Field(
            1, description="1 mono (channels are averaged), 2 stereo (of more, the first two)"
        )
        seconds: float = Field(
            0.5, gt=0, le=60, description="window: shorter sounds are followed by silence, longer ones cut and counted"
        )
        fft: int = Field(512, ge=16, multiple_of=2, description="samples of an analysis frame, best some 30 ms")
        hop: int = Field(128, ge=1, description="samples from frame to frame")
        bands: int = Field(0, ge=0, description="mel bands, some dozens; 0: all frequencies, for fidelity")
        scale: Literal["power", "log"] = Field("power", description="of magnitudes m: m ** power, or log(1 + 10 m)")
        power: float = Field(0.3, gt=0, le=1, description="exponent of scale 'power'")
        loudness: Literal["kept", "peak"] = Field("kept", description="'peak': each is brought to a peak of 1")
        vary_gain: float = Field(
            6.0, ge=0, le=60, description="of variants (data.variants): up to so many dB, either way"
        )
        vary_shift: float = Field(
            0.01, ge=0, le=1, description="of variants: up to so many seconds later, at most half a window"
        )
        vary_polarity: bool = Field(True, description="of variants: half of them upside down")
        vary_speed: float = Field(
            0.06, ge=0, lt=1, description="of variants: up to so much faster or slower, pitch too"
        )
        vary_pitch: float = Field(0.0, ge=0, le=24, description="of variants: up to so many semitones, speed kept")
        vary_noise: float | None = Field(
            None, ge=0, description="of variants: white noise, its dB below the sound or fainter"
        )
        phase: Literal["integrated", "random"] = network(
            "integrated", "where none are learned: integrated from the magnitude's gradients, or random"
        )
        waveform: float = Field(
            0.0, ge=0, description="weight of comparing waveforms in training, by a phase that is learned; 0: neither"
        )
        iterations: int = network(16, "Griffin-Lim iterations that refine the phase", ge=0)
        likelihood: Literal["laplace", "gaussian"] = network(
            "laplace", "density of a bin; one learned scale a frequency"
        )
        convolutions: Literal["2d", "1d"] = network(
            "2d", "over the plane, or over time alone: faster, with larger widths"
        )
        widths: tuple[PositiveInt, ...] = network((16, 32, 64, 128), "channels at each halving", min_length=1)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.hop * 2 > config.fft:
            raise ValueError(
                f"hop = {config.hop} must be at most half of fft = {config.fft} for the sound to be found again"
            )
        if config.waveform and config.bands:
            raise ValueError("waveform: phases are learned of all frequencies: set bands to 0")
        mel = MelBands(config.bands, config.fft, config.sample_rate) if config.bands else None
        analysis = Analysis(config.fft, config.hop)
        self.seen = Representation(analysis, mel, config.scale, config.power, phases=config.waveform > 0)
        self.seconds, self.samples = config.seconds, round(config.seconds * config.sample_rate)
        if self.samples < 2 * config.fft:
            raise ValueError(
                f"seconds = {config.seconds:g}: a window holds {self.samples} samples; it must hold two frames of "
                f"fft = {config.fft}"
            )
        # what two pieces of a long sound share: enough for the second to begin in phase with the first
        self.overlap = min(2 * config.fft, self.samples // 2)
        self.step = self.samples - self.overlap

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, bins (mel bands, or frequencies but the highest, half the rate) and frames."""
        return self.config.channels, self.config.bands or self.config.fft // 2, 1 - (-self.samples // self.config.hop)

    # -- files ------------------------------------------------------------------------------------

    def read(self, file: Path | BinaryIO) -> np.ndarray:
        return self._cut(self._read(file, 0, self.samples + 1))

    @classmethod
    def survey(cls, file: Path) -> Mapping[str, float]:
        return sounds.survey(file)

    def check_stream(self) -> None:
        if self.config.loudness != "kept":
            raise ValueError("pieces of a long sound fit together only where modalities.NAME.loudness is 'kept'")

    def pieces(self, file: Path) -> int:
        return 1 + max(0, math.ceil((self._length(file) - self.samples) / self.step))

    def read_piece(self, file: Path, index: int) -> np.ndarray:
        return self._cut(self._read(file, index * self.step, self.samples))

    def opening(self, file: Path) -> tuple[np.ndarray, list[np.ndarray]]:
        whole = self._read(file, 0, self._length(file))
        spare = whole.shape[1] - self.samples
        if spare < 0:
            raise ValueError(f"to go on from it, it must last {self.config.seconds:g} s at least")
        starts = range(spare % self.step, spare + 1, self.step)
        return whole, [whole[:, start : start + self.samples] for start in starts]

    def _length(self, file: Path) -> int:
        return sounds.length(file, self.config.sample_rate)

    def _read(self, file: Path | BinaryIO, start: int, count: int) -> np.ndarray:
        return sounds.read(file, start, count, self.config.sample_rate, self.config.channels)

    def parse(self, value: Any) -> np.ndarray:
        rate = self.config.sample_rate
        try:
            if isinstance(value, Mapping) and {"array", "sampling_rate"} <= value.keys():  # as the hub's library has it
                value, rate = value["array"], int(value["sampling_rate"])
            samples = np.atleast_2d(sounds.scaled(value))
        except (TypeError, OverflowError, ValueError) as error:
            raise ValueError(f"a sound is an array of numbers: {error}") from None
        if samples.ndim != 2 or not samples.size or samples.shape[0] > 64:
            raise ValueError(f"a sound is an array [samples] or [channels, samples], not {samples.shape}")
        return self._cut(sounds.convert(samples, rate, self.config.sample_rate, self.config.channels))

    def _cut(self, samples: np.ndarray) -> np.ndarray:
        if samples.shape[1] > self.samples:
            self.note(f"longer than {self.config.seconds:g} s: only the start is used (mmvae resynthesize takes all)")
        if np.abs(samples[:, : self.samples]).max() < sounds.SILENT:
            self.note("silent, or next to it")
        return self._leveled(samples[:, : self.samples])

    def _leveled(self, samples: np.ndarray) -> np.ndarray:
        if self.config.loudness == "peak":
            samples = samples / max(np.abs(samples).max(), sounds.SILENT)
        return np.ascontiguousarray(samples)

    def vary(self, raw: np.ndarray, random: np.random.Generator) -> np.ndarray:
        how = self.config
        # what was cut off would stop short where it is faster
        raw = sounds.fade(raw, how.sample_rate, start=False) if raw.shape[1] == self.samples else raw
        varied = sounds.vary(
            raw * np.float32(random.choice([-1, 1]) if how.vary_polarity else 1),
            how.sample_rate,
            gain=random.uniform(-how.vary_gain, how.vary_gain),
            shift=random.uniform(0, min(how.vary_shift, how.seconds / 2)),
            speed=1 + random.uniform(-how.vary_speed, how.vary_speed),
            pitch=random.uniform(-how.vary_pitch, how.vary_pitch),
            noise=None if how.vary_noise is None else random.uniform(how.vary_noise, how.vary_noise + 20),
            random=random,
        )
        return self._leveled(varied[:, : self.samples])

    def write(self, raw: np.ndarray, path: Path) -> None:
        sounds.save(raw, self.config.sample_rate, path)

    @classmethod
    def tag(cls, path: Path, note: str) -> None:
        if not sounds.tag(path, note):
            super().tag(path, note)

    @classmethod
    def read_tag(cls, path: Path) -> str | None:
        return sounds.read_tag(path) or super().read_tag(path)

    # -- spectrograms -------------------------------------------------------------------------------

    def _window(self, raw: np.ndarray) -> Tensor:
        samples = torch.zeros(self.config.channels, max(self.samples, raw.shape[1]))
        samples[:, : raw.shape[1]] = torch.from_numpy(raw)
        return samples

    def fit(self, raws: Iterable[np.ndarray]) -> None:
        self.seen.fit(map(self._window, raws))

    def to_tensor(self, raw: np.ndarray) -> Tensor:
        return self.seen.planes(self._window(raw))

    def to_raw(self, tensor: Tensor) -> np.ndarray:
        samples = sounds.centered(self._sound(tensor).numpy(), self.config.sample_rate)
        return sounds.within(sounds.fade(samples, self.config.sample_rate))

    def _sound(self, tensor: Tensor, before: Tensor | None = None) -> Tensor:
        planes = tensor.detach().float().cpu()
        return self.seen.sound(planes, self.samples, self.config.iterations, self.config.phase, before)

    def assemble(self, tensors: Iterable[Tensor], like: Path, path: Path) -> None:
        parts = (sound.numpy() for sound in self._flow(tensors))
        sounds.stream(parts, self._length(like), self.config.sample_rate, self.config.channels, path)

    def prolong(self, whole: np.ndarray | None, tensors: Iterable[Tensor]) -> np.ndarray:
        rate = self.config.sample_rate
        if whole is None:
            return sounds.within(sounds.fade(torch.cat(list(self._flow(tensors)), 1).numpy(), rate))
        before = torch.from_numpy(whole)
        parts = [before[:, : -self.overlap], *self._flow(tensors, before[:, -self.overlap :])]
        loudest = max(1.0, before.abs().max().item())
        return sounds.fade((torch.cat(parts, 1) / loudest).clamp(-1, 1).numpy(), rate, start=False)

    def _flow(self, tensors: Iterable[Tensor], before: Tensor | None = None) -> Iterator[Tensor]:
        """The sound of pieces, a stretch at a time; it begins in phase with the samples before."""
        for tensor in tensors:
            sound = self._sound(tensor, before)
            yield sound[:, : self.step]
            before = sound[:, self.step :]
        if before is not None:
            yield before

    def state(self) -> dict[str, Any]:
        return {"mean": self.seen.mean, "std": self.seen.std}

    def load_state(self, state: dict[str, Any]) -> None:
        self.seen.mean, self.seen.std = state["mean"], state["std"]

    # -- networks -----------------------------------------------------------------------------------

    def _planes(self, kinds: int = 1) -> tuple[int, ...]:
        channels, bins, frames = kinds * self.shape[0], *self.shape[1:]
        return (channels, bins, frames) if self.config.convolutions == "2d" else (channels * bins, frames)

    def encoder(self, outputs: int) -> nn.Module:
        network = ConvEncoder(self._planes(3 if self.config.waveform else 1), outputs, self.config.widths)
        return nn.Sequential(nn.Flatten(1, 2), network) if self.config.convolutions == "1d" else network

    def decoder(self, latent: int) -> nn.Module:
        density = {"laplace": Laplace, "gaussian": Gaussian}[self.config.likelihood]
        planes = ConvDecoder(latent, self._planes(), self.config.widths)
        magnitudes = DensityDecoder(planes, density, self.shape[:2])
        if not self.config.waveform:
            return magnitudes
        phases = nn.Sequential(
            ConvDecoder(latent, self._planes(2), self.config.widths),
            nn.Unflatten(1, (2 * self.shape[0], -1)) if self.config.convolutions == "1d" else nn.Identity(),
        )
        return WaveDecoder(magnitudes, phases, partial(self.seen.waves, length=self.samples), self.config.waveform)

    # -- for people ---------------------------------------------------------------------------------

    def metrics(self, raws: Sequence[np.ndarray], reconstructions: Sequence[np.ndarray]) -> dict[str, float]:
        how = self.seen.analysis, self.config.sample_rate, self.config.waveform > 0
        return hearing.means([hearing.compare(*pair, *how) for pair in zip(raws, reconstructions, strict=True)])

    def disturb(self, raw: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
        whole = np.pad(raw, ((0, 0), (0, self.samples - raw.shape[1])))
        noise = random.standard_normal(whole.shape).astype(np.float32) * np.sqrt(np.square(raw).mean())
        return {f"noise {snr} dB below": whole + noise * 10 ** (-snr / 20) for snr in NOISE}

    def _picture(self, raw: np.ndarray) -> Pillow.Image:
        return picture(self.seen.levels(self._window(raw)).mean(0))

    def join(self, raws: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(raws, axis=1)

    def preview(self, raw: np.ndarray) -> str:
        image, sound = io.BytesIO(), io.BytesIO()
        self._picture(raw).save(image, "png")
        sounds.save(raw, self.config.sample_rate, sound)
        png, wav = (base64.b64encode(file.getvalue()).decode() for file in (image, sound))
        return (
            f'<img alt="" src="data:image/png;base64,{png}"><br>'
            f'<audio controls preload="none" src="data:audio/wav;base64,{wav}"></audio>'
        )

    def sheet(self, raws: Sequence[np.ndarray], stem: Path, steps: int | None = None) -> list[Path]:
        paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".wav")]
        grid([self._picture(raw) for raw in raws], steps or math.ceil(math.sqrt(len(raws)))).save(paths[0])
        pause = np.zeros((self.config.channels, self.config.sample_rate // 10), np.float32)
        self.write(np.concatenate([part for raw in raws for part in (raw, pause)], axis=1), paths[1])
        return paths
