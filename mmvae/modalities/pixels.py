"""Pixels: their networks and likelihoods, and what may befall them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageFilter
from torch import Tensor, nn

from mmvae.core.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian, Likelihood
from mmvae.core.noise import Noise
from mmvae.modalities.networks import ConvDecoder, ConvEncoder, DenseDecoder, DenseEncoder, DensityDecoder

SMALL = 8  # pixels of the smaller side of the planes that meet the latent, at most
WINDOW = 11  # pixels, a Gaussian of deviation 1.5
FLAT = 1e-2  # a logit below which a density is taken by the first terms of a series: no pixel could tell
Networks = Literal["convolutions", "dense"]
Kind = Literal["logistic", "bernoulli", "continuous-bernoulli", "gaussian"]


class PixelEncoder(nn.Module):
    """uint8 pixels [B, C, H, W] to [B, outputs]. binary: pixels are black or white."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        networks: Networks,
        widths: Sequence[int],
        dropout: float,
        binary: bool,
    ) -> None:
        super().__init__()
        kind = {"convolutions": ConvEncoder, "dense": DenseEncoder}[networks]
        self.network = kind(shape, outputs, _enough(networks, widths, shape), dropout)
        self.binary = binary

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x >> 7) * 2.0 - 1 if self.binary else x.float() * (2 / 255) - 1)


class PixelDecoder(nn.Module):
    """z [B, latent] to the likelihood of pixels [B, C, H, W]."""

    def __init__(
        self,
        latent: int,
        shape: tuple[int, int, int],
        networks: Networks,
        widths: Sequence[int],
        dropout: float,
        likelihood: Kind,
        mixture: int,
    ) -> None:
        super().__init__()
        self.shape, self.mixture, self.likelihood = shape, mixture, likelihood
        planes = 3 * mixture if likelihood == "logistic" else 1
        kind = {"convolutions": ConvDecoder, "dense": DenseDecoder}[networks]
        network = kind(latent, (planes * shape[0], *shape[1:]), _enough(networks, widths, shape), dropout)
        self.planes = DensityDecoder(network, self._shades, (shape[0], 1)) if likelihood == "gaussian" else network

    def _shades(self, mean: Tensor, log_scale: Tensor) -> Shades:
        return Shades(mean.view(-1, *self.shape), log_scale)

    def forward(self, z: Tensor) -> Likelihood:
        planes = self.planes(z)
        if self.likelihood == "bernoulli":
            return BlackAndWhite(planes)
        if self.likelihood == "continuous-bernoulli":
            return ContinuousBernoulli(planes)
        if self.likelihood == "gaussian":
            return planes
        logits, mean, log_scale = planes.view(len(z), 3, self.mixture, *self.shape).unbind(1)
        return DiscretizedLogistic(logits, mean, log_scale - 1.0)


def _enough(networks: Networks, widths: Sequence[int], shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Of convolutions, the last width once more for each halving that a large plane still needs: the layers at the
    latent would have the most of all weights."""
    while networks == "convolutions" and min(shape[1:]) >> len(widths) > SMALL:
        widths = (*widths, widths[-1])
    return tuple(widths)


class BlackAndWhite(Bernoulli):
    """Pixels of 0 or 255; any other counts as the nearer of them."""

    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x >> 7)

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        return super().sample(noise, temperature) * 255

    def mode(self) -> Tensor:
        return super().mode() * 255


class Shades(Gaussian):
    """Normal densities of pixels as numbers in [0, 1]; with a learned scale, the sigma-VAE (Rybkin et al. 2021, "Simple
    and Effective VAE Training with Calibrated Decoders")."""

    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x.float() / 255)

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        return _pixels(super().sample(noise, temperature))

    def mode(self) -> Tensor:
        return _pixels(super().mode())


class ContinuousBernoulli(Likelihood):
    """Densities over [0, 1] proportional to exp(logit * x), of pixels as such numbers (Loaiza-Ganem & Cunningham 2019,
    "The Continuous Bernoulli"). logits: [B, ...]. A temperature below 1 draws nearer to the mean.

    By the logit itself: that of torch knows it as a probability, which float32 tells from 1 up to a logit of 16.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.float()
        self.flat = self.logits.abs() < FLAT  # nearly uniform: by the first terms of a series
        self.size = torch.where(self.flat, 1.0, self.logits.abs())

    def log_prob(self, x: Tensor) -> Tensor:
        # exp(l x) over its integral, (exp(l) - 1) / l; where l > 0 both by exp(l)
        far = self.size.log() - torch.log(-torch.expm1(-self.size)) - self.logits.clamp(min=0)
        normalizer = torch.where(self.flat, -self.logits / 2 - self.logits.square() / 24, far)
        return (self.logits * (x.float() / 255) + normalizer).flatten(1).sum(1)

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        u = noise.uniform(*self.logits.shape[1:])
        # the distance from the likelier end, of a density that falls
        share = torch.where(self.logits > 0, 1 - u, u)
        away = -torch.log1p(share * torch.expm1(-self.size)) / self.size
        drawn = torch.where(self.flat, u, torch.where(self.logits > 0, 1 - away, away))
        return _pixels(torch.lerp(self.center(), drawn, temperature))

    def mode(self) -> Tensor:
        return _pixels(self.center())

    def center(self) -> Tensor:
        # the mean: the most probable value is always 0 or 1
        away = 1 / self.size - torch.exp(-self.size) / -torch.expm1(-self.size)
        far = torch.where(self.logits > 0, 1 - away, away)
        return torch.where(self.flat, 0.5 + self.logits / 12, far)


def _pixels(values: Tensor) -> Tensor:
    return (values * 255).round().clamp(0, 255).to(torch.uint8)


def as_picture(raw: np.ndarray) -> Pillow.Image:
    """Pillow's form of pixels [height, width, channels] or [height, width]."""
    return Pillow.fromarray(raw.squeeze(2) if raw.shape[2:] == (1,) else raw)


def is_gray(raw: np.ndarray) -> bool:
    """Whether a picture [height, width, channels], gray or RGB, has no colour."""
    return raw.shape[2] < 4 and bool((raw == raw[..., :1]).all())


def moved(raw: np.ndarray, across: float, down: float, larger: float, degrees: float) -> np.ndarray:
    """A picture [height, width, channels], shifted by so many pixels, scaled and turned around its middle; what comes
    in from outside is as the pixels at its edge. One that is only shifted is so by whole pixels, and keeps their
    values."""
    height, width = raw.shape[:2]
    edge = 2 * max(height, width)
    wide = np.pad(raw, ((edge, edge), (edge, edge), (0, 0)), "edge")
    if larger == 1 and not degrees:
        top, left = edge - round(down), edge - round(across)
        return wide[top : top + height, left : left + width]
    picture = as_picture(wide)
    turned = picture.rotate(degrees, Pillow.Resampling.BILINEAR)
    middle = edge + width / 2 - across, edge + height / 2 - down
    half = width / 2 / larger, height / 2 / larger
    box = (middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1])
    cut = turned.resize((width, height), Pillow.Resampling.BILINEAR, box=box)
    return np.atleast_3d(np.asarray(cut))


