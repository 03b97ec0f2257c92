"""Fitting priors to a trained model: densities of the encoded training set, and of its sequences."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import chain, count, islice

import torch
from torch import Tensor, nn

from mmvae.core.noise import mix
from mmvae.core.priors import FittedMixture
from mmvae.core.sequences import LENGTH, SequencePrior
from mmvae.data.prepare import Prepared, Split
from mmvae.data.store import Store
from mmvae.evaluation.bounds import encode
from mmvae.generation import VAE
from mmvae.progress import Display
from mmvae.resume import Interrupted

ROWS = 20_000  # encoded at most for the mixture
DRAWS = 4  # of each row's posterior, for the prior over sequences
BATCH, LEARNING_RATE = 16, 2e-3
STEPS, EVERY, PATIENCE = 6000, 50, 6  # at most; between validations; validations without a better one


def fit_priors(vae: VAE, prepared: Prepared, display: Display) -> None:
    """Give a model the priors that its recipe asks for, fitted to the training split, and save them with it."""
    try:
        if vae.recipe.prior["fitted"]:
            fit_prior(vae, prepared.splits["train"].store)
        if vae.recipe.prior["sequence"]:
            fit_sequence_prior(vae, prepared, display)
    except KeyboardInterrupt:
        again = f"fit them with: mmvae train {vae.folder} --resume"
        raise Interrupted(f"the model is trained, but its priors are not fitted; {again}") from None
    if vae.fitted or vae.sequence:
        vae.save_weights()


@torch.inference_mode()
def fit_prior(vae: VAE, store: Store) -> None:
    """Give a model its fitted prior: a mixture of at most the recipe's `prior.fitted` Gaussians over one
    posterior draw of each training row."""
    if len(store) < 2:
        return  # nothing to fit a density to
    seed = vae.recipe.train.seed
    rows = torch.randperm(len(store), generator=torch.Generator().manual_seed(seed))[:ROWS]
    _, draws = encode(vae.network, store, vae.device, seed, 1, rows)
    vae.fitted = FittedMixture.fit(draws[:, 0], vae.recipe.prior["fitted"], seed).to(vae.device)


def fit_sequence_prior(vae: VAE, prepared: Prepared, display: Display) -> None:
    """Give a model its prior over sequences: trained by maximum likelihood on posterior draws of the training split's
    sequences, until the validation split's are no longer better predicted. Raises ValueError when it diverges."""
    torch.manual_seed(mix(vae.recipe.train.seed, "sequences"))
    display.say("fitting the prior over sequences")
    known, others = (_Encoded(vae, prepared.splits[split]) for split in ("train", "validation"))
    if all(len(piece) == 1 for piece in known.pieces):
        display.say("every sequence holds one observation: there is nothing to learn of what follows what")
    prior = SequencePrior(vae.network.latent.dim, vae.recipe.prior["sequence"]).to(vae.device)
    optimizer = torch.optim.AdamW(prior.parameters(), LEARNING_RATE)
    best, kept, since = math.inf, prior, 0
    batches = chain.from_iterable(known.batches(shuffled=True) for _ in count())
    for step, (means, draws, real) in enumerate(islice(batches, STEPS), start=1):
        loss = _surprise(prior.train(), means, draws, real) / real.sum()
        if not torch.isfinite(loss):
            raise ValueError(f"the prior over sequences did not learn: its loss is {loss.item()} at step {step}")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        optimizer.step()
        display("fitting the prior over sequences", step, STEPS, {"loss": loss.item()})
        if step % EVERY:
            continue
        with torch.inference_mode():
            score = sum(_surprise(prior.eval(), *batch).item() for batch in others.batches()) / others.rows
        since += 1
        if score < best:
            best, kept, since = score, copy.deepcopy(prior), 0
        if since == PATIENCE:
            break
    vae.sequence = kept.eval()
    alone = min(
        -sum(prior.log_prob(draws).sum().item() for draws in others.draws.split(256)) / others.rows / DRAWS
        for prior in (vae.network.prior, vae.prior())
    )
    display.say(
        f"prior over sequences: a latent of the validation split has {best:.2f} nats in view of those before it, "
        f"{alone:.2f} without"
    )


def _surprise(prior: SequencePrior, means: Tensor, draws: Tensor, real: Tensor) -> Tensor:
    """-log p of all draws [B, T, k, D] given the means [B, T, D] before them: a mean over k, a sum over real places."""
    return -prior(means[:, :-1])[real].log_prob(draws[real]).mean(-1).sum()


class _Encoded:
    """A split's sequences as posterior means and draws."""

    def __init__(self, vae: VAE, split: Split) -> None:
        self.means, self.draws = encode(vae.network, split.store, vae.device, vae.recipe.train.seed, DRAWS)
        self.pieces = [piece for sequence in split.sequences() for piece in sequence.split(LENGTH)]
        self.rows = len(self.means)

    def batches(self, shuffled: bool = False) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Means [B, T, D], draws [B, T, k, D], and which of them are real [B, T]; in training one of the draws."""
        order = torch.randperm(len(self.pieces)) if shuffled else torch.arange(len(self.pieces))
        for some in order.split(BATCH):
            rows = nn.utils.rnn.pad_sequence([self.pieces[i] for i in some], batch_first=True, padding_value=-1)
            draws = self.draws[:, torch.randint(DRAWS, (1,))] if shuffled else self.draws
            yield self.means[rows], draws[rows], (rows >= 0).to(self.means.device)
