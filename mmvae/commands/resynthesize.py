"""`mmvae resynthesize`: a long sound through a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmvae.commands.terminal import Json, Model, Set, show


def resynthesize(
    model: Model,
    file: Annotated[Path, typer.Argument(help="A sound of any length.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, a .wav.")],
    toward: Annotated[Path | None, typer.Option(help="Another sound, to which it is moved.")] = None,
    weight: Annotated[float | None, typer.Option(min=0, max=1, help="How far, from 0 to 1 [default: 0.5].")] = None,
    changes: Set = None,
    as_json: Json = False,
) -> None:
    """Take a whole file through a model, piece by piece, or part of the way to another."""
    from mmvae.generation import VAE
    from mmvae.progress import Display
    from mmvae.resynthesizing import resynthesize as run

    if weight is not None and toward is None:
        raise ValueError("--weight says how far to go toward another sound: name it with --toward")
    with Display(not as_json) as display:
        vae = VAE.load(model, overrides=changes or [])
        path = run(vae, file, out, toward, 0.5 if weight is None else weight, display)
        (modality,) = vae.modalities.values()
        for name in (file, path):  # what is written has the rate and the channels of the model
            about = ", ".join(f"{value:,.6g} {what}" for what, value in modality.survey(name).items())
            display.say(f"{name}: {about}")
    show({"file": str(path)}, as_json, str(path))
