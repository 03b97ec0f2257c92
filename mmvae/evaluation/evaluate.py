"""The table of `mmvae evaluate`: every figure with its unit, on a named split."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from mmvae.core.latents import slerp
from mmvae.core.noise import mix
from mmvae.data.prepare import Progress, Split, prepare
from mmvae.data.splits import SHARED
from mmvae.data.store import spread
from mmvae.evaluation import bounds
from mmvae.evaluation.apart import apart, retrieval
from mmvae.evaluation.collapse import collapse
from mmvae.evaluation.recognition import find_classes, recognition
from mmvae.evaluation.sequences import next_nll
from mmvae.generation import VAE
from mmvae.inputs import collated
from mmvae.modalities.contract import Modality, Raw
from mmvae.recipe import Recipe

FEW = 20  # rows, of fewer of which figures say little
MOST = 1000  # observations that are reconstructed, and samples that are drawn
DISTURBED = 200  # observations that are tried under noise
WALKS, STEPS = 50, 9  # ways between two observations, and observations on each
TIMED = 32  # observations that are encoded and decoded at once to take the time


def evaluate(
    model: VAE | str | Path,
    split: str = "test",
    k: int = 64,
    data: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    label: str | None = None,
    factors: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure a model on a split of its data, or of other data.

    k: draws of the importance-weighted NLL. label: a column of classes, by which a classifier is trained that judges
    reconstructions and samples. factors: columns that are known to have made the rows, to which latent dimensions are
    held, on the rows that have them all. data: a path in place of the recipe's, used whole unless it declares the
    split. limit: rows of it at most. A "warning" is among the figures where the latent says nothing.
    Bounds and distortions are in nats a row, at KL weight 1, with the prior of training unless another one is named.
    Raises ValueError or FileNotFoundError when the data cannot be had.
    """
    if k < 1 or (limit is not None and limit < 1):
        raise ValueError(f"k = {k}, limit = {limit}: both are from 1")
    vae = model if isinstance(model, VAE) else VAE.load(model)
    recipe = on_other_data(vae.recipe, split, data, limit)
    prepared = prepare(recipe, vae.modalities, split, progress)
    rows, report = prepared.splits[split], prepared.report
    if label:  # found before all else is measured
        unlimited = on_other_data(vae.recipe, split, data)  # a classifier of `limit` rows would judge badly
        training = prepare(unlimited, vae.modalities, "train", progress).splits["train"]
        classes = find_classes(training, rows, label)
    if factors:
        from mmvae.evaluation.disentanglement import disentanglement, find_factors  # a second of scikit-learn

        known, whole = find_factors(rows, factors)
    samples = _samples(vae, rows, seed)  # first: a plugin's metrics may find that they cannot be had
    terms = bounds.elbo(vae.network, rows.store, vae.device, seed)
    use = bounds.latent_use(vae.network, rows.store, vae.device, seed)
    figures = {
        **({} if terms.rate is None else _bounds(vae, rows, terms, k, seed, progress)),
        **_distortion(rows, terms),
        f"active units, of {vae.recipe.latent['dim']}": int(use["active units"]),
        **(
            {f"mutual information, N = {use['rows compared']:.0f} (nats)": use["mutual information"]}
            if "mutual information" in use
            else {}
        ),
        "aggregate posterior variance": use["aggregate variance"],
        **{f"{name} (nats)": value for name, value in use.items() if name.startswith(bounds.ALONE)},
        **_reconstruction(vae, rows, seed),
        **samples,
        **(retrieval(vae.network, rows.store, vae.device, seed) if len(vae.modalities) > 1 else {}),
        **_walks(vae, rows),
        **_pace(vae, rows),
        **(recognition(vae, training, rows, label, classes, seed, progress) if label else {}),
    }
    if factors:
        means, _ = bounds.encode(vae.network, rows.store, vae.device, seed)
        if lacking := int((~whole).sum()):
            figures["rows that lack a factor, left out of MIG, SAP and DCI"] = lacking
        figures |= disentanglement(means.cpu().numpy()[whole], known, seed)
    if data is None and len(rows) >= FEW and (warning := collapse(terms.rate or 0.0, use, vae.recipe)):
        figures["warning"] = warning
    return {
        "model": str(vae.folder),
        "data": recipe.data.path,
        "split": split,
        "rows": len(rows),
        **({"rows that could not be used": len(report.rejected)} if report.rejected else {}),
        **{f"rows {what}": count for what, count in report.notes.items()},
        "seed": seed,
        **({"settings": vae.overrides} if vae.overrides else {}),
        **figures,
    }


def on_other_data(recipe: Recipe, split: str, data: str | None, limit: int | None = None) -> Recipe:
    """A recipe on its own data, of which what training let pass is let pass, or on other data, of which all are the
    split unless they declare one of that name."""
    changed: dict[str, Any] = {} if limit is None else {"limit": limit}
    if data is None:
        changed["max_rejected"] = 1.0  # as many of all rows were let pass in training: of one split they may be more
    else:
        changed |= {"path": data, "config": None, "validation": 0.0, "test": 0.0}
        changed |= {split: 1.0} if split in SHARED else {}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=changed)})


