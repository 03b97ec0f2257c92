"""Recipes as files: the shipped ones by name, those of a user by path, and what a run was trained by."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from mmvae.core.registry import nearest
from mmvae.words import read_utf8

CONFIG = "config.json"  # of a run's or model's folder


def recipes_folder() -> Path:
    """Where the shipped recipes are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    return package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    """The names of the shipped recipes, such as "text/definitions"."""
    folder = recipes_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml"))


def find_recipe(source: str | Path) -> Path:
    """The file of a recipe given by path or by the name of a shipped one. Raises FileNotFoundError."""
    path = Path(source)
    if path.is_file():
        return path
    shipped = recipes_folder() / f"{source}.toml"
    if shipped.is_file():
        return shipped
    raise FileNotFoundError(f"no recipe '{source}': neither a file nor shipped; {nearest(str(source), recipe_names())}")


def copy_recipe(source: str, out: Path | None = None) -> Path:
    """Copy a recipe's file to `out`, by default its own name here.

    Raises FileExistsError rather than overwrite, FileNotFoundError where there is no such recipe or folder.
    """
    found = find_recipe(source)
    path = out or Path(found.name)
    if path.exists():
        raise FileExistsError(f"{path} exists already: name another file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder '{path.parent}' to write {path.name} to")
    path.write_text(read_utf8(found), encoding="utf-8")
    return path


def is_run(source: str | Path) -> bool:
    """Whether a path is the folder of a run or model, which knows its recipe."""
    return (Path(source) / CONFIG).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a run or model. Raises FileNotFoundError or ValueError when the folder holds none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no model folder '{folder}'")
    if not is_run(folder):
        raise ValueError(f"{folder}: not a model folder: it has no {CONFIG}; `mmvae train` writes one below runs/")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / CONFIG}: not the config of a model: {error}") from None
    if not isinstance(config, dict) or "format" not in config:
        raise ValueError(f"{folder / CONFIG}: not the config of a model: it has no format")
    return config


def read_recipe(source: str | Path) -> list[dict[str, Any]]:
    """The tables of a recipe, from a TOML file, the name of a shipped one, or the folder of a run.

    The last of the list are its own; those before are of the recipes that it extends, the base first.
    Raises ValueError or FileNotFoundError.
    """
    if is_run(source):
        tables = read_config(Path(source)).get("recipe")
        if not isinstance(tables, dict):
            raise ValueError(f"{Path(source) / CONFIG}: not the config of a model: it has no recipe")
        return [tables]
    chain, path, seen = [], find_recipe(source), set()
    while path not in seen:
        seen.add(path)
        text = read_utf8(path)
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path}: not a TOML file: {error}") from None
        base = tables.pop("extends", None)
        chain.insert(0, tables)
        if base is None:
            return chain
        beside = path.parent / f"{base}.toml"
        path = beside if beside.is_file() else find_recipe(str(base))
    raise ValueError(f"{path}: extends itself")


def set_key(tables: dict[str, Any], override: str) -> None:
    """Apply "table.key=value" to a recipe's tables; the value is TOML, or a bare string. Raises ValueError."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"'{override}' is not of the form table.key=value, such as train.steps=200")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *path, last = key.split(".")
    for step in path:
        tables = tables.setdefault(step, {})
        if not isinstance(tables, dict):
            raise ValueError(f"'{override}': '{step}' is not a table")
    tables[last] = value
