"""Samples and reconstructions as a classifier sees them, which is trained on labelled rows, beside real data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmvae.core.noise import mix
from mmvae.core.vae import Batch
from mmvae.data.labels import cells_of
from mmvae.data.prepare import Progress, Split
from mmvae.data.store import spread
from mmvae.distances import NEIGHBOURS, coverage, frechet
from mmvae.generation import VAE
from mmvae.modalities.contract import Modality, Raw, stack
from mmvae.words import counted

FEATURES = 64
EPOCHS, ROWS, RATE = 12, 64, 2e-3
SAMPLES = 2000  # of fewer, or fewer than training rows, a Frechet distance measures the number as well


class Classifier(nn.Module):
    """A modality's own encoder, before a linear layer to C classes."""

    def __init__(self, modality: Modality, classes: int) -> None:
        super().__init__()
        self.encoder = modality.encoder(FEATURES)
        self.head = nn.Sequential(nn.LayerNorm(FEATURES), nn.SiLU(), nn.Dropout(0.3), nn.Linear(FEATURES, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


@dataclass(frozen=True)
class Seen:
    """What a classifier makes of N observations: features [N, F] and log-probabilities of classes [N, C]."""

    features: Tensor
    logs: Tensor

    def accuracy(self, labels: Tensor) -> float:
        """The share whose likeliest class is the label [N]."""
        return (self.logs.argmax(1) == labels).double().mean().item()

    def inception_score(self) -> float:
        """exp of the mean KL(p(y|x) || p(y)) (Salimans et al. 2016): up to the number of classes."""
        shares = self.logs.exp()
        return (shares * (self.logs - shares.mean(0).log())).sum(1).mean().exp().item()


def find_classes(train: Split, held: Split, label: str) -> list[Any]:
    """The values of a column `label`, numbers or words. Raises ValueError where they are no classes to train on, or too
    few of the rows held out have one of them."""
    classes = sorted({value for value in _labels(train, label) if value is not None}, key=str)
    if not 2 <= len(classes) <= len(train) // 2:
        values = f"{counted(len(classes), 'value')} in {counted(len(train), 'row')}"
        raise ValueError(f"column '{label}' has {values}: they are no classes")
    for rows, use in ((held, "judge by whose label is one of the training split"), (train, "learn from")):
        cells = _labels(rows, label)
        for name, column in rows.store.columns.items():
            count = sum(value in classes for value, there in zip(cells, column.present, strict=True) if there)
            if count <= NEIGHBOURS:
                least = f"it takes {NEIGHBOURS + 1} at least"
                raise ValueError(f"column '{label}': {counted(count, 'row')} with {name} to {use}; {least}")
    return classes


def recognition(
    vae: VAE,
    train: Split,
    held: Split,
    label: str,
    classes: list[Any],
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Figures of each modality on a split whose rows have a label: one of the classes, in the column `label`.

    The classifier is trained on the training split. As many samples are drawn as that has rows, up to 2,000, or as many
    as the split has, if these are more; every figure of them stands beside that of the split's own rows, and what
    grows with numbers takes as many samples as those. Sounds and texts are judged as they are written.
    """
    samples = vae.generate(max(len(held), min(len(train), SAMPLES)), seed)
    figures: dict[str, Any] = {"samples judged": len(samples)}
    classifiers: dict[str, Classifier] = {}
    votes: list[Tensor] = []  # the classes of the samples, by modality
    for name, modality in vae.modalities.items():
        known = _labelled(train, name, label, classes)
        real = _labelled(held, name, label, classes)
        classifier = classifiers[name] = _train(modality, *known, len(classes), seed, vae.device, progress)
        of = {
            "train": _see(classifier, modality, known[0], vae.device),
            "real": _see(classifier, modality, real[0], vae.device),
            "again": _see(classifier, modality, _again(vae, name, real[0]), vae.device),
            "samples": _see(classifier, modality, _tensors(modality, samples[name]), vae.device),
        }
        figures |= {f"{what} {name}": value for what, value in _figures(of, real[1]).items()}
        votes.append(of["samples"].logs.argmax(1))
    if len(votes) > 1:
        figures |= _coherence(vae, classifiers, held, label, classes, seed)
        figures["coherence of all, samples"] = _alike(votes)
        if vae.fitted:
            plain = vae.generate(len(samples), seed, prior="training")
            votes = [_chosen(vae, classifiers, name, plain[name]) for name in classifiers]
            figures["coherence of all, samples of the prior of training"] = _alike(votes)
    return figures


def distances_from_training(
    modality: Modality,
    name: str,
    train: Split,
    held: Split,
    label: str,
    made: Mapping[str, list[Raw]],
    device: torch.device,
) -> dict[str, float]:
    """Squared Frechet distances from the training split, of the split held out ("real") and of what several models
    made, in the features of one classifier. Raises ValueError where the label is none to train on."""
    classes = find_classes(train, held, label)
    known, real = (_labelled(rows, name, label, classes) for rows in (train, held))
    classifier = _train(modality, *known, len(classes), 0, device, None)
    tensors = {"real": real[0]} | {model: _tensors(modality, raws) for model, raws in made.items()}
    seen = {model: _see(classifier, modality, rows, device).features for model, rows in tensors.items()}
    trained = _see(classifier, modality, known[0], device).features
    return {model: frechet(trained, features) for model, features in seen.items()}


def _alike(votes: list[Tensor]) -> float:
    """The share of rows that are of one class in all modalities, of each of which the classes [N] are given."""
    return (torch.stack(votes) == votes[0]).all(0).double().mean().item()


def _chosen(vae: VAE, classifiers: Mapping[str, Classifier], name: str, raws: list[Raw]) -> Tensor:
    modality = vae.modalities[name]
    return _see(classifiers[name], modality, _tensors(modality, raws), vae.device).logs.argmax(1)


@torch.inference_mode()
def _coherence(
    vae: VAE,
    classifiers: dict[str, Classifier],
    held: Split,
    label: str,
    classes: list[Any],
    seed: int,
) -> dict[str, float]:
    """How often the class of what is made of other modalities is the row's own, with one source and with all others
    (Shi et al. 2019, "Variational Mixture-of-Experts Autoencoders")."""
    numbers, labels = {value: number for number, value in enumerate(classes)}, _labels(held, label)
    names, found = list(vae.modalities), {}
    for target in names:
        others = [name for name in names if name != target]
        for sources in [*([one] for one in others), *([others] if len(others) > 1 else [])]:
            rows = [row for row in held.store.complete(of=sources).tolist() if labels[row] in numbers]
            if not rows:  # none to tell by
                continue
            true = torch.tensor([numbers[labels[row]] for row in rows])
            made = vae.decode(vae.infer(held.store.batch(rows).of(sources), seed=seed), seed, to=[target])[target]
            share = (_chosen(vae, classifiers, target, made) == true).double().mean().item()
            found[f"coherence, {' and '.join(sources)} to {target}, N = {len(rows)}"] = share
    return found


def _figures(of: dict[str, Seen], labels: Tensor) -> dict[str, float]:
    floor, drawn = of["real"].features, of["samples"].features
    copies = _to_nearest(floor, of["train"].features).quantile(0.05)
    near = _to_nearest(drawn, of["train"].features) < copies
    count, trained = len(floor), of["train"].features
    others = trained[spread(len(trained), count)]
    # what chance makes of as many: real rows held out may be as many of each class, as draws are not
    drawn_anew = trained[torch.randint(len(trained), (count,), generator=torch.Generator().manual_seed(0))]
    return {
        f"classified, of {count} real": of["real"].accuracy(labels),
        f"classified, of {count} reconstructed": of["again"].accuracy(labels),
        "inception score, real": of["real"].inception_score(),
        "inception score, samples": of["samples"].inception_score(),
        "Frechet distance from training, real": frechet(trained, floor),
        "Frechet distance from training, samples": frechet(trained, drawn),
        f"Frechet distance from training, {count} of training at random": frechet(trained, drawn_anew),
        f"Frechet distance from training, {count} samples": frechet(trained, drawn[:count]),
        **{f"{what}, training rows": value for what, value in coverage(floor, others).items()},
        **{f"{what}, samples": value for what, value in coverage(floor, drawn[:count]).items()},
        "nearer to training than 95 % of real, samples": near.double().mean().item(),
    }


def _to_nearest(features: Tensor, others: Tensor) -> Tensor:
    return torch.cdist(features, others).amin(1)


def _labels(split: Split, label: str) -> list[Any]:
    cells = cells_of(split, label)
    if not all(isinstance(cell, str | int | None) for cell in cells):
        raise ValueError(f"column '{label}' holds no labels: a label is a whole number or a word")
    return cells


def _labelled(split: Split, name: str, label: str, classes: list[Any]) -> tuple[list[Tensor], Tensor]:
    """The rows of a modality that have a label, and its place among the classes."""
    numbers = {value: number for number, value in enumerate(classes)}
    column, labels = split.store.columns[name], _labels(split, label)
    slots = [index for index in range(len(split)) if column.present[index] and labels[index] in numbers]
    values = [column.take(torch.tensor([index]))[0][0] for index in slots]
    return values, torch.tensor([numbers[labels[index]] for index in slots])


def _train(
    modality: Modality,
    values: list[Tensor],
    labels: Tensor,
    classes: int,
    seed: int,
    device: torch.device,
    progress: Progress | None,
) -> Classifier:
    torch.manual_seed(mix(seed, "classifier"))
    classifier = Classifier(modality, classes).to(device).train()
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=RATE, weight_decay=0.05)
    steps = max(200, EPOCHS * len(values) // ROWS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for step in range(steps):
        rows = torch.randint(len(values), (ROWS,)).tolist()
        scores = classifier(stack(modality, [values[row] for row in rows]).to(device))
        loss = nn.functional.cross_entropy(scores.float(), labels[rows].to(device), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress:
            progress("training a classifier", step + 1, steps)
    return classifier.eval()


@torch.inference_mode()
def _see(classifier: Classifier, modality: Modality, values: list[Tensor], device: torch.device) -> Seen:
    features = []
    for start in range(0, len(values), 256):
        part = stack(modality, values[start : start + 256])
        features.append(classifier.encoder(part.to(device)).float().cpu())
    found = torch.cat(features)
    return Seen(found, torch.log_softmax(classifier.head(found.to(device)).float(), 1).cpu())


def _again(vae: VAE, name: str, values: list[Tensor]) -> list[Tensor]:
    batch = Batch({name: stack(vae.modalities[name], values)}, {name: torch.ones(len(values), dtype=torch.bool)})
    return _tensors(vae.modalities[name], vae.reconstruct(batch, to=[name])[name])


def _tensors(modality: Modality, raws: list[Raw]) -> list[Tensor]:
    return [modality.to_tensor(raw) for raw in raws]
