"""What there is: modalities, the machine, a model, a data set, each described for its user."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import mmvae
from mmvae import checkpoint
from mmvae.data.sources import FILE, default_column, open_source, read_cell
from mmvae.hardware import best_device, free_cores, has_bf16
from mmvae.modalities.registry import modalities as registry

PACKAGES = ("torch", "torchaudio", "transformers", "datasets", "librosa", "soundfile")


def list_modalities() -> list[dict[str, str]]:
    """Name, origin and one line about each modality; of a broken plugin, what is wrong with it."""
    found = []
    for name in registry.names():
        try:
            about = (registry.get(name).__doc__ or "").strip().split("\n")[0]
        except ValueError as error:
            about = f"broken: {error}"
        found.append({"name": name, "origin": registry.origin(name), "about": about})
    return found


def describe(folder: Path) -> dict[str, Any]:
    """A model's recipe, data, size and parts, from its folder. Raises FileNotFoundError or ValueError."""
    config = checkpoint.read_config(folder)
    recipe, _, network, fitted = checkpoint.load(folder)
    return {
        "model": str(folder),
        "name": recipe.name,
        "about": recipe.about,
        "made by": f"mmvae {config['mmvae']}",
        "modalities": ", ".join(f"{name} ({origin})" for name, origin in config["modalities"].items()),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "latent": f"{recipe.latent['kind']}, {recipe.latent['dim']} dimensions",
        "objective": f"{recipe.objective['kind']}, KL weight {recipe.kl['weight']:g} ({recipe.kl['kind']})",
        "prior": recipe.prior["kind"] + (f", and a fitted mixture of {len(fitted.weights)}" if fitted else ""),
        "data": recipe.data.path,
        "rows": ", ".join(f"{split} {count:,}" for split, count in config.get("data", {}).get("rows", {}).items()),
        "recipe": recipe.model_dump(mode="json"),
    }


def examine_machine() -> dict[str, Any]:
    """What mmvae would use here."""
    device = best_device()
    return {
        "mmvae": mmvae.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "device": str(device) if device.type == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})",
        "cores": f"{os.cpu_count()}, of which {free_cores()} free now",
        "bfloat16": "in hardware, used" if has_bf16(device) else "not in hardware, not used",
    }


def examine_data(path: str, kind: str) -> dict[str, Any]:
    """Read every row of a data set as one modality. Raises ValueError or FileNotFoundError when there is none."""
    modality = registry.get(kind)(registry.get(kind).Config())
    rejected, rows, usable = [], 0, 0
    for split in open_source(path, None, {kind: modality}).splits.values():
        column = FILE if split.columns == (FILE,) else default_column(kind, kind, split)
        for index in range(len(split)):
            rows += 1
            try:
                read_cell(modality, split.cells[index][column])
                usable += 1
            except (ValueError, OSError) as error:
                rejected.append((split.where(index), str(error)))
    return {
        "path": path,
        "modality": kind,
        "rows": rows,
        "usable": usable,
        "rejected": rejected,
        "notes": modality.notes,
    }
