"""What the processes that share a batch know together: means, sums and rows of the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

T = TypeVar("T")


def by_the_first(work: Callable[[], T]) -> T | None:
    """What the first process makes, while the others wait for it; None there. An error of the first ends them all."""
    if not dist.is_initialized():
        return work()
    made, failed = None, [""]
    if dist.get_rank() == 0:
        try:
            made = work()
        except Exception as error:
            dist.broadcast_object_list([str(error) or repr(error)])
            raise
    dist.broadcast_object_list(failed)
    if failed[0]:
        raise ValueError(failed[0])
    return made


def over_processes(mean: Tensor) -> Tensor:
    """The mean over the rows of all processes that share a batch, so that their number changes nothing.

    The gradient is that of this process's share: averaged over the processes, it is that of the whole.
    """
    if not dist.is_initialized():
        return mean
    whole = mean.detach().clone()
    dist.all_reduce(whole)
    return mean + (whole / dist.get_world_size() - mean).detach()


def sum_of_all(values: Tensor) -> Tensor:
    """The sum over all processes, without a gradient."""
    if dist.is_initialized():
        values = values.contiguous()
        dist.all_reduce(values)
    return values


def of_all_processes(rows: Tensor) -> Tensor:
    """The rows of all processes that share a batch, of each as many, in the batch's order, of which each process has
    every so manyth; gradients find their way back."""
    return _Gathered.apply(rows) if dist.is_initialized() else rows


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts, 1).flatten(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        whole = grads[0].clone()
        dist.all_reduce(whole)
        return whole[dist.get_rank() :: dist.get_world_size()]
