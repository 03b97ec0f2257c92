"""Convolutional networks over planes [B, C, H, W] and lines [B, C, L], for any modality that has such tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmvae.core.likelihoods import Likelihood

MOST = 0.2  # dropout


def _activation(channels: int) -> tuple[nn.Module, nn.Module]:
    groups = next(groups for groups in (8, 4, 2, 1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels), nn.SiLU()


def dropout_for(rows: int) -> float:
    """The share that so many training rows ask to be left out, up to MOST: the fewer, the sooner they are learned by
    heart (a rule of ours, from what docs/LOG.md has of 4,100 silhouettes and of MNIST)."""
    return min(MOST, 800 / max(rows, 1))


def _convolution(axes: int) -> Any:
    """Over a line or a plane."""
    return {1: nn.Conv1d, 2: nn.Conv2d}[axes]


class ResidualBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))), the width kept. dropout: the share of what it adds that is left out."""

    def __init__(self, channels: int, axes: int, dropout: float = 0.0) -> None:
        super().__init__()
        convolution = _convolution(axes)
        first, last = (convolution(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(*_activation(channels), first, *_activation(channels), last)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.layers(x))


class Doubling(nn.Module):
    """A transposed convolution of 4 (by 4) and stride 2 to lines of a length or planes of a height and width, which may
    be odd."""

    def __init__(self, inputs: int, outputs: int, size: Sequence[int]) -> None:
        super().__init__()
        kind = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}[len(size)]
        drawn = kind(inputs, outputs, 4)  # for its initial weights
        self.weight, self.bias, self.size = drawn.weight, drawn.bias, tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        odd = [side % 2 for side in self.size]
        # a zero more and the even size, cut, is what output_padding gives, and three times as fast in bf16
        if any(odd):
            x = nn.functional.pad(x, [end for more in reversed(odd) for end in (0, more)])
        apply = nn.functional.conv_transpose1d if len(self.size) == 1 else nn.functional.conv_transpose2d
        x = apply(x, self.weight, self.bias, stride=2, padding=1)
        return x[(..., *(slice(side) for side in self.size))]


def pyramid(sides: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """Sizes from the full one down, each half (rounded down) of the one before, until a side would be below 2."""
    sizes = [tuple(sides)]
    while len(sizes) <= levels and min(sizes[-1]) >= 4:
        sizes.append(tuple(side // 2 for side in sizes[-1]))
    return sizes


class ConvEncoder(nn.Module):
    """Planes [B, C, H, W], or lines [B, C, L], to [B, outputs]: convolutions of 4 (by 4) and stride 2, each but the
    first followed by a residual block (at the finest size it would cost most and bring least).

    shape: (C, H, W) or (C, L). widths: channels at each halving. dropout: share of what blocks add and of
    what the head reads that training leaves out.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, widths: tuple[int, ...], dropout: float = 0.0) -> None:
        super().__init__()
        axes = len(shape) - 1
        convolution = _convolution(axes)
        sizes = pyramid(shape[1:], len(widths))
        layers: list[nn.Module] = []
        channels = shape[0]
        for width in widths[: len(sizes) - 1]:
            layers.append(convolution(channels, width, 4, stride=2, padding=1))
            if len(layers) > 1:
                layers.append(ResidualBlock(width, axes, dropout))
            channels = width
        self.convolutions = nn.Sequential(*layers, *_activation(channels))
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(channels * math.prod(sizes[-1]), outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.convolutions(x.float()).flatten(1)))


class ConvDecoder(nn.Module):
    """z [B, latent] to planes [B, C, H, W] or lines [B, C, L]: the encoder's way back, by transposed convolutions; a
    last convolution of 3 (by 3) evens out the checkerboard that those leave."""

    def __init__(self, latent: int, shape: tuple[int, ...], widths: tuple[int, ...], dropout: float = 0.0) -> None:
        super().__init__()
        axes = len(shape) - 1
        convolution = _convolution(axes)
        sizes = pyramid(shape[1:], len(widths))
        widths = widths[: len(sizes) - 1]
        channels = widths[-1] if widths else shape[0]
        self.start = (channels, *sizes[-1])
        self.stem, self.dropout = nn.Linear(latent, channels * math.prod(sizes[-1])), nn.Dropout(dropout)
        layers: list[nn.Module] = []
        for level in range(len(widths) - 1, -1, -1):
            finer = widths[level - 1] if level else max(8, widths[0] // 2)
            layers += [ResidualBlock(channels, axes, dropout)] if level else _activation(channels)
            layers.append(Doubling(channels, finer, sizes[level]))
            channels = finer
        self.convolutions = nn.Sequential(
            *layers, *_activation(channels), convolution(channels, shape[0], 3, padding=1)
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.convolutions(self.dropout(self.stem(z)).view(-1, *self.start))


def _dense(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.Sequential(nn.SiLU(), nn.Dropout(dropout))]
    return nn.Sequential(*layers[:-1])


class DenseEncoder(nn.Module):
    """Planes of a shape (C, H, W) to [B, outputs], by layers of `widths` units that see all of it."""

    def __init__(self, shape: tuple[int, ...], outputs: int, widths: tuple[int, ...], dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = _dense([math.prod(shape), *widths, outputs], dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))


class DenseDecoder(nn.Module):
    """z [B, latent] to planes of a shape (C, H, W), by layers of `widths` units, the last of them first."""

    def __init__(self, latent: int, shape: tuple[int, ...], widths: tuple[int, ...], dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.layers = shape, _dense([latent, *reversed(widths), math.prod(shape)], dropout)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).view(-1, *self.shape)


# A step of Adam moves a parameter by about the learning rate: a log-scale with 3 to go would take 1,500 steps of 2e-3
SCALE_STEP = 10.0
SCALE_SHARE = 1e-4  # of its gradient that is let through, which Adam does not see, but the clipped norm of all would


class DensityDecoder(nn.Module):
    """z [B, latent] to a density of planes [B, C, H, W], with one learned scale for each channel and height.

    All scales follow the fit together, fast, and differ from one another slowly: a row whose scale grows while it is
    not yet fitted would be left so (Seitzer et al. 2022, "On the Pitfalls of Heteroscedastic Uncertainty Estimation").
    rows: (C, H); the network may give lines [B, C * H, W] as well.
    """

    def __init__(
        self, planes: nn.Module, density: Callable[[Tensor, Tensor], Likelihood], rows: tuple[int, int]
    ) -> None:
        super().__init__()
        self.planes, self.density, self.rows = planes, density, rows
        self.log_scale, self.level = nn.Parameter(torch.zeros(*rows, 1)), nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Likelihood:
        planes = self.planes(z)
        log_scale = SCALE_STEP * self.level + self.log_scale
        log_scale = torch.lerp(log_scale.detach(), log_scale, SCALE_SHARE).clamp(min=-5.0)
        return self.density(planes.reshape(len(z), *self.rows, -1), log_scale)
