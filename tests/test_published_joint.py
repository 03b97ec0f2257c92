"""The page of joint models: each line of its table trains, translates and is measured."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import mmvae

PAGE = (Path(__file__).parents[1] / "docs" / "joint.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([A-Z][\w+]+) [^|]*\| `([^`]+)` \|", PAGE, re.M)
LINES = {name: lines.split() for name, lines in ROWS}
RECIPE = {
    "name": "joint",
    "data": {"path": "digits", "pair": "label", "limit": 100},
    "modalities": {
        "image": {"widths": [8]},
        "text": {"path": "number-words", "tokenizer": "characters", "max_tokens": 8, "embedding": 8, "hidden": 16},
    },
    "latent": {"dim": 20},
    "train": {"steps": 4, "batch_size": 16, "evaluate_every": 2},
}


def test_the_table_is_read() -> None:
    assert {"MVAE", "TELBO", "JMVAE", "MVTCAE", "MMVAE", "MoPoE", "DMVAE", "MMVAE+", "CMVAE"} == LINES.keys()


def test_the_weights_of_mvtcae_are_those_of_its_alpha() -> None:
    alpha, modalities = 0.9, 2
    weights = dict(line.split("=") for line in LINES["MVTCAE"])
    assert float(weights["kl.weight"]) == pytest.approx(modalities * (1 - alpha) / (modalities - alpha), abs=0.005)
    assert float(weights["objective.alone"]) == pytest.approx(alpha / (modalities - alpha), abs=0.005)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", LINES)
def test_a_published_model_is_its_lines(name: str, tmp_path: Path) -> None:
    mmvae.train(RECIPE, LINES[name], tmp_path / "run", progress=False)
    vae = mmvae.VAE.load(tmp_path / "run")
    assert len(vae.generate(2)["text"]) == 2
    assert len(vae.translate({"text": ["seven"]}, n=3)["image"]) == 3
    figures = mmvae.evaluate(vae, "validation", k=2, label="label")
    assert all(math.isfinite(value) for value in figures.values() if isinstance(value, float))
    for what in ("coherence, text to image", "NLL of text given image", "mutual information alone, image"):
        assert any(key.startswith(what) for key in figures), what
