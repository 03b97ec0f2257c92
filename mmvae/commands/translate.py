"""The command `mmvae translate`: from some modalities of a joint model to others."""

from __future__ import annotations

from typing import Annotated

import typer

from mmvae.commands.terminal import Heat, Json, Model, Out, Seed, Set, split_words, write


def translate(
    model: Model,
    inputs: Annotated[
        list[str], typer.Argument(help="Files or sentences, of one modality or one of each; NAME=INPUT says of which.")
    ],
    to: Annotated[str | None, typer.Option(help="Modalities, by commas [default: all others].")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many of each input.")] = 4,
    out: Out = None,
    seed: Seed = 0,
    temperature: Heat = None,
    changes: Set = None,
    as_json: Json = False,
) -> None:
    """Make of a picture words, of words a sound: any modality of a joint model from any others."""
    from mmvae.generation import VAE
    from mmvae.inputs import together

    vae = VAE.load(model, overrides=changes or [])
    rows = together(vae.modalities, inputs)
    samples = vae.translate(rows, split_words(to), n, seed, temperature)
    write(samples, out, "translated", as_json, [item for column in rows.values() for item in column])
