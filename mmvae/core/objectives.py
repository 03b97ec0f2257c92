"""Objectives: what training minimises, made of named terms in nats."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from mmvae.core.latents import Point, Posterior
from mmvae.core.noise import Noise
from mmvae.core.priors import Prior
from mmvae.core.processes import over_processes
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


class Subsets(Settings):
    """What every objective knows of rows with several modalities."""

    subsets: Literal["joint", "each", "all"] = Field(
        "joint",
        description="what encoders see of a row with several modalities: all of it; with 'each', all of it or one of "
        "them, each as often; with 'all', any subset, each as often",
    )
    scored: Literal["all", "seen"] = Field(
        "all", description="what decoders are trained on: all that a row has, or only what encoders see of it"
    )


MOST_VIEWS = 15  # of a row in an epoch, in which rows of one modality are seen once


class Objective(nn.Module, ABC):
    """Calls the network and returns Terms; kl_weight is the schedule's value at this step."""

    Config: type[Subsets] = Subsets  # the table's further keys
    progress = 0.0  # the share of the training that is over, which sets it
    draws = 1  # of z in the bound by which the best weights are chosen

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def attach(self, network: Network) -> None:
        """Meet the network that it trains, and make what weights of its own are to be trained beside."""

    def views(self, modalities: Tensor) -> Tensor:
        """How often rows of so many modalities [N] are trained on, beside a row of one: once for each way in which the
        encoders may see them, as where the bounds of all subsets are added (Wu & Goodman 2018); at most 15 times, of
        more modalities a sample of their subsets."""
        if self.config.subsets == "joint":
            return torch.ones_like(modalities)
        if self.config.subsets == "each":
            return modalities + (modalities > 1)
        return (2**modalities - 1).clamp(max=MOST_VIEWS)

    @abstractmethod
    def forward(self, network: Network, batch: Batch, noise: Noise, kl_weight: float = 1.0) -> Terms: ...


def seen(batch: Batch, subsets: str, noise: Noise) -> dict[str, Tensor] | None:
    """Of which rows each modality is seen, bool [B], drawn for each row, so that one pass stands for all subsets of a
    row's modalities (as in Wu & Goodman 2018, and Sutter et al. 2021, "Generalized Multimodal ELBO"); where all rows of
    a step have as many modalities, each subset comes as often. None for all."""
    names = list(batch.present)
    if subsets == "joint" or len(names) == 1:
        return None
    present = torch.stack([batch.present[name] for name in names], 1)
    count, place, u = present.sum(1, keepdim=True), present.cumsum(1) - 1, noise.stratified()
    if subsets == "all":  # the bits of a number say which
        kept = (1 + (u * (2**count - 1)).long()) >> place.clamp(min=0) & 1
    else:
        number = (u * (count + 1)).long()
        kept = (number == count) | (number == place)
    return dict(zip(names, (present & (kept > 0)).unbind(1), strict=True))


@dataclass(frozen=True)
class Inferred:
    """A batch as the encoders see it and as it is scored, what each of them says, and q(z|x) of its rows."""

    given: Batch
    scored: Batch
    experts: dict[str, Tensor]
    posterior: Posterior


def infer(network: Network, batch: Batch, how: Subsets, noise: Noise) -> Inferred:
    """What is inferred of a batch in training. What is hidden, but scored, still says its private dimensions."""
    kept = seen(batch, how.subsets, noise)
    part = batch.only(kept) if kept else batch
    scored = part if how.scored == "seen" else batch
    given, told = (batch, kept) if network.latent.hides and how.scored == "all" else (part, None)
    experts = network.experts(given)
    return Inferred(given, scored, experts, network.joined(experts, given, told))


