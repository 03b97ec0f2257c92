"""Fitting priors to a trained model: densities of the encoded training set, and of its sequences."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmvae.checkpoint import FITTED_KINDS
from mmvae.core.fitted import LEAST_OF_TREE, LEAST_ROWS, FittedMixture, FittedTree
from mmvae.core.noise import mix
from mmvae.core.sequences import LENGTH, SequencePrior
from mmvae.data.prepare import Prepared, Split, prepare
from mmvae.data.store import Store
from mmvae.evaluation.bounds import encode
from mmvae.generation import VAE
from mmvae.progress import Display
from mmvae.recipe import Recipe
from mmvae.recipe_files import read_config
from mmvae.resume import Interrupted, claim
from mmvae.words import counted

P = TypeVar("P", bound=nn.Module)

ROWS = 20_000  # encoded at most for a prior of single latents
DRAWS = 4  # of each row's posterior, for the prior over sequences
BATCH, FIT_BATCH, LEARNING_RATE = 16, 256, 2e-3
STEPS, EVERY, PATIENCE = 6000, 50, 6  # at most; between validations; validations without a better one


FITS = ("fitted", "sequence")  # keys of a recipe's table `prior`


def fit_priors(vae: VAE, prepared: Prepared, display: Display, keys: Sequence[str] = FITS) -> None:
    """Give a model the priors that its recipe asks for, fitted to the training split."""
    for key, fit in zip(FITS, (fit_prior, fit_sequence_prior), strict=True):
        if key in keys:
            setattr(vae, key, None)
            if vae.recipe.prior[key]:
                fit(vae, prepared, display)


def fit_first_priors(vae: VAE, prepared: Prepared, display: Display) -> None:
    """Fit the priors of a model that was just trained, and save them with it."""
    try:
        fit_priors(vae, prepared, display)
    except KeyboardInterrupt:
        again = f"fit them with: mmvae train {vae.folder} --resume"
        raise Interrupted(f"the model is trained, but its priors are not fitted; {again}") from None
    if vae.fitted or vae.sequence:
        vae.save_weights()


def refit(folder: str | Path, overrides: Sequence[str], display: Display) -> VAE:
    """Fit the priors of a trained model again, with other settings of `prior.fitted` or `prior.sequence`, and save the
    model with them. Raises ValueError or FileNotFoundError."""
    for item in overrides:
        if not item.startswith(("prior.fitted=", "prior.sequence=")):
            raise ValueError(f"'{item}': only prior.fitted and prior.sequence can be fitted to a trained model")
    with claim(Path(folder), True):
        vae = VAE.load(folder)
        vae.recipe = Recipe.load(folder, overrides)
        if not overrides and not any(vae.recipe.prior[key] for key in FITS):
            raise ValueError(f"{folder}: its recipe fits no prior: say which, such as prior.fitted=20")
        alone = overrides and all(item.startswith("prior.sequence=") for item in overrides)
        keys = ("sequence",) if alone else FITS  # the prior over sequences is made of the fitted one
        try:
            fit_priors(vae, prepare(vae.recipe, vae.modalities, progress=display), display, keys)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped: {folder} keeps the priors that it had") from None
        about = {key: value for key, value in read_config(Path(folder)).items() if key == "data"}
        vae.save(folder, about)
        if measured := sorted(path.name for path in Path(folder).glob("evaluation-*.json")):
            display.say(f"measured with the prior before: {', '.join(measured)}")
    return vae


def fit_prior(vae: VAE, prepared: Prepared, display: Display) -> None:
    """Give a model its fitted prior, of posterior draws of the training rows: a mixture of as many Gaussians as
    `prior.fitted` says, or another kind that it names."""
    train, seed = prepared.splits["train"].store, vae.recipe.train.seed
    if len(train) < 2:
        display.say("no prior is fitted: one training row is nothing to fit a density to")
        return
    own = _private(vae)
    if own and len(train.complete()) < 2:
        display.say("the prior is fitted to rows of which none has all modalities: its samples' parts need not agree")
    kind = vae.recipe.prior["fitted"]
    draws, others = (_draws(vae, prepared.splits[name].store, name) for name in ("train", "validation"))
    others = others.flatten(0, 1)
    if kind not in FITTED_KINDS:
        # copies are no more rows
        rows = min(len(draws), len(_whole(vae, train)) // (1 + vae.recipe.data.variants))
        count = FittedMixture.components(kind, rows, LEAST_OF_TREE if own else LEAST_ROWS)
        fewer = f", of so few rows, in place of {kind:,}" if count < kind else ""
        display.say(f"fitting the prior: {counted(count, 'Gaussian')}{fewer}")
        if own:
            vae.fitted = FittedTree.fit(draws, others, count, seed, own).to(vae.device)
            return
        vae.fitted = FittedMixture.fit(draws, others, count, seed).to(vae.device)
        if share := vae.fitted.standard_share:
            display.say(f"beside them N(0, I), of weight {share:.2f}: held-out rows lie where it has them")
        return
    torch.manual_seed(mix(seed, "prior"))
    prior = FITTED_KINDS[kind](vae.network.latent).to(vae.device)
    prior.place(draws.flatten(0, 1))

    def batches() -> Iterator[Tensor]:
        while True:
            rows = torch.randint(len(draws), (FIT_BATCH,))
            yield draws[rows, torch.randint(DRAWS, (FIT_BATCH,))]

    vae.fitted = _learn(
        prior,
        batches(),
        lambda z: -prior.log_prob(z).mean(),
        lambda: -sum(prior.log_prob(part).sum().item() for part in others.split(FIT_BATCH)) / len(others),
        display,
        f"fitting the prior: {kind}",
    )


def _private(vae: VAE) -> list[int]:
    """How many dimensions modalities have of their own, of those that have any."""
    tables = vae.recipe.modalities
    return [tables[name]["private"] for name in vae.modalities if tables[name]["private"]]


def _seed(vae: VAE, split: str) -> int:
    """Of the draws of a split: not that of figures, which would find a prior that has seen their noise."""
    return mix(vae.recipe.train.seed, "prior", split)


def _whole(vae: VAE, store: Store) -> Tensor:
    """The rows that a prior is fitted to: all, and where modalities have dimensions of their own, those that have all
    modalities, if any do: of others nothing is to be learned of what goes with what."""
    whole = store.complete() if _private(vae) else torch.arange(len(store))
    return whole if len(whole) > 1 else torch.arange(len(store))


@torch.inference_mode()
def _draws(vae: VAE, store: Store, split: str) -> Tensor:
    """Posterior draws of rows from all over a split, [N, DRAWS, D]."""
    whole, seed = _whole(vae, store), _seed(vae, split)
    rows = whole[torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))[:ROWS]]
    return encode(vae.network, store, vae.device, seed, DRAWS, rows)[1]


def fit_sequence_prior(vae: VAE, prepared: Prepared, display: Display) -> None:
    """Give a model its prior over sequences: trained by maximum likelihood on posterior draws of the training split's
    sequences, until the validation split's are no longer better predicted. Raises ValueError when it diverges."""
    torch.manual_seed(mix(vae.recipe.train.seed, "sequences"))
    known, others = (_Encoded(vae, prepared.splits[name], name) for name in ("train", "validation"))
    if all(len(piece) == 1 for piece in known.pieces):
        display.say("every sequence holds one observation: there is nothing to learn of what follows what")
    prior = SequencePrior(vae.network.latent.dim, vae.recipe.prior["sequence"]).to(vae.device)

    def score() -> float:
        return sum(_surprise(prior, *batch).item() for batch in others.batches()) / others.rows

    vae.sequence = _learn(
        prior,
        chain.from_iterable(known.batches(shuffled=True) for _ in count()),
        lambda batch: _surprise(prior, *batch) / batch[-1].sum(),
        score,
        display,
        "fitting the prior over sequences",
    )
    with torch.inference_mode():
        best = score()
    display.say(
        f"prior over sequences: a latent of the validation split has {best:.2f} nats in view of those before it, "
        f"{-others.alone.mean().item():.2f} without"
    )


