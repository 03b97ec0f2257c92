"""The guard: a latent that is not used is called so, with the setting that mends it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmvae.evaluation.collapse import collapse
from mmvae.evaluation.evaluate import evaluate
from mmvae.recipe import Recipe
from mmvae.training import train

USED = {"active units": 20.0, "mutual information": 4.0}


@pytest.mark.parametrize(
    ("use", "overrides", "mend"),
    [
        (
            {"active units": 0.0, "mutual information": 0.01},
            ["objective.free_bits=0", "objective.target_rate=0"],
            "set objective.target_rate=8",
        ),
        (
            {"active units": 1.0, "mutual information": 0.3},
            ["objective.free_bits=0.25", "objective.target_rate=0"],
            r"raise objective.free_bits \(now 0.25\)",
        ),
        (
            {"active units": 1.0, "mutual information": 0.3},
            ["objective.target_rate=3"],
            r"raise objective.target_rate \(now 3\)",
        ),
        (
            {"active units": 0.0, "mutual information": 0.0},
            ["objective={kind='importance'}"],
            "lower kl.weight",
        ),
        ({"active units": 0.0, "mutual information": 0.0}, ["kl.weight=30"], r"lower kl.weight \(now 30\)"),
        ({"active units": 30.0, "mutual information": 0.0}, [], "z tells 0.00 nats about a row"),
    ],
)
def test_a_collapsed_posterior_is_named_with_its_remedy(use: dict[str, float], overrides: list[str], mend: str) -> None:
    warning = collapse(0.02, use, Recipe.load("text/verses", overrides), 200)
    assert warning is not None
    assert "the posterior has collapsed" in warning
    assert len(warning.splitlines()) == 1
    assert re.search(mend, warning)


def test_a_latent_that_is_used_or_absent_gives_no_warning() -> None:
    assert collapse(8.0, USED, Recipe.load("text/verses"), 200) is None
    none = Recipe.load("text/verses", ["latent.kind=none", "prior.kind=none", "prior.fitted=0"])
    assert collapse(0.0, {"active units": 0.0, "mutual information": 0.0}, none, 200) is None
    assert collapse(0.0, {"active units": 0.0, "mutual information": 0.0}, Recipe.load("text/verses"), 199) is None


def test_a_modality_that_z_does_not_hear_is_named(recipe_for: Callable[..., Recipe]) -> None:
    heard = USED | {"mutual information alone, image": 5.0, "mutual information alone, text": 2.0}
    assert collapse(8.0, heard, recipe_for("image"), 1000) is None
    said = collapse(8.0, heard | {"mutual information alone, text": 0.02}, recipe_for("image"), 1000)
    assert said is not None
    assert said.startswith("text: z says nothing of it alone")
    assert "objective.subsets = 'each'" in said


@pytest.mark.usefixtures("cache")
def test_an_evaluation_warns_of_a_latent_that_says_nothing(tmp_path: Path, recipe_for: Callable[..., Recipe]) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"{name} ran {far}\n" for name in ("anna", "bob", "dora", "emil") for far in range(10)))
    vae = train(recipe_for("text", lines), ["train.steps=2"], tmp_path / "run", progress=False)
    with torch.no_grad():
        for weights in vae.network.encoders.parameters():
            weights.zero_()
    assert "the posterior has collapsed: z tells 0.00 nats" in evaluate(vae, "train", k=1)["warning"]
