"""Neighbours: the nearest rows of a split by their latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmvae.data.prepare import prepare
from mmvae.evaluation.evaluate import on_other_data
from mmvae.evaluation.neighbours import neighbours
from mmvae.generation import VAE
from mmvae.recipe import Recipe
from mmvae.training import train


def test_the_nearest_of_a_row_is_itself_and_distances_are_between_means_in_what_it_speaks_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text(
        "".join(f"{name}\n" for name in ["anna", "bob", "carla", "dora", "emil", "fritz", "gerd", "hans", "ida", "jan"])
    )
    small = "data.validation=0.2 data.test=0 train.steps=2 train.batch_size=4 train.threads=1 modalities.text.hidden=8"
    vae = train("text/names", [f"data.path={lines}", *small.split()], tmp_path / "run", progress=False)
    rows = prepare(vae.recipe, vae.modalities, "train").splits["train"]
    word = rows.raw("text", 3)
    ((first, *others),) = neighbours(vae, [word], n=99)
    assert (first["shown"], first["where"]) == (word, rows.rows.where(3))
    assert first["distance"] < 1e-5
    assert len(others) == len(rows) - 1
    for near in others:
        between = (vae.encode([word]) - vae.encode([near["shown"]])).norm().item()
        assert abs(near["distance"] - between) < 1e-5
    spoken = torch.arange(vae.network.latent.dim) < 2  # as where the rest is of another modality alone
    monkeypatch.setattr(vae.network.latent, "known", lambda present: spoken.expand(1, -1))
    for near in neighbours(vae, [word], n=99)[0]:
        between = (vae.encode([word]) - vae.encode([near["shown"]]))[:, spoken].norm().item()
        assert abs(near["distance"] - between) < 1e-5
    ((other,),) = neighbours(vae, [word], n=1, split="test", data=str(lines))
    assert other["where"].startswith("lines.txt, row ")


def test_what_is_added_and_taken_away_is_the_sum_of_latents(
    vae_for: Callable[..., VAE], raws_of: Callable[..., list[str]]
) -> None:
    vae = vae_for("text")
    king, man, woman, _ = raws_of("text", 4)
    z = vae.encode([king, man, woman])
    combined = vae.combine([king, woman], [man])
    torch.testing.assert_close(combined.z, (z[0] - z[1] + z[2])[None])
    assert len(combined["text"]) == 1
    torch.testing.assert_close(vae.combine([king]).z, z[:1])


def test_a_recipe_on_other_data_is_used_whole(recipe_for: Callable[..., Recipe]) -> None:
    recipe = recipe_for("text", "definitions")
    same = on_other_data(recipe, "test", None)
    assert same.data == recipe.data.model_copy(update={"max_rejected": 1.0})  # what training let pass
    assert same == recipe.model_copy(update={"data": same.data})
    changed = on_other_data(recipe, "test", "other", limit=3).data
    assert (changed.path, changed.test, changed.validation, changed.limit) == ("other", 1.0, 0.0, 3)
