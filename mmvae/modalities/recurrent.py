"""Recurrent networks over rows of tokens, for any modality that has such rows: 0 to V-1, padded with V."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmvae.core.likelihoods import PLAIN, AutoregressiveCategorical, Choice, Likelihood, log_softmax_at

SCORED = 512  # tokens at a time where no gradient is needed


class RecurrentEncoder(nn.Module):
    """Tokens [B, T] to [B, outputs]: GRUs in each direction, the maximum over real tokens."""

    def __init__(self, embedding: nn.Embedding, outputs: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        self.embedding = embedding
        self.padding = embedding.num_embeddings - 1
        self.scale = embedding.embedding_dim**0.5  # the table is drawn for the output, too small for an input
        size = embedding.embedding_dim
        self.onward = nn.GRU(size, hidden, layers, batch_first=True)
        self.backward_ = nn.GRU(size, hidden, layers, batch_first=True)
        self.head = nn.Linear(2 * hidden, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        real = tokens != self.padding
        # reversing only the real part keeps padding out of both directions
        positions = (real.sum(1, keepdim=True) - 1 - torch.arange(tokens.shape[1], device=tokens.device)).clamp(min=0)
        pooled = []
        for gru, ordered in ((self.onward, tokens), (self.backward_, tokens.gather(1, positions))):
            states, _ = gru(self.scale * self.embedding(ordered))
            pooled.append(states.masked_fill(~real[..., None], -torch.inf).amax(1))
        return self.head(torch.cat(pooled, dim=1))


class RecurrentDecoder(nn.Module):
    """z [B, latent] to the likelihood of a token sequence; z reaches the first state and every step."""

    def __init__(
        self,
        embedding: nn.Embedding,
        latent: int,
        hidden: int,
        layers: int = 1,
        length: int = 64,
        word_dropout: float = 0.0,
        dropout: float = 0.0,
        bag_of_words: float = 0.0,
        frequent: int = 0,
        choice: Choice = PLAIN,
    ) -> None:
        """bag_of_words: weight of a loss in training. frequent: tokens whose probability is computed always; that
        of the others, one class beside them, only where it is asked for (Grave et al. 2017); 0: all are frequent."""
        super().__init__()
        self.embedding, self.layers, self.length = embedding, layers, length
        self.word_dropout, self.choice = word_dropout, choice
        self.drop = nn.Dropout(dropout)
        self.tokens, size = embedding.num_embeddings - 1, embedding.embedding_dim
        self._kept: tuple[list[Any], StepWeights] | None = None
        self.initial = nn.Linear(latent, layers * hidden)
        self.gru = nn.GRU(size + latent, hidden, layers, batch_first=True)
        self.project = nn.Linear(hidden, size)
        self.bias = nn.Parameter(torch.zeros(self.tokens))
        self.bag_of_words, self.frequent = bag_of_words, frequent if frequent < self.tokens else 0
        self.bag = nn.Linear(latent, size) if bag_of_words else None
        self.others = nn.Linear(size, 1) if self.frequent else None

    def forward(self, z: Tensor) -> Likelihood:
        likelihood = AutoregressiveCategorical(self, z, self.tokens, self.length, self.choice)
        if self.bag is None or not self.training:
            return likelihood
        return WithBag(likelihood, self._logits(self.bag(z)), self.bag_of_words)

    def hidden(self, z: Tensor, tokens: Tensor) -> Tensor:
        before = torch.cat([torch.full_like(tokens[:, :1], self.tokens), tokens[:, :-1]], dim=1)
        embedded = self.drop(self.embedding(before))
        if self.training and self.word_dropout:
            embedded = embedded * (torch.rand(before.shape, device=z.device) >= self.word_dropout)[..., None]
        every_step = z[:, None].expand(-1, tokens.shape[1], -1)
        return self.drop(self.gru(torch.cat([embedded, every_step], dim=-1), self._initial(z))[0])

    def _initial(self, z: Tensor) -> Tensor:
        return torch.tanh(self.initial(z)).unflatten(1, (self.layers, -1)).transpose(0, 1).contiguous()

    def score(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        if not torch.is_grad_enabled():  # nothing is kept for a gradient: the logits need never be there all at once
            parts = zip(hidden.split(SCORED), tokens.split(SCORED), strict=True)
            return torch.cat([self._score(*part) for part in parts])
        return self._score(hidden, tokens)

    def _score(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        states, known = self.project(hidden), self.frequent
        if self.others is None:
            return log_softmax_at(self._logits(states), tokens)
        logits = torch.cat([self._logits(states, 0, known), self.others(states)], 1)
        scores, rare = log_softmax_at(logits, tokens.clamp(max=known)), (tokens >= known).nonzero().squeeze(1)
        return scores.index_add(0, rare, log_softmax_at(self._logits(states[rare], known), tokens[rare] - known))

    def _logits(self, states: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Of the tokens from `first` to `last`, from projected states."""
        part = slice(first, self.tokens if last is None else last)
        return nn.functional.linear(states, self.embedding.weight[part], self.bias[part])

    def start(self, z: Tensor) -> Unrolled:
        of_z = z @ self._weight("weight_ih", 0)[:, -z.shape[1] :].T
        return Unrolled(self._prepared(), of_z, list(self._initial(z)))

    def step(self, token: Tensor, state: Unrolled) -> tuple[Tensor, Unrolled]:
        weights, after = state.weights, []
        gates = weights.table[token] + state.of_z
        for layer, hidden in enumerate(state.hidden):
            if layer:
                gates = weights.inputs[layer - 1](after[-1])
            own = weights.states[layer](hidden)
            size = hidden.shape[1]
            reset, update = torch.sigmoid(gates[:, : 2 * size] + own[:, : 2 * size]).chunk(2, -1)
            candidate = torch.tanh(torch.addcmul(gates[:, 2 * size :], reset, own[:, 2 * size :]))
            after.append(torch.lerp(candidate, hidden, update))
        states, known = self.project(after[-1]), self.frequent
        logits = weights.head(states)
        if self.others is not None:
            whole = torch.log_softmax(torch.cat([logits[:, :known], self.others(states)], 1).float(), 1)
            rare = torch.log_softmax(logits[:, known:].float(), 1) + whole[:, known:]
            logits = torch.cat([whole[:, :known], rare], 1)
        return logits, state._replace(hidden=after)

    def select(self, state: Unrolled, rows: Tensor) -> Unrolled:
        return Unrolled(state.weights, state.of_z[rows], [hidden[rows] for hidden in state.hidden])

    def _weight(self, part: str, layer: int) -> Tensor:
        return getattr(self.gru, f"{part}_l{layer}")

    @torch.no_grad()
    def _prepared(self) -> StepWeights:
        """Kept until the weights change."""
        weights = [(part.data_ptr(), part.device, part._version) for part in self.parameters()]
        version = [torch.get_num_threads(), *weights]
        if self._kept is None or self._kept[0] != version:
            table, weight, bias = self.embedding.weight, self._weight("weight_ih", 0), self._weight("bias_ih", 0)
            inputs, states = (
                [
                    _product(self._weight(f"weight_{part}", layer), self._weight(f"bias_{part}", layer))
                    for layer in range(first, self.layers)
                ]
                for part, first in (("ih", 1), ("hh", 0))
            )
            gates = nn.functional.linear(table, weight[:, : table.shape[1]], bias)
            head = _product(table[: self.tokens], self.bias)
            self._kept = version, StepWeights(gates, inputs, states, head)
        return self._kept[1]


