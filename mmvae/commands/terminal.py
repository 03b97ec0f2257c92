"""What the commands share: their common arguments, and how they print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmvae.words import counted

if TYPE_CHECKING:
    from mmvae.samples import Samples

Recipe = Annotated[
    str, typer.Argument(help="A recipe's file, the name of a shipped one (text/definitions), or a run's folder.")
]
Overrides = Annotated[list[str] | None, typer.Argument(help="table.key=value ..., such as train.steps=200.")]
Model = Annotated[Path, typer.Argument(help="A model's folder, such as runs/emoji.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting in place of the recipe's: modalities.text.top_p=0.9 (may be repeated)."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Folder to write to, in place of earlier samples there [default: a new one, named as the command is].",
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same output.")]
Heat = Annotated[float | None, typer.Option("--temperature", min=0, help="Of the likelihood; 0 takes its mode.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


@contextmanager
def mendable() -> Generator[None]:
    """What the user can mend ends the program with one line on stderr and exit status 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(fail(str(error)))


def fail(message: str, status: int = 2) -> int:
    """Say on stderr what went wrong; returns the exit status."""
    first = os.environ.get("RANK", "0") == "0"  # of several processes, which all say the same
    for line in message.strip().splitlines() if first else ():
        print(f"mmvae: {line}", file=sys.stderr)
    return status


def split_words(value: str | None) -> list[str]:
    """The words of an option that takes several by commas."""
    return [] if value is None else [word.strip() for word in value.split(",")]


def show(value: Any, as_json: bool, text: str) -> None:
    """Print a value as JSON, or the text that stands for it."""
    typer.echo(json.dumps(value, ensure_ascii=False) if as_json else text)


def table(figures: Mapping[str, Any]) -> str:
    """Two columns: names and values."""
    width = max(map(len, figures))
    shown = {key: f"{value:,.4f}" if isinstance(value, float) else str(value) for key, value in figures.items()}
    return "\n".join(f"{key:<{width}}  {value}" for key, value in shown.items())


def write(samples: Samples, out: Path | None, name: str, as_json: bool, inputs: Sequence[str] = ()) -> None:
    """Write samples to `out`, by default a new folder: `name`, `name`-2 and so on."""
    out = out or next(path for path in map(Path, chain([name], (f"{name}-{i}" for i in count(2)))) if not path.exists())
    for item in inputs:
        if os.path.exists(item) and out.resolve() in (Path(item).resolve(), *Path(item).resolve().parents):
            raise ValueError(f"--out {out} holds {item}: name another folder")
    paths = samples.save(out)
    listed = [column for raws in samples.raws.values() for column in raws if isinstance(column, str)]
    apart = "\n\n" if any("\n" in line for line in listed) else "\n"
    text = "".join(line + apart for line in listed) + f"{counted(len(paths), 'file')}, and gallery.html, are in {out}"
    if samples.dims:
        text += f"\nrow by row, along dimension {', '.join(map(str, samples.dims))} of z, counted from 0"
    for modality in samples.modalities.values():
        for what, number in modality.notes.items():
            typer.echo(f"{counted(number, 'input')} {what}", err=True)
    figures: dict[str, Any] = {"out": str(out), "files": [str(path) for path in paths]}
    figures |= {"texts": listed} if listed else {}
    figures |= {"of": samples.names} if samples.names else {}
    show({**figures, "dimensions": samples.dims} if samples.dims else figures, as_json, text)
