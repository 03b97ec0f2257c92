"""Samples: decoded observations, how each was made, and the files they are written to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor

from mmvae.core.registry import Settings
from mmvae.gallery import cells, files_beside, write_page
from mmvae.modalities.contract import PAGE, SHEET, Modality, Raw, sidecar
from mmvae.modalities.registry import modalities as registry
from mmvae.words import counted


@dataclass(frozen=True, repr=False)
class Samples:
    """Decoded observations by modality, the latents [n, D] they came from (of sequences [n, length, D]), and how each
    was made."""

    raws: dict[str, list[Raw]]
    z: Tensor
    made: list[dict[str, Any]]
    modalities: Mapping[str, Modality]
    steps: int | None = None  # of each of the walks that they are
    dims: tuple[int, ...] = ()  # of the latent, along which the walks go
    names: tuple[str, ...] = ()  # words for what each was made of
    given: Callable[[], Mapping[str, list[Raw | None]]] = dict  # what each was made of, as the model took it

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, name: str) -> list[Raw]:
        return self.raws[name]

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'sample')} of {', '.join(self.raws)}>"

    def _repr_html_(self) -> str:
        return cells(self.modalities, self.raws, map(self._caption, range(len(self))), self.given())

    def _caption(self, index: int) -> str:
        of = f", {self.names[index]}" if self.names else ""
        return f"{index}, dimension {self.dims[index // self.steps]}" if self.dims and self.steps else f"{index}{of}"

    def save(self, folder: str | Path, title: str = "mmvae") -> list[Path]:
        """Write a file for each observation, with how it was made in it or beside it; contact sheets that show
        all; and gallery.html. Returns the paths of the observations.

        Earlier samples in the folder are replaced. Raises ValueError where it holds anything else.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file: name a folder")
        earlier = [path for path in folder.iterdir() if not _of_system(path)] if folder.is_dir() else []
        ours = files_beside(folder / PAGE)
        if others := sorted(path.name for path in earlier if path.name not in ours):
            raise ValueError(f"{folder} holds other files, such as {others[0]}: name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        for path in earlier:
            if path.name != PAGE:  # which says what is ours, until the next one takes its place
                path.unlink()
        paths, sheets = [], []
        for name, column in self.raws.items():
            label = "" if len(self.raws) == 1 else f"-{name}"
            modality = self.modalities[name]
            for index, (raw, made) in enumerate(zip(column, self.made, strict=True)):
                paths.append(folder / f"{index:03d}{label}{modality.suffix}")
                modality.write(raw, paths[-1])
                modality.tag(paths[-1], json.dumps({**made, "modality": name}))
            sheets += modality.sheet(column, folder / f"{SHEET}{label}", self.steps)
        beside = [path for path in map(sidecar, paths) if path.is_file()]
        written = [path.name for path in (*paths, *beside, *sheets)]
        write_page(folder / PAGE, title, {counted(len(self), "sample"): self._repr_html_()}, written)
        return paths


def _of_system(path: Path) -> bool:
    """Whether a file is one that systems leave in folders that were looked at."""
    return path.name.startswith(".") or path.name == "Thumbs.db"


class Note(Settings):
    """How one file was made: what `reproduce` needs to make it again."""

    mmvae: str
    model: str | None
    weights: str | None
    settings: list[str]
    verb: str
    seed: int
    index: int = Field(ge=0)
    temperature: float | None
    rows: int = Field(ge=1, le=1024)
    z: str = Field(max_length=10_000_000)
    sequence: bool
    opening: list[tuple[str, str]]
    modality: str


def read_note(path: Path) -> dict[str, Any]:
    """How a file was made. Raises ValueError when no note of ours is in it or beside it."""
    for name in registry.names():
        try:
            kind = registry.get(name)
            if path.suffix.lower() == kind.suffix:
                return Note.model_validate_json(kind.read_tag(path) or "{}").model_dump()
        except Exception:  # a file may be damaged, and a plugin fail, in any way: no note is found so
            continue
    raise ValueError(f"{path}: holds no note of how it was made; single samples that mmvae wrote do")


def new_file(out: str | Path, suffix: str) -> Path:
    """A path that a file of this suffix can be written to; raises FileExistsError rather than overwrite, ValueError for
    another suffix, FileNotFoundError where there is no folder."""
    out = Path(out)
    if out.suffix.lower() != suffix.lower():
        raise ValueError(f"{out}: the file is written as {suffix}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"no folder '{out.parent}' to write {out.name} to")
    if out.exists():
        raise FileExistsError(f"{out} exists already: name another file")
    return out