def _learn(
    prior: P,
    batches: Iterator[Any],
    loss_of: Callable[[Any], Tensor],
    score: Callable[[], float],
    display: Display,
    what: str,
) -> P:
    """Train a prior until its score on the validation split no longer falls, and give it its best weights back. Raises
    ValueError when it diverges."""
    display.say(what)
    optimizer = torch.optim.AdamW(prior.parameters(), LEARNING_RATE)
    best, kept, since = math.inf, None, 0
    for step, batch in enumerate(islice(batches, STEPS), start=1):
        loss = loss_of(batch)
        if not torch.isfinite(loss):
            raise ValueError(f"{what}: it did not learn, its loss is {loss.item()} at step {step}")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        optimizer.step()
        display(what, step, STEPS, {"loss": loss.item()})
        if step % EVERY:
            continue
        prior.eval()
        with torch.inference_mode():
            found = score()
        prior.train()
        since += 1
        if found < best:
            best, kept, since = found, copy.deepcopy(prior.state_dict()), 0
        if since == PATIENCE:
            break
    if kept is None:
        raise ValueError(f"{what}: it did not learn, of no validation its score is a number")
    prior.load_state_dict(kept)
    return prior.eval()


def _surprise(prior: SequencePrior, means: Tensor, draws: Tensor, alone: Tensor, real: Tensor) -> Tensor:
    """-log p of all draws [B, T, k, D] given the means [B, T, D] before them: a mean over k, a sum over real places.
    alone [B, T, k]: their log-densities in view of nothing."""
    return -prior(means[:, :-1])[real].log_prob(draws[real], alone[real]).mean(-1).sum()


class _Encoded:
    """A split's sequences as posterior means and draws, and the log-densities of these where nothing came before."""

    def __init__(self, vae: VAE, split: Split, name: str) -> None:
        self.means, self.draws = encode(vae.network, split.store, vae.device, _seed(vae, name), DRAWS)
        with torch.inference_mode():
            self.alone = torch.cat([vae.prior().log_prob(part) for part in self.draws.split(256)])
        self.pieces = [piece for sequence in split.sequences() for piece in sequence.split(LENGTH)]
        self.rows = len(self.means)

    def batches(self, shuffled: bool = False) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Means [B, T, D], draws [B, T, k, D], their log-densities alone [B, T, k], and which are real [B, T]; in
        training one of the draws."""
        order = torch.randperm(len(self.pieces)) if shuffled else torch.arange(len(self.pieces))
        for some in order.split(BATCH):
            rows = nn.utils.rnn.pad_sequence([self.pieces[i] for i in some], batch_first=True, padding_value=-1)
            chosen = torch.randint(DRAWS, (1,)) if shuffled else slice(None)
            draws, alone = self.draws[:, chosen], self.alone[:, chosen]
            yield self.means[rows], draws[rows], alone[rows], (rows >= 0).to(self.means.device)