def occluded(raw: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The picture with a gray rectangle, half as high and half as wide, somewhere on it."""
    covered = raw.copy()
    height, width = (max(1, side // 2) for side in raw.shape[:2])
    top, left = (random.integers(side - half + 1) for side, half in zip(raw.shape, (height, width), strict=False))
    covered[top : top + height, left : left + width, :3] = 128
    return covered


def similarity(raws: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> dict[str, float]:
    """SSIM, 1 for equal pictures, the mean over pairs of them (Wang et al. 2004); none where its window of 11 pixels
    does not fit."""
    if min(raws[0].shape[:2]) < WINDOW:
        return {}
    from torchmetrics.functional.image import structural_similarity_index_measure as of  # takes seconds to import

    total, together = 0.0, 8  # some hundred float64 numbers for each pixel
    for start in range(0, len(raws), together):
        # in float64: where a picture is flat, its variance is a small difference of squares
        groups = (group[start : start + together] for group in (raws, others))
        a, b = (torch.from_numpy(np.stack(group)).permute(0, 3, 1, 2).double() / 255 for group in groups)
        total += float(cast(Tensor, of(a, b, data_range=1.0))) * len(a)
    return {"SSIM": total / len(raws)}


def sheet(raws: Sequence[np.ndarray], stem: Path, steps: int | None) -> list[Path]:
    """The files of `Modality.sheet`: a contact sheet; of rows of steps a moving picture besides."""

    def enlarged(picture: Pillow.Image) -> Pillow.Image:
        return picture.resize((picture.width * scale, picture.height * scale), Pillow.Resampling.NEAREST)

    height, width, channels = raws[0].shape
    columns = steps or math.ceil(math.sqrt(len(raws)))
    scale = max(1, 64 // max(height, width))
    grid = np.full((math.ceil(len(raws) / columns), columns, height + 2, width + 2, channels), 255, np.uint8)
    for index, raw in enumerate(raws):
        grid[index // columns, index % columns, 1:-1, 1:-1] = raw
    path = stem.with_name(stem.name + ".png")
    enlarged(as_picture(grid.swapaxes(1, 2).reshape(-1, columns * (width + 2), channels))).save(path)
    if not steps:
        return [path]
    frames = [enlarged(on_white(as_picture(np.concatenate(raws[step::steps], axis=1)))) for step in range(steps)]
    moving = stem.with_name(stem.name + ".gif")
    frames[0].save(moving, save_all=True, append_images=[*frames[1:], *frames[-2:0:-1]], duration=120, loop=0)
    return [path, moving]


def on_white(picture: Pillow.Image) -> Pillow.Image:
    """An RGBA picture as RGB, its transparent parts on white; any other as it is."""
    if picture.mode != "RGBA":
        return picture
    return Pillow.alpha_composite(Pillow.new("RGBA", picture.size, "white"), picture).convert("RGB")


def blurred(raw: np.ndarray) -> np.ndarray:
    """The picture out of focus: a Gaussian blur of a sixteenth of its smaller side."""
    picture = as_picture(raw)
    return np.atleast_3d(np.asarray(picture.filter(ImageFilter.GaussianBlur(min(raw.shape[:2]) / 16))))
