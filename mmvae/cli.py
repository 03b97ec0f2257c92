"""The command line: parses, calls one function of the library, prints."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

import mmvae
from mmvae.commands import recipes
from mmvae.commands.evaluate import evaluate
from mmvae.commands.fit_prior import fit_prior
from mmvae.commands.resynthesize import resynthesize
from mmvae.commands.terminal import (
    Heat,
    Json,
    Model,
    Out,
    Overrides,
    Recipe,
    Seed,
    Set,
    fail,
    mendable,
    show,
    table,
    write,
)
from mmvae.commands.translate import translate
from mmvae.commands.traverse import traverse
from mmvae.words import counted

app = typer.Typer(
    help="Generate images, text and sound with variational autoencoders.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # importing rich would double the time of --help
    pretty_exceptions_enable=False,
)
app.add_typer(recipes.app, name="recipes")

Which = Literal["fitted", "training"]
Way = Literal["sphere", "line"]


@app.command()
def train(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run [default: runs/NAME].")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on exactly where the run in the folder stopped.")
    ] = False,
    nproc: Annotated[
        int, typer.Option(min=1, help="Processes on this machine, each with its share of every batch.")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Train a recipe."""
    from mmvae.launch import run_processes

    status = run_processes(nproc)
    if status is not None:
        raise typer.Exit(status)
    from mmvae.recipe_files import is_run
    from mmvae.training import train

    first = os.environ.get("RANK", "0") == "0"
    if first and is_run(recipe) and not resume:
        typer.echo(f"the recipe of {recipe}, from its first step; where it stopped it goes on with --resume", err=True)
    model = train(recipe, overrides or [], out, resume)
    if first:
        folder = str(model.folder)
        more = " --length 8" if model.sequence else ""
        show({"model": folder}, as_json, f"{folder} is ready: mmvae generate {folder}{more}")


@app.command()
def generate(
    model: Model,
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 16,
    out: Out = None,
    seed: Seed = 0,
    temperature: Heat = None,
    prior: Annotated[
        Which | None, typer.Option(help="'fitted' (the default where there is one), or that of 'training'.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=1, help="Make sequences of so many new ones; 8 with --opening alone.")
    ] = None,
    opening: Annotated[
        list[str] | None, typer.Option(help="What a sequence goes on from: a sentence or file (may be repeated).")
    ] = None,
    changes: Set = None,
    as_json: Json = False,
) -> None:
    """Make new pictures, sentences or sounds, or sequences of them."""
    from mmvae.generation import VAE

    single = length is None and not opening
    if prior and not single:
        raise ValueError("--prior is not for sequences, which have a prior of their own")
    vae = VAE.load(model, overrides=changes or [])
    if single:
        samples = vae.generate(n, seed, temperature, prior)
    else:
        samples = vae.compose(n, length or 8, opening or (), seed, temperature)
    write(samples, out, "generated", as_json, opening or ())


@app.command()
def reconstruct(
    model: Model,
    inputs: Annotated[list[str], typer.Argument(help="Files, a folder, a table, or sentences for a model of text.")],
    out: Out = None,
    seed: Seed = 0,
    temperature: Heat = 0.0,
    changes: Set = None,
    as_json: Json = False,
) -> None:
    """Encode inputs and decode them again."""
    from mmvae.generation import VAE
    from mmvae.inputs import expand

    vae = VAE.load(model, overrides=changes or [])
    batch, names = expand(vae.recipe, vae.modalities, inputs)
    made = replace(vae.reconstruct(batch, seed, temperature), names=tuple(names))
    write(made, out, "reconstructed", as_json, inputs)


@app.command()
def interpolate(
    model: Model,
    ends: Annotated[
        list[str] | None, typer.Argument(help="Two files or sentences; without them, two random points.")
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="How many, the two ends included.")] = 9,
    path: Annotated[Way, typer.Option(help="'sphere' or 'line'.")] = "sphere",
    out: Out = None,
    seed: Seed = 0,
    temperature: Heat = 0.0,
    changes: Set = None,
    as_json: Json = False,
) -> None:
    """Walk through the latent space from one observation to another."""
    from mmvae.generation import VAE

    if ends and len(ends) != 2:
        raise ValueError(f"interpolation is between two inputs, not {len(ends)}: mmvae interpolate MODEL ONE ANOTHER")
    first, last = ends or (None, None)
    vae = VAE.load(model, overrides=changes or [])
    write(vae.interpolate(first, last, steps, seed, path, temperature), out, "interpolated", as_json, ends or [])


