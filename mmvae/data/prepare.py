"""Preparation: a recipe's data read, checked, turned into tensors once, and kept in a cache keyed by content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mmvae
from mmvae.core.noise import mix
from mmvae.data.choosing import Chosen, choose_rows
from mmvae.data.items import Items
from mmvae.data.rows import Selection, read_cell
from mmvae.data.store import ColumnWriter, Store
from mmvae.modalities.contract import Modality, Raw, dump_state
from mmvae.modalities.registry import modalities as registry
from mmvae.recipe import Recipe
from mmvae.words import counted

FORMAT = 4  # of the cache
Progress = Callable[[str, int, int], None]  # what, done, of


@dataclass
class Report:
    """What preparation met: rows read, rows rejected with their reasons, and notes with their counts."""

    rows: dict[str, int] = field(default_factory=dict)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    def lines(self, most: int = 5) -> Iterator[str]:
        """The report for a person, at most `most` rejected rows by name."""
        for what, count in self.notes.items():
            yield f"{counted(count, 'row')} {what}"
        if self.rejected:
            whole = counted(sum(self.rows.values()) + len(self.rejected), "row")
            yield f"{len(self.rejected)} of {whole} could not be used:"
            yield from (f"  {where}: {reason}" for where, reason in self.rejected[:most])
            if len(self.rejected) > most:
                yield f"  and {len(self.rejected) - most} more"


@dataclass(frozen=True)
class Split:
    """One split: prepared tensors, and the raw observations behind them."""

    store: Store
    rows: Selection
    kept: list[int]  # of `rows`, those that were prepared
    modalities: Mapping[str, Modality]
    columns: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.store)

    def raw(self, name: str, index: int) -> Raw:
        """The raw observation of a prepared row, read again from the source."""
        return read_cell(self.modalities[name], self.rows.cell(self.kept[index], self.columns[name]))

    def sequences(self) -> list[Tensor]:
        """The prepared rows of each sequence, in order; where the data are no sequences, each row alone."""
        owners = torch.tensor([self.rows.indices[place] for place in self.kept])
        _, lengths = owners.unique_consecutive(return_counts=True)
        return list(torch.arange(len(owners)).split(lengths.tolist()))


@dataclass(frozen=True)
class Prepared:
    """Fitted modalities, splits of prepared tensors, and what was met on the way."""

    modalities: dict[str, Modality]
    splits: dict[str, Split]
    report: Report
    fingerprint: str
    path: str
    columns: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """What was read, and what was met, for a person."""
        rows = ", ".join(f"{split} {count:,}{self._about(split)}" for split, count in self.report.rows.items())
        columns = ", ".join(f"{name} from '{column}'" for name, column in self.columns.items())
        yield f"data: {self.path}, {columns}; {rows}"
        yield from self.notes
        yield from self.report.lines()

    def _about(self, split: str) -> str:
        held = self.splits[split]
        versions = max(1, len(held) // max(1, self.report.rows[split]))
        each = f", each in {versions} versions" if versions > 1 else ""
        if isinstance(held.rows, Items):
            return f" in {counted(len(held.sequences()), 'sequence')}{each}"
        has = {name: int(column.present.sum()) // versions for name, column in held.store.columns.items()}
        if (whole := len(held.store.complete()) // versions) < min(has.values()):
            has["all"] = whole
        gaps = ", ".join(f"{n:,} with {name}" for name, n in has.items() if n < self.report.rows[split])
        return each + (f" ({gaps})" if gaps else "")


def cache_folder() -> Path:
    """Where prepared data are kept: $MMVAE_CACHE, or mmvae below the user's cache folder."""
    given = os.environ.get("MMVAE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "mmvae"


def prepare(
    recipe: Recipe,
    modalities: dict[str, Modality] | None = None,
    split: str | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """The data of a recipe, from the cache where they have been prepared before.

    modalities: fitted ones of a trained model, kept as they are; by default new ones are fitted to the training
    split. split: the only one to prepare, and not varied, as what is measured is not. Raises ValueError or
    FileNotFoundError when the data cannot be used.
    """
    fitted = modalities is not None
    modalities = modalities or {name: recipe.modality(name) for name in recipe.modalities}
    chosen = choose_rows(recipe, modalities, split)
    if recipe.data.variants and all(type(modality).vary is Modality.vary for modality in modalities.values()):
        raise ValueError(f"observations of {' and '.join(modalities)} cannot be varied: set data.variants to 0")
    settings: dict[str, Any] = {
        "format": FORMAT,
        "version": mmvae.__version__,
        "source": chosen.fingerprint,
        "columns": chosen.columns,
        "data": recipe.data.model_dump(exclude={"path", "max_rejected"}),
        "modalities": {name: recipe.prepared(name) for name in modalities},
        "code": {name: registry.source(recipe.modalities[name]["kind"]) for name in modalities},
        "splits": list(chosen.selections),
        "varied": split is None,
        "states": None,
    }
    folder = _cached(settings)
    states = {name: dump_state(modality.state()) for name, modality in modalities.items()} if fitted else {}
    if states and _states(folder, states) != states:  # else they are what a training prepared
        folder = _cached({**settings, "states": states})
    if not (folder / "report.json").is_file():
        cache_folder().mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=cache_folder()))
        try:
            _fill(scratch, recipe, modalities, chosen, fitted, split is None, progress)
            scratch.rename(folder)
        except OSError:
            if not (folder / "report.json").is_file():  # else another process was faster
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    prepared = _open(folder, modalities, chosen, recipe.data.path)
    _judge(prepared.report, recipe.data.max_rejected)  # what is in the cache may have been let in by a larger share
    return prepared


