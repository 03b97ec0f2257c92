"""Training that starts from a trained model: with its weights, and with what was fitted to its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmvae import checkpoint
from mmvae.core.vae import Network
from mmvae.modalities.contract import Modality
from mmvae.recipe import Recipe


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
    for key in {**theirs, **ours}:
        if ours.get(key) != theirs.get(key):
            there, here = theirs.get(key), ours.get(key)
            raise ValueError(f"train.start = {start}: {key} is {there!r} there and {here!r} here: make them alike")
    return checkpoint.load_modalities(recipe, Path(start))


def load_start(recipe: Recipe, network: Network) -> None:
    """Give a network the weights of the model that its recipe starts from, if it does. Raises ValueError."""
    if recipe.train.start is None:
        return
    try:
        network.load_state_dict(_load(recipe.train.start).network.state_dict())
    except RuntimeError as error:
        why = checkpoint.mismatch(error)
        raise ValueError(f"train.start = {recipe.train.start}: its weights do not fit the recipe: {why}") from None


def _load(start: str) -> checkpoint.Saved:
    try:
        return checkpoint.load(Path(start))
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"train.start = {start}: {error}") from None


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