class WithBag(AutoregressiveCategorical):
    """In training the tokens are also predicted from z alone, without their order: logits [B, V], and the weight of
    that (the bag-of-words loss of Zhao et al. 2017)."""

    def __init__(self, plain: AutoregressiveCategorical, logits: Tensor, weight: float) -> None:
        super().__init__(plain.network, plain.z, plain.vocabulary, plain.length, plain.choice)
        self.logits, self.weight = logits, weight

    def auxiliary(self, x: Tensor) -> Tensor:
        real = x != self.vocabulary
        scores = torch.log_softmax(self.logits.float(), -1).gather(1, x.long().masked_fill(~real, 0))
        return -self.weight * (scores * real).sum(1)


class StepWeights(NamedTuple):
    """A decoder's weights laid out for single steps: what each token adds to the first layer's gates [V + 1, 3H], and
    the products with the other layers' input matrices, with all layers' state matrices, and with the vocabulary's."""

    table: Tensor
    inputs: list[Callable[[Tensor], Tensor]]
    states: list[Callable[[Tensor], Tensor]]
    head: Callable[[Tensor], Tensor]


def _product(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """x [B, I] to x @ weight.T + bias [B, O], for few rows: torch gives a single row's product to one thread only, and
    takes nearly twice as long for a transposed matrix."""
    outputs, inputs = weight.shape
    parts = torch.get_num_threads() if weight.device.type == "cpu" else 1
    parts = parts if outputs % parts == 0 else 1
    matrix = weight.view(parts, outputs // parts, inputs).transpose(1, 2).contiguous()
    return partial(_in_parts, matrix, bias.view(parts, 1, -1))


def _in_parts(matrix: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return torch.baddbmm(bias, x.expand(len(matrix), *x.shape), matrix).transpose(0, 1).flatten(1)


class Unrolled(NamedTuple):
    """A decoder that writes token by token: z's share of the first layer's gates, and the layers' states [B, H]."""

    weights: StepWeights
    of_z: Tensor
    hidden: list[Tensor]
