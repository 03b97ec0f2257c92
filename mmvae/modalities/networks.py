"""Convolutional networks over planes [B, channels, height, width], for any modality that has such tensors."""

from __future__ import annotations

from torch import Tensor, nn


def _groups(channels: int) -> int:
    return next(groups for groups in (8, 4, 2, 1) if channels % groups == 0)


class ResidualBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))), the width kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(_groups(channels), channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(_groups(channels), channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        nn.init.zeros_(self.layers[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def pyramid(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    """Sizes from the full plane down, each half (rounded down) of the one before, until a side would be below 2."""
    sizes = [(height, width)]
    while len(sizes) <= levels and min(sizes[-1]) >= 4:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


class ConvEncoder(nn.Module):
    """Planes [B, C, H, W] to [B, outputs]: 4x4 convolutions of stride 2, a residual block at each size.

    shape: (C, H, W). widths: channels at each halving.
    """

    def __init__(self, shape: tuple[int, int, int], outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = pyramid(*shape[1:], len(widths))
        layers: list[nn.Module] = []
        channels = shape[0]
        for width in widths[: len(sizes) - 1]:
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), ResidualBlock(width)]
            channels = width
        self.convolutions = nn.Sequential(*layers, nn.GroupNorm(_groups(channels), channels), nn.SiLU())
        self.head = nn.Linear(channels * sizes[-1][0] * sizes[-1][1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.convolutions(x).flatten(1))


class ConvDecoder(nn.Module):
    """z [B, latent] to planes [B, C, H, W]: the encoder's way back, by transposed 4x4 convolutions of stride 2."""

    def __init__(self, latent: int, shape: tuple[int, int, int], widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = pyramid(*shape[1:], len(widths))
        widths = widths[: len(sizes) - 1]
        self.start = (widths[-1] if widths else shape[0], *sizes[-1])
        self.stem = nn.Linear(latent, self.start[0] * self.start[1] * self.start[2])
        layers: list[nn.Module] = []
        for level in range(len(widths), 0, -1):
            width, finer = widths[level - 1], widths[level - 2] if level > 1 else widths[0]
            odd = (sizes[level - 1][0] % 2, sizes[level - 1][1] % 2)
            layers += [
                ResidualBlock(width),
                nn.ConvTranspose2d(width, finer, 4, stride=2, padding=1, output_padding=odd),
            ]
        channels = widths[0] if widths else shape[0]
        self.convolutions = nn.Sequential(
            *layers, nn.GroupNorm(_groups(channels), channels), nn.SiLU(), nn.Conv2d(channels, shape[0], 3, padding=1)
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.convolutions(self.stem(z).view(-1, *self.start))
