"""`mmvae recipes`: list, show, copy and check recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmvae.commands.terminal import Json, Overrides, Recipe, show, table

app = typer.Typer(help="The recipes that are shipped.", no_args_is_help=True, rich_markup_mode=None)

Shipped = Annotated[str, typer.Argument(help="A recipe's file, or the name of a shipped one: text/definitions.")]


@app.command("list")
def list_all(as_json: Json = False) -> None:
    """List the shipped recipes."""
    from mmvae.recipe_files import read_recipe, recipe_names

    found = {name: read_recipe(name)[-1]["about"] for name in recipe_names()}
    show(found, as_json, table(found))


@app.command("show")
def show_one(recipe: Shipped, overrides: Overrides = None, as_json: Json = False) -> None:
    """Print a recipe's file; with --json, the whole of it with overrides and every default."""
    if not as_json:
        from mmvae.recipe_files import find_recipe
        from mmvae.words import read_utf8

        if overrides:
            raise ValueError("overrides are shown with --json")
        typer.echo(read_utf8(find_recipe(recipe)).rstrip())
        return
    from mmvae.recipe import Recipe

    typer.echo(Recipe.load(recipe, overrides or []).model_dump_json())


@app.command("copy")
def copy(recipe: Shipped, out: Annotated[Path | None, typer.Argument(help="File to write.")] = None) -> None:
    """Copy a recipe to a file of your own."""
    from mmvae.recipe_files import copy_recipe

    typer.echo(f"written to {copy_recipe(recipe, out)}")


@app.command("validate")
def validate(recipe: Recipe, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check a recipe without training it."""
    from mmvae.recipe import Recipe

    found = Recipe.load(recipe, overrides or [])
    for name in found.modalities:
        found.modality(name)
    show({"valid": True}, as_json, f"{recipe} is valid")
