"""What the commands share: their common arguments, and how they print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

Recipe = Annotated[
    str, typer.Argument(help="A recipe's file, the name of a shipped one (text/definitions), or a run's folder.")
]
Overrides = Annotated[list[str] | None, typer.Argument(help="table.key=value ..., such as train.steps=200.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


def show(value: Any, as_json: bool, text: str) -> None:
    """Print a value as JSON, or the text that stands for it."""
    typer.echo(json.dumps(value, ensure_ascii=False) if as_json else text)


def table(figures: Mapping[str, Any]) -> str:
    """Two columns: names and values."""
    width = max(map(len, figures))
    shown = {key: f"{value:,.4f}" if isinstance(value, float) else str(value) for key, value in figures.items()}
    return "\n".join(f"{key:<{width}}  {value}" for key, value in shown.items())
