"""Long files through a model, piece by piece, in memory that does not grow with their length."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mmvae.core.latents import slerp
from mmvae.data.prepare import Progress
from mmvae.data.rows import Piece, read_cell
from mmvae.generation import VAE
from mmvae.modalities.contract import Modality, Raw, Stream, as_stream
from mmvae.samples import new_file

TOGETHER = 16  # pieces


def resynthesize(
    model: VAE | str | Path,
    file: str | Path,
    out: str | Path,
    toward: str | Path | None = None,
    weight: float = 0.5,
    progress: Progress | None = None,
) -> Path:
    """Encode a file of any length and write what the model makes of it, as long as the file; returns `out`.

    toward: another file, begun anew where it is shorter, to which each piece is moved by `weight`, 0 to 1, of the way.
    Raises ValueError or FileNotFoundError for what cannot be read, FileExistsError rather than overwrite, and
    ValueError when the model's files are not made of pieces.
    """
    vae = model if isinstance(model, VAE) else VAE.load(model)
    files = [Path(path) for path in (file, toward) if path is not None]
    if len(vae.modalities) > 1:
        raise ValueError("a long file goes through a model of one modality")
    ((name, modality),) = vae.modalities.items()
    modality = as_stream(modality)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight = {weight}: it is from 0, the file, to 1, the other one")
    out = new_file(out, modality.suffix)
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"no file '{path}'")
    counts = [_count(modality, path) for path in files]

    def pieces() -> Iterator[Tensor]:
        for start in range(0, counts[0], TOGETHER):
            indices = range(start, min(start + TOGETHER, counts[0]))
            ways = []
            for path, count in zip(files, counts, strict=True):
                ways.append(vae.encode([_read(modality, Piece(path, index % count)) for index in indices]))
            z = ways[0]
            if toward is not None:
                share = torch.tensor([weight], device=z.device)
                z = torch.stack([slerp(a, b, share) for a, b in zip(*ways, strict=True)])
            with torch.inference_mode():
                yield from vae.network.decode(z, [name])[name].mode().cpu()
            if progress:
                progress("pieces", indices[-1] + 1, counts[0])

    scratch = out.with_name(f".{out.name}.part")
    try:
        modality.assemble(pieces(), files[0], scratch)
        os.replace(scratch, out)
    finally:
        scratch.unlink(missing_ok=True)
    return out


def _count(modality: Stream, path: Path) -> int:
    try:
        return modality.pieces(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(modality: Modality, piece: Piece) -> Raw:
    try:
        return read_cell(modality, piece)
    except ValueError as error:
        raise ValueError(f"{piece}: {error}") from None
