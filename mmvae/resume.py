"""Stopping and going on: signals, and all that a stopped training needs to reach the same weights."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmvae import checkpoint
from mmvae.data.prepare import Prepared
from mmvae.modalities.contract import dump_state
from mmvae.recipe import Recipe
from mmvae.recipe_files import CONFIG, find_recipe, is_run, read_config

FILE = "resume.safetensors"


class Interrupted(Exception):
    """Training was stopped by a signal, after saving."""


def save_state(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, about: Mapping[str, Any]
) -> None:
    """Write weights, the optimizer's moments and a few numbers, whole or not at all.

    Order and noise need no saving: they are functions of the seed and the step.
    """
    tensors = {
        f"{name}.{key}": tensor for name, module in modules.items() for key, tensor in module.state_dict().items()
    }
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": tensor for key, tensor in state.items()}
    about = {**about, "threads": torch.get_num_threads()}
    checkpoint.save_tensors(folder / FILE, tensors, {key: json.dumps(value) for key, value in about.items()})


def restore_state(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, int | float]:
    """Load what `save_state` wrote into modules and optimizer; returns the numbers. Raises ValueError if damaged."""
    tensors, about = checkpoint.read_tensors(folder / FILE)
    for name, module in modules.items():
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            why = checkpoint.mismatch(error)
            raise ValueError(
                f"{folder / FILE}: saved by other networks than this version's, so the run cannot go on: {why}"
            ) from None
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, field = key.split(".")
            state.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return {key: json.loads(value) for key, value in about.items()}


def cut_log(log: Path, step: int) -> None:
    """Leave out of a log what came after a step: it is done again."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = (line for line in lines if line.endswith("\n"))  # a machine that stopped may leave half a line
    log.write_text("".join(line for line in whole if json.loads(line)["step"] <= step), encoding="utf-8")


def saved_threads(folder: Path) -> int:
    """How many threads the run in a folder used."""
    return int(checkpoint.read_metadata(folder / FILE)["threads"])


def find_run(source: str | Path) -> Path | None:
    """The folder of the run that is resumed, if it is named in place of its recipe. Raises FileNotFoundError where it
    is neither."""
    if is_run(source):
        return Path(source)
    try:
        find_recipe(source)
    except FileNotFoundError:
        reason = f"it has no {CONFIG}" if Path(source).is_dir() else "there is no such folder"
        raise FileNotFoundError(f"nothing to resume in '{source}': {reason}, nor is it a recipe") from None
    return None


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Raises ValueError or FileNotFoundError unless a run of the recipe can start, or go on, in a folder."""
    begun = (folder / FILE).is_file()
    if not resume:
        if begun or (folder / checkpoint.WEIGHTS).is_file():
            raise ValueError(
                f"{folder} holds a run already: go on with mmvae train {folder} --resume, or name another with --out"
            )
        if folder.is_dir() and any(folder.iterdir()) and not is_run(folder):
            raise ValueError(f"{folder} holds other files: name another folder with --out")
        return
    if not begun:
        raise FileNotFoundError(f"nothing to resume in '{folder}': it has no {FILE}")
    checkpoint.check_format(folder, read_config(folder))
    before, now = Recipe.load(folder).model_dump(mode="json"), recipe.model_dump(mode="json")
    # to go on for longer is the same training
    before["train"]["steps"] = max(before["train"]["steps"], recipe.train.steps)
    changed = sorted(set(_leaves(now)) ^ set(_leaves(before)))
    if changed:
        raise ValueError(
            f"cannot resume {folder}: the recipe has changed in {', '.join(dict.fromkeys(key for key, _ in changed))}; "
            f"mmvae train {folder} --resume goes on with the one it began with"
        )


def _leaves(table: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """The keys of nested tables, with dots between, and their values as text."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{within}{key}.")
        else:
            yield within + key, repr(value)


def check_data(folder: Path, prepared: Prepared) -> None:
    """Raises ValueError unless the data are those that the run in a folder began with, and were prepared as then."""
    about = {"fingerprint": prepared.fingerprint, "rows": prepared.report.rows}
    same = read_config(folder)["data"] == about
    for name, modality in prepared.modalities.items():
        same = same and (folder / f"{name}.json").read_text(encoding="utf-8") == dump_state(modality.state())
    if not same:
        raise ValueError(f"cannot resume {folder}: the data, or how they are prepared, have changed since it began")


@contextmanager
def claim(folder: Path, resume: bool) -> Generator[None]:
    """Make a folder, unless a run in it is resumed, and keep other trainings out of it.

    Raises ValueError where another one runs in it.
    """
    if not resume:
        folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32" or not folder.is_dir():
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems have no locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"another training runs in {folder}: name another folder with --out") from None
        yield
    finally:
        os.close(handle)
        with suppress(OSError):  # it is not empty
            folder.rmdir()


Handlers = dict[signal.Signals, Any]


def on_signals(handler: Any) -> Handlers:
    """Let Ctrl-C and SIGTERM call a handler, where that is possible; returns those before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}


def restore_signals(handlers: Handlers) -> None:
    """Put back what `on_signals` returned."""
    for number, handler in handlers.items():
        signal.signal(number, handler)
