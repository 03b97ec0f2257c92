"""Stores: the prepared tensors of one split in flat files, mapped into memory and indexed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmvae.core.noise import Noise
from mmvae.core.vae import Batch
from mmvae.modalities.contract import Modality

LITTLE = 0.05  # of the numbers of a row: what may be filled up rather than sorted by length
NUMBERS = 2**23  # of prepared rows to measure at a time: networks hold some hundred bytes for each


def spread(count: int, most: int) -> Tensor:
    """At most so many numbers below `count`, from all over: the first rows of a sorted folder may be of one kind."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


class ColumnWriter:
    """Appends the tensors of one modality to a file; None marks a row that lacks it."""

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self.file = stem.with_suffix(".bin").open("wb")
        self.shapes: list[tuple[int, ...]] = []
        self.present: list[bool] = []
        self.dtype: np.dtype[Any] | None = None

    def check(self, tensor: Tensor | None) -> None:
        """Raise ValueError when a row's type or number of axes differs from the first row's."""
        if tensor is None or self.dtype is None:
            return
        array = tensor.numpy()
        if array.dtype != self.dtype or array.ndim != len(self.shapes[0]):
            raise ValueError(
                f"a tensor of {array.dtype} {array.shape} among {self.dtype} of {len(self.shapes[0])} axes"
            )

    def append(self, tensor: Tensor | None) -> None:
        """Write one row that `check` lets pass."""
        if tensor is None:
            self.present.append(False)
            return
        array = tensor.contiguous().numpy()
        self.dtype = array.dtype
        self.present.append(True)
        self.shapes.append(array.shape)
        self.file.write(array.tobytes())

    def close(self) -> None:
        """Finish the files. Rows of one shape need no list of shapes."""
        self.file.close()
        fixed = len(set(self.shapes)) <= 1
        about = {"dtype": str(self.dtype or "uint8"), "shape": list(self.shapes[0]) if self.shapes and fixed else None}
        self.stem.with_suffix(".meta").write_text(json.dumps(about))
        np.save(self.stem.with_suffix(".present.npy"), np.array(self.present, dtype=bool))
        if not fixed:
            np.save(self.stem.with_suffix(".shapes.npy"), np.array(self.shapes, dtype=np.int64))


