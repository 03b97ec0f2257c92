"""Saved models: a folder of safetensors and JSON, whose loading executes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import mmvae
from mmvae.core.codes import CodePrior
from mmvae.core.fitted import FittedMixture, FittedTree
from mmvae.core.latents import Latent
from mmvae.core.learned_priors import Flow
from mmvae.core.priors import Prior
from mmvae.core.sequences import SequencePrior
from mmvae.core.vae import Network
from mmvae.modalities.contract import Modality, dump_state
from mmvae.modalities.registry import modalities as registry
from mmvae.recipe import Recipe
from mmvae.recipe_files import CONFIG, read_config

FORMAT = 2
WEIGHTS = "model.safetensors"
FIXED = ("train", "objective", "kl", "prior")  # tables of a recipe that say nothing to a trained model
FITTED, SEQUENCE = "fitted.", "sequence."  # prefixes of the tensors of what is fitted after training
# what `prior.fitted` may name: a new prior over the latents of a network, to be fitted to them
FITTED_KINDS: dict[str, Callable[[Latent], Flow | CodePrior]] = {
    "flow": lambda latent: Flow(Flow.Config(), latent.dim),
    "codes": CodePrior,
}


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file aside, flush it to the disk and rename it: it is there whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def build(recipe: Recipe, modalities: Mapping[str, Modality], weights: Mapping[str, float] | None = None) -> Network:
    """A new network for fitted modalities, its parameters drawn from torch's global generator. weights: of the
    modalities in training."""
    latent = recipe.build_latent()
    return Network(
        {name: modality.encoder(latent.outputs) for name, modality in modalities.items() if latent.outputs},
        {name: modality.decoder(latent.dim) for name, modality in modalities.items()},
        latent,
        recipe.build_prior(),
        weights,
        {name: recipe.modalities[name]["private"] for name in modalities},
    )


def save_config(folder: Path, recipe: Recipe, modalities: Mapping[str, Modality], about: Mapping[str, Any]) -> None:
    """Write all of a model but its weights. about: further JSON values, such as the data's fingerprint."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, modality in modalities.items():
        text = dump_state(modality.state())
        write_whole(folder / f"{name}.json", lambda path, text=text: path.write_text(text, encoding="utf-8"))
    config = {
        "format": FORMAT,
        "mmvae": mmvae.__version__,
        "modalities": {name: registry.origin(recipe.modalities[name]["kind"]) for name in modalities},
        "recipe": recipe.model_dump(mode="json"),
        **about,
    }
    text = json.dumps(config, indent=1, ensure_ascii=False)
    write_whole(folder / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors to a safetensors file, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_whole(path, lambda aside: save_file(plain, aside, dict(metadata or {})))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Named tensors and metadata of a safetensors file. Raises ValueError when it is damaged."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors, which are not read. Raises ValueError when it is damaged."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from None


def save_weights(
    folder: Path, network: Network, fitted: Prior | None = None, sequence: SequencePrior | None = None
) -> None:
    """Write the network's weights, and those of the priors fitted after training."""
    tensors = dict(network.state_dict())
    for prefix, prior in ((FITTED, fitted), (SEQUENCE, sequence)):
        if prior is not None:
            tensors |= {prefix + name: tensor for name, tensor in prior.state_dict().items()}
    save_tensors(folder / WEIGHTS, tensors)


def mismatch(error: RuntimeError) -> str:
    """What load_state_dict found first that does not fit."""
    return str(error).splitlines()[1].strip()


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors whose names begin so, taken out, under the rest of their names."""
    return {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


@dataclass(frozen=True)
class Saved:
    """What a model's folder holds: all on the CPU."""

    recipe: Recipe
    modalities: dict[str, Modality]
    network: Network
    fitted: Prior | None
    sequence: SequencePrior | None


def load_modalities(recipe: Recipe, folder: Path) -> dict[str, Modality]:
    """A recipe's modalities, fitted as those of a saved model are. Raises ValueError where they cannot be."""
    modalities = {name: recipe.modality(name) for name in recipe.modalities}
    for name, modality in modalities.items():
        try:
            modality.load_state(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
        except Exception as error:  # each modality, those of strangers too, judges its state in its own way
            raise ValueError(f"{folder}: the state of '{name}' could not be read: {error}") from None
    return modalities


def check_format(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises ValueError unless a saved model is of this version's format."""
    if config["format"] != FORMAT:
        raise ValueError(
            f"{folder}: saved in format {config['format']} by mmvae {config.get('mmvae')}; "
            f"this is mmvae {mmvae.__version__}, format {FORMAT}: train it anew, or use that one"
        )


def load(folder: Path, overrides: Sequence[str] = ()) -> Saved:
    """A saved model, on the CPU, with other settings that leave its weights as they are.

    Raises FileNotFoundError or ValueError with what is wrong with the folder.
    """
    config = read_config(folder)
    check_format(folder, config)
    try:
        recipe = Recipe.load(folder, overrides)
        trained = Recipe.load(folder) if overrides else recipe
    except ValueError as error:
        made = ", ".join(sorted(set(map(str, dict(config.get("modalities") or {}).values()))))
        hint = f" (made with {made}: install or register that first)" if "unknown modality" in str(error) else ""
        raise ValueError(f"{error}{hint}") from None
    changed = {name for name in FIXED if getattr(recipe, name) != getattr(trained, name)}
    if recipe.data.model_copy(update={"max_rejected": trained.data.max_rejected}) != trained.data:
        changed.add("data")
    for name in recipe.modalities.keys() & trained.modalities.keys():
        tables = recipe.modalities[name], trained.modalities[name]
        changed |= {f"modalities.{name}.{key}" for key in trained.settled(name) if tables[0].get(key) != tables[1][key]}
    if changed:
        but = " but max_rejected" if "data" in changed else ""
        raise ValueError(
            f"{', '.join(overrides)}: of {' and '.join(sorted(changed))} nothing{but} can be changed in {folder}, "
            "which is trained already: leave it out, or train another model (train.start begins with this one)"
        )
    made_of = dict(config.get("modalities") or {}).keys()
    if made_of and (added := recipe.modalities.keys() - made_of):
        known = ", ".join(sorted(made_of))
        raise ValueError(f"{folder}: the model has no modality '{sorted(added)[0]}'; it has {known}")
    modalities = load_modalities(recipe, folder)
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder}: no {WEIGHTS} yet: it is written at the first validation of `mmvae train`")
    tensors, _ = read_tensors(folder / WEIGHTS)
    dim = recipe.latent["dim"]
    fitted: Prior | None = None
    sequence = None
    with torch.random.fork_rng(devices=[]):  # not on "meta": there nn.Embedding imports torch's compiler, for 2 seconds
        network = build(recipe, modalities)
        if of_fitted := _below(FITTED, tensors):
            try:
                fitted = _unfitted(of_fitted, network.latent)
            except ValueError as error:
                raise ValueError(f"{folder / WEIGHTS}: does not fit the recipe in {CONFIG}: {error}") from None
        if of_sequence := _below(SEQUENCE, tensors):
            hidden = of_sequence["first"].shape[-1] if "first" in of_sequence else 1
            sequence = SequencePrior(dim, hidden).eval()
    try:
        network.load_state_dict(tensors, assign=True)
        for part, state in ((fitted, of_fitted), (sequence, of_sequence)):
            if part is not None:
                part.load_state_dict(state)
    except RuntimeError as error:
        why = f": {mismatch(error)}"
        if overrides and "size mismatch" in str(error):
            why = f" with {', '.join(overrides)}, which would need other weights"
        raise ValueError(f"{folder / WEIGHTS}: does not fit the recipe in {CONFIG}{why}") from None
    return Saved(recipe, modalities, network, fitted, sequence)


def _unfitted(state: Mapping[str, Tensor], latent: Latent) -> Prior:
    """A prior of the kind and the sizes of a saved one. Raises ValueError where that is none of the latent's."""

    def mixture(prefix: str = "") -> FittedMixture:
        if (means := state.get(f"{prefix}means")) is None or means.ndim != 2:
            raise ValueError(f"its fitted prior lacks {prefix}means")
        return FittedMixture(means.shape[1], len(means))

    fitted: Prior
    if "weights" in state:
        fitted = mixture()
    elif "trunk.weights" in state:
        branches = len({key.split(".")[1] for key in state if key.startswith("branches.")})
        fitted = FittedTree(mixture("trunk."), [mixture(f"branches.{i}.") for i in range(branches)])
    else:
        fitted = FITTED_KINDS["codes" if "positions" in state else "flow"](latent)
    if fitted.dim != latent.dim:
        raise ValueError(f"its fitted prior is of {fitted.dim} dimensions, latent.dim is {latent.dim}")
    return fitted