@app.command()
def combine(
    model: Model,
    plus: Annotated[list[str], typer.Argument(help="Files or sentences whose latents are added up.")],
    minus: Annotated[list[str] | None, typer.Option(help="One to take away (may be repeated).")] = None,
    out: Out = None,
    seed: Seed = 0,
    temperature: Heat = 0.0,
    changes: Set = None,
    as_json: Json = False,
) -> None:
    """Do arithmetic with latents: KING WOMAN --minus MAN."""
    from mmvae.generation import VAE

    vae = VAE.load(model, overrides=changes or [])
    write(vae.combine(plus, minus or [], seed, temperature), out, "combined", as_json, [*plus, *(minus or [])])


@app.command()
def neighbours(
    model: Model,
    inputs: Annotated[list[str], typer.Argument(help="Files, a folder, a table, or sentences for a model of text.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many of each.")] = 5,
    split: Annotated[str, typer.Option(help="Where to look: train, validation or test.")] = "train",
    data: Annotated[str | None, typer.Option(help="Other data than the recipe's: a path or name.")] = None,
    changes: Set = None,
    as_json: Json = False,
) -> None:
    """Find the observations of a data set whose latents are nearest."""
    from mmvae.evaluation.neighbours import neighbours
    from mmvae.generation import VAE
    from mmvae.inputs import expand

    vae = VAE.load(model, overrides=changes or [])
    batch, names = expand(vae.recipe, vae.modalities, inputs)
    found = neighbours(vae, batch, n, split, data)
    lines = []
    for name, row in zip(names, found, strict=True):
        lines += [f"{name}:"] if len(names) > 1 else []
        lines += [f"{near['distance']:8.3f}  {near['where']}  {near['shown']}".rstrip() for near in row]
    searched = (
        f"the nearest of {counted(found[0][0]['rows'], 'row')} of the split {split} of {data or vae.recipe.data.path}"
    )
    show(found, as_json, "\n".join([*lines, searched]))


@app.command()
def info(model: Model, as_json: Json = False) -> None:
    """Say what a model is: its recipe, data, size and parts."""
    from mmvae.info import describe

    figures = describe(model)
    show(figures, as_json, table({key: value for key, value in figures.items() if not isinstance(value, dict)}))


@app.command()
def reproduce(
    file: Annotated[Path, typer.Argument(help="A sample that mmvae wrote.")],
    model: Annotated[Path | None, typer.Option(help="The model's folder, if it has moved.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write [default: reproduced-FILE, beside it].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a file again from the note in it."""
    from mmvae.reproducing import reproduce

    path, made = reproduce(file, model, out)
    show({"file": str(path), "made": made}, as_json, f"{path}: made again by {made['model']}, seed {made['seed']}")


@app.command()
def modalities(as_json: Json = False) -> None:
    """List the modalities, and where each comes from."""
    from mmvae.info import list_modalities

    found = list_modalities()
    lines = [f"{item['name']:<12} {item['origin']:<24} {item['about']}" for item in found]
    show(found, as_json, "\n".join(lines))


@app.command()
def doctor(
    data: Annotated[str | None, typer.Argument(help="A data set to look through: a name, file or folder.")] = None,
    modality: Annotated[
        str | None, typer.Option(help="What the data are read as [default: the first that reads them].")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of a table [default: as in training].")] = None,
    as_json: Json = False,
) -> None:
    """Say what the machine has, and what a data set holds: why each rejected file was rejected."""
    from mmvae.info import examine_data, examine_machine, told

    figures = examine_machine()
    text = table(figures)
    if data is not None:
        figures["data"] = found = examine_data(data, modality, column)
        text += f"\n\n{told(found)}"
    show(figures, as_json, text)


app.command()(resynthesize)
app.command()(fit_prior)
app.command()(translate)
app.command()(traverse)
app.command()(evaluate)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"mmvae {mmvae.__version__}")
        raise typer.Exit


def main() -> None:
    """Run a command. What the user can mend ends with one line on stderr and exit status 2."""
    try:
        with mendable():
            status = app(standalone_mode=False)
        if status == 130:  # what typer makes of Ctrl-C; older ones raise
            fail("stopped")
    except (KeyboardInterrupt, typer.Abort):
        status = fail("stopped", 130)
    except Exception as error:
        from mmvae.resume import Interrupted

        usage = getattr(error, "format_message", None)  # of the parser's own errors
        if usage:
            status = fail(usage())
        elif isinstance(error, Interrupted):
            status = fail(str(error), 130)
        else:
            raise
    sys.exit(status)
