"""Fixtures for every test: caches below a folder of their own, one thread, no network, small stand-in data."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# before anything imports datasets or transformers, which read these once
_CACHE = Path(tempfile.mkdtemp(prefix="mmvae-tests-"))
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["MMVAE_CACHE"] = str(_CACHE / "mmvae")
os.environ["HF_DATASETS_CACHE"] = str(_CACHE / "datasets")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from mmvae import checkpoint  # noqa: E402
from mmvae.core.fitted import FittedMixture  # noqa: E402
from mmvae.generation import VAE  # noqa: E402
from mmvae.modalities.registry import modalities  # noqa: E402
from mmvae.recipe import PARTS, Recipe  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of prepared data."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MMVAE_CACHE", str(folder))
    return folder


@pytest.fixture
def pictures() -> Callable[..., list[np.ndarray]]:
    """n different RGB pictures: a coloured square somewhere on a ground."""

    def make(n: int, height: int = 8, width: int = 8, channels: int = 3, seed: int = 0) -> list[np.ndarray]:
        random = np.random.default_rng(seed)
        drawn = np.empty((n, height, width, channels), np.uint8)
        for picture in drawn:
            picture[:] = random.integers(0, 256, channels)
            row, column = random.integers(0, height - 2), random.integers(0, width - 2)
            picture[row : row + 3, column : column + 3] = random.integers(0, 256, channels)
        return list(drawn)

    return make


@pytest.fixture
def picture_folder(pictures: Callable[..., list[np.ndarray]]) -> Callable[..., Path]:
    """Write n PNG files into a folder."""
    from PIL import Image

    def write(folder: Path, n: int, **how: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for index, picture in enumerate(pictures(n, **how)):
            Image.fromarray(picture).save(folder / f"{index:03d}.png")
        return folder

    return write


@pytest.fixture
def recipe_for() -> Callable[..., Recipe]:
    """A recipe of one small modality over a data set; keywords are the modality's settings."""
    small: dict[str, dict[str, Any]] = {
        "image": {"widths": [8, 8]},
        "text": {"embedding": 8, "hidden": 8, "max_tokens": 12},
        "audio": {"sample_rate": 4000, "seconds": 0.1, "fft": 64, "hop": 16, "widths": [8, 8], "iterations": 4},
    }

    def make(kind: str, path: str | Path = "digits", data: dict[str, Any] | None = None, **settings: Any) -> Recipe:
        return Recipe.load(
            {
                "name": "small",
                "data": {"path": str(path), **(data or {})},
                "modalities": {kind: {**small[kind], **settings}},
                "latent": {"dim": 4},
            }
        )

    return make


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Weights drawn in a test are the same in every run and every order of tests."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    for registry in (modalities, *(registry for registry, _ in PARTS.values())):
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.fixture
def raws_of(pictures: Callable[..., list[np.ndarray]]) -> Callable[..., list[Any]]:
    """n raw observations of a built-in modality."""

    def make(kind: str, n: int) -> list[Any]:
        random = np.random.default_rng(1)
        words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "the", "dog", "ran", "far"]
        return {
            "image": lambda: pictures(n),
            "text": lambda: [" ".join(random.choice(words, 5)) for _ in range(n)],
            "audio": lambda: [random.uniform(-0.5, 0.5, (1, 400)).astype(np.float32) for _ in range(n)],
        }[kind]()

    return make


@pytest.fixture
def vae_for(recipe_for: Callable[..., Recipe], raws_of: Callable[..., list[Any]]) -> Callable[..., VAE]:
    """An untrained model of one or several modalities whose outputs depend strongly on z."""

    def make(*kinds: str, fitted: bool = False, seed: int = 0) -> VAE:
        tables = {kind: recipe_for(kind).modalities[kind] for kind in kinds}
        recipe = Recipe.load({"name": "small", "data": {"path": "x"}, "modalities": tables, "latent": {"dim": 4}})
        modalities = {kind: recipe.modality(kind) for kind in kinds}
        for kind, modality in modalities.items():
            modality.fit(raws_of(kind, 6))
        torch.manual_seed(seed)
        network = checkpoint.build(recipe, modalities)
        with torch.no_grad():
            for parameter in network.decoders.parameters():
                parameter.mul_(3)
        prior = FittedMixture.fit(torch.randn(64, 1, 4), torch.randn(16, 4), 2, seed=0) if fitted else None
        return VAE(network, modalities, recipe, prior)

    return make