class ELBO(Objective):
    """The evidence lower bound (Kingma & Welling 2014); a final KL weight other than 1 is beta-VAE (Higgins 2017).

    Free bits (Kingma et al. 2016): where a dimension's rate, averaged over the batch, is below the floor,
    it costs the floor and gets no gradient, so that collapsing earns nothing. With a target (Burgess et al. 2018,
    "Understanding disentangling in beta-VAE") the distance from it is weighted, in place of the rate.
    """

    class Config(Subsets):
        free_bits: float = Field(
            0.0,
            ge=0,
            description="floor on the rate of a latent dimension, on average where a rate has no parts, nats",
        )
        target_rate: float = Field(
            0.0,
            ge=0,
            description="nats to which the rate is pulled: up, and at a KL weight above 1 down as well; 0: none",
        )

    def forward(self, network: Network, batch: Batch, noise: Noise, kl_weight: float = 1.0) -> Terms:
        inferred = infer(network, batch, self.config, noise)
        posterior, z = inferred.posterior, inferred.posterior.sample(noise)
        rate = network.prior.rate(posterior, z)
        scores, auxiliary = network.score(inferred.scored, z[:, 0])
        distortion = {name: -score for name, score in scores.items()}
        cost = self._cost(rate.mean(0), network.latent.dim)
        loss = (network.weighted(distortion) + auxiliary).mean() + kl_weight * cost
        if (asked := posterior.auxiliary()) is not None:
            loss = loss + asked.mean()
        return Terms(loss + self.penalty(network, inferred, z[:, 0], noise), rate.sum(1), distortion)

    def penalty(self, network: Network, inferred: Inferred, z: Tensor, noise: Noise) -> Tensor | float:
        """A further cost of what is inferred of a batch, and one draw of each posterior, z [B, D]."""
        return 0.0

    def _cost(self, rate: Tensor, dim: int) -> Tensor:
        """What the rates of the dimensions [D], or of all in one [1], means of a batch, cost at KL weight 1."""
        floor, target = self.config.free_bits * dim / len(rate), self.config.target_rate
        if not floor and not target:
            return rate.sum()  # nothing is clamped: estimates of a rate may be negative
        total = over_processes(rate).clamp(min=floor or -math.inf).sum()
        return (total - target).abs() if target else total


class ImportanceWeighted(Objective):
    """The importance-weighted bound with `samples` draws (Burda et al. 2016); one draw is the ELBO.

    The mean of several such bounds is MIWAE, that of a bound and the ELBO is CIWAE, and PIWAE trains the encoder by the
    former, the decoder by one bound of all draws (Rainforth et al. 2018, "Tighter Variational Bounds are Not
    Necessarily Better"). DReG (Tucker et al. 2019, "Doubly Reparameterized Gradient Estimators for Monte Carlo
    Objectives") is the encoder's gradient without the part that is noise alone; at a KL weight w of other than 1, of
    shares p it takes (1 - w) p + w p^2. What a likelihood asks beside reaches the encoder by these shares too.
    """

    class Config(Subsets):
        samples: int = Field(5, ge=1, description="draws of z in a bound")
        after: float = Field(
            0.0, ge=0, lt=1, description="share of the training that is of the ELBO first, whose steps cost a fraction"
        )
        groups: int = Field(
            1,
            ge=1,
            description="bounds, of so many draws each, of which the mean is taken; of a mixture's parts in turn",
        )
        elbo: float = Field(0.0, ge=0, le=1, description="share of the ELBO in a mean with the bound")
        encoder: Literal["same", "groups", "dreg"] = Field(
            "same", description="its gradient; 'groups': of the mean, while the decoder's is of one bound of all draws"
        )

        @model_validator(mode="after")
        def _together(self) -> Self:
            if self.elbo and self.encoder == "dreg":
                raise ValueError("objective.encoder = dreg is a gradient of the bound alone: set objective.elbo to 0")
            return self

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.draws, self.first = config.samples, ELBO(ELBO.Config(subsets=config.subsets, scored=config.scored))

    def forward(self, network: Network, batch: Batch, noise: Noise, kl_weight: float = 1.0) -> Terms:
        if self.progress < self.config.after:
            return self.first(network, batch, noise, kl_weight)
        inferred = infer(network, batch, self.config, noise)
        posterior, scored = inferred.posterior, inferred.scored
        z = posterior.sample_groups(noise, self.config.groups, self.config.samples)
        ratio = torch.ones_like(z[..., :1])
        log_likelihood, auxiliary = score_draws(network, scored, _scaled(z, ratio))
        of_prior = network.prior.log_prob(_scaled(z, ratio))
        of_posterior = (posterior.detached() if self.config.encoder == "dreg" else posterior).log_prob(z)
        above = network.weighted(log_likelihood) + kl_weight * of_prior
        below = kl_weight * of_posterior
        bound, decoder, encoder = self._shares((above - below).detach(), kl_weight)
        # each draw's gradient counts by its share, another one where it goes on through z to the encoder
        ratio.copy_((encoder / decoder)[..., None])
        way = (decoder * above - encoder * below).sum(1)
        loss = (decoder * auxiliary).sum(1).mean() - (bound + way - way.detach()).mean()
        distortion = {name: -score.mean(1) for name, score in log_likelihood.items()}
        return Terms(loss, (of_posterior - of_prior).mean(1), distortion)

    def _shares(self, log_weights: Tensor, kl_weight: float) -> tuple[Tensor, Tensor, Tensor]:
        """The bound [B], and the derivative of the decoder's and of the encoder's one by each log-weight [B, k]."""
        how, draws = self.config, log_weights.shape[1]
        grouped = log_weights.unflatten(1, (how.groups, how.samples))
        bound = (grouped.logsumexp(2) - math.log(how.samples)).mean(1)
        bound = torch.lerp(bound, log_weights.mean(1), how.elbo)
        shares = (1 - how.elbo) * grouped.softmax(2).flatten(1) / how.groups + how.elbo / draws
        ours = (log_weights.softmax(1) if how.encoder == "groups" else shares).clamp(min=1e-20)  # one divides by it
        return bound, ours, torch.lerp(shares, shares**2 * how.groups, kl_weight) if how.encoder == "dreg" else shares


