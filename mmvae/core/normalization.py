"""Normalization of posterior means, by which their rate cannot vanish."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmvae.core.processes import of_all_processes

TINY = 1e-20  # a usual epsilon would take for constant what an expert of no precision says: a way to collapse
ALIKE = 0.05  # of the usual variance: a batch that varies less is of equal rows, such as many short texts
LEAST = 1e-4  # of normalized means that all rows have: where all are alike nothing is to be stretched


class MeanNorm(nn.Module):
    """Batch normalization of posterior means to a fixed scale, with a learned shift (Zhu et al. 2020, "A Batch
    Normalized Inference Network Keeps the KL Vanishing Away"). The rate is then at least scale^2 / 2 a dimension."""

    running_mean: Tensor
    running_var: Tensor
    running_rows: Tensor  # of a batch: where rows differ in length not all have as many, and each counts by its rows

    def __init__(self, dim: int, scale: float, momentum: float = 0.1) -> None:
        super().__init__()
        self.scale, self.momentum = scale, momentum
        self.shift = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("running_rows", torch.zeros(()))

    def forward(self, mean: Tensor, known: Tensor) -> Tensor:
        """Means [B, D], of which those of the `known` rows count, to normalized ones [B, D]."""
        center, variance = self.running_mean, self.running_var
        if self.training and len(whole := of_all_processes(mean)[of_all_processes(known.float()) > 0]) > 1:
            variance, center = torch.var_mean(whole, 0)
            if not self.running_rows:  # the first batch: 1 is no variance of these means
                self.running_var.copy_(variance.detach())
            self.running_rows.lerp_(torch.full_like(self.running_rows, len(whole)), self.momentum)
            share = self.momentum * len(whole) / self.running_rows
            self.running_mean.lerp_(center.detach(), share)
            self.running_var.lerp_(variance.detach(), share)
            variance = torch.maximum(variance, ALIKE * self.running_var)
        return self.scale * (mean - center) * (variance + TINY).rsqrt() + self.shift

    def settle(self, means: Tensor) -> None:
        """Take the statistics of the rows that have these normalized means [N, D], in place of the running ones: an
        average of many networks gives smaller means than each of them, whose average they are not."""
        if len(means) < 2:
            return
        variance, center = torch.var_mean(means, 0)
        variance = variance.clamp(min=LEAST)
        stretch = self.running_var.sqrt() / self.scale
        self.running_mean.add_((center - self.shift) * stretch)
        self.running_var.copy_(variance * stretch.square())
