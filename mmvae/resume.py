"""Stopping and going on: signals, and all that a stopped training needs to reach the same weights."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmvae import checkpoint
from mmvae.recipe import Recipe
from mmvae.recipe_files import is_run

FILE = "resume.safetensors"


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
    checkpoint.save_tensors(folder / FILE, tensors, {key: repr(value) for key, value in about.items()})


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
            reason = str(error).splitlines()[1].strip()
            raise ValueError(
                f"{folder / FILE}: saved by other networks than this version's, so the run cannot go on: {reason}"
            ) from None
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, field = key.split(".")
            state.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return {key: float(value) if "." in value or "inf" in value else int(value) for key, value in about.items()}


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Raises ValueError or FileNotFoundError unless a run of the recipe can start, or go on, in a folder."""
    if not resume:
        if is_run(folder):
            raise ValueError(
                f"{folder} holds a run already: go on with mmvae train {folder} --resume, or name another with --out"
            )
        return
    if not (folder / FILE).is_file():
        raise FileNotFoundError(f"nothing to resume in '{folder}': it has no {FILE}")
    before = Recipe.load(folder).model_dump(mode="json")
    now = recipe.model_dump(mode="json")
    changed = [key for key in now if now[key] != before[key]]
    if changed:
        raise ValueError(
            f"cannot resume {folder}: the recipe has changed in {', '.join(changed)}; "
            f"mmvae train {folder} --resume goes on with the one it began with"
        )


def on_signals(handler: Any) -> Any:
    """Let Ctrl-C and SIGTERM call a handler, where that is possible; returns the one before."""
    if threading.current_thread() is not threading.main_thread():
        return signal.SIG_DFL
    signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is signal.default_int_handler else handler)
    return signal.signal(signal.SIGINT, handler)
