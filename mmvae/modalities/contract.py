"""Modality: what a plugin implements to turn the world into tensors and back."""

from __future__ import annotations

import html
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mmvae.core.registry import Settings

Raw = Any  # one observation as its users know it: an array, a string, a list of notes


class Modality(ABC):
    """A kind of data: its files, its tensors, its networks.

    A plugin implements the abstract methods; the others have defaults that work. A raw observation may be
    any Python object. Errors for the user (a file that is damaged, a value that makes no sense) are raised
    as ValueError with one line that says what was wrong; the toolkit adds the file or row.
    """

    Config: type[Settings] = Settings  # its table in a recipe: fields with defaults, units, descriptions
    suffix: ClassVar[str]  # of the files it writes, such as ".png"
    reads: ClassVar[tuple[str, ...]] = ()  # further suffixes of the files it reads
    temperature: ClassVar[float] = 0.0  # of generated samples unless the user says otherwise; 0 is the mode
    seconds: float | None = None  # that an observation lasts, where it lasts, for real-time factors
    rows: int = 0  # of the training split, of any modality, once it is prepared

    def __init__(self, config: Any) -> None:
        self.config = config
        self.notes: Counter[str] = Counter()

    def note(self, what: str) -> None:
        """Count something done to an observation that its user should hear of, such as cutting it short."""
        self.notes[what] += 1

    # -- files and raw observations ---------------------------------------------------------------

    @abstractmethod
    def read(self, file: Path | BinaryIO) -> Raw:
        """One raw observation from a path or an open binary file."""

    @abstractmethod
    def write(self, raw: Raw, path: Path) -> None:
        """Write one raw observation to a file that `read` and other programs can open."""

    @classmethod
    def survey(cls, file: Path) -> Mapping[str, float]:
        """Figures of a readable file as it is before `read` fits it to the settings, which are chosen by them."""
        return {}

    def parse(self, value: Any) -> Raw:
        """One raw observation from a value in a table (text, number, list), or given in Python."""
        return value

    # -- tensors ------------------------------------------------------------------------------------

    def vary(self, raw: Raw, random: np.random.Generator) -> Raw:
        """Another observation that could as well have been the given one, such as a sound a little louder, to train on.
        By default there is none but itself."""
        return raw

    def fit(self, raws: Iterable[Raw]) -> None:
        """Learn what `state` holds (a vocabulary, statistics) from the training split; may iterate twice."""

    @abstractmethod
    def to_tensor(self, raw: Raw) -> Tensor:
        """One observation as the likelihood scores it, no batch axis; shapes may differ from row to row."""

    @abstractmethod
    def to_raw(self, tensor: Tensor) -> Raw:
        """The way back, from what `to_tensor` returns or the likelihood draws."""

    def collate(self, tensors: Sequence[Tensor]) -> Tensor:
        """One batch of rows whose shapes differ (rows of one shape are stacked without it)."""
        return torch.stack(list(tensors))

    @property
    def drawn(self) -> bool:
        """Whether a row stands for many observations, of which `draw` gives one to train on or measure."""
        return False

    def draw(self, values: Tensor, u: Tensor) -> Tensor:
        """One of the observations that each row of values [n, ...] stands for, by uniform numbers u in (0, 1) of that
        shape: a grey pixel, say, as black or white."""
        return values

    def state(self) -> dict[str, Any]:
        """What `fit` learned, as JSON values: saved beside the weights."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""

    # -- networks -----------------------------------------------------------------------------------

    @abstractmethod
    def encoder(self, outputs: int) -> nn.Module:
        """A network from [B, ...] to [B, outputs]."""

    @abstractmethod
    def decoder(self, latent: int) -> nn.Module:
        """A network from z [B, latent] to a Likelihood."""

    # -- for people ---------------------------------------------------------------------------------

    def join(self, raws: Sequence[Raw]) -> Raw:
        """Observations that follow one another as one, such as a paragraph's sentences. Raises ValueError where there
        is no way to."""
        raise ValueError(f"observations of {type(self).__name__} cannot be joined: it has no `join`")

    def scores(self, nll: Tensor, values: Tensor) -> dict[str, float]:
        """Derived units for the table of `mmvae evaluate`, such as bits per dimension.

        nll: nats of each row, [B]; values: the rows, [B, ...].
        """
        return {}

    def metrics(self, raws: Sequence[Raw], reconstructions: Sequence[Raw]) -> dict[str, float]:
        """How close reconstructions come, for the table of `mmvae evaluate`."""
        return {}

    def disturb(self, raw: Raw, random: np.random.Generator) -> dict[str, Raw]:
        """An observation under noise of stated strengths, to see what a model makes of it; none by default."""
        return {}

    def distance(self, a: Raw, b: Raw) -> float:
        """How unlike two observations are, 0 where they are equal; without it, what needs it is not measured."""
        raise NotImplementedError

    @property
    def judges_samples(self) -> bool:
        """Whether `sample_metrics` has anything to say, so that samples are to be drawn for it."""
        return type(self).sample_metrics is not Modality.sample_metrics

    def sample_metrics(self, samples: Sequence[Raw], real: Sequence[Raw]) -> dict[str, float]:
        """How good and how different generated observations are, beside real ones that were not trained on."""
        return {}

    def preview(self, raw: Raw) -> str:
        """An HTML fragment, with everything embedded, in which a person sees or hears the observation."""
        return f"<pre>{html.escape(str(raw))}</pre>"

    def sheet(self, raws: Sequence[Raw], stem: Path, steps: int | None = None) -> list[Path]:
        """Write one or a few files at `stem` + suffix that show many observations at once; return them. steps: the
        observations are one or more walks of so many each, one after another."""
        return []

    @classmethod
    def tag(cls, path: Path, note: str) -> None:
        """Put a note (JSON: how the file was made) into a file that was written, or beside it."""
        sidecar(path).write_text(note, encoding="utf-8")

    @classmethod
    def read_tag(cls, path: Path) -> str | None:
        """The note that `tag` left, or None."""
        return sidecar(path).read_text(encoding="utf-8") if sidecar(path).is_file() else None


class Stream(Modality):
    """A kind of data whose files may be longer than an observation: they are read in pieces, each of which shares some
    of itself with the next, and pieces are put together again without a seam."""

    def check_stream(self) -> None:
        """Raise ValueError where the settings leave no way to put pieces together."""

    @abstractmethod
    def pieces(self, file: Path) -> int:
        """How many pieces a file makes."""

    @abstractmethod
    def read_piece(self, file: Path, index: int) -> Raw:
        """One of the pieces of a file, counted from 0."""

    @abstractmethod
    def opening(self, file: Path) -> tuple[Raw, list[Raw]]:
        """A file to go on from: the whole, and the pieces of it that end where it ends. Raises ValueError where it is
        shorter than one."""

    @abstractmethod
    def prolong(self, whole: Raw | None, tensors: Iterable[Tensor]) -> Raw:
        """What `opening` returned, or nothing, and the pieces that follow, each as `to_tensor` returns it, as one."""

    @abstractmethod
    def assemble(self, tensors: Iterable[Tensor], like: Path, path: Path) -> None:
        """Write pieces, each as `to_tensor` returns it, as one file that is as long as the file `like`, in memory that
        does not grow with it."""


def as_stream(modality: Modality) -> Stream:
    """The modality, if its files are made of pieces; raises ValueError if not."""
    if isinstance(modality, Stream):
        modality.check_stream()
        return modality
    raise ValueError(f"files of {type(modality).__name__} are not made of pieces: sounds are")


def stack(modality: Modality, tensors: Sequence[Tensor]) -> Tensor:
    """One batch of rows: stacked where they are of one shape, collated where not."""
    same = len({tensor.shape for tensor in tensors}) == 1
    return torch.stack(list(tensors)) if same else modality.collate(tensors)


PAGE, SHEET = "gallery.html", "sheet"  # what is written beside samples, to look at them all


def is_by_product(path: Path) -> bool:
    """Whether a file is a page, note or contact sheet that mmvae wrote beside samples, and so no observation."""
    note = path.suffix == ".json" and path.with_suffix("").is_file()
    return note or path.name == PAGE or (path.stem.split("-")[0] == SHEET and (path.parent / PAGE).is_file())


def sidecar(path: Path) -> Path:
    """Where the note of a file goes whose format has no room for one."""
    return path.with_name(path.name + ".json")


def dump_state(state: dict[str, Any]) -> str:
    """A modality's state as JSON text; raises ValueError when it holds anything but JSON values."""
    try:
        return json.dumps(state, ensure_ascii=False, allow_nan=False, indent=1)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a modality's state must be made of JSON values: {error}") from error