class Column:
    """The prepared tensors of one modality in one split."""

    def __init__(self, stem: Path, modality: Modality) -> None:
        about = json.loads(stem.with_suffix(".meta").read_text())
        self.modality = modality
        self.present = torch.from_numpy(np.load(stem.with_suffix(".present.npy")))
        self.slot = self.present.cumsum(0) - 1
        file = stem.with_suffix(".bin")
        # copy-on-write: torch wants a writable array; nothing is ever written
        flat = np.memmap(file, about["dtype"], "c") if file.stat().st_size else np.empty(0, about["dtype"])
        self.shapes: np.ndarray | None = None
        if about["shape"] is not None:
            self.data = torch.from_numpy(flat).view(-1, *about["shape"])
        else:
            shapes = stem.with_suffix(".shapes.npy")
            self.shapes = np.load(shapes) if shapes.exists() else np.empty((0, 1), np.int64)
            self.data = torch.from_numpy(flat)
            self.offsets = np.concatenate([[0], self.shapes.prod(1).cumsum()])

    def numbers(self) -> Tensor:
        """How many numbers each row holds [N], 0 where it lacks the modality."""
        if self.shapes is None:
            return self.present.long() * math.prod(self.data.shape[1:])
        sizes = torch.from_numpy(self.shapes.prod(1))
        return torch.where(self.present, sizes[self.slot.clamp(min=0)] if len(sizes) else 0, 0)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The values [n, ...] of the rows among `indices` that have the modality, and which those are."""
        present = self.present[indices]
        slots = self.slot[indices][present]
        if self.shapes is None:
            return self.data[slots], present
        rows = [
            self.data[self.offsets[slot] : self.offsets[slot + 1]].view(*self.shapes[slot].tolist())
            for slot in slots.tolist()
        ]
        return self.modality.collate(rows) if rows else self.data[:0].view(0, 0), present


class Store:
    """One prepared split: N rows of one or several modalities."""

    def __init__(self, folder: Path, split: str, modalities: Mapping[str, Modality]) -> None:
        self.columns = {name: Column(folder / f"{split}-{name}", modality) for name, modality in modalities.items()}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).present)

    def batch(self, indices: Tensor | Sequence[int]) -> Batch:
        """The rows at `indices`, collated."""
        indices = torch.as_tensor(indices)
        taken = {name: column.take(indices) for name, column in self.columns.items()}
        return Batch(
            {name: values for name, (values, _) in taken.items()}, {n: present for n, (_, present) in taken.items()}
        )

    def observed(self, indices: Tensor, noise: Noise) -> Batch:
        """The rows at `indices`, on the noise's device, each as an observation drawn of what it stands for."""
        batch = self.batch(indices).to(noise.device)
        for name, values in batch.values.items():
            if self.columns[name].modality.drawn:  # where no row has it too: what a row draws is its own
                u = noise.uniform(*values.shape[1:])[batch.present[name]]
                batch.values[name] = self.columns[name].modality.draw(values, u)
        return batch

    def modalities(self) -> Tensor:
        """How many modalities each row has [N]."""
        return torch.stack([column.present for column in self.columns.values()]).sum(0)

    def complete(self, most: int | None = None, of: Collection[str] | None = None) -> Tensor:
        """The numbers of the rows that have all modalities, or all of some, or of so many of these rows at most, from
        all over the split."""
        there = [column.present for name, column in self.columns.items() if of is None or name in of]
        rows = torch.stack(there).all(0).nonzero().squeeze(1)
        return rows if most is None else rows[spread(len(rows), most)]

    def numbers(self) -> Tensor:
        """How many numbers each row holds [N], over all modalities."""
        return torch.stack([column.numbers() for column in self.columns.values()]).sum(0)

    def sizes(self) -> dict[str, float]:
        """How many numbers a row has of each modality, on average of those that have it."""
        return {name: (c.numbers().sum() / c.present.sum().clamp(min=1)).item() for name, c in self.columns.items()}

    def lengths(self) -> Tensor | None:
        """Numbers in each row [N], summed over the modalities whose shapes differ; None where none do, or where filling
        all up would be next to nothing beside the rest: a few words beside pictures."""
        lengths = [column.numbers() for column in self.columns.values() if column.shapes is not None]
        there = (length[length > 0] for length in lengths)
        padding = sum((own.max() * len(own) - own.sum()).item() for own in there if len(own))
        return torch.stack(lengths).sum(0) if padding > LITTLE * self.numbers().sum() else None

    def at_once(self, most: int) -> int:
        """How many rows, at most `most`, to measure at a time, so that long ones do not fill the memory."""
        numbers = max(
            int(np.max(column.shapes.prod(1), initial=1)) if column.shapes is not None else column.data[:1].numel()
            for column in self.columns.values()
        )
        return max(1, min(most, NUMBERS // max(1, numbers)))

    def by_length(self) -> Tensor:
        """All row numbers [N], shortest first, so that batches hold little padding; in order where none differ."""
        lengths = self.lengths()
        return torch.arange(len(self)) if lengths is None else lengths.argsort(stable=True)


class Order:
    """Which rows each training step takes: a pure function of seed and step, so that resuming is exact.

    Epochs follow one another without a short batch between them. Rows of unlike length are sorted within
    windows of some batches, and the batches of a window shuffled, so that little is spent on padding. Batches of a
    window are of like size in numbers, not in rows: short rows are many to a batch and long ones few, from about half
    to twice `batch_size`, which is what a step takes on average. So every step is of like weight. They hold multiples
    of 8 rows, so that 2, 4 or 8 processes have as many each, and take the same ones as one; small batches, all alike.
    """

    WINDOW = 32
    UNIT = 8  # rows

    def __init__(
        self,
        rows: int,
        batch_size: int,
        seed: int,
        lengths: Tensor | None = None,
        numbers: Tensor | None = None,
        processes: int = 1,
        times: Tensor | None = None,
    ) -> None:
        """lengths: by which rows are sorted, [rows]. numbers: how much each holds in all, by default its length.
        processes: among which a batch is shared, in equal parts. times: how often rows come in an epoch, one beside
        another, [rows]; by default all alike."""
        self.batch_size, self.seed, self.lengths = batch_size, seed, lengths
        times = torch.ones(rows, dtype=torch.long) if times is None else times // math.gcd(*times.unique().tolist())
        self.times, self.places = times, torch.arange(rows).repeat_interleave(times)
        self.numbers = lengths if numbers is None else numbers
        unit = math.lcm(self.UNIT, processes)
        self.unit = unit if batch_size % unit == 0 and batch_size >= 4 * unit else batch_size
        # no longer than from a row to its copy: sorted, they would share a batch
        self.window = min(self.WINDOW, max(1, len(self.places) // int(times.max()) // batch_size))
        self._epoch: dict[int, Tensor] = {}
        self._window: tuple[int, list[Tensor]] = (-1, [])

    def _permutation(self, epoch: int) -> Tensor:
        if epoch not in self._epoch:
            generator = torch.Generator().manual_seed(self.seed + epoch)
            self._epoch = {key: value for key, value in self._epoch.items() if key >= epoch - 1}
            self._epoch[epoch] = self._spread(torch.randperm(len(self.times), generator=generator))
        return self._epoch[epoch]

    def _spread(self, shuffled: Tensor) -> Tensor:
        """An epoch: rows in a shuffled order [rows], each row's copies as far from one another as they can be."""
        start = torch.empty(len(shuffled), dtype=torch.float64)
        start[shuffled] = torch.arange(len(shuffled), dtype=torch.float64) / len(shuffled)
        first = self.times.cumsum(0) - self.times
        copy = torch.arange(len(self.places)) - first[self.places]
        return self.places[((copy + start[self.places]) / self.times[self.places]).argsort(stable=True)]

    def _positions(self, start: int, count: int) -> Tensor:
        parts = []
        while count:
            epoch, offset = divmod(start, len(self.places))
            part = self._permutation(epoch)[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return torch.cat(parts)

    def __call__(self, step: int) -> Tensor:
        """Row numbers [n] of a step counted from 0; n is `batch_size`, or about it where rows differ in length."""
        if self.lengths is None or self.numbers is None:
            return self._positions(step * self.batch_size, self.batch_size)
        window, place = divmod(step, self.window)
        if self._window[0] != window:
            size = self.window * self.batch_size
            rows = self._positions(window * size, size)
            rows = rows[self.lengths[rows].argsort(stable=True)]
            shares = self._shares(self.numbers[rows].double()) if self.unit < self.batch_size else self.batch_size
            batches = rows.split(shares)
            generator = torch.Generator().manual_seed(self.seed ^ (window + 1))
            shuffled = torch.randperm(self.window, generator=generator).tolist()
            self._window = (window, [batches[i] for i in shuffled])
        return self._window[1][place]

    def _shares(self, numbers: Tensor) -> list[int]:
        """How many of a window's rows, in their order, each of its batches takes."""
        units = numbers.clamp(min=1).view(-1, self.unit).sum(1)
        size = units
        for _ in range(20):  # until none is below half of their mean or above twice
            size = units.clamp(size.mean() / 2, size.mean() * 2)
        middle = (size.cumsum(0) - size / 2) / size.sum()
        batch = (middle * self.window).long().clamp(max=self.window - 1)
        return (self.unit * batch.bincount(minlength=self.window)).tolist()


def digest(path: Path) -> str:
    """The first 16 hex digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
