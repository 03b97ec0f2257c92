"""Discrete latents: each row is a few codes out of so many values, and z their vectors side by side."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from mmvae.core.latents import Latent, Point, Posterior, by_row, mean_by_row
from mmvae.core.noise import Noise, choose
from mmvae.core.priors import Prior
from mmvae.core.processes import of_all_processes, sum_of_all
from mmvae.core.registry import Settings

IDLE = 1e-2  # rows of a step, on average, below which a vector stands for nothing


class Discrete(Latent):
    """A posterior family over `codes` codes of `values` values each. vectors_of gives z [..., D] of codes [..., G]."""

    codes: int
    values: int

    @abstractmethod
    def vectors_of(self, codes: Tensor) -> Tensor:
        """z [..., D] of codes [..., G]."""

    @abstractmethod
    def codes_of(self, z: Tensor) -> Tensor:
        """The codes [..., G] whose vectors are nearest to z [..., D]."""


class Codebook(Discrete):
    """Codes that stand for the vectors of a codebook."""

    class Config(Latent.Config):
        codes: int = Field(16, ge=1, description="codes of an observation; they divide dim")
        values: int = Field(64, ge=2, description="values of a code")

        @model_validator(mode="after")
        def _divided(self) -> Self:
            if self.dim % self.codes:
                raise ValueError(f"latent.codes = {self.codes} must divide latent.dim = {self.dim}")
            return self

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.codes, self.values = config.codes, config.values
        self.width = config.dim // config.codes

    @property
    @abstractmethod
    def codebook(self) -> Tensor:
        """The vectors, [G, K, D / G]."""

    def vectors_of(self, codes: Tensor) -> Tensor:
        return self.codebook[torch.arange(self.codes, device=codes.device), codes].flatten(-2)

    def codes_of(self, z: Tensor) -> Tensor:
        parts = z.float().unflatten(-1, (self.codes, self.width))
        with torch.autocast(z.device.type, enabled=False):  # near vectors would become one
            products = torch.einsum("...gd,gkd->...gk", parts, self.codebook)
        return (self.codebook.square().sum(-1) - 2 * products).argmin(-1)


def _straight_through(z: Tensor, soft: Tensor) -> Tensor:
    """z, with the gradient of what it was made from (Bengio et al. 2013)."""
    return z + (soft - soft.detach())  # z itself: codes are compared


class Quantized(Point):
    """One z for sure, the vectors of codes. cost: what training asks beside, [B]."""

    def __init__(self, mean: Tensor, cost: Tensor | None = None) -> None:
        super().__init__(mean)
        self.cost = cost

    def auxiliary(self) -> Tensor | None:
        return self.cost


class VectorQuantized(Codebook):
    """Each of `codes` parts of an expert becomes the nearest of a codebook of vectors (van den Oord et al. 2017,
    "Neural Discrete Representation Learning"), which follow what they stand for as moving averages (its appendix).

    A vector that no longer stands for anything is put where an encoder's output is.
    """

    class Config(Codebook.Config):
        commitment: float = Field(0.25, ge=0, description="weight of the encoder's distance from its vectors")
        decay: float = Field(0.97, ge=0, lt=1, description="of the moving averages")

    counts: Tensor
    sums: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config, self.outputs = config, config.dim
        self.register_buffer("counts", torch.ones(self.codes, self.values))
        self.register_buffer("sums", torch.randn(self.codes, self.values, self.width))

    @property
    def codebook(self) -> Tensor:
        return self.sums / self.counts[..., None]

    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> Quantized:
        said = mean_by_row(experts, present, size, self.outputs)
        if self.dim > 2:  # of the vectors' size, so that neither runs away from the other; one number would be a sign
            said = F.rms_norm(said, (self.dim,))
        codes = self.codes_of(said)
        z = self.vectors_of(codes)
        if self.training:
            known = torch.stack(list(present.values())).any(0)
            self._follow(said.detach().unflatten(1, (self.codes, self.width)), codes, known)
        cost = self.config.commitment * (said - z).square().sum(1)
        return Quantized(_straight_through(z, said), cost)

    def _follow(self, parts: Tensor, codes: Tensor, known: Tensor) -> None:
        chosen = F.one_hot(codes, self.values).to(parts.dtype) * known[:, None, None]  # [B, G, K]
        with torch.autocast(parts.device.type, enabled=False):
            sums = torch.einsum("bgk,bgd->gkd", chosen, parts)
        self.counts.lerp_(sum_of_all(chosen.sum(0)), 1 - self.config.decay)
        self.sums.lerp_(sum_of_all(sums), 1 - self.config.decay)
        group, value = (self.counts < IDLE).nonzero().unbind(1)
        every = of_all_processes(parts)[of_all_processes(known.float()) > 0]
        if not len(every):
            return
        # the same rows in every process
        rows = torch.randint(len(every), group.shape, generator=torch.Generator().manual_seed(len(group)))
        self.sums[group, value], self.counts[group, value] = every[rows.to(every.device), group], 1.0


class FiniteScalar(Discrete):
    """Each dimension becomes the nearest of `values` numbers from -1 to 1: no codebook, and none of its troubles
    (Mentzer et al. 2024, "Finite Scalar Quantization: VQ-VAE Made Simple")."""

    class Config(Latent.Config):
        values: int = Field(5, ge=2, description="values of a dimension")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.codes, self.values, self.outputs = config.dim, config.values, config.dim

    def vectors_of(self, codes: Tensor) -> Tensor:
        return codes * (2 / (self.values - 1)) - 1

    def codes_of(self, z: Tensor) -> Tensor:
        return ((z + 1) * ((self.values - 1) / 2)).round().long().clamp(0, self.values - 1)

    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> Quantized:
        soft = torch.tanh(mean_by_row(experts, present, size, self.outputs))
        return Quantized(_straight_through(self.vectors_of(self.codes_of(soft)), soft))


class Categorical(Posterior):
    """Independent codes with log-probabilities [B, G, K], as vectors of a codebook [G, K, D / G]."""

    quick = True

    def __init__(self, logs: Tensor, latent: GumbelSoftmax) -> None:
        self.logs, self.latent = logs, latent

    @property
    def mean(self) -> Tensor:
        """The expected vectors, [B, D]."""
        return torch.einsum("bgk,gkd->bgd", self.logs.exp(), self.latent.codebook).flatten(1)

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        gumbel = -(-noise.uniform(k, *self.logs.shape[1:]).log()).log()
        noisy = self.logs[:, None] + gumbel
        hard = F.one_hot(noisy.argmax(-1), self.latent.values).to(noisy.dtype)
        chosen = _straight_through(hard, torch.softmax(noisy / self.latent.temperature, -1))
        with torch.autocast(noisy.device.type, enabled=False):
            return torch.einsum("bngk,gkd->bngd", chosen, self.latent.codebook).flatten(2)

    def log_prob(self, z: Tensor) -> Tensor:
        codes = self.latent.codes_of(z)
        return self.logs[:, None].expand(-1, z.shape[1], -1, -1).gather(3, codes[..., None]).sum((2, 3))

    def pairs(self, z: Tensor) -> Tensor:
        chosen = F.one_hot(self.latent.codes_of(z), self.latent.values).flatten(1).to(self.logs.dtype)
        with torch.autocast(z.device.type, enabled=False):
            return self.logs.flatten(1) @ chosen.T

    def rate_from_uniform(self) -> Tensor:
        """KL(q(z|x) || uniform) in nats by code, [B, G]."""
        return (self.logs.exp() * self.logs).sum(2) + math.log(self.latent.values)

    def detached(self) -> Categorical:
        raise ValueError("objective.encoder = dreg is not made for codes: set it to 'same'")


class GumbelSoftmax(Codebook):
    """Codes with probabilities, of which draws have the gradient of a softmax with Gumbel noise (Jang et al. 2017;
    Maddison et al. 2017). Log-probabilities of the modalities that are present add. No modality: uniform."""

    class Config(Codebook.Config):
        values: int = Field(16, ge=2, description="values of a code")
        temperature: float = Field(0.67, gt=0, description="of the softmax whose gradient is taken")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.temperature, self.outputs = config.temperature, self.codes * self.values
        self.vectors = nn.Parameter(torch.randn(self.codes, self.values, self.width))

    @property
    def codebook(self) -> Tensor:
        return self.vectors

    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> Categorical:
        logits = by_row(experts, present, size, self.outputs)
        return Categorical(logits.unflatten(1, (self.codes, self.values)).log_softmax(2), self)


class UniformCodes(Prior):
    """All codes are equally likely, as in training a VQ-VAE (van den Oord et al. 2017)."""

    def attach(self, latent: Latent, posterior_of: Callable[[Any], Posterior]) -> None:
        self._meet(latent)

    def _meet(self, latent: Latent) -> None:
        if not isinstance(latent, Discrete):
            raise ValueError("prior.kind = codes is made for latent.kind = vq, fsq or gumbel")
        self._latent = [latent]  # in a list, as it is the network's part already

    @property
    def latent(self) -> Discrete:
        """Whose codes they are."""
        return self._latent[0]

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.full(z.shape[:-1], -self.latent.codes * math.log(self.latent.values), device=z.device)

    def sample(self, noise: Noise) -> Tensor:
        drawn = (noise.uniform(self.latent.codes) * self.latent.values).long()
        return self.latent.vectors_of(drawn)

    def rate(self, posterior: Posterior, z: Tensor) -> Tensor:
        if isinstance(posterior, Categorical):
            return posterior.rate_from_uniform()
        return torch.full((len(z), self.latent.codes), math.log(self.latent.values), device=z.device)


class CodePrior(UniformCodes):
    """p(c_1) p(c_2|c_1) ...: a GRU over an observation's codes, fitted to those of the training set (the autoregressive
    prior of van den Oord et al. 2017)."""

    def __init__(self, latent: Latent, hidden: int = 128) -> None:
        super().__init__(Settings(), latent.dim)
        self._meet(latent)
        values = self.latent.values
        self.positions = nn.Parameter(0.1 * torch.randn(self.latent.codes, hidden))
        self.embed = nn.Embedding(values + 1, hidden)  # the last stands before the first code
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, values)

    def place(self, z: Tensor) -> None:
        """Nothing: codes are where they are."""

    def log_prob(self, z: Tensor) -> Tensor:
        codes = self.latent.codes_of(z).flatten(0, -2)
        before = F.pad(codes[:, :-1], (1, 0), value=self.latent.values)
        states, _ = self.gru(self.embed(before) + self.positions)
        logs = self.head(states).float().log_softmax(2)
        return logs.gather(2, codes[..., None]).sum((1, 2)).view(z.shape[:-1])

    def sample(self, noise: Noise) -> Tensor:
        u = noise.uniform(self.latent.codes)
        code, state, codes = torch.full((len(u),), self.latent.values, device=u.device), None, []
        for place in range(self.latent.codes):
            states, state = self.gru((self.embed(code) + self.positions[place])[:, None], state)
            code = choose(self.head(states[:, 0]).float().softmax(1), u[:, place, None]).squeeze(1)
            codes.append(code)
        return self.latent.vectors_of(torch.stack(codes, 1))

    def rate(self, posterior: Posterior, z: Tensor) -> Tensor:
        return (posterior.log_prob(z) - self.log_prob(z)).mean(1, keepdim=True)
