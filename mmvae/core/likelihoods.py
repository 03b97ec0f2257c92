"""Likelihoods p(x|z): the distributions that decoders return. They compute in float32 whatever the networks ran in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from mmvae.core.functions import BitsLogProb, softplus
from mmvae.core.noise import Noise, choose


class Likelihood(ABC):
    """p(x|z) for a batch of B latents."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability (or log-density) of x [B, ...] in nats, summed over each observation: [B]."""

    @abstractmethod
    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """One x for each row; a temperature below 1 narrows the distribution."""

    @abstractmethod
    def mode(self) -> Tensor:
        """One typical x for each row: the most probable, or what stands for it (greedy text, a mixture's mean)."""

    def center(self) -> Tensor | None:
        """The mode before it is rounded to what can be observed, which has a derivative by z; None: there is none."""

    def auxiliary(self, x: Tensor) -> Tensor | None:
        """A further cost of x in training [B], no part of its log-probability; none by default."""


def _sum(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)


class Bernoulli(Likelihood):
    """Independent bits, x in {0, 1}. logits: [B, ...]."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def log_prob(self, x: Tensor) -> Tensor:
        return cast(Tensor, BitsLogProb.apply(self.logits, x))

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        shares = torch.sigmoid(self.logits.float() / temperature)
        return (noise.uniform(*shares.shape[1:]) < shares).to(torch.uint8)

    def mode(self) -> Tensor:
        return (self.logits > 0).to(torch.uint8)

    def center(self) -> Tensor:
        return torch.sigmoid(self.logits.float())


class DiscretizedLogistic(Likelihood):
    """A mixture of K logistics over the integers 0 to 255, the tails folded into the two ends.

    Salimans et al. 2017, "PixelCNN++" (without its coupling of channels); K = 1 is the discretized
    logistic of Kingma et al. 2016. logits, mean, log_scale: [B, K, ...]; mean and scale in units
    where the 256 values span [-1, 1].
    """

    def __init__(self, logits: Tensor, mean: Tensor, log_scale: Tensor) -> None:
        self.logits, self.mean = logits.float(), mean.float()
        self.log_scale = log_scale.float().clamp(min=-7.0)

    def log_prob(self, x: Tensor) -> Tensor:
        x = x.float()[:, None]
        centered = x / 127.5 - 1 - self.mean
        inverse_scale = torch.exp(-self.log_scale)
        upper = inverse_scale * (centered + 1 / 255)
        lower = inverse_scale * (centered - 1 / 255)
        # log(sigmoid(upper) - sigmoid(lower)) without cancellation, far out in either tail
        above, below = softplus(-upper), softplus(lower)
        inside = torch.log(-torch.expm1(lower - upper)) - above - below
        log_mass = torch.where(x < 0.5, -above, torch.where(x > 254.5, -below, inside))
        return _sum(torch.logsumexp(torch.log_softmax(self.logits, dim=1) + log_mass, dim=1))

    @staticmethod
    def _pixels(values: Tensor) -> Tensor:
        return ((values + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def _choose(self, parameter: Tensor, component: Tensor) -> Tensor:
        return parameter.gather(1, component[:, None]).squeeze(1)

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        shape = self.mean.shape[2:]
        shares = torch.softmax(self.logits / temperature, dim=1).movedim(1, -1)
        component = choose(shares, noise.uniform(*shape, 1)).squeeze(-1)
        u = noise.uniform(*shape)
        scale = self._choose(self.log_scale, component).exp() * temperature
        return self._pixels(self._choose(self.mean, component) + scale * (u.log() - (-u).log1p()))

    def mode(self) -> Tensor:
        return self._pixels(self.center())

    def center(self) -> Tensor:
        # the mean: the peak of a mixture flickers from pixel to pixel
        return (torch.softmax(self.logits, dim=1) * self.mean.clamp(-1, 1)).sum(1)


class _LogSoftmaxAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, index: Tensor) -> Tensor:
        ctx.rows = 64 if logits.device.type == "cpu" else max(1, len(logits))  # what a core's cache holds in float32
        normalizer = torch.cat([part.float().logsumexp(1) for part in logits.split(ctx.rows)])
        ctx.save_for_backward(logits, index, normalizer)
        return logits.gather(1, index[:, None]).squeeze(1).float() - normalizer

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():  # the derivative is to be derived once more
            logits, index, _ = ctx.saved_tensors
            pull = -grads[0][:, None] * logits.float().softmax(1)
            return pull.scatter_add(1, index[:, None], grads[0][:, None]).to(logits.dtype), None
        of_logits = torch.empty_like(ctx.saved_tensors[0])
        parts = (tensor.split(ctx.rows) for tensor in (*ctx.saved_tensors, *grads, of_logits))
        for logits, index, normalizer, grad, out in zip(*parts, strict=True):
            pull = (logits.float() - normalizer[:, None]).exp_().mul_(-grad[:, None])
            out.copy_(pull.scatter_add_(1, index[:, None], grad[:, None]))
        return of_logits, None


def log_softmax_at(logits: Tensor, index: Tensor) -> Tensor:
    """Log-probabilities [n] of the classes `index` [n] under logits [n, V], computed in float32 without a copy of the
    logits in it: for a large V that copy costs more than the arithmetic."""
    return cast(Tensor, _LogSoftmaxAt.apply(logits, index))


class Located(Likelihood):
    """Independent densities around a mean. mean: [B, ...]; log_scale: broadcasts to it."""

    def __init__(self, mean: Tensor, log_scale: Tensor) -> None:
        self.mean, self.log_scale = mean.float(), log_scale.float()

    def mode(self) -> Tensor:
        return self.mean

    def center(self) -> Tensor:
        return self.mean


class Gaussian(Located):
    """Normal densities, their scale a standard deviation."""

    def log_prob(self, x: Tensor) -> Tensor:
        scaled = (x.float() - self.mean) * torch.exp(-self.log_scale)
        return _sum(-0.5 * scaled**2 - self.log_scale - 0.5 * math.log(2 * math.pi))

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        return self.mean + temperature * self.log_scale.exp() * noise.normal(*self.mean.shape[1:])


class Laplace(Located):
    """Laplace densities, their scale the mean distance from the mean."""

    def log_prob(self, x: Tensor) -> Tensor:
        return _sum(-(x.float() - self.mean).abs() * torch.exp(-self.log_scale) - self.log_scale - math.log(2))

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        u = noise.uniform(*self.mean.shape[1:]) - 0.5
        return self.mean - temperature * self.log_scale.exp() * u.sign() * torch.log1p(-2 * u.abs())


class TokenNetwork(Protocol):
    """What an autoregressive decoder offers its likelihood. V: the number of tokens; V itself starts and pads."""

    def hidden(self, z: Tensor, tokens: Tensor) -> Tensor:
        """States [B, T, H] that predict tokens [B, T] from z [B, D] and the tokens before each."""
        ...

    def score(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities [n] of tokens [n] from the states [n, H] that predict them."""
        ...

    def start(self, z: Tensor) -> Any:
        """The state before the first token."""
        ...

    def step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits [B, V] of the next token after `token` [B], and the new state."""
        ...

    def select(self, state: Any, rows: Tensor) -> Any:
        """The state of some rows, in the order given; a row may be taken more than once."""
        ...


@dataclass(frozen=True)
class Choice:
    """How tokens are chosen: only among the `top_k` likeliest (0: all), and of these the fewest that hold the share
    `top_p` of the probability (Holtzman et al. 2020); `beam` sequences are kept in the search for the likeliest."""

    top_k: int = 0
    top_p: float = 1.0
    beam: int = 1
    never: Sequence[int] = ()  # scored but not generated: an unknown-word token
    empty: bool = True  # whether a sequence may end at its beginning

    def draw(self, logits: Tensor, u: Tensor) -> Tensor:
        """A token for each row of logits [B, V] by uniform numbers u [B]."""
        if not self.top_k and self.top_p == 1:
            return choose(torch.softmax(logits, dim=-1), u[:, None]).squeeze(-1)
        # a nucleus is first looked for among 200 tokens: sorting all of them costs more than the network
        return self._among(logits, u, self.top_k or 200)

    def _among(self, logits: Tensor, u: Tensor, most: int) -> Tensor:
        kept, tokens = logits.topk(min(most, logits.shape[-1]))
        shares = torch.exp(kept - torch.logsumexp(kept if self.top_k else logits, dim=-1, keepdim=True))
        outside = shares.cumsum(-1) - shares >= self.top_p  # the likeliest is always inside
        drawn = tokens.gather(-1, choose(shares.masked_fill(outside, 0.0), u[:, None])).squeeze(-1)
        lacking = shares.sum(-1) < self.top_p
        if not self.top_k and most < logits.shape[-1] and lacking.any():
            drawn[lacking] = self._among(logits[lacking], u[lacking], logits.shape[-1])
        return drawn


PLAIN = Choice()


class AutoregressiveCategorical(Likelihood):
    """Sequences of tokens 0 to V-1, each drawn given z and the tokens before it; token 0 ends a sequence.

    Rows are padded with V, which is never scored. A row of `length` tokens without an end counts as the
    event that a sequence begins so: probabilities of all rows of at most `length` tokens sum to 1.
    """

    end = 0

    def __init__(self, network: TokenNetwork, z: Tensor, vocabulary: int, length: int, choice: Choice = PLAIN) -> None:
        self.network, self.z, self.vocabulary, self.length, self.choice = network, z, vocabulary, length, choice

    def log_prob(self, x: Tensor) -> Tensor:
        real = x != self.vocabulary
        scores = self.network.score(self.network.hidden(self.z, x)[real], x[real].long())
        rows = real.nonzero()[:, 0]
        return torch.zeros(len(x), device=x.device).index_add(0, rows, scores)

    def _step(self, token: Tensor, state: Any, position: int) -> tuple[Tensor, Any]:
        logits, state = self.network.step(token, state)
        logits = logits.float()
        if self.choice.never:
            logits[:, list(self.choice.never)] = -torch.inf
        if not (position or self.choice.empty):
            logits[:, self.end] = -torch.inf
        return logits, state

    def _unroll(self, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
        token = torch.full((len(self.z),), self.vocabulary, device=self.z.device)
        state, tokens, ended = self.network.start(self.z), [], [False] * len(token)
        for position in range(self.length):
            logits, state = self._step(token, state, position)
            token = choose(logits, position)
            tokens.append(token)
            ended = [before or number == self.end for before, number in zip(ended, token.tolist(), strict=True)]
            if all(ended):
                break
        written = torch.stack(tokens, dim=1)
        ends = (written == self.end).long()
        return written.masked_fill(ends.cumsum(1) > ends, self.vocabulary)  # what was written after an end

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        u = noise.uniform(self.length)
        return self._unroll(lambda logits, position: self.choice.draw(logits / temperature, u[:, position]))

    def mode(self) -> Tensor:
        """The likeliest sequences that a search with `choice.beam` beams finds; with one, greedily."""
        if self.choice.beam == 1:
            return self._unroll(lambda logits, position: logits.argmax(-1))
        rows, beam, device = len(self.z), self.choice.beam, self.z.device
        first = torch.arange(rows, device=device)[:, None] * beam  # of each row's beams
        scores = torch.full((rows, beam), -torch.inf, device=device)
        scores[:, 0] = 0.0  # all beams begin alike: only one may branch
        state = self.network.start(self.z.repeat_interleave(beam, 0))
        tokens = torch.empty((rows * beam, 0), dtype=torch.long, device=device)
        token = torch.full((rows * beam,), self.vocabulary, device=device)
        ended = torch.zeros(rows * beam, dtype=torch.bool, device=device)
        for position in range(self.length):
            logits, state = self._step(token, state, position)
            steps = torch.log_softmax(logits, dim=-1)
            steps[ended] = -torch.inf
            steps[ended, self.end] = 0.0  # what has ended goes on in one way, at no cost
            scores, best = (scores.view(-1, 1) + steps).view(rows, -1).topk(beam)
            chosen = (first + best // self.vocabulary).flatten()
            state, ended = self.network.select(state, chosen), ended[chosen]
            token = (best % self.vocabulary).flatten().masked_fill(ended, self.vocabulary)
            tokens = torch.cat([tokens[chosen], token[:, None]], dim=1)
            ended = ended | (token == self.end)
            if ended.all():
                break
        return tokens[first.flatten()]  # the best of each row comes first
