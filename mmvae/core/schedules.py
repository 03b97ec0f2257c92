"""KL weight schedules: the weight of the rate as a pure function of the step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Self

from pydantic import Field, model_validator

from mmvae.core.registry import Registry, Settings


class Schedule(ABC):
    """A curve from 0 to 1, of steps counted from 0: the share of the recipe's final KL weight."""

    Config: type[Settings] = Settings  # the table's further keys

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The share, in [0, 1], of the final KL weight at a step counted from 0."""


class Constant(Schedule):
    """Always the final weight."""

    def __call__(self, step: int) -> float:
        return 1.0


class Linear(Schedule):
    """From 0 to 1 over `warmup` steps (Bowman et al. 2016)."""

    class Config(Settings):
        warmup: int = Field(1000, ge=1, description="steps until the final weight")

    config: Config

    def __call__(self, step: int) -> float:
        return min(1.0, step / self.config.warmup)


class Sigmoid(Schedule):
    """A logistic curve centred at half of `warmup`, 0.0025 at its start (Bowman et al. 2016)."""

    class Config(Settings):
        warmup: int = Field(1000, ge=1, description="steps from 0.25 % to 99.75 % of the final weight")

    config: Config

    def __call__(self, step: int) -> float:
        return 1.0 / (1.0 + math.exp(-12.0 * (step / self.config.warmup - 0.5)))


class Cosine(Schedule):
    """Half a cosine from 0 to 1 over `warmup` steps: slow at both ends."""

    class Config(Settings):
        warmup: int = Field(1000, ge=1, description="steps until the final weight")

    config: Config

    def __call__(self, step: int) -> float:
        return 0.5 * (1 - math.cos(math.pi * min(1.0, step / self.config.warmup)))


class Cyclical(Schedule):
    """Repeated linear ramps, each followed by a plateau at 1 (Fu et al. 2019); 1 after the last cycle.

    With `zero`, each cycle begins with a phase at 0, as an autoencoder (Li et al. 2020, "Optimus").
    """

    class Config(Settings):
        period: int = Field(1000, ge=1, description="steps of one cycle")
        cycles: int = Field(4, ge=1, description="number of cycles")
        zero: float = Field(0.0, ge=0, lt=1, description="share of a cycle spent at 0 first")
        rise: float = Field(0.5, gt=0, le=1, description="share of a cycle spent rising from 0 to 1 then")

        @model_validator(mode="after")
        def _within(self) -> Self:
            if self.zero + self.rise > 1:
                raise ValueError(f"kl.zero + kl.rise = {self.zero + self.rise:g}: a cycle would end before it is at 1")
            return self

    config: Config

    def __call__(self, step: int) -> float:
        cycle, position = divmod(step, self.config.period)
        if cycle >= self.config.cycles:
            return 1.0
        risen = (position - self.config.zero * self.config.period) / (self.config.rise * self.config.period)
        return min(1.0, max(0.0, risen))


schedules: Registry[Schedule] = Registry(
    "KL schedule",
    {name: f"{__name__}:{name.capitalize()}" for name in ("constant", "linear", "sigmoid", "cosine", "cyclical")},
    "mmvae.schedules",
)
