"""Bounds on the evidence of a split, and how the latent is used: all in nats, at KL weight 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmvae.core.latents import Point
from mmvae.core.noise import Noise, mix
from mmvae.core.objectives import importance_weighted_bound, score_draws
from mmvae.core.priors import Prior
from mmvae.core.vae import Batch, Network
from mmvae.data.prepare import Progress
from mmvae.data.store import Store, spread

ALONE = "mutual information alone, "  # before the name of a modality
DRAWS = 64  # of z for a row at a time
SLOWLY_PAIRED = 500  # rows, or somewhat more, whose posteriors are compared pair by pair where that is slow


@dataclass(frozen=True)
class Measured:
    """Means over the rows of a split. rate: KL(q(z|x) || p(z)), None where z is a point and has none; distortion:
    -log p(x|z) by modality, one draw a row; gain: how much lower than their sum the NLL by several draws is."""

    rate: float | None
    distortion: dict[str, float]
    draws: int = 1
    gain: float = 0.0

    @property
    def total(self) -> float:
        """Rate plus distortion."""
        return (self.rate or 0.0) + sum(self.distortion.values())

    def figures(self) -> dict[str, float]:
        """By name: the bound and its parts, as far as there are any."""
        of_bound = {} if self.rate is None else {"-ELBO": self.total, "rate": self.rate}
        of_bound |= {f"NLL, k = {self.draws}": self.total - self.gain} if self.draws > 1 else {}
        return of_bound | {f"distortion/{name}": value for name, value in self.distortion.items()}

    def __str__(self) -> str:
        distortion = f"distortion {sum(self.distortion.values()):,.2f}"
        if self.rate is None:
            return f"{distortion} nats"
        further = f", NLL (k = {self.draws}) {self.total - self.gain:,.2f}" if self.draws > 1 else ""
        return f"-ELBO {self.total:,.2f}{further} nats (rate {self.rate:.2f}, {distortion})"


def batches(
    store: Store, size: int, device: torch.device, seed: int, chosen: Tensor | None = None
) -> Iterator[tuple[Tensor, Batch, Noise]]:
    """A split, or the chosen rows, with their numbers, short ones first; the noise of row i depends on the seed and i
    only."""
    order = store.by_length()
    for rows in (order if chosen is None else order[torch.isin(order, chosen)]).split(size):
        noise = Noise([mix(seed, i) for i in rows.tolist()], device)
        yield rows, store.observed(rows, noise), noise


@torch.inference_mode()
def encode(
    network: Network, store: Store, device: torch.device, seed: int = 0, k: int = 1, chosen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Posterior means [N, D] and k draws [N, k, D] of the rows of a split, or of the chosen ones in order."""
    order, means, draws = [], [], []
    for rows, batch, noise in batches(store, store.at_once(256), device, seed, chosen):
        posterior = network.posterior(batch)
        order.append(rows)
        means.append(posterior.mean)
        draws.append(posterior.sample(noise, k))
    back = torch.cat(order).argsort()
    return torch.cat(means)[back], torch.cat(draws)[back]


def settle(network: Network, store: Store, device: torch.device, most: int = 2000) -> None:
    """Let the posterior family of averaged weights know the posteriors that they give rows from all over a split."""
    chosen = spread(len(store), most)
    network.latent.settle(lambda: encode(network, store, device, chosen=chosen)[0])


@torch.inference_mode()
def elbo(
    network: Network, store: Store, device: torch.device, seed: int = 0, size: int = 128, draws: int = 1
) -> Measured:
    """The ELBO's terms on a split, and what so many importance-weighted draws gain."""
    rate, distortion = 0.0, dict.fromkeys(store.columns, 0.0)
    for _, batch, noise in batches(store, store.at_once(size), device, seed):
        posterior = network.posterior(batch)
        z = posterior.sample(noise)
        rate += network.prior.rate(posterior, z).sum().item()
        for name, score in network.score(batch, z[:, 0])[0].items():
            distortion[name] -= score.sum().item()
    terms = Measured(
        rate / len(store) if network.latent.bounded else None,
        {name: total / len(store) for name, total in distortion.items()},
    )
    nll = importance_nll(network, store, device, draws, seed).mean().item() if draws > 1 else terms.total
    return replace(terms, draws=draws, gain=terms.total - nll)


Bound = Callable[[Batch, Noise, int], Tensor]  # of log p(x) of B rows by so many draws, [priors, B]


def importance_nll(
    network: Network,
    store: Store,
    device: torch.device,
    k: int,
    seed: int = 0,
    progress: Progress | None = None,
    priors: Sequence[Prior] = (),
    chosen: Tensor | None = None,
    of: Collection[str] | None = None,
) -> Tensor:
    """-log p(x) of each row under the prior of training and each of `priors`, by the importance-weighted bound with k
    draws (Burda et al. 2016), [1 + priors, N]. chosen: the rows, in order, by default all. of: the modalities that x is
    made of, by default all."""

    def bound(batch: Batch, noise: Noise, n: int) -> Tensor:
        return importance_weighted_bound(network, batch if of is None else batch.of(of), noise, n, priors)

    return _nll(bound, store, device, k, seed, progress, chosen)


