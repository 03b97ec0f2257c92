"""Write docs/reference.md from the code: recipe keys, commands and Python names, in their own words."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

import mmvae
from mmvae import cli
from mmvae.core import likelihoods
from mmvae.core.registry import Registry, Settings
from mmvae.modalities.registry import modalities
from mmvae.recipe import PARTS, Recipe
from mmvae.samples import Samples
from mmvae.tables import Data, ModalityTable, Train

FILE = Path(__file__).parents[1] / "docs" / "reference.md"
HEAD = """\
# Reference

Written by `tools/make_reference.py` from the code: change the descriptions there.

[Recipes](#recipes) · [Commands](#commands) · [Python](#python) · [Likelihoods](#likelihoods)

## Recipes

A recipe is a TOML file. On the command line and in Python `table.key=value` sets one key. A recipe may begin with
`extends = "image/digits"`, the name of a shipped one or of a file beside it, and then holds only what differs.
Unknown keys are refused. Where a table has a `kind`, its further keys are those of the part of that name.
"""
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min": "≥", "max": "≤"}


def kind(annotation: Any, constraints: Iterable[Any] = ()) -> str:
    """A type and its bounds in the words of a recipe or a command line."""
    origin, args = get_origin(annotation), [arg for arg in get_args(annotation) if arg is not types.NoneType]
    bounds = [(sign, getattr(part, name, None)) for part in constraints for name, sign in SIGNS.items()]
    if origin is Literal:
        words = " or ".join(f"`{json.dumps(arg)}`" for arg in args)
    elif origin in (list, tuple):
        words = f"list of {kind(args[0])}" if len(args) == 1 or args[1] is ... else f"[{', '.join(map(kind, args))}]"
    else:
        words = " or ".join(map(kind, args[:1] if origin is Annotated else args)) or annotation.__name__.lower()
    return ", ".join([words, *(f"{sign} {bound}" for sign, bound in bounds if bound is not None)])


def shown(default: Any) -> str:
    """A default as it would be written."""
    return "" if default is None else f"`{json.dumps(default, default=str)}`"


def table(first: str, rows: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in [[first, "type", "default", "what"], ["---"] * 4, *rows])


def text(thing: Any) -> str:
    """A docstring as Markdown."""
    return inspect.cleandoc(thing.__doc__ or "").replace("<", "&lt;") + "\n"


def keys(settings: type[Settings], without: Iterable[str] = ()) -> str:
    """The keys of a table of a recipe."""
    rows = []
    fields = {name: field for name, field in settings.model_fields.items() if name not in without}
    for name, field in fields.items():
        about = field.description or ""
        default = shown(field.default) if not field.is_required() else "" if "by default" in about else "required"
        rows.append([f"`{name}`", kind(field.annotation, field.metadata), default, about])
    return table("key", rows) if rows else "No keys of its own.\n"


def tables(name: str, settings: type[Settings], *registries: Registry[Any]) -> Iterator[str]:
    """A table of a recipe, and the built-in parts that its `kind` can name."""
    yield f"### `[{name}]`\n\n{text(settings)}\n{keys(settings)}"
    for registry in registries:
        for part in registry.names():
            if registry.origin(part) == "built in":
                yield f'#### `kind = "{part}"`\n\n{text(registry.get(part))}\n{keys(registry.get(part).Config)}'


def commands(app: typer.Typer, before: str = "mmvae") -> Iterator[str]:
    """Every command, with its arguments and options."""
    for command in app.registered_commands:
        callback: Any = command.callback
        hints = get_type_hints(callback, include_extras=True)
        usage, rows = [f"{before} {command.name or callback.__name__.replace('_', '-')}"], []
        for name, parameter in inspect.signature(callback).parameters.items():
            info, required = hints[name].__metadata__[0], parameter.default is parameter.empty
            # in Annotated the first name of an option arrives as its default
            words = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
            if isinstance(info, typer.models.ArgumentInfo):
                words = [name.upper()]
                usage.append(name.upper() if required else f"[{name.upper()}]")
            called = " ".join(f"`{word}`" for word in words or [f"--{name}"])
            default = "required" if required else shown(parameter.default)
            rows.append([called, kind(hints[name], [info]), default, info.help or ""])
        yield f"### `{' '.join(usage)}`\n\n{text(callback)}\n{table('', rows)}"
    for group in app.registered_groups:
        yield from commands(group.typer_instance or typer.Typer(), f"{before} {group.name}")


def signature(function: Callable[..., Any], label: str) -> str:
    """A function's signature as its source has it."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    node.args.args = [argument for argument in node.args.args if argument.arg not in ("self", "cls")]
    returned = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    return f"`{label}({ast.unparse(node.args).replace('=', ' = ')}){returned}`"


def described(thing: Any, label: str) -> Iterator[str]:
    """A function, or a class with its public methods."""
    own = vars(thing) if inspect.isclass(thing) else {"__init__": thing}
    made = "__init__" in own and not is_dataclass(thing)  # the fields of a dataclass are in its docstring
    yield "\n\n".join([f"### `{label}`", *([signature(own["__init__"], label)] if made else []), text(thing)])
    for name, member in own.items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if inspect.isfunction(function) and function.__doc__ and not name.startswith("_"):
            head = f"`{name}`, a property" if isinstance(member, property) else signature(function, name)
            yield f"- {head}\n\n{textwrap.indent(text(function), '  ')}"


def reference() -> str:
    """The whole page."""
    parts = [HEAD, f"### At the top\n\n{keys(Recipe, without={'data', 'modalities', 'train', *PARTS})}"]
    parts += [*tables("data", Data), *tables("modalities.NAME", ModalityTable, modalities)]
    parts += [part for name, (registry, settings) in PARTS.items() for part in tables(name, settings, registry)]
    parts += [*tables("train", Train), "## Commands\n", *commands(cli.app), "## Python\n"]
    public = {f"mmvae.{name}": getattr(mmvae, name) for name in mmvae.__all__ if not name.startswith("__")}
    for label, thing in {**public, "mmvae.samples.Samples": Samples}.items():
        parts += described(thing, label)
    parts += ["## Likelihoods\n\nOf `mmvae.core.likelihoods`: what a decoder may return.\n"]
    for name, part in vars(likelihoods).items():
        if inspect.isclass(part) and issubclass(part, mmvae.Likelihood) and part is not mmvae.Likelihood:
            parts += described(part, name)
    return "\n".join(parts)


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
