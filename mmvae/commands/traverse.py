"""The command `mmvae traverse`: what each dimension of the latent space does."""

from __future__ import annotations

from typing import Annotated

import typer

from mmvae.commands.terminal import Heat, Json, Model, Out, Seed, Set, write


def traverse(
    model: Model,
    start: Annotated[
        str | None, typer.Argument(help="A file or sentence to set out from; without it, a sample.")
    ] = None,
    dims: Annotated[int, typer.Option(min=1, help="How many dimensions at most, those most in use.")] = 8,
    steps: Annotated[int, typer.Option(min=2, help="How many observations along each.")] = 9,
    reach: Annotated[float, typer.Option(help="Standard deviations to either side.")] = 2.0,
    out: Out = None,
    seed: Seed = 0,
    temperature: Heat = 0.0,
    changes: Set = None,
    as_json: Json = False,
) -> None:
    """Move one latent dimension after another, to see what each does."""
    from mmvae.generation import VAE
    from mmvae.traversing import traverse

    vae = VAE.load(model, overrides=changes or [])
    made = traverse(vae, start, dims, steps, reach, seed, temperature)
    write(made, out, "traversed", as_json, [start] if start else [])
