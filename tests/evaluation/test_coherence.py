"""Coherence of what a joint model makes of one modality in another."""

from __future__ import annotations

from pathlib import Path

import pytest

import mmvae
from mmvae.recipe import Recipe


@pytest.mark.usefixtures("cache")
def test_pictures_of_digits_become_their_names_and_names_their_pictures(tmp_path: Path) -> None:
    recipe = Recipe.load(
        {
            "name": "pairs",
            "data": {"path": "digits", "pair": "label"},
            "modalities": {
                "image": {"widths": [16, 32], "likelihood": "gaussian"},
                "text": {
                    "path": "number-words",
                    "tokenizer": "characters",
                    "max_tokens": 8,
                    "hidden": 32,
                    "embedding": 16,
                    "word_dropout": 0.0,
                    "weight": 20.0,
                },
            },
            "latent": {"dim": 8},
            "objective": {"subsets": "each"},
            "train": {"steps": 500, "batch_size": 32, "learning_rate": 4e-3, "evaluate_every": 250, "ema": 0.99},
        }
    )
    vae = mmvae.train(recipe, out=tmp_path / "run", progress=False)
    figures = mmvae.evaluate(vae, label="label", k=2, limit=150)
    of = {name.removeprefix("coherence"): value for name, value in figures.items() if name.startswith("coherence")}
    count = figures["rows"]
    assert of.keys() == {
        f", text to image, N = {count}",
        f", image to text, N = {count}",
        " of all, samples",
        " of all, samples of the prior of training",
    }
    assert of[f", image to text, N = {count}"] > 0.6
    assert of[f", text to image, N = {count}"] > 0.6
    assert of[" of all, samples"] > 0.25  # a tenth by chance
    assert 0.15 < of[" of all, samples of the prior of training"] != of[" of all, samples"]
    (word,) = vae.translate({"text": ["sette"]}, ["text"], temperature=0)["text"]
    assert word in ("seven", "sette")