def _cached(settings: Mapping[str, Any]) -> Path:
    return cache_folder() / hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=12).hexdigest()


def _states(folder: Path, names: Iterable[str]) -> dict[str, str]:
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items() if path.is_file()}


class _Readable:
    """The raw observations of a split that can be read, for `Modality.fit`."""

    def __init__(self, modality: Modality, rows: Selection, column: str) -> None:
        self.modality, self.rows, self.column = modality, rows, column

    def __iter__(self) -> Iterator[Raw]:
        first_problem, any_read = "", False
        for index in range(len(self.rows)):
            cell = self.rows.cell(index, self.column)
            if cell is None:
                continue
            try:
                raw = read_cell(self.modality, cell)
            except (ValueError, OSError) as error:
                first_problem = first_problem or f"{self.rows.where(index)}: {error}"
                continue
            any_read = True
            yield raw
        if not any_read:
            raise ValueError(f"nothing to train on in column '{self.column}': {first_problem or 'there are no rows'}")


def _fill(
    folder: Path,
    recipe: Recipe,
    modalities: Mapping[str, Modality],
    chosen: Chosen,
    fitted: bool,
    varied: bool,
    progress: Progress | None,
) -> None:
    selections, columns = chosen.selections, chosen.columns
    for name, modality in modalities.items():
        if not fitted:
            modality.fit(_Readable(modality, selections["train"], columns[name]))
        modality.notes.clear()
        (folder / f"{name}.json").write_text(dump_state(modality.state()), encoding="utf-8")
    report, kept = Report(), {}
    for split, rows in selections.items():
        writers = {name: ColumnWriter(folder / f"{split}-{name}") for name in modalities}
        kept[split] = []
        for index in range(len(rows)):
            if progress and index % 100 == 0:
                progress(f"preparing {split}", index, len(rows))
            try:
                cells = {name: rows.cell(index, columns[name]) for name in modalities}
                raws = {name: read_cell(modalities[name], cell) for name, cell in cells.items() if cell is not None}
                if not raws:
                    raise ValueError(f"nothing in {' or '.join(columns.values())}")
                versions = [raws]
                if split == "train" and varied:
                    versions += _variants(recipe, modalities, raws, index)
                tensors = [
                    {
                        name: modality.to_tensor(raws[name]) if name in raws else None
                        for name, modality in modalities.items()
                    }
                    for raws in versions
                ]
                for version in tensors:
                    for name, tensor in version.items():
                        writers[name].check(tensor)
            except (ValueError, OSError) as error:
                report.rejected.append((rows.where(index), (str(error) or type(error).__name__).splitlines()[0]))
                continue
            for version in tensors:
                for name, tensor in version.items():
                    writers[name].append(tensor)
                kept[split].append(index)
        for writer in writers.values():
            writer.close()
        report.rows[split] = len(set(kept[split]))
    for name, modality in modalities.items():
        label = f"{name}: " if len(modalities) > 1 else ""
        report.notes |= {label + what: count for what, count in modality.notes.items()}
    _judge(report, recipe.data.max_rejected)
    (folder / "kept.json").write_text(json.dumps(kept))
    about = {"rows": report.rows, "rejected": report.rejected, "notes": report.notes}
    (folder / "report.json").write_text(json.dumps(about), encoding="utf-8")


def _variants(
    recipe: Recipe, modalities: Mapping[str, Modality], raws: Mapping[str, Raw], index: int
) -> Iterator[dict[str, Raw]]:
    for number in range(recipe.data.variants):
        random = np.random.default_rng(mix(recipe.data.seed, "variants", index, number))
        yield {name: modalities[name].vary(raw, random) for name, raw in raws.items()}


def _judge(report: Report, max_rejected: float) -> None:
    share = len(report.rejected) / max(1, len(report.rejected) + sum(report.rows.values()))
    empty = [split for split, count in report.rows.items() if not count]
    if share > max_rejected or empty:
        where, reason = report.rejected[0] if report.rejected else ("the data", "no rows")
        raise ValueError(
            f"{counted(len(report.rejected), 'row')} could not be used, a share of {share:.0%} "
            f"(data.max_rejected = {max_rejected:.0%})"
            + (f", and nothing is left in {', '.join(empty)}" if empty else "")
            + f"; the first: {where}: {reason}; mmvae doctor --json (and --column) names them all; "
            "data.max_rejected=0.5 goes without up to half of them (of a trained model: --set data.max_rejected=0.5)"
        )


def _open(
    folder: Path,
    modalities: dict[str, Modality],
    chosen: Chosen,
    path: str,
) -> Prepared:
    for name, modality in modalities.items():
        modality.load_state(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    about = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    report = Report(about["rows"], [tuple(pair) for pair in about["rejected"]], about["notes"])
    for modality in modalities.values():
        modality.rows = report.rows.get("train", modality.rows)
    kept = json.loads((folder / "kept.json").read_text())
    splits = {
        name: Split(Store(folder, name, modalities), rows, kept[name], modalities, chosen.columns)
        for name, rows in chosen.selections.items()
    }
    return Prepared(modalities, splits, report, chosen.fingerprint, path, chosen.columns, chosen.notes)
