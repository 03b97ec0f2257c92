"""Normalization of posterior means, by which their rate cannot vanish."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmvae.core.processes import of_all_processes

TINY = 1e-20  # a usual epsilon would take for constant what an expert of no precision says: a way to collapse


class MeanNorm(nn.Module):
    """Normalization of posterior means over all rows to a fixed scale, with a learned shift (Zhu et al. 2020, "A Batch
    Normalized Inference Network Keeps the KL Vanishing Away"). The rate is then at least scale^2 / 2 a dimension.

    Its gradient is that of batch normalization, and its values are those of running statistics (Ioffe 2017, "Batch
    Renormalization"): a batch may hold rows of a length, whose own mean z must be able to tell from others.
    """

    running_mean: Tensor
    running_var: Tensor
    running_rows: Tensor  # of a batch: where rows differ in length not all have as many, and each counts by its rows

    def __init__(self, dim: int, scale: float, momentum: float = 0.05) -> None:
        super().__init__()
        self.scale, self.momentum = scale, momentum
        self.shift = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("running_rows", torch.zeros(()))

    def forward(self, mean: Tensor, known: Tensor) -> Tensor:
        """Means [B, D], of which those of the `known` rows count, to normalized ones [B, D]."""
        if self.training and len(whole := of_all_processes(mean)[of_all_processes(known.float()) > 0]) > 1:
            variance, center = torch.var_mean(whole, 0)
            variance = variance + TINY
            self._follow(len(whole), center.detach(), variance.detach())
            mean = (mean - center) * (variance.detach() / variance).sqrt() + center.detach()
        return self.scale * (mean - self.running_mean) * (self.running_var + TINY).rsqrt() + self.shift

    def _follow(self, rows: int, center: Tensor, variance: Tensor) -> None:
        first = (self.running_rows == 0).float()
        self.running_rows.lerp_(torch.full_like(self.running_rows, rows), first.clamp(min=self.momentum))
        share = (self.momentum * rows / self.running_rows).clamp(max=1.0).maximum(first)
        self.running_var.lerp_(variance + (1 - first) * (center - self.running_mean).square(), share)
        self.running_mean.lerp_(center, share)

    def settle(self, means: Tensor) -> None:
        """Take the statistics of the rows that have these normalized means [N, D], in place of the running ones: an
        average of many networks gives smaller means than each of them, whose average they are not."""
        variance, center = torch.var_mean(means, 0)
        stretch = self.running_var.sqrt() / self.scale
        self.running_mean.add_((center - self.shift) * stretch)
        self.running_var.copy_(variance * stretch.square())
