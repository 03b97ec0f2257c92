"""`mmvae fit-prior`: the priors of a trained model, fitted again."""

from __future__ import annotations

from typing import Annotated

import typer

from mmvae.commands.terminal import Json, Model, show

Settings = Annotated[list[str] | None, typer.Argument(help="prior.fitted=20, prior.fitted=flow, prior.sequence=256.")]


def fit_prior(model: Model, overrides: Settings = None, as_json: Json = False) -> None:
    """Fit a trained model's prior again, such as with prior.fitted=flow. Files that it made before are of another prior
    then, and can no longer be reproduced."""
    from mmvae.fitting import refit
    from mmvae.progress import Display

    with Display(not as_json) as display:
        vae = refit(model, overrides or [], display)
    found = {"model": str(model), "fitted": vae.fitted is not None, "sequence": vae.sequence is not None}
    names = [name for name, has in (("a fitted prior", vae.fitted), ("a prior over sequences", vae.sequence)) if has]
    show(found, as_json, f"{model} has {' and '.join(names) or 'the prior of its training alone'}")
