"""mmvae: generate images, text and sound with variational autoencoders."""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# read when torch is loaded: OpenMP's threads wait a moment before they sleep. Without a wait two threads are hardly
# faster than one; with the library's own wait, beside a busy process, they are many times slower
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

_PUBLIC = {
    "VAE": "mmvae.generation",
    "Recipe": "mmvae.recipe",
    "train": "mmvae.training",
    "evaluate": "mmvae.evaluation.evaluate",
    "resynthesize": "mmvae.resynthesizing",
    "traverse": "mmvae.traversing",
    "Modality": "mmvae.modalities.contract",
    "Settings": "mmvae.core.registry",
    "Likelihood": "mmvae.core.likelihoods",
    "Noise": "mmvae.core.noise",
    "register": "mmvae.modalities.registry",
    "check_modality": "mmvae.testing",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Load public names when they are used, so that importing mmvae stays instant."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mmvae' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
