"""Random numbers by row: what a row draws depends on its own seed, never on the batch it sits in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def mix(*parts: int | str) -> int:
    """A 63-bit seed from any numbers and words, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def choose(shares: Tensor, u: Tensor) -> Tensor:
    """What uniform numbers u [..., k] choose of C things whose shares are [..., C] or [C], by their sums: [..., k]."""
    edges = shares.cumsum(-1).contiguous()
    return torch.searchsorted(edges, u * edges[..., -1:]).clamp(max=edges.shape[-1] - 1)


class Noise:
    """One generator for each row of a batch: [B, *shape] draws whose row i depends on seeds[i] only.

    Drawn on the CPU, so that every device sees the same numbers.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self.generators)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers [B, *shape]."""
        return self._drawn(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in (0, 1), [B, *shape]."""
        return self._drawn(torch.rand, shape).clamp(1e-7, 1 - 1e-7)

    def stratified(self) -> Tensor:
        """Uniform numbers [B, 1]; in a training step of B rows, one from each of B equal parts of (0, 1)."""
        return self.uniform(1)

    def _drawn(self, of: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        return torch.stack([of(shape, generator=each) for each in self.generators]).to(self.device)


class StepNoise(Noise):
    """Noise of one training step, in one draw: rows `part` of a global batch of `size` rows.

    A process that holds a part of the batch sees what one process with the whole batch would.
    """

    def __init__(self, seed: int, size: int, part: slice, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generators = [torch.Generator().manual_seed(seed)]
        self.size, self.part = size, part

    def __len__(self) -> int:
        return len(range(self.size)[self.part])

    def stratified(self) -> Tensor:
        place = torch.randperm(self.size, generator=self.generators[0])[self.part, None].to(self.device)
        return ((place + self.uniform(1)) / self.size).clamp(1e-7, 1 - 1e-7)

    def _drawn(self, of: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        return of((self.size, *shape), generator=self.generators[0])[self.part].to(self.device)
