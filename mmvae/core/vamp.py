"""VampPrior: the mixture of the posteriors of some observations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mmvae.core.latents import Latent, Posterior
from mmvae.core.noise import Noise
from mmvae.core.priors import Prior
from mmvae.core.registry import Settings
from mmvae.core.vae import Batch

VALUES, PRESENT = "values_", "present_"


class Vamp(Prior):
    """A mixture of posteriors (Tomczak & Welling 2018, "VAE with a VampPrior"), of rows of the training split: what the
    paper calls "VampPrior data", as its learned pseudo-inputs exist for no modality but one of real numbers."""

    learned = True

    class Config(Settings):
        components: int = Field(100, ge=1, description="training rows whose posteriors are the prior")

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__(config, dim)
        self.examples = config.components
        self.register_load_state_dict_pre_hook(self._make_room)

    def attach(self, latent: Latent, posterior_of: Callable[[Batch], Posterior]) -> None:
        self._posterior_of = posterior_of

    def show(self, batch: Batch) -> None:
        for prefix, tensors in ((VALUES, batch.values), (PRESENT, batch.present)):
            for name, tensor in tensors.items():
                self.register_buffer(prefix + name, tensor)

    @staticmethod
    def _make_room(module: nn.Module, saved: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """The rows of a saved prior are of another size than those that are held, if any are."""
        for name, tensor in saved.items():
            if name.startswith((prefix + VALUES, prefix + PRESENT)):
                held = getattr(module, name.removeprefix(prefix), tensor)
                module.register_buffer(name.removeprefix(prefix), torch.empty_like(tensor, device=held.device))

    def _rows(self, chosen: Tensor | None = None) -> Batch:
        """The rows, or those chosen of them."""
        named = dict(self.named_buffers())
        present = {name.removeprefix(PRESENT): rows for name, rows in named.items() if name.startswith(PRESENT)}
        values = {name.removeprefix(VALUES): each for name, each in named.items() if name.startswith(VALUES)}
        if chosen is None:
            return Batch(values, present)
        # of a row that has a modality, its values stand behind those of the rows before it that have it too
        slots = {name: (rows.cumsum(0) - 1)[chosen][rows[chosen]] for name, rows in present.items()}
        return Batch(
            {name: each[slots[name]] for name, each in values.items()},
            {name: rows[chosen] for name, rows in present.items()},
        )

    def log_prob(self, z: Tensor) -> Tensor:
        flat = z.reshape(1, -1, self.dim)
        posterior = self._posterior_of(self._rows())
        each = posterior.log_prob(flat.expand(len(posterior.mean), -1, -1))
        return (each.logsumexp(0) - math.log(len(each))).view(z.shape[:-1])

    def sample(self, noise: Noise) -> Tensor:
        chosen = (noise.uniform() * len(self._rows())).long()
        return self._posterior_of(self._rows(chosen)).sample(noise)[:, 0]
