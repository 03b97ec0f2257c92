"""A prior over sequences of latents, such as those of a chapter's sentences: each depends on those before it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mmvae.core.latents import log_normal
from mmvae.core.noise import Noise, choose

LENGTH = 256  # observations that are looked back upon, at most
COMPONENTS = 16
BACK = 16  # observations that the next one may repeat
DROPOUT = 0.3


class Mixture:
    """Densities of latents at [...] places, each a mixture of one that knows nothing of what came before, which the
    caller has, and of K diagonal Gaussians: logits [..., 1 + K], mean, log_scale [..., K, D]."""

    def __init__(self, logits: Tensor, mean: Tensor, log_scale: Tensor) -> None:
        self.logits, self.mean, self.log_scale = logits.float(), mean.float(), log_scale.float().clamp(min=-5.0)

    def __getitem__(self, places: Any) -> Mixture:
        return Mixture(self.logits[places], self.mean[places], self.log_scale[places])

    def log_prob(self, z: Tensor, alone: Tensor) -> Tensor:
        """Log-densities of k latents at each place, z [..., k, D], in nats [..., k]; alone [..., k]: those of the
        density that knows nothing."""
        mean, stddev = self.mean[..., None, :, :], self.log_scale[..., None, :, :].exp()
        densities = torch.cat([alone[..., None], log_normal(z[..., None, :], mean, stddev)], -1)
        return torch.logsumexp(torch.log_softmax(self.logits, -1)[..., None, :] + densities, -1)

    def sample(self, noise: Noise, alone: Tensor) -> Tensor:
        """One latent for each place, [B, D], where the places are [B]; alone [B, D]: draws of the density that knows
        nothing."""
        chosen = choose(torch.softmax(self.logits, -1), noise.uniform()[:, None]) - 1
        rows, own = torch.arange(len(chosen), device=chosen.device), chosen.squeeze(-1).clamp(min=0)
        drawn = self.mean[rows, own] + self.log_scale[rows, own].exp() * noise.normal(self.mean.shape[-1])
        return torch.where(chosen < 0, alone, drawn)


class SequencePrior(nn.Module):
    """p(z_t | x_1 ... x_t-1): a GRU reads the posterior means of the observations so far, and a mixture of Gaussians
    says where the latent of the next one may be (a mixture density network, Bishop 1994). Some components lie where one
    of the last observations was: what was may come again, as the bars of a tune do. One more is the prior of single
    latents, at first half of all or more: where nothing is to be learned of what follows what, that remains.

    With a VAE's decoder it is a model of sequences of any modality: draw z_t, decode x_t, encode it, and go on.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.dim = dim
        self.first = nn.Parameter(torch.zeros(1, hidden))
        self.gru = nn.GRU(dim, hidden, batch_first=True)
        self.drop = nn.Dropout(DROPOUT)
        self.again = nn.Parameter(torch.full((dim,), -1.0))  # log-deviation of what comes again
        self.head = nn.Linear(hidden, 1 + BACK + COMPONENTS * (1 + 2 * dim))
        with torch.no_grad():  # the Gaussians begin near N(0, I), but differ
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()
            self.head.bias[0] = math.log(BACK + COMPONENTS)
            self.head.bias[1 + BACK + COMPONENTS :].view(COMPONENTS, 2, dim)[:, 0].normal_(std=0.3)

    def forward(self, means: Tensor) -> Mixture:
        """Where the latents of the observations 0 to T may be, [B, T + 1], given the posterior means [B, T, D] of those
        before each; what is behind the end of a shorter sequence does not matter."""
        first = self.first.expand(len(means), -1).contiguous()
        states = first[:, None]
        if means.shape[1]:
            states = torch.cat([states, self.gru(means, first[None])[0]], 1)
        outputs = self.head(self.drop(states)).float()
        logits, rest = outputs.split([1 + BACK + COMPONENTS, 2 * COMPONENTS * self.dim], -1)
        mean, log_scale = rest.unflatten(-1, (COMPONENTS, 2, self.dim)).unbind(-2)
        last = nn.functional.pad(means, (0, 0, BACK, 0)).unfold(1, BACK, 1).mT.float()  # [B, T + 1, BACK, D]
        ago = torch.arange(BACK, 0, -1, device=means.device)
        absent = ago > torch.arange(states.shape[1], device=means.device)[:, None]
        logits = logits.masked_fill(nn.functional.pad(absent, (1, COMPONENTS)), -torch.inf)
        return Mixture(logits, torch.cat([last, mean], -2), torch.cat([self.again.expand_as(last), log_scale], -2))
