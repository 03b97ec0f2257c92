"""Objectives: what training minimises, made of named terms in nats."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor

from mmvae.core.latents import Posterior
from mmvae.core.noise import Noise
from mmvae.core.priors import Prior
from mmvae.core.registry import Registry, Settings
from mmvae.core.vae import Batch, Network


@dataclass(frozen=True)
class Terms:
    """One evaluation of an objective on B rows. Every term but the loss is unweighted.

    loss: the scalar to minimise, what likelihoods ask beside their log-probability included.
    rate: KL(q(z|x) || p(z)), [B]. distortion: -log p(x|z) by modality, [B].
    """

    loss: Tensor
    rate: Tensor
    distortion: dict[str, Tensor]

    @property
    def negative_elbo(self) -> Tensor:
        """Rate plus distortion, [B]: the bound at KL weight 1."""
        return torch.stack([self.rate, *self.distortion.values()]).sum(0)


class Objective(ABC):
    """Calls the network and returns Terms; kl_weight is the schedule's value at this step."""

    Config: type[Settings] = Settings  # the table's further keys

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def __call__(self, network: Network, batch: Batch, noise: Noise, kl_weight: float = 1.0) -> Terms: ...


class ELBO(Objective):
    """The evidence lower bound (Kingma & Welling 2014); a final KL weight other than 1 is beta-VAE (Higgins 2017).

    Free bits (Kingma et al. 2016): where a dimension's rate, averaged over the batch, is below the floor,
    it costs the floor and gets no gradient, so that collapsing earns nothing. With a target (Burgess et al. 2018,
    "Understanding disentangling in beta-VAE") the distance from it is weighted, in place of the rate.
    """

    class Config(Settings):
        free_bits: float = Field(0.0, ge=0, description="floor on the rate of each latent dimension, nats")
        target_rate: float = Field(0.0, ge=0, description="nats to which the rate is pulled, from either side; 0: none")

    config: Config

    def __call__(self, network: Network, batch: Batch, noise: Noise, kl_weight: float = 1.0) -> Terms:
        posterior = network.posterior(batch)
        z = posterior.sample(noise)
        rate = network.prior.rate(posterior, z)
        scores, auxiliary = network.score(batch, z[:, 0])
        distortion = {name: -score for name, score in scores.items()}
        cost = self._cost(rate.mean(0))
        loss = torch.stack([*distortion.values(), auxiliary]).sum(0).mean() + kl_weight * cost
        return Terms(loss, rate.sum(1), distortion)

    def _cost(self, rate: Tensor) -> Tensor:
        """What the rates of the dimensions [D], means of a batch, cost at KL weight 1."""
        floor, target = self.config.free_bits, self.config.target_rate
        if not floor and not target:
            return rate.sum()  # nothing is clamped: estimates of a rate may be negative
        total = _over_processes(rate).clamp(min=floor or -math.inf).sum()
        return (total - target).abs() if target else total


def _over_processes(mean: Tensor) -> Tensor:
    """The mean over the rows of all processes that share a batch, so that their number changes nothing.

    The gradient is that of this process's share: averaged over the processes, it is that of the whole.
    """
    if not dist.is_initialized():
        return mean
    whole = mean.detach().clone()
    dist.all_reduce(whole)
    return mean + (whole / dist.get_world_size() - mean).detach()


class ImportanceWeighted(Objective):
    """The importance-weighted bound with `samples` draws (Burda et al. 2016); one draw is the ELBO."""

    class Config(Settings):
        samples: int = Field(5, ge=1, description="draws of z for each row")

    config: Config

    def __call__(self, network: Network, batch: Batch, noise: Noise, kl_weight: float = 1.0) -> Terms:
        posterior = network.posterior(batch)
        z = posterior.sample(noise, self.config.samples)
        rate, distortion, auxiliary = importance_terms(network, batch, posterior, z)
        weights = -kl_weight * rate - sum(distortion.values())
        loss = -(torch.logsumexp(weights, dim=1) - math.log(z.shape[1])).mean() + auxiliary.mean()
        return Terms(loss, rate.mean(1), {name: value.mean(1) for name, value in distortion.items()})


def importance_terms(
    network: Network, batch: Batch, posterior: Posterior, z: Tensor
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """For draws z [B, k, D] of the posterior: log q(z|x) - log p(z), -log p(x|z) by modality, and what the likelihoods
    ask of training beside it, each [B, k]."""
    k = z.shape[1]
    scores, auxiliary = network.score(batch.repeat(k), z.flatten(0, 1))
    rate = posterior.log_prob(z) - network.prior.log_prob(z)
    return rate, {name: -score.view(-1, k) for name, score in scores.items()}, auxiliary.view(-1, k)


def importance_weighted_bound(
    network: Network, batch: Batch, noise: Noise, k: int, priors: Sequence[Prior] = ()
) -> Tensor:
    """log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x) in nats for the prior of training and each of `priors`, of the same
    draws, [1 + priors, B]: lower bounds of log p(x), tighter with every k (Burda et al. 2016)."""
    posterior = network.posterior(batch)
    z = posterior.sample(noise, k)
    rate, distortion, _ = importance_terms(network, batch, posterior, z)
    weights = -rate - sum(distortion.values())
    others = [weights - network.prior.log_prob(z) + prior.log_prob(z) for prior in priors]
    return torch.logsumexp(torch.stack([weights, *others]), dim=2) - math.log(k)


objectives: Registry[Objective] = Registry(
    "objective",
    {"elbo": f"{__name__}:ELBO", "importance": f"{__name__}:ImportanceWeighted"},
)