def nll_alone(
    network: Network,
    prior: Prior,
    store: Store,
    device: torch.device,
    k: int,
    chosen: Tensor,
    name: str,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tensor:
    """-log p(x) of one modality of the chosen rows, [N], under a prior, by the importance-weighted bound with k draws.
    They are of the modality's posterior, which has that prior in the place of N(0, I) where it can; where it is a
    density, up to half of them are of the prior itself, weighed as draws of both (Hesterberg 1995, "Weighted Average
    Importance Sampling and Defensive Mixture Distributions"): an encoder that is surer than it may be leaves out much
    of a word's z. Where it is right, they cost at most log 2."""

    def bound(batch: Batch, noise: Noise, n: int) -> Tensor:
        seen = batch.of([name])
        posterior = network.posterior(seen)
        if (evidence := posterior.gaussians(noise, 1)) is not None:
            posterior = prior.given(evidence)
        n, of_prior = (1, 0) if isinstance(posterior, Point) else (n, n // 2)
        z = posterior.sample(noise, n - of_prior)
        drawn = posterior.log_prob(z)  # before others join them: of its own draws a flow knows the density
        if of_prior:
            others = torch.stack([prior.sample(noise) for _ in range(of_prior)], 1)
            z, drawn = torch.cat([z, others], 1), torch.cat([drawn, posterior.log_prob(others)], 1)
            shares = drawn + math.log(1 - of_prior / n), prior.log_prob(z) + math.log(of_prior / n)
            drawn = torch.logaddexp(*shares)
        weights = prior.log_prob(z) - drawn + score_draws(network, seen, z)[0][name]
        return weights.logsumexp(1)[None] - math.log(n)

    return _nll(bound, store, device, k, seed, progress, chosen)[0]


@torch.inference_mode()
def _nll(
    bound: Bound,
    store: Store,
    device: torch.device,
    k: int,
    seed: int,
    progress: Progress | None,
    chosen: Tensor | None,
) -> Tensor:
    if k < 1:
        raise ValueError(f"k = {k}: it takes at least one draw")
    # log-mean-exp over chunks of draws, so that memory does not grow with k
    chunks = [DRAWS] * (k // DRAWS) + [k % DRAWS] * (k % DRAWS > 0)
    size = max(1, store.at_once(2048) // chunks[0])
    chosen = torch.arange(len(store)) if chosen is None else chosen
    parts, order, done = [], [], 0
    for rows, batch, noise in batches(store, size, device, seed, chosen):
        bounds = torch.stack([bound(batch, noise, n) + math.log(n) for n in chunks])
        parts.append(math.log(k) - torch.logsumexp(bounds, 0).cpu())
        order.append(rows)
        done += len(rows)
        if progress:
            progress(f"importance-weighted NLL, k = {k},", done, len(chosen))
    return torch.cat(parts, 1)[:, torch.cat(order).argsort()]


@torch.inference_mode()
def latent_use(
    network: Network, store: Store, device: torch.device, seed: int = 0, of: str | None = None
) -> dict[str, float]:
    """Active units, mutual information and the variance of the aggregate posterior, on the whole split.

    Active units: dimensions whose posterior mean varies by more than 0.01 (Burda et al. 2016).
    Mutual information in nats under q: E[log q(z|x) - log mean_n q(z|x_n)] (Hoffman & Johnson 2016), with
    one draw a row; it cannot exceed the log of the number of its rows, which are fewer where densities are slow. Points
    have none. Of several modalities, also that between each alone and the dimensions of z that all share, of which
    others can be made. of: one modality alone, in the rows that have it.
    """
    posteriors, means, draws, own, paired = [], [], [], [], []
    chosen = None if of is None else store.complete(of=[of])
    for _, batch, noise in batches(store, store.at_once(256), device, seed, chosen):
        posterior = network.posterior(batch if of is None else batch.of([of]))
        if of is not None and (shared := network.latent.shared()) is not None:
            posterior = posterior.within(shared)
        z = posterior.sample(noise)
        # of batches of rows of a length, some of all lengths
        if posterior.quick or len(means) % math.ceil(len(store) / SLOWLY_PAIRED) == 0:
            posteriors.append(posterior)
            own.append(posterior.log_prob(z)[:, 0])
            paired.append(z[:, 0])
        means.append(posterior.mean)
        draws.append(z[:, 0])
    variance, z = torch.cat(means).var(0, unbiased=False), torch.cat(draws)
    use = {
        "active units": float((variance > 0.01).sum()),
        "aggregate variance": z.var(0, unbiased=False).mean().item(),
    }
    if not network.latent.bounded:
        return use
    aggregate = []
    for part in torch.cat(paired).split(1024):
        pairs = torch.cat([posterior.pairs(part) for posterior in posteriors])
        aggregate.append(pairs.logsumexp(0) - math.log(len(pairs)))
    information = torch.cat(own) - torch.cat(aggregate)
    use |= {"mutual information": information.mean().item(), "rows compared": float(len(information))}
    for name, column in store.columns.items():
        if of is None and len(store.columns) > 1 and column.present.any():
            use[f"{ALONE}{name}"] = latent_use(network, store, device, seed, name)["mutual information"]
    return use
