"""Functions that are faster than torch's on a CPU, or whose gradients differ from those of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK = 2**17  # numbers that are in a core's cache still when they are read again
LOWEST, HIGHEST = -6.0, 12.0  # log-precisions; an expert of less would learn next to nothing of its mean


class Within(torch.autograd.Function):
    """Log-precisions within bounds. Outside, a gradient that leads back is let through: an expert that once said
    nothing, as may be in the first steps, would say nothing ever after."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lowest: float = LOWEST, highest: float = HIGHEST) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = lowest, highest
        return x.clamp(lowest, highest)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,), (gradient,), (lowest, highest) = ctx.saved_tensors, grads, ctx.bounds
        outwards = torch.where(gradient > 0, x < lowest, x > highest)  # descent goes against it
        return gradient.masked_fill(outwards, 0.0), None, None


class Softplus(torch.autograd.Function):
    """log(1 + e^x) of float32, right to 1e-6, but not in proportion where it is next to 0. `log1p`, by which torch has
    it so, takes five times as long as `log` on a CPU: an eighth of a training step of black and white pictures."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        # beyond 80 nothing is added, but numbers too small to be normal are slow
        return x.abs().clamp_(max=80).neg_().exp_().add_(1).log_().add_(x.clamp(min=0))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * ctx.saved_tensors[0].sigmoid()


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x): that of `Softplus` on a CPU, elsewhere that of torch, in one kernel."""
    return cast(Tensor, Softplus.apply(x)) if x.device.type == "cpu" else nn.functional.softplus(x)


class BitsLogProb(torch.autograd.Function):
    """log p(x) in nats [B] of bits x [B, ...], 0 or 1, by their logits of any precision. As one function it holds none
    of its steps in memory, and reads a large batch in blocks of rows: on a CPU that takes half as long."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)

        def of(logits: Tensor, x: Tensor) -> Tensor:
            logits = logits.flatten(1).float()
            return torch.linalg.vecdot(x.flatten(1).float(), logits) - softplus(logits).sum(1)

        return _by_rows(of, logits, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        logits, x = ctx.saved_tensors

        def of(logits: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
            return ((x.float() - logits.float().sigmoid()) * gradient).to(logits.dtype)

        return _by_rows(of, logits, x, grads[0].view(-1, *[1] * (logits.ndim - 1))), None


def _by_rows(of: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """A function of rows, on a CPU of as many at a time as a block holds."""
    first = tensors[0]
    size = max(1, BLOCK // max(1, first[:1].numel())) if first.device.type == "cpu" else len(first)
    if size >= len(first):
        return of(*tensors)
    return torch.cat([of(*parts) for parts in zip(*(tensor.split(size) for tensor in tensors), strict=True)])
