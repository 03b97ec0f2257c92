"""Convolutions over time, and the likelihood of the notes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmvae import Likelihood, Noise


class HeldNotes(Likelihood):
    """A Markov chain for each voice: a note is held with some probability, or else drawn anew; it begins in silence.

    logits: [B, steps, 4, 1 + classes], the first of holding the note; x: [B, steps, 4].
    """

    def __init__(self, logits: Tensor) -> None:
        self.hold, self.new = logits[..., 0].float(), logits[..., 1:].float()

    def log_prob(self, x: Tensor) -> Tensor:
        before = F.pad(x[:, :-1], (0, 0, 1, 0))
        drawn = F.logsigmoid(-self.hold) + self.new.log_softmax(-1).gather(-1, x[..., None]).squeeze(-1)
        held = F.logsigmoid(self.hold).masked_fill(x != before, -torch.inf)
        return torch.logaddexp(drawn, held).flatten(1).sum(1)

    def _unroll(self, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Notes chosen one after the other from the probabilities [B, 4, classes] of each step."""
        held, new = torch.sigmoid(self.hold)[..., None], torch.softmax(self.new, -1)
        notes = [torch.zeros_like(self.hold[:, 0], dtype=torch.int64)]
        for step in range(self.hold.shape[1]):
            before = F.one_hot(notes[-1], new.shape[-1])
            notes.append(choose(torch.lerp(new[:, step], before.float(), held[:, step]), step))
        return torch.stack(notes[1:], dim=1)

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        draws = noise.uniform(*self.hold.shape[1:])[..., None]

        def choose(probability: Tensor, step: int) -> Tensor:
            edges = (probability ** (1 / temperature)).cumsum(-1)
            return (draws[:, step] * edges[..., -1:] > edges).sum(-1)

        return self._unroll(choose)

    def mode(self) -> Tensor:
        return self._unroll(lambda probability, step: probability.argmax(-1))


def _block(layer: nn.Module, width: int) -> list[nn.Module]:
    return [layer, nn.GroupNorm(1, width), nn.SiLU()]


class Encoder(nn.Module):
    """Notes [B, steps, 4] to [B, outputs]."""

    def __init__(self, steps: int, classes: int, outputs: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, 16)
        self.layers = nn.Sequential(
            *_block(nn.Conv1d(4 * 16, width, 3, stride=2, padding=1), width),
            *_block(nn.Conv1d(width, 2 * width, 3, stride=2, padding=1), 2 * width),
            nn.Flatten(),
            nn.Linear(2 * width * ((steps + 3) // 4), outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.embedding(x).flatten(2).transpose(1, 2))


class Decoder(nn.Module):
    """z [B, latent] to the likelihood of notes [B, steps, 4]."""

    def __init__(self, latent: int, steps: int, classes: int, width: int) -> None:
        super().__init__()
        self.steps = steps
        self.layers = nn.Sequential(
            nn.Linear(latent, 2 * width * ((steps + 3) // 4)),
            nn.Unflatten(1, (2 * width, (steps + 3) // 4)),
            *_block(nn.ConvTranspose1d(2 * width, width, 4, stride=2, padding=1), width),
            *_block(nn.ConvTranspose1d(width, width, 4, stride=2, padding=1), width),
            nn.Conv1d(width, 4 * (1 + classes), 5, padding=2),
            nn.Unflatten(1, (4, 1 + classes)),
        )

    def forward(self, z: Tensor) -> Likelihood:
        return HeldNotes(self.layers(z)[..., : self.steps].permute(0, 3, 1, 2))
