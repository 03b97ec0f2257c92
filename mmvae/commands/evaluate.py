"""The command `mmvae evaluate`: a model measured on a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mmvae.commands.terminal import Json, Model, Seed, Set, show, split_words, table
from mmvae.words import counted


def evaluate(
    model: Model,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    k: Annotated[int, typer.Option(min=1, help="Draws of the importance-weighted NLL.")] = 64,
    data: Annotated[str | None, typer.Option(help="Other data than the recipe's: a path or name.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most so many rows, or sequences.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Column of classes: a classifier then judges reconstructions and samples.")
    ] = None,
    factors: Annotated[
        str | None, typer.Option(help="Columns, by commas, to which latent dimensions are held: MIG, SAP, DCI.")
    ] = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File [default: MODEL/evaluation-SPLIT.json; none with --data, --limit or --set]."
        ),
    ] = None,
    changes: Set = None,
    as_json: Json = False,
) -> None:
    """Measure a model; prints a table and writes JSON."""
    from mmvae.evaluation.evaluate import FEW, evaluate
    from mmvae.generation import VAE
    from mmvae.progress import Display

    if out and not out.parent.is_dir():
        raise FileNotFoundError(f"no folder '{out.parent}' to write {out.name} to")
    with Display(not as_json) as display:
        vae = VAE.load(model, overrides=changes or [])
        figures = evaluate(vae, split, k, data, limit, seed, display, label, split_words(factors))
    show(figures, as_json, table(figures))
    if figures["rows"] < FEW:
        measured = counted(figures["rows"], "row")
        typer.echo(f"measured on {measured} of {split}: figures of fewer than {FEW} say little", err=True)
    path = out or (model / f"evaluation-{split}.json" if not (data or limit or changes) else None)
    if path:
        path.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
