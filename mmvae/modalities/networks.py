"""Convolutional networks over planes [B, channels, height, width], for any modality that has such tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmvae.core.likelihoods import Likelihood


def _activation(channels: int) -> tuple[nn.Module, nn.Module]:
    groups = next(groups for groups in (8, 4, 2, 1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels), nn.SiLU()


class ResidualBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))), the width kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            *_activation(channels), nn.Conv2d(channels, channels, 3, padding=1), *_activation(channels), last
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def pyramid(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    """Sizes from the full plane down, each half (rounded down) of the one before, until a side would be below 2."""
    sizes = [(height, width)]
    while len(sizes) <= levels and min(sizes[-1]) >= 4:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


class ConvEncoder(nn.Module):
    """Planes [B, C, H, W] to [B, outputs]: 4x4 convolutions of stride 2, each but the first followed by a residual
    block (at the finest size it would cost most and bring least).

    shape: (C, H, W). widths: channels at each halving.
    """

    def __init__(self, shape: tuple[int, int, int], outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = pyramid(*shape[1:], len(widths))
        layers: list[nn.Module] = []
        channels = shape[0]
        for width in widths[: len(sizes) - 1]:
            layers.append(nn.Conv2d(channels, width, 4, stride=2, padding=1))
            if len(layers) > 1:
                layers.append(ResidualBlock(width))
            channels = width
        self.convolutions = nn.Sequential(*layers, *_activation(channels))
        self.head = nn.Linear(channels * sizes[-1][0] * sizes[-1][1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.convolutions(x.float()).flatten(1))


class ConvDecoder(nn.Module):
    """z [B, latent] to planes [B, C, H, W]: the encoder's way back, by transposed 4x4 convolutions of stride 2; a last
    3x3 convolution evens out the checkerboard that those leave."""

    def __init__(self, latent: int, shape: tuple[int, int, int], widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = pyramid(*shape[1:], len(widths))
        widths = widths[: len(sizes) - 1]
        channels = widths[-1] if widths else shape[0]
        self.start = (channels, *sizes[-1])
        self.stem = nn.Linear(latent, channels * sizes[-1][0] * sizes[-1][1])
        layers: list[nn.Module] = []
        for level in range(len(widths) - 1, -1, -1):
            finer = widths[level - 1] if level else max(8, widths[0] // 2)
            odd = (sizes[level][0] % 2, sizes[level][1] % 2)
            layers += [ResidualBlock(channels)] if level else _activation(channels)
            layers.append(nn.ConvTranspose2d(channels, finer, 4, stride=2, padding=1, output_padding=odd))
            channels = finer
        self.convolutions = nn.Sequential(*layers, *_activation(channels), nn.Conv2d(channels, shape[0], 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        return self.convolutions(self.stem(z).view(-1, *self.start))


class DensityDecoder(nn.Module):
    """z [B, latent] to a density of planes [B, C, H, W], with one learned scale for each channel and height."""

    def __init__(
        self, planes: ConvDecoder, density: Callable[[Tensor, Tensor], Likelihood], rows: tuple[int, int]
    ) -> None:
        super().__init__()
        self.planes, self.density = planes, density
        self.log_scale = nn.Parameter(torch.zeros(*rows, 1))

    def forward(self, z: Tensor) -> Likelihood:
        return self.density(self.planes(z), self.log_scale.clamp(min=-5.0))