def _bounds(
    vae: VAE, rows: Split, terms: bounds.Measured, k: int, seed: int, progress: Progress | None
) -> dict[str, float]:
    priors = [vae.fitted] if vae.fitted else []
    nll, *others = bounds.importance_nll(vae.network, rows.store, vae.device, k, seed, progress, priors)
    figures = {
        "-ELBO (nats)": terms.total,
        f"NLL, importance-weighted, k = {k} (nats)": nll.mean().item(),
        **{f"NLL under the fitted prior, k = {k} (nats)": other.mean().item() for other in others},
        "rate (nats)": terms.rate or 0.0,
    }
    if len(vae.modalities) > 1:
        figures |= apart(vae.network, rows.store, vae.device, k, seed, progress, vae.fitted)
    else:  # bits per dimension, perplexity and the like: the joint NLL is its own
        ((name, modality),) = vae.modalities.items()
        figures |= modality.scores(nll, rows.store.batch(range(len(rows))).values[name])
    if vae.sequence and vae.recipe.data.ordered:
        figures |= next_nll(vae, rows, k, seed, progress)
    return figures


def _distortion(rows: Split, terms: bounds.Measured) -> dict[str, float]:
    """A row that lacks a modality has no distortion of it."""
    figures = {}
    for name, value in terms.distortion.items():
        if not (count := int(rows.store.columns[name].present.sum())):
            continue
        of = "" if count == len(rows) else f", N = {count}"
        figures[f"distortion, {name}{of} (nats)"] = value * len(rows) / count
    return figures


def _reconstruction(vae: VAE, rows: Split, seed: int) -> dict[str, float]:
    chosen = spread(len(rows), MOST)
    figures = {}
    for name, modality in vae.modalities.items():
        index = chosen[rows.store.columns[name].present[chosen]]
        if not len(index):
            continue
        batch = rows.store.batch(index)
        again = vae.reconstruct(batch.of([name]), to=[name])[name]
        raws = [rows.raw(name, i) for i in index.tolist()]
        measured = modality.metrics(raws, again)
        figures |= {f"reconstruction, {name}: {what}, N = {len(index)}": value for what, value in measured.items()}
        figures |= _disturbed(vae, name, [raws[i] for i in spread(len(raws), DISTURBED).tolist()], seed)
    return figures


def _disturbed(vae: VAE, name: str, raws: list[Raw], seed: int) -> dict[str, float]:
    """How near to the clean observations a model brings noisy ones, and how near these were."""
    modality, figures = vae.modalities[name], {}
    noisy = [modality.disturb(raw, np.random.default_rng(mix(seed, "noise", i))) for i, raw in enumerate(raws)]
    for strength in noisy[0]:
        heard = [versions[strength] for versions in noisy]
        again = vae.reconstruct(collated(vae.modalities, {name: heard}), to=[name])[name]  # at the level that they have
        for what, found in (("given", heard), ("reconstructed", again)):
            measured = modality.metrics(raws, found)
            label = f"{what}, {name}, {strength}"
            figures |= {f"{label}: {measure}, N = {len(raws)}": value for measure, value in measured.items()}
    return figures


def _samples(vae: VAE, rows: Split, seed: int) -> dict[str, float]:
    measured = {name: modality for name, modality in vae.modalities.items() if modality.judges_samples}
    samples = vae.generate(MOST, seed) if measured else None
    figures = {}
    for name, modality in measured.items():
        present = rows.store.complete(MOST, [name])
        if samples is None or not len(present):
            continue
        # as many as there are real ones: the more texts, the fewer of their words are new
        drawn = samples[name][: len(present)]
        found = modality.sample_metrics(drawn, [rows.raw(name, i) for i in present.tolist()])
        figures |= {f"samples, {name}: {what}, N = {len(drawn)}": value for what, value in found.items()}
    return figures


def _walks(vae: VAE, rows: Split) -> dict[str, float]:
    """How straight the way between two observations is: the distance of its ends over the sum of its steps, 1 where
    each step leads on, less where it wanders, 0 where nothing changes."""
    figures = {}
    for name, modality in vae.modalities.items():
        present = rows.store.complete(of=[name])
        chosen = present[spread(len(present), 2 * min(WALKS, len(present) // 2))]
        if type(modality).distance is Modality.distance or not len(chosen):
            continue
        z = vae.encode(rows.store.batch(chosen).of([name]))
        weights = torch.linspace(0, 1, STEPS, device=z.device)[:, None]
        ways = torch.cat([slerp(a, b, weights) for a, b in zip(z[::2], z[1::2], strict=True)])
        decoded = vae.decode(ways, temperature=0.0, to=[name])[name]
        straight = []
        for start in range(0, len(decoded), STEPS):
            way = decoded[start : start + STEPS]
            length = sum(modality.distance(a, b) for a, b in pairwise(way))
            straight.append(modality.distance(way[0], way[-1]) / length if length else 0.0)
        figures[f"interpolation, {name}: straightness, N = {len(straight)}"] = sum(straight) / len(straight)
    return figures


def _pace(vae: VAE, rows: Split) -> dict[str, float]:
    """Real-time factors: the time to encode observations and to decode them, over the time that they last."""
    figures = {}
    for name, modality in vae.modalities.items():
        present = rows.store.complete(TIMED, [name])
        if modality.seconds is None or not len(present):
            continue
        raws = [rows.raw(name, i) for i in present.tolist()]
        vae.decode(vae.encode({name: raws[:1]}), to=[name])  # what is compiled at its first use is compiled by now
        marks = [perf_counter()]
        z = vae.encode({name: raws}).cpu()  # which waits for a device that computes meanwhile
        marks.append(perf_counter())
        vae.decode(z, to=[name])
        marks.append(perf_counter())
        for what, (start, end) in zip(("encoding", "decoding"), pairwise(marks), strict=True):
            figures[f"{what}, {name}: real-time factor"] = (end - start) / (len(raws) * modality.seconds)
    return figures
