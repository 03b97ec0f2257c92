"""A trained model and its verbs: generate, encode, decode, reconstruct, interpolate, combine."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

import mmvae
from mmvae import checkpoint
from mmvae.composing import sequences
from mmvae.core.latents import slerp
from mmvae.core.noise import Noise, mix
from mmvae.core.priors import Prior
from mmvae.core.sequences import SequencePrior
from mmvae.core.vae import Batch, Network
from mmvae.data.store import digest
from mmvae.hardware import best_device
from mmvae.inferring import drawn, placed
from mmvae.inputs import Inputs, hear, taken, to_batch, unquote
from mmvae.modalities.contract import Modality, Raw, as_stream
from mmvae.recipe import Recipe
from mmvae.samples import Samples
from mmvae.words import counted

ROWS = 64  # decoded at a time
LONGEST = 1000  # observations of a sequence: their latents are kept in the notes of files
NO_SEQUENCES = "no prior over sequences: train it with prior.sequence = 256 and data.sequences or data.pieces = true"


class VAE:
    """A trained model: its network, the modalities that turn files into tensors and back, and its recipe."""

    def __init__(
        self,
        network: Network,
        modalities: dict[str, Modality],
        recipe: Recipe,
        fitted: Prior | None = None,
        sequence: SequencePrior | None = None,
        folder: Path | None = None,
        overrides: Sequence[str] = (),
    ) -> None:
        self.network, self.modalities, self.recipe = network.eval(), modalities, recipe
        self.fitted, self.sequence, self.folder, self.overrides = fitted, sequence, folder, list(overrides)
        self.weights = digest(folder / checkpoint.WEIGHTS) if folder else None

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None, overrides: Sequence[str] = ()) -> VAE:
        """A model from its folder, on the given device or the best there is.

        overrides: settings in place of the recipe's that leave the weights as they are, such as
        "modalities.text.top_p=0.9". Raises FileNotFoundError or ValueError when the folder holds no model, or another
        one than the overrides ask for.
        """
        folder = Path(folder)
        saved = checkpoint.load(folder, overrides)
        model = cls(saved.network, saved.modalities, saved.recipe, saved.fitted, saved.sequence, folder, overrides)
        return model.to(device or best_device())

    def save(self, folder: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Write the model to a folder that `load` reads; safetensors and JSON only."""
        self.folder = Path(folder)
        checkpoint.save_config(self.folder, self.recipe, self.modalities, about or {})
        self.save_weights()

    def save_weights(self) -> None:
        """Write the weights and the fitted priors into the model's folder."""
        if self.folder is None:
            raise ValueError("the model has no folder yet: save it first")
        checkpoint.save_weights(self.folder, self.network, self.fitted, self.sequence)
        self.weights = digest(self.folder / checkpoint.WEIGHTS)

    def to(self, device: str | torch.device) -> VAE:
        """Move the weights."""
        for part in (self.network, self.fitted, self.sequence):
            if part is not None:
                part.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def prior(self, which: Literal["fitted", "training"] | None = None) -> Prior:
        """The prior fitted after training, or that of training; by default the fitted one if there is one.

        Raises ValueError when a fitted one is asked for and there is none.
        """
        if which not in (None, "fitted", "training"):
            raise ValueError(f"prior '{which}': it is 'fitted' or 'training'")
        if which == "fitted" and self.fitted is None:
            raise ValueError(f"the model has no fitted prior: mmvae fit-prior {self.folder or 'MODEL'} prior.fitted=10")
        if which == "training" or self.fitted is None:
            return self.network.prior
        return self.fitted

    @torch.inference_mode()
    def generate(
        self,
        n: int = 16,
        seed: int = 0,
        temperature: float | None = None,
        prior: Literal["fitted", "training"] | None = None,
    ) -> Samples:
        """n new observations. The i-th depends on the seed and i, on n only in rounding.

        temperature: of the likelihood; 0 takes its mode; by default what suits each modality.
        """
        if n < 1:
            raise ValueError(f"n = {n}: there is nothing to generate")
        z = self.prior(prior).sample(Noise([mix(seed, "prior", i) for i in range(n)], self.device))
        return self.decode(z, seed, temperature, "generate")

    @torch.inference_mode()
    def encode(self, inputs: Inputs | Batch) -> Tensor:
        """Posterior means [n, D] of files or raw observations.

        inputs: a list of paths and raw observations, or such a list for each modality, rows in the same order
        and None where a row lacks one; or a batch of tensors. Raises ValueError or FileNotFoundError for what cannot
        be read.
        """
        batch = to_batch(self.modalities, inputs)
        return torch.cat([self.network.posterior(part.to(self.device)).mean for part in batch.split(ROWS)])

    @torch.inference_mode()
    def place(self, inputs: Inputs | Batch) -> Tensor:
        """Posterior means [n, D] as `encode` gives them, but for what missing modalities have of their own: its mean
        under the prior, given the rest."""
        return placed(self.network, self.prior(), to_batch(self.modalities, inputs), self.device)

    def reconstruct(
        self, inputs: Inputs | Batch, seed: int = 0, temperature: float | None = 0.0, to: Sequence[str] = ()
    ) -> Samples:
        """What the model makes of each input, in the modalities `to` or in all: the decoded posterior mean."""
        batch = to_batch(self.modalities, inputs)
        made = self.decode(self.place(batch), seed, temperature, "reconstruct", to)
        return replace(made, given=partial(taken, self.modalities, batch))

    @torch.inference_mode()
    def interpolate(
        self,
        first: Any = None,
        last: Any = None,
        steps: int = 9,
        seed: int = 0,
        path: Literal["sphere", "line"] = "sphere",
        temperature: float | None = 0.0,
    ) -> Samples:
        """`steps` observations from one input to another, or between two draws of the prior.

        path: "sphere" keeps the length of z typical of the prior on the way, "line" is straight.
        """
        if path not in ("sphere", "line") or steps < 2:
            raise ValueError(f"path '{path}', {counted(steps, 'step')}: it is 'sphere' or 'line', with at least 2")
        if (first is None) != (last is None):
            raise ValueError("interpolation needs two inputs, or none for two draws from the prior")
        if first is None:
            ends = self.prior().sample(Noise([mix(seed, "prior", i) for i in range(2)], self.device))
        else:
            ends = self.place([first, last])
        weights = torch.linspace(0, 1, steps, device=self.device)[:, None]
        z = (slerp if path == "sphere" else torch.lerp)(ends[0], ends[1], weights)
        return replace(self.decode(z, seed, temperature, "interpolate"), steps=steps)

    def combine(self, plus: Inputs, minus: Inputs = (), seed: int = 0, temperature: float | None = 0.0) -> Samples:
        """One observation from latents added up, and others taken away: king - man + woman (Mikolov et al. 2013)."""
        z = self.place(plus).sum(0, keepdim=True)
        if len(minus):
            z = z - self.place(minus).sum(0, keepdim=True)
        return self.decode(z, seed, temperature, "combine")

    @torch.inference_mode()
    def translate(
        self, inputs: Inputs, to: Sequence[str] = (), n: int = 1, seed: int = 0, temperature: float | None = None
    ) -> Samples:
        """Each input n times in the modalities `to`, by default all that some input is not of: draws of z given it,
        decoded. Raises ValueError or FileNotFoundError for what cannot be read."""
        if n < 1:
            raise ValueError(f"n = {n}: there is nothing to draw")
        batch = to_batch(self.modalities, inputs)
        others = [name for name in self.modalities if name not in batch.present or not batch.present[name].all()]
        if not (to or others):
            raise ValueError("the inputs are of all modalities of the model: say with --to which are wanted")
        made = self.decode(self.infer(batch, n, seed), seed, temperature, "translate", to or others)
        return replace(made, given=partial(taken, self.modalities, batch, n))

    @torch.inference_mode()
    def infer(self, batch: Batch, n: int = 1, seed: int = 0) -> Tensor:
        """n draws of z given each row of a batch, one after another, [B * n, D]."""
        return drawn(self.network, self.prior(), batch, n, seed, self.device)

    @torch.inference_mode()
    def decode(
        self,
        z: Tensor | np.ndarray,
        seed: int = 0,
        temperature: float | None = None,
        verb: str = "decode",
        to: Sequence[str] = (),
    ) -> Samples:
        """Observations of the modalities `to`, by default of all, from latents [n, D]. Raises ValueError for others."""
        z = torch.as_tensor(z, dtype=torch.float32, device=self.device)
        if z.ndim != 2 or z.shape[1] != self.network.latent.dim or not z.isfinite().all():
            raise ValueError(f"latents are [n, {self.network.latent.dim}], all finite, not {list(z.shape)}: {z}"[:150])
        to = [to] if isinstance(to, str) else to
        if unknown := [name for name in to if name not in self.modalities]:
            raise ValueError(f"the model has no modality '{unknown[0]}': it has {', '.join(self.modalities)}")
        raws: dict[str, list[Raw]] = {name: [] for name in to or self.modalities}
        made = []
        for start in range(0, len(z), ROWS):
            part = z[start : start + ROWS]
            seeds = [mix(seed, "decode", start + i) for i in range(len(part))]
            for name, column in raws.items():
                column += map(self.modalities[name].to_raw, self.draw(name, part, seeds, temperature).cpu())
            made += [self.note(verb, seed, start + row, temperature, len(part), part[row]) for row in range(len(part))]
        return Samples(raws, z, made, self.modalities)

    @torch.inference_mode()
    def compose(
        self,
        n: int = 4,
        length: int = 8,
        opening: Sequence[str | Path] = (),
        seed: int = 0,
        temperature: float | None = None,
    ) -> Samples:
        """n sequences of `length` new observations, joined, each drawn in view of those before it: paragraphs,
        dialogues, phrases. Their latents are [n, length, D].

        opening: sentences or files that the sequences begin with and go on from. Raises ValueError when the model has
        no prior over sequences, or a modality's observations cannot be joined; FileNotFoundError for missing files.
        """
        if self.sequence is None:
            unfinished = self.recipe.prior["sequence"] and self.folder
            fit = f"its prior over sequences is not fitted yet: mmvae train {self.folder} --resume"
            raise ValueError(fit if unfinished else NO_SEQUENCES)
        if n < 1 or not 1 <= length <= LONGEST:
            raise ValueError(f"n = {n}, length = {length}: n is from 1, and length from 1 to {LONGEST}")
        if not all(isinstance(item, str | Path) for item in opening) or isinstance(opening, str | Mapping):
            raise ValueError("an opening is a list of sentences or files")
        for modality in self.modalities.values():
            if type(modality).join is Modality.join and not self.recipe.data.pieces:
                modality.join([])  # says that it cannot
        return sequences(self, n, length, opening, seed, temperature)

    def draw(self, name: str, z: Tensor, seeds: list[int], temperature: float | None) -> Tensor:
        """A modality's tensors from latents [B, D], each row by its own seed."""
        heat = self.modalities[name].temperature if temperature is None else temperature
        if not 0 <= heat < math.inf:
            raise ValueError(f"a temperature is a number from 0, not {heat}")
        likelihood = self.network.decode(z, [name])[name]
        return likelihood.sample(Noise(seeds, self.device), heat) if heat > 0 else likelihood.mode()

    def note(self, verb: str, seed: int, index: int, temperature: float | None, rows: int, z: Tensor) -> dict[str, Any]:
        """How an observation was made."""
        return {
            "mmvae": mmvae.__version__,
            "model": str(self.folder) if self.folder else None,
            "weights": self.weights,
            "settings": self.overrides,
            "verb": verb,
            "seed": seed,
            "index": index,
            "temperature": temperature,
            "rows": rows,  # kernels may round differently for another number of them
            "z": base64.b64encode(z.cpu().numpy().tobytes()).decode(),
            "sequence": False,
            "opening": [],
        }

    @torch.inference_mode()
    def remake(self, made: Mapping[str, Any]) -> Raw:
        """The observation that a note in a file describes. Raises ValueError when it is of another model."""
        if made["weights"] != self.weights or made["modality"] not in self.modalities:
            raise ValueError(f"{self.folder} is not the model that made the file, or its prior was fitted again since")
        z = torch.frombuffer(bytearray(base64.b64decode(made["z"])), dtype=torch.float32).to(self.device)
        name, rows, values = made["modality"], made["rows"], []
        for place, latent in enumerate(z.view(-1, self.network.latent.dim)):
            seed = mix(made["seed"], "decode", made["index"], *([place] if made["sequence"] else []))
            values.append(self.draw(name, latent.expand(rows, -1), [seed] * rows, made["temperature"])[0].cpu())
        if not made["sequence"]:
            return self.modalities[name].to_raw(values[0])
        return self.joined(name, hear(self.recipe, self.modalities, unquote(made["opening"]))[0], values)

    def joined(self, name: str, said: Mapping[str, list[Raw]], values: Sequence[Tensor]) -> Raw:
        """One observation of an opening's and of those that follow."""
        modality, before = self.modalities[name], [raw for raw in said.get(name, ()) if raw is not None]
        if self.recipe.data.pieces:
            return as_stream(modality).prolong(before[0] if before else None, values)
        return modality.join([*before, *map(modality.to_raw, values)])
