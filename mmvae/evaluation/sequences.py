"""How well the next observation of a sequence is told from those before it."""

from __future__ import annotations

import math

import torch

from mmvae.core.noise import Noise, mix
from mmvae.core.objectives import without_prior
from mmvae.core.sequences import LENGTH
from mmvae.data.prepare import Progress, Split
from mmvae.evaluation.bounds import DRAWS, encode
from mmvae.generation import NO_SEQUENCES, VAE


@torch.inference_mode()
def next_nll(vae: VAE, split: Split, k: int, seed: int = 0, progress: Progress | None = None) -> dict[str, float]:
    """-log p(x_t | x_1 ... x_t-1) in nats, a mean over the rows of a split that others of their sequence precede, by
    the importance-weighted bound with k draws, at most 64 (Burda et al. 2016). Of a sequence longer than 256 each
    stretch of so many is one of its own, as in training.

    Beside it the same bound, of the same draws, where z_t comes from the priors that know nothing of what came before.
    Empty where no row has one before it. Raises ValueError when the model has no prior over sequences.
    """
    if vae.sequence is None:
        raise ValueError(NO_SEQUENCES)
    k = min(k, DRAWS)
    means, _ = encode(vae.network, split.store, vae.device)
    priors = {"of training": vae.network.prior} | ({"fitted": vae.fitted} if vae.fitted else {})
    totals, count = dict.fromkeys(("sequence", *priors), 0.0), 0
    for rows in [piece for sequence in split.sequences() for piece in sequence.split(LENGTH) if len(piece) > 1]:
        expected = vae.sequence(means[rows][None])
        for part in torch.arange(1, len(rows)).split(max(1, split.store.at_once(2048) // k)):
            noise = Noise([mix(seed, "next", row) for row in rows[part].tolist()], vae.device)
            batch = split.store.observed(rows[part], noise)
            posterior = vae.network.posterior(batch)
            z = posterior.sample(noise, k)
            rest = without_prior(vae.network, batch, posterior, z)
            densities = {name: prior.log_prob(z) for name, prior in priors.items()}
            alone = densities["fitted" if vae.fitted else "of training"]
            densities["sequence"] = expected[0, part].log_prob(z, alone)
            for name, density in densities.items():
                totals[name] += (math.log(k) - torch.logsumexp(density + rest, 1)).sum().item()
            count += len(part)
        if progress:
            progress("next observations", int(rows[-1]) + 1, len(split))
    if not count:
        return {}
    figures = {f"NLL of the next, in view of those before, k = {k} (nats)": totals.pop("sequence") / count}
    return figures | {
        f"NLL of the next, from the prior {name}, k = {k} (nats)": total / count for name, total in totals.items()
    }
