"""What moves the weights and how long: the optimizer, its learning rate, patience, the average that is saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim.swa_utils import AveragedModel

from mmvae.core.noise import StepNoise
from mmvae.core.objectives import Objective, Terms
from mmvae.core.vae import Batch, Network
from mmvae.tables import Train

MEMORY = 0.02  # of usual gradients: about 50 steps


class Step(nn.Module):
    """Network and objective as one module, so that DistributedDataParallel sees the whole step."""

    def __init__(self, network: Network, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective
        objective.attach(network)

    def forward(self, batch: Batch, noise: StepNoise, kl_weight: float) -> Terms:
        return self.objective(self.network, batch, noise, kl_weight)


def build_optimizer(module: nn.Module, settings: Train) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), fused where that exists. Vectors, as biases are, do not decay."""
    fused = next(module.parameters()).device.type in ("cpu", "cuda")
    matrices = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, fused=fused)


def learning_rate(step: int, settings: Train, last: int) -> float:
    """The rate of a step counted from 0: up in a line over 5 % of the steps, constant, and down in a line to 0 at the
    `last` where the recipe says so. In a short training the moving average of the weights does what a fall is for,
    while the weights themselves move on."""
    rise = (step + 1) / (0.05 * settings.steps)
    fall = (last - step) / max(1.0, settings.fall * last)
    return settings.learning_rate * min(1.0, rise, fall)


class Patience:
    """When a training ends: after its steps, or earlier where the validation split says so.

    After as many validations in a row without a better one as the recipe has patience, the learning rate begins to
    fall, over the same share of the now shorter training; where it does not fall, that is the end.
    """

    def __init__(self, settings: Train) -> None:
        self.settings, self.last = settings, settings.steps
        self.renew()

    def renew(self) -> None:
        """Forget what was measured."""
        self.best, self.worse = math.inf, 0

    def better(self, score: float, step: int, settled: bool) -> bool:
        """Whether a score after so many steps is the best (lowest) yet. Ends the patience with those before
        that were missed, unless the KL weight is not `settled`: what is trained and measured may then go apart."""
        better = score < self.best
        self.best = min(self.best, score)
        self.worse = 0 if better or not settled else self.worse + 1
        if 0 < self.settings.patience <= self.worse and step < (1 - self.settings.fall) * self.last:
            self.last = math.ceil(step / (1 - self.settings.fall))
        return better

    def state(self) -> dict[str, float]:
        """The numbers that a resumed training needs."""
        return {"best": self.best, "worse": self.worse, "last": self.last, "steps": self.settings.steps}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from `state`; a training that was given more steps has all of them and its whole patience."""
        self.best = state["best"]
        if state["steps"] == self.settings.steps:
            self.worse, self.last = int(state["worse"]), int(state["last"])


class Clip(nn.Module):
    """Cuts a gradient whose norm is more than `bound` times what has been usual.

    Usual is a moving average of the norms as they were cut (of log-likelihoods in nats some models have gradients of
    10 and others of 10,000, so that no fixed bound serves both). Part of a checkpoint, as a buffer.
    """

    usual: Tensor

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.register_buffer("usual", torch.tensor(0.0))

    def forward(self, parameters: Iterable[Tensor]) -> Tensor:
        """Cut the gradients in place; their norm as it was."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = get_total_norm(gradients)
        self.usual = torch.where(self.usual > 0, self.usual, norm)
        kept = norm.clamp(max=self.bound * self.usual)
        if norm > kept:
            torch._foreach_mul_(gradients, kept / norm)
        self.usual.lerp_(kept, MEMORY)
        return norm


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights (Polyak & Juditsky 1992); early on it forgets faster."""

    def mix_in(means: Any, news: Any, count: Tensor | int) -> None:
        if not means[0].is_floating_point():  # a flow's masks are no weights
            return
        # at first the average must get rid of the initial weights
        torch._foreach_lerp_(means, news, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return AveragedModel(network, multi_avg_fn=mix_in, use_buffers=True)
