"""What there is: modalities, the machine, a model, a data set, each described for its user."""

from __future__ import annotations

import os
import platform
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import mmvae
from mmvae import checkpoint
from mmvae.core.registry import nearest
from mmvae.data.items import unfold
from mmvae.data.rows import default_column, read_cell
from mmvae.data.sources import open_source
from mmvae.hardware import best_device, free_cores, has_bf16
from mmvae.modalities.contract import Modality
from mmvae.modalities.registry import modalities as registry
from mmvae.recipe_files import read_config
from mmvae.words import counted

FEW = 4  # values that are listed
SHOWN = 10  # rows that are rejected for one reason
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
    config = read_config(folder)
    saved = checkpoint.load(folder)
    recipe = saved.recipe
    kind = recipe.prior["fitted"]
    fitted = f", and one fitted ({kind if isinstance(kind, str) else 'mixture'})" if saved.fitted else ""
    return {
        "model": str(folder),
        "name": recipe.name,
        "about": recipe.about,
        "made by": f"mmvae {config['mmvae']}",
        "modalities": ", ".join(f"{name} ({origin})" for name, origin in config["modalities"].items()),
        "parameters": sum(parameter.numel() for parameter in saved.network.parameters()),
        "latent": f"{recipe.latent['kind']}, {counted(recipe.latent['dim'], 'dimension')}",
        "objective": f"{recipe.objective['kind']}, KL weight {recipe.kl['weight']:g} ({recipe.kl['kind']})",
        "prior": recipe.prior["kind"] + fitted + (", and one over sequences" if saved.sequence else ""),
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
        "device": f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device),
        "cores": f"{os.cpu_count()}, of which {free_cores()} free now",
        "bfloat16": "faster here, used" if has_bf16(device) else "not faster here, not used",
    }


def examine_data(path: str, kind: str | None = None, column: str | None = None) -> dict[str, Any]:
    """Read every row of a data set as one modality, by default the first that can read its first rows.

    Raises ValueError or FileNotFoundError when there is no such data set, or nothing reads it.
    """
    kind, *others = [kind] if kind else _that_read(path, column)
    modality, cells, about = _cells(path, kind, column)
    rejected, rows, found = [], 0, {}
    for where, cell in cells:
        rows += 1
        if (fault := _fault(modality, cell)) is not None:
            rejected.append((where, fault))
        elif isinstance(cell, Path):
            for what, value in modality.survey(cell).items():
                found.setdefault(what, Counter())[value] += 1
    return {
        "path": path,
        "modality": kind,
        "others": others,
        "rows": rows,
        "usable": rows - len(rejected),
        "rejected": rejected,
        "notes": modality.notes,
        "about": about,
        "files": {what: _summary(values) for what, values in found.items()},
    }


def told(found: Mapping[str, Any]) -> str:
    """What `examine_data` found, for a person."""
    lines = [
        f"{found['usable']} of {counted(found['rows'], 'row')} of {found['path']} can be used as {found['modality']}"
    ]
    lines += [f"  {note}" for note in found["about"]]
    lines += [f"  {what} of files: {summary}" for what, summary in found["files"].items()]
    lines += [f"  {counted(count, 'row')} {what}" for what, count in found["notes"].items()]
    wrong: dict[str, list[str]] = {}
    for where, reason in found["rejected"]:
        wrong.setdefault(reason, []).append(where)
    for reason, places in wrong.items():
        lines += [f"  {where}: {reason}" for where in places[:SHOWN]]
        lines += [f"  and {counted(len(places) - SHOWN, 'row')} more: {reason}"] if len(places) > SHOWN else []
    if found["others"]:
        others = " or ".join(f"--modality {kind}" for kind in found["others"])
        lines.append(f"only {found['modality']} was looked at; for what else there is: {others}")
    return "\n".join(lines)


def _cells(path: str, kind: str, wanted: str | None) -> tuple[Modality, Iterator[tuple[str, Any]], tuple[str, ...]]:
    """A modality, where each of a data set's observations is, with its cell, and what the set has to say."""
    modality = registry.get(kind)(registry.get(kind).Config())
    found = []
    source = open_source(path, None, {kind: modality})
    for rows in source.splits.values():
        if wanted and wanted not in rows.columns:
            raise ValueError(f"{path}: no column '{wanted}': {nearest(wanted, rows.columns)}")
        column = wanted or default_column(kind, kind, rows)
        chosen = rows.select()
        listed = len(rows) > 0 and _is_sequence(modality, chosen.cell(0, column))
        found.append((column, unfold(chosen, [column]) if listed else chosen))
    cells = (
        (chosen.where(index), chosen.cell(index, column)) for column, chosen in found for index in range(len(chosen))
    )
    return modality, cells, source.notes


def _summary(values: Counter[float]) -> str:
    """Few different values with their counts, many by their range."""
    if len(values) <= FEW:
        return ", ".join(f"{value:,.6g} ({count:,})" for value, count in values.most_common())
    middle = statistics.median_low(values.elements())
    return f"{min(values):,.3g} to {max(values):,.3g}, half of them at most {middle:,.3g}"


def _is_sequence(modality: Modality, cell: Any) -> bool:
    """Whether a cell is a list that is not itself an observation."""
    return isinstance(cell, list) and _fault(modality, cell) is not None


def _fault(modality: Modality, cell: Any) -> str | None:
    """Why a cell is no observation, or None where it is one."""
    try:
        read_cell(modality, cell)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _that_read(path: str, column: str | None) -> list[str]:
    """The modalities that can read one of a data set's first rows, in the order of their names."""
    found, reasons = [], {}
    for kind in registry.names():
        try:
            modality, cells, _ = _cells(path, kind, column)
            faults: list[str] = []
            for _, cell in islice(cells, 100):
                if (fault := _fault(modality, cell)) is None:
                    found.append(kind)
                    break
                faults.append(fault)
            said = f"none of the first {counted(len(faults), 'row')} can be read: {faults[0]}" if faults else ""
            reasons[kind] = said or "it has no rows"
        except FileNotFoundError:
            raise
        except ValueError as error:
            reasons[kind] = str(error)
    if found:
        return found
    kinds: dict[str, list[str]] = {}  # by the reason: one that is all of theirs is said once
    for kind, why in reasons.items():
        kinds.setdefault(why, []).append(kind)
    said = "; ".join(f"as {' or '.join(names)}, {why}" for why, names in kinds.items())
    raise ValueError(f"{path}: no modality reads it: {said}")
