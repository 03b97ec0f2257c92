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
    """z [B, latent] to the likelihood of a token sequence; z reaches the first state, every step and every output."""

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
        self.scale = embedding.embedding_dim**0.5  # as for the encoder
        self.word_dropout, self.choice = word_dropout, choice
        self.drop = nn.Dropout(dropout)
        self.tokens, size = embedding.num_embeddings - 1, embedding.embedding_dim
        self._kept: tuple[list[Any], StepWeights] | None = None
        self.initial = nn.Linear(latent, layers * hidden)
        self.gru = nn.GRU(size + latent, hidden, layers, batch_first=True)
        self.project = nn.Linear(hidden + latent, size)
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
        embedded = self.drop(self.scale * self.embedding(before))
        if self.training and self.word_dropout:
            embedded = embedded * (torch.rand(before.shape, device=z.device) >= self.word_dropout)[..., None]
        every_step = z[:, None].expand(-1, tokens.shape[1], -1)
        states, _ = self.gru(torch.cat([embedded, every_step], dim=-1), self._initial(z))
        # in the states' precision: else autocast would widen them, only to narrow them again
        return torch.cat([self.drop(states), every_step.to(states.dtype)], dim=-1)

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
        weights, initial = self._prepared(), self._initial(z)
        size = self.gru.hidden_size
        of_z = z @ self._layer("ih", 0)[0][:, -z.shape[1] :].T, z @ self.project.weight[:, size:].T
        own = [weights.states[layer](hidden)[:, : 3 * size] for layer, hidden in enumerate(initial)]
        return Unrolled(weights, of_z, list(initial), own)

    def step(self, token: Tensor, state: Unrolled) -> tuple[Tensor, Unrolled]:
        weights, _, hiddens, owns = state
        after, given, size = [], [], self.gru.hidden_size
        gates = weights.table.index_select(0, token) + state.of_z[0]
        for layer, (hidden, own) in enumerate(zip(hiddens, owns, strict=True)):
            if layer:
                gates = weights.inputs[layer - 1](after[-1])
            reset, update = torch.sigmoid(gates[:, : 2 * size] + own[:, : 2 * size]).chunk(2, -1)
            candidate = torch.tanh(torch.addcmul(gates[:, 2 * size :], reset, own[:, 2 * size :]))
            after.append(torch.lerp(candidate, hidden, update))
            given.append(weights.states[layer](after[-1]))
        given[-1], states = given[-1].split([3 * size, self.embedding.embedding_dim], 1)
        states = states + state.of_z[1]
        logits, known = weights.head(states), self.frequent
        if self.others is not None:
            whole = torch.log_softmax(torch.cat([logits[:, :known], self.others(states)], 1).float(), 1)
            rare = torch.log_softmax(logits[:, known:].float(), 1) + whole[:, known:]
            logits = torch.cat([whole[:, :known], rare], 1)
        return logits, Unrolled(weights, state.of_z, after, given)

    def select(self, state: Unrolled, rows: Tensor) -> Unrolled:
        hidden, own = ([part[rows] for part in parts] for parts in (state.hidden, state.own))
        return Unrolled(state.weights, (state.of_z[0][rows], state.of_z[1][rows]), hidden, own)

    def _layer(self, part: str, layer: int) -> tuple[Tensor, Tensor]:
        return getattr(self.gru, f"weight_{part}_l{layer}"), getattr(self.gru, f"bias_{part}_l{layer}")

    @torch.no_grad()
    def _prepared(self) -> StepWeights:
        """Kept until the weights change."""
        weights = [(part.data_ptr(), part.device, part._version) for part in self.parameters()]
        version = [torch.get_num_threads(), *weights]
        if self._kept is None or self._kept[0] != version:
            table, (weight, bias) = self.embedding.weight, self._layer("ih", 0)
            of_table = nn.functional.linear(self.scale * table, weight[:, : table.shape[1]], bias)
            inputs = [_product(self._layer("ih", layer)) for layer in range(1, self.layers)]
            states = [_product(self._layer("hh", layer)) for layer in range(self.layers - 1)]
            # the last layer's state also goes to the output: one product for both
            states.append(
                _product(
                    self._layer("hh", self.layers - 1),
                    (self.project.weight[:, : self.gru.hidden_size], self.project.bias),
                )
            )
            head = _product((table[: self.tokens], self.bias))
            self._kept = version, StepWeights(of_table, inputs, states, head)
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
    the products with the other layers' input matrices, with all layers' state matrices (the last one's with the
    projection that follows it), and with the vocabulary's."""

    table: Tensor
    inputs: list[Callable[[Tensor], Tensor]]
    states: list[Callable[[Tensor], Tensor]]
    head: Callable[[Tensor], Tensor]


def _product(*layers: tuple[Tensor, Tensor]) -> Callable[[Tensor], Tensor]:
    """x [B, I] to x @ weight.T + bias of each layer, side by side [B, O], for few rows: torch gives a single row's
    product to one thread only, and takes nearly twice as long for a transposed matrix."""
    weight, bias = (torch.cat(parts) for parts in zip(*layers, strict=True))
    outputs, inputs = weight.shape
    parts = torch.get_num_threads() if weight.device.type == "cpu" else 1
    parts = parts if outputs % parts == 0 else 1
    matrix = weight.view(parts, outputs // parts, inputs).transpose(1, 2).contiguous()
    return partial(_in_parts, matrix, bias.view(parts, 1, -1))


def _in_parts(matrix: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return torch.baddbmm(bias, x.expand(len(matrix), *x.shape), matrix).transpose(0, 1).flatten(1)


class Unrolled(NamedTuple):
    """A decoder that writes token by token: z's share of the first layer's gates and of the output, the layers' states
    [B, H], and what these add to the gates of the next step [B, 3H]."""

    weights: StepWeights
    of_z: tuple[Tensor, Tensor]
    hidden: list[Tensor]
    own: list[Tensor]
