"""The VAE: encoders and decoders around one latent space, for one, many or missing modalities."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmvae.core.latents import Latent, Posterior
from mmvae.core.likelihoods import Likelihood
from mmvae.core.priors import Prior


@dataclass(frozen=True)
class Batch:
    """B rows of which each modality holds some: values[name] is [n, ...] for the n rows where present[name]."""

    values: dict[str, Tensor]
    present: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))

    def to(self, device: torch.device) -> Batch:
        """The same rows on another device."""
        return Batch(
            {name: values.to(device, non_blocking=True) for name, values in self.values.items()},
            {name: rows.to(device, non_blocking=True) for name, rows in self.present.items()},
        )

    def split(self, size: int) -> Iterator[Batch]:
        """The same rows in batches of at most `size`."""
        for start in range(0, len(self), size):
            values, present = {}, {}
            for name, rows in self.present.items():
                present[name] = rows[start : start + size]
                first = int(rows[:start].sum())
                if name in self.values:
                    values[name] = self.values[name][first : first + int(present[name].sum())]
            yield Batch(values, present)

    def only(self, kept: Mapping[str, Tensor]) -> Batch:
        """The same rows with less in them: of each modality the rows that have it and are in kept[name], bool [B]."""
        present = {name: rows & kept[name] for name, rows in self.present.items()}
        values = {name: values[kept[name][self.present[name]]] for name, values in self.values.items()}
        return Batch(values, present)

    def of(self, names: Collection[str]) -> Batch:
        """The same rows with these modalities alone."""
        return self.only({name: torch.full_like(rows, name in names) for name, rows in self.present.items()})

    def repeat(self, k: int) -> Batch:
        """Each row k times in a row, [B * k]."""
        return Batch(
            {name: values.repeat_interleave(k, 0) for name, values in self.values.items()},
            {name: rows.repeat_interleave(k, 0) for name, rows in self.present.items()},
        )


class Network(nn.Module):
    """q(z|x), p(z) and p(x|z). Encoders map [n, ...] to [n, latent.outputs]; decoders map z to a Likelihood.

    weights: of modalities in training, where it is not 1. private: dimensions of z that a modality has for itself.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        decoders: Mapping[str, nn.Module],
        latent: Latent,
        prior: Prior,
        weights: Mapping[str, float] | None = None,
        private: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.weights = dict(weights or {})
        self.encoders, self.decoders = nn.ModuleDict(encoders), nn.ModuleDict(decoders)
        self.latent, self.prior = latent, prior
        latent.attach(private or {})
        prior.attach(latent, self.posterior)

    def posterior(self, batch: Batch, seen: Mapping[str, Tensor] | None = None) -> Posterior:
        """q(z|x) of every row, from the modalities it has; if it has none, what its family gives without evidence.

        seen: where latent.hides, the rows in which each modality speaks of shared dimensions, bool [B]; by default all.
        """
        return self.joined(self.experts(batch), batch, seen)

    def joined(self, experts: Mapping[str, Tensor], batch: Batch, seen: Mapping[str, Tensor] | None) -> Posterior:
        """The posteriors of a batch of which the encoders said `experts`."""
        told = (seen,) if seen else ()
        return self.latent(experts, batch.present, len(batch), *told)

    def experts(self, batch: Batch) -> dict[str, Tensor]:
        """What each encoder says of the rows that have its modality, [n, latent.outputs]."""
        read = {name: values for name, values in batch.values.items() if name in self.encoders and len(values)}
        return {name: self.encoders[name](values) for name, values in read.items()}

    def decode(self, z: Tensor, names: Iterable[str] | None = None) -> dict[str, Likelihood]:
        """p(x|z) of the named modalities (all by default) for z [B, D]."""
        wanted = self.decoders if names is None else names
        return {name: self.decoders[name](self.latent.seen_by(name, z)) for name in wanted}

    def score(self, batch: Batch, z: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """log p(x|z) of each modality in nats, [B], 0 for the rows that lack it; and what the likelihoods ask of
        training beside it, [B]."""
        scores, auxiliary = {}, z.new_zeros(len(z))
        for name, values in batch.values.items():
            rows = batch.present[name].nonzero().squeeze(1)
            scores[name] = z.new_zeros(len(z))
            if not len(rows):
                continue
            likelihood: Likelihood = self.decoders[name](self.latent.seen_by(name, z[rows]))
            scores[name] = scores[name].index_add(0, rows, likelihood.log_prob(values))
            if (cost := likelihood.auxiliary(values)) is not None:
                auxiliary = auxiliary.index_add(0, rows, cost)
        return scores, auxiliary

    def weighted(self, scores: Mapping[str, Tensor]) -> Tensor:
        """The sum of what each modality scores, by its weight in training."""
        return torch.stack([self.weights.get(name, 1.0) * score for name, score in scores.items()]).sum(0)

    def decoding_weights(self) -> list[nn.Parameter]:
        """The weights of decoders that no encoder shares."""
        shared = {id(weight) for weight in self.encoders.parameters()}
        return [weight for weight in self.decoders.parameters() if id(weight) not in shared]