def _scaled(z: Tensor, ratio: Tensor) -> Tensor:
    """The same z, whose gradient is multiplied by what `ratio` holds by then."""
    same = z.clone()
    if same.requires_grad:
        same.register_hook(lambda gradient: gradient * ratio)
    return same


def score_draws(network: Network, batch: Batch, z: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """For z [B, k, D]: log p(x|z) by modality, and what the likelihoods ask of training beside it, each [B, k]."""
    scores, auxiliary = network.score(batch.repeat(z.shape[1]), z.flatten(0, 1))
    return {name: score.view(z.shape[:2]) for name, score in scores.items()}, auxiliary.view(z.shape[:2])


def without_prior(network: Network, batch: Batch, posterior: Posterior, z: Tensor) -> Tensor:
    """log p(x|z) - log q(z|x) of draws z [B, k, D] of the posterior, [B, k], to which a prior's log p(z) is added."""
    scores, _ = score_draws(network, batch, z)
    return sum(scores.values()) - posterior.log_prob(z)


def importance_weighted_bound(
    network: Network, batch: Batch, noise: Noise, k: int, priors: Sequence[Prior] = ()
) -> Tensor:
    """log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x) in nats for the prior of training and each of `priors`, of the same
    draws, [1 + priors, B]: lower bounds of log p(x), tighter with every k (Burda et al. 2016)."""
    posterior = network.posterior(batch)
    k = 1 if isinstance(posterior, Point) else k  # the others would be the same
    z = posterior.sample(noise, k)
    scores, _ = score_draws(network, batch, z)
    log_likelihood = sum(scores.values())
    weights = torch.stack([log_likelihood + prior.log_ratio(posterior, z) for prior in (network.prior, *priors)])
    return torch.logsumexp(weights, dim=2) - math.log(k)


objectives: Registry[Objective] = Registry(
    "objective",
    {
        "elbo": f"{__name__}:ELBO",
        "importance": f"{__name__}:ImportanceWeighted",
        "hamiltonian": "mmvae.core.hamiltonian:Hamiltonian",
        "total-correlation": "mmvae.core.regularizers:TotalCorrelation",
        "dip": "mmvae.core.regularizers:DIP",
        "mmd": "mmvae.core.regularizers:MMD",
        "rae": "mmvae.core.regularizers:RAE",
        "alone": "mmvae.core.regularizers:Alone",
        "adversarial": "mmvae.core.adversary:Adversarial",
    },
    "mmvae.objectives",
)
