"""Training that starts from a trained model: with its weights, and with what was fitted to its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mmvae import checkpoint
from mmvae.core.vae import Network
from mmvae.data.store import Store
from mmvae.modalities.contract import Modality
from mmvae.recipe import Recipe
from mmvae.tables import ModalityTable


def started_modalities(recipe: Recipe, run: Path | None = None) -> dict[str, Modality] | None:
    """The modalities of a recipe, fitted as those of the model that it starts from; None where it starts from none.

    run: a run of the recipe that goes on. Raises ValueError or FileNotFoundError where there is no such model, or the
    recipe would prepare its data in another way.
    """
    start = recipe.train.start
    if start is None:
        return None
    if run:
        return checkpoint.load_modalities(recipe, run)
    if recipe.train.pretrain:
        raise ValueError("train.pretrain: the decoders that train.start brings would be thrown away; set it to 0")
    ours, theirs = _prepared(recipe), _prepared(_load(start).recipe)
    for why in _differences(ours, theirs):
        raise ValueError(f"train.start = {start}: {why}: make them alike")
    return checkpoint.load_modalities(recipe, Path(start))


def load_start(recipe: Recipe, network: Network) -> None:
    """Give a network the weights of the model that its recipe starts from, if it does. Raises ValueError."""
    if recipe.train.start is None:
        return
    saved = _load(recipe.train.start)
    try:
        network.load_state_dict(saved.network.state_dict())
    except RuntimeError as error:
        why = next(_differences(_parts(recipe), _parts(saved.recipe)), checkpoint.mismatch(error))
        raise ValueError(f"train.start = {recipe.train.start}: its weights do not fit the recipe: {why}") from None


def show_rows(network: Network, store: Store, device: torch.device) -> None:
    """Show the prior of a new network the training rows that it asks for. Raises ValueError where a learned prior
    would take what is a modality's own to be N(0, I), as the posteriors of rows that lack it have it."""
    prior = network.prior
    if prior.learned and not prior.lets_lack:
        known = network.latent.known({name: column.present.to(device) for name, column in store.columns.items()})
        if lacking := int((~known.all(1)).sum()):
            raise ValueError(
                f"{lacking:,} of {len(store):,} training rows lack a modality with private dimensions, which a learned "
                "prior would take to be N(0, I) for that: set prior.kind to tree, or modalities.NAME.private to 0"
            )
    if count := prior.examples:
        prior.show(store.batch(torch.arange(count) * len(store) // count).to(device))


def _load(start: str) -> checkpoint.Saved:
    try:
        return checkpoint.load(Path(start))
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"train.start = {start}: {error}") from None


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for key in {**theirs, **ours}:
        if ours.get(key) != theirs.get(key):
            yield f"{key} is {theirs.get(key)!r} there and {ours.get(key)!r} here"


def _parts(recipe: Recipe) -> dict[str, Any]:
    """The settings that say which weights a network has, kinds first."""
    tables = {"latent": recipe.latent, "prior": {**recipe.prior, "fitted": 0, "sequence": 0}}
    tables |= {f"modalities.{name}": table for name, table in recipe.modalities.items()}
    return {
        f"{name}.{key}": value
        for name, table in tables.items()
        for key, value in table.items()
        if name in ("latent", "prior") or key not in ModalityTable.model_fields
    }


def _prepared(recipe: Recipe) -> dict[str, Any]:
    """What the statistics of a model, and the meaning of its dimensions, hang on."""
    found: dict[str, Any] = {"modalities": list(recipe.modalities)}
    for name, table in recipe.modalities.items():
        settings = {**recipe.prepared(name), "private": table["private"]}
        found |= {
            f"modalities.{name}.{key}": value
            for key, value in settings.items()
            if key != "column" and not key.startswith("vary_")
        }
    return found
